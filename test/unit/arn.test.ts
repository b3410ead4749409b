import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { formatArn, formatSecretArn, parseArn, parseSecretArn } from "../../src/core/arn.ts";
import { compileGlob, globTokens } from "../../src/core/wildcard.ts";

const at = { partition: "aws", region: "eu-west-1", accountId: "123456789012" };
const secret = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:";

test("an ARN is six parts, and the last keeps its colons", () => {
  assert.deepEqual(parseArn("arn:aws:lambda:eu-west-1:123456789012:function:rotate:live"), {
    ...at,
    service: "lambda",
    resource: "function:rotate:live",
  });
  assert.deepEqual(parseArn("arn:aws:s3:::bucket"), {
    partition: "aws",
    service: "s3",
    region: "",
    accountId: "",
    resource: "bucket",
  });
});

test("what is not an ARN is undefined", () => {
  for (const text of [
    "",
    "arn",
    "prod/db",
    "arn:aws:s3::bucket",
    "arn:aws:s3:::",
    "arn::s3:::b",
    "arn:aws::::b",
    "xarn:aws:s3:::b",
  ]) {
    assert.equal(parseArn(text), undefined, text);
  }
});

test("a secret's ARN gives name and suffix", () => {
  assert.deepEqual(parseSecretArn(`${secret}prod/db-a1B2c3`), { ...at, name: "prod/db", suffix: "a1B2c3" });
  assert.deepEqual(parseSecretArn(`${secret}a-b-a1B2c3`), { ...at, name: "a-b", suffix: "a1B2c3" });
  assert.deepEqual(parseSecretArn(`${secret}rekey!p/c/X-a1b2c3`), { ...at, name: "rekey!p/c/X", suffix: "a1b2c3" });
});

test("a partial ARN has no suffix, and a name that looks like one is read as one", () => {
  assert.deepEqual(parseSecretArn(`${secret}prod/db`), { ...at, name: "prod/db" });
  assert.deepEqual(parseSecretArn(`${secret}prod-a1b2c`), { ...at, name: "prod-a1b2c" });
  assert.deepEqual(parseSecretArn(`${secret}prod-a1b2c_`), { ...at, name: "prod-a1b2c_" });
  assert.deepEqual(parseSecretArn(`${secret}-a1b2c3`), { ...at, name: "-a1b2c3" });
  assert.deepEqual(parseSecretArn(`${secret}my-secret`), { ...at, name: "my", suffix: "secret" });
});

test("ARNs of other things are no secrets", () => {
  const others = [
    "prod/db",
    secret,
    "arn:aws:s3:::secret:x",
    `${secret.replace("secretsmanager", "lambda")}x`,
    `${secret.replace("eu-west-1", "")}x`,
  ];
  for (const text of [...others, "arn:aws:secretsmanager:eu-west-1::secret:x"])
    assert.equal(parseSecretArn(text), undefined, text);
});

test("formatting undoes parsing", () => {
  const part = fc.stringMatching(/^[a-z0-9-]{1,12}$/);
  const name = fc.stringMatching(/^[A-Za-z0-9/_+=.@:-]{1,40}$/);
  fc.assert(
    fc.property(part, part, part, name, (partition, region, accountId, text) => {
      const arn = `arn:${partition}:secretsmanager:${region}:${accountId}:secret:${text}`;
      const [whole, parsed] = [parseArn(arn), parseSecretArn(arn)];
      assert.ok(whole && parsed);
      assert.equal(formatArn(whole), arn);
      assert.equal(formatSecretArn(parsed), arn);
    }),
  );
});

/** All that a pattern can fit, by trying every length for each star. */
function fitsByForce(pattern: string, subject: string): boolean {
  const [head, ...rest] = pattern;
  if (head === undefined) return subject === "";
  const after = rest.join("");
  if (head === "*")
    return Array.from({ length: subject.length + 1 }, (_, n) => subject.slice(n)).some((left) => fitsByForce(after, left));
  return subject !== "" && (head === "?" || head === subject[0]) && fitsByForce(after, subject.slice(1));
}

test("wildcards fit as trying every possibility does", () => {
  const pattern = fc.stringMatching(/^[ab*?]{0,9}$/);
  const subject = fc.stringMatching(/^[ab*?]{0,10}$/);
  fc.assert(
    fc.property(pattern, subject, (glob, text) => {
      assert.equal(compileGlob(globTokens(glob))(text), fitsByForce(glob, text));
    }),
    { numRuns: 5_000 },
  );
});

test("a pattern made from its subject fits it", () => {
  const pieces = fc.array(fc.tuple(fc.string({ maxLength: 5 }), fc.constantFrom("keep", "run", "ones")), { maxLength: 8 });
  fc.assert(
    fc.property(pieces, (list) => {
      const subject = list.map(([text]) => text).join("");
      const tokens = list.flatMap(([text, how]) =>
        how === "run" ? globTokens("*") : how === "ones" ? globTokens("?".repeat(text.length)) : [text],
      );
      assert.equal(compileGlob(tokens)(subject), true);
    }),
  );
});

test("hostile patterns end", () => {
  const subject = "a".repeat(4096);
  const hostile = [
    `${"*a".repeat(1000)}b`,
    `*${"a?".repeat(1000)}b*`,
    `*${"?".repeat(1000)}b*`,
    `${"*?".repeat(1000)}b`,
    `${"*".repeat(2048)}b`,
  ];
  for (const pattern of hostile) assert.equal(compileGlob(globTokens(pattern))(subject), false, pattern.slice(0, 10));
  assert.equal(compileGlob(globTokens(`${"*?".repeat(1000)}a`))(subject), true);
});
