import assert from "node:assert/strict";
import { test } from "node:test";
import { commandLinePage } from "../../scripts/command-line-docs.ts";

test("the reference of the command line is the program's", () => {
  const { is, shouldBe } = commandLinePage();
  assert.ok(is === shouldBe, "docs/command-line.md is not as the program is: npm run docs writes it");
});

test("a command with commands below it that does something itself stands there, too", () => {
  assert.match(commandLinePage().shouldBe, /^### rekey login$[^#]*--token-stdin/m);
});
