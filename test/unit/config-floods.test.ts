// Files that would keep the whole server busy for minutes or hours; each of these tests never came to its end before.
import assert from "node:assert/strict";
import { test } from "node:test";
import { parseTemplate } from "../../src/core/config-template.ts";
import { parseUpload } from "../../src/core/config-upload.ts";

const refused = { name: "ServiceError", code: "ValidationException" };
const most = 1_000_000;

test("which form a file has is told in one look at its first line, however long that is", () => {
  for (const text of [
    `${" ".repeat(most)}A`,
    `export${" ".repeat(most - 10)}A`,
    "export ".repeat(most / 7),
    `${"\t ".repeat(most / 2)}=:`,
  ])
    assert.throws(() => parseUpload(text), refused);
  const value = "x".repeat(40_000);
  for (const line of [
    `A=${value}`,
    `  export A = ${value}`,
    `\n# c: d\n\n A=${value}`,
    `{"A":"${value}"}`,
    `A: ${value}`,
    ` "A": '${value}'`.trim(),
  ])
    assert.deepEqual([...parseUpload(line)], [["A", value]], line.slice(0, 20));
});

test("a template of many names is read at once, or refused", () => {
  assert.throws(() => parseTemplate(Array.from({ length: 60_000 }, (_, index) => `a${index}:`).join("\n")), /too many parts/);
  const secrets = Array.from({ length: 6_000 }, (_, index) => `      A${index}: b`).join("\n");
  const [project] = parseTemplate(`projects:\n- name: a\n  secrets:\n    dev:\n${secrets}`);
  assert.equal(Object.keys(project?.secrets?.dev ?? {}).length, 6_000);
  assert.throws(() => parseTemplate("projects:\n- name: a\n  name: b"), /Line 3 .* a name again/);
  for (const deep of ["[", "- ", "{a: ", "? "]) assert.throws(() => parseTemplate(deep.repeat(20_000)), refused);
});
