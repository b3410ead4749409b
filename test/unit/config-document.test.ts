// What one version of a config holds: its text, differences between two, limits.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import {
  type ConfigDocument,
  type ConfigValue,
  checkDocument,
  diffDocuments,
  overlay,
  parseConfigDocument,
  serialiseDocument,
} from "../../src/core/config-document.ts";
import { refuses } from "../support/refuses.ts";

const document = (values: Record<string, string | ConfigValue>): ConfigDocument =>
  new Map(Object.entries(values).map(([name, value]) => [name, typeof value === "string" ? { value } : value]));
const plain = (values: ConfigDocument) => Object.fromEntries([...values].map(([name, { value }]) => [name, value]));

describe("documents", () => {
  const anyValue = fc.record(
    {
      value: fc.string({ unit: "binary" }),
      visibility: fc.constantFrom("unmasked" as const, "restricted" as const),
      type: fc.constantFrom("json" as const, "yaml" as const),
    },
    { requiredKeys: ["value"], noNullPrototype: true },
  );
  const anyDocument = fc
    .array(fc.tuple(fc.stringMatching(/^[A-Z_][A-Z0-9_]{0,8}$/), anyValue))
    .map((pairs): ConfigDocument => new Map(pairs));

  test("are read as they were written, and equal ones are equal texts", () => {
    fc.assert(
      fc.property(anyDocument, (written) => {
        const text = serialiseDocument(written);
        assert.deepEqual(parseConfigDocument(text), new Map([...written].sort(([one], [other]) => (one < other ? -1 : 1))));
        assert.equal(serialiseDocument(new Map([...written].reverse())), text);
      }),
    );
  });

  test("differences are exactly those", () => {
    fc.assert(
      fc.property(anyDocument, anyDocument, (before, after) => {
        const changes = diffDocuments(before, after);
        assert.deepEqual(diffDocuments(before, before), []);
        for (const { name, added, removed } of changes) {
          assert.equal(added, after.get(name)?.value);
          assert.equal(removed, before.get(name)?.value);
        }
        const touched = new Set(changes.map(({ name }) => name));
        for (const name of [...before.keys(), ...after.keys()])
          if (!touched.has(name)) assert.deepEqual(before.get(name), after.get(name));
      }),
    );
  });

  test("differences are sorted and say what is for machines only", () => {
    const before = document({ SAME: "1", GONE: { value: "2", visibility: "restricted" }, SHOWN: "3" });
    const after = document({ SAME: "1", NEW: "4", SHOWN: { value: "3", visibility: "unmasked" } });
    assert.deepEqual(diffDocuments(before, after), [
      { name: "GONE", removed: "2", restricted: true },
      { name: "NEW", added: "4", restricted: false },
      { name: "SHOWN", added: "3", removed: "3", restricted: false },
    ]);
  });

  test("later ones win", () => {
    assert.deepEqual(plain(overlay(document({ A: "parent", B: "parent" }), document({ B: "root" }), document({ C: "own" }))), {
      A: "parent",
      B: "root",
      C: "own",
    });
  });

  test("limits", () => {
    const many = new Map(Array.from({ length: 1200 }, (_, index) => [`S${index}`, { value: "" }]));
    checkDocument(many);
    refuses("LimitExceededException", /^A config can't have more than 1200 secrets; this one would have 1201\.$/, () =>
      checkDocument(new Map([...many, ["ONE_MORE", { value: "" }]])),
    );
    const full = document(Object.fromEntries(Array.from({ length: 10 }, (_, index) => [`S${index}`, "x".repeat(50 * 1024 - 2)])));
    checkDocument(full);
    refuses("LimitExceededException", /can't be longer than 500 KiB together/, () =>
      checkDocument(new Map([...full, ["X", { value: "" }]])),
    );
  });
});
