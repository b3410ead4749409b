import assert from "node:assert/strict";
import { BlockList } from "node:net";
import { test } from "node:test";
import fc from "fast-check";
import { compileConditions } from "../../src/core/condition.ts";

class Refused extends Error {}

function compile(element: unknown, variables = true) {
  return compileConditions(element, {
    variables,
    fail: (where, rule) => {
      throw new Refused(`${where}: ${rule}`);
    },
  });
}

function holds(operator: string, wanted: unknown, ...actual: string[]): boolean {
  const context = new Map([["aws:x", actual]]);
  return compile({ [operator]: { "aws:X": wanted } }).every((condition) => condition.holds(context));
}

test("a compiled condition tells what it was made from", () => {
  const [condition] = compile({ "forallvalues:stringnotlikeifexists": { "aws:PrincipalTag/Team": ["a", 1] } });
  assert.ok(condition);
  const { holds: _, ...told } = condition;
  assert.deepEqual(told, {
    operator: "StringNotLike",
    qualifier: "ForAllValues",
    ifExists: true,
    negated: true,
    key: "aws:principaltag/team",
    values: ["a", "1"],
  });
});

const refusals: readonly (readonly [what: string, element: unknown, message: RegExp])[] = [
  ["not an object", [], /^: must be an object/],
  ["unknown operator", { StringIs: { "aws:x": "a" } }, /^StringIs: is not a condition operator/],
  ["unknown qualifier", { "ForSome:StringEquals": { "aws:x": "a" } }, /is not a condition operator/],
  ["keys are a list", { StringEquals: ["aws:x"] }, /^StringEquals: must be an object/],
  ["no prefix in the key", { StringEquals: { x: "a" } }, /^StringEquals\.x: "x" is not a condition key/],
  ["nothing after the prefix", { StringEquals: { "aws:": "a" } }, /is not a condition key/],
  ["key twice, in other case", { StringEquals: { "aws:x": "a", "AWS:X": "b" } }, /stands there twice/],
  ["no value", { StringEquals: { "aws:x": [] } }, /needs a value/],
  ["an object as value", { StringEquals: { "aws:x": {} } }, /strings, numbers or booleans/],
  ["null as value", { StringEquals: { "aws:x": null } }, /strings, numbers or booleans/],
  ["too long a value", { StringEquals: { "aws:x": "a".repeat(2049) } }, /at most 2048/],
  ["not a number", { NumericEquals: { "aws:x": "ten" } }, /"ten" is not a number/],
  ["no exponents", { NumericEquals: { "aws:x": "1e3" } }, /is not a number/],
  ["not a date", { DateLessThan: { "aws:x": "tomorrow" } }, /is not a date/],
  ["a month that is none", { DateLessThan: { "aws:x": "2026-13-01" } }, /is not a date/],
  ["not a boolean", { Bool: { "aws:x": "yes" } }, /neither true nor false/],
  ["Null takes a boolean", { Null: { "aws:x": "absent" } }, /neither true nor false/],
  ["Null takes no IfExists", { NullIfExists: { "aws:x": "true" } }, /no qualifier and no IfExists/],
  ["Null takes no qualifier", { "ForAllValues:Null": { "aws:x": "true" } }, /no qualifier and no IfExists/],
  ["not base64", { BinaryEquals: { "aws:x": "a-b=" } }, /is not base64/],
  ["not an address", { IpAddress: { "aws:x": "10.0.0" } }, /neither an IP address nor/],
  ["a prefix too long", { IpAddress: { "aws:x": "10.0.0.0/33" } }, /neither an IP address nor/],
  ["wildcards in an address", { IpAddress: { "aws:x": "10.*" } }, /neither an IP address nor/],
  ["not an ARN", { ArnLike: { "aws:x": "role/x" } }, /is not an ARN/],
  ["an ARN of five parts", { ArnEquals: { "aws:x": "arn:aws:s3::b" } }, /is not an ARN/],
  ["a variable that is not closed", { StringEquals: { "aws:x": `\${aws:username` } }, /is not closed/],
  ["an empty variable", { StringEquals: { "aws:x": `\${}` } }, /is not a policy variable/],
  ["a default without quotes", { StringEquals: { "aws:x": `\${aws:username, none}` } }, /single quotes/],
];

for (const [what, element, message] of refusals) {
  test(`refused: ${what}`, () => {
    assert.throws(
      () => compile(element),
      (error) => error instanceof Refused && message.test(error.message),
    );
  });
}

test("without variables their text is text", () => {
  const [condition] = compile({ StringEquals: { "aws:x": `\${aws:username` } }, false);
  assert.equal(condition?.holds(new Map([["aws:x", [`\${aws:username`]]])), true);
});

test("an operator and its negation disagree on every value that is there", () => {
  const value = fc.oneof(fc.constantFrom("7", "2026-01-01", "10.0.0.1", "arn:aws:s3:::b", "a", ""), fc.string());
  const pairs = [
    ["StringEquals", "StringNotEquals", "a"],
    ["StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase", "A"],
    ["StringLike", "StringNotLike", "*a"],
    ["NumericEquals", "NumericNotEquals", "7"],
    ["DateEquals", "DateNotEquals", "2026-01-01"],
    ["IpAddress", "NotIpAddress", "10.0.0.0/8"],
    ["ArnLike", "ArnNotLike", "arn:aws:s3:::*"],
    ["ArnEquals", "ArnNotEquals", "arn:aws:s3:::*"],
  ] as const;
  fc.assert(
    fc.property(fc.constantFrom(...pairs), fc.array(value, { minLength: 1, maxLength: 3 }), ([yes, no, wanted], actual) => {
      assert.notEqual(holds(yes, wanted, ...actual), holds(no, wanted, ...actual));
      assert.notEqual(holds(`ForAnyValue:${yes}`, wanted, ...actual, "!"), holds(`ForAllValues:${no}`, wanted, ...actual, "!"));
    }),
  );
});

test("addresses lie in ranges as Node's own list says", () => {
  const anyAddress = fc.oneof(
    fc.tuple(fc.ipV4(), fc.constant("ipv4" as const), fc.nat(32)),
    fc.tuple(fc.ipV6(), fc.constant("ipv6" as const), fc.nat(128)),
  );
  const near = fc.record({ address: anyAddress, other: anyAddress, same: fc.boolean() });
  fc.assert(
    fc.property(near, ({ address: [text, family, prefix], other, same }) => {
      const [actual, actualFamily] = same ? [text, family] : other;
      fc.pre(!/^(0{0,4}:){2,5}(ffff|0{0,4}):/i.test(text + actual) && !`${text}${actual}`.includes("::ffff:"));
      const list = new BlockList();
      list.addSubnet(text, prefix, family);
      const inside = family === actualFamily && list.check(actual, actualFamily);
      assert.equal(holds("IpAddress", `${text}/${prefix}`, actual), inside);
    }),
  );
});

test("mapped addresses count as version 4, with their own prefixes", () => {
  assert.equal(holds("IpAddress", "::ffff:10.0.0.0/104", "10.9.9.9"), true);
  assert.equal(holds("IpAddress", "::ffff:10.0.0.0/104", "11.9.9.9"), false);
  assert.equal(holds("IpAddress", "10.0.0.0/8", "::ffff:0a01:0203"), true);
});

test("malformed addresses of a request lie nowhere", () => {
  for (const text of [
    "",
    "10.0.0.01",
    "10.0.0.256",
    "1.2.3",
    ":::",
    "1::2::3",
    "1:2:3:4:5:6:7",
    "1:2:3:4:5:6:7:8:9",
    "1:2:3:4::5:6:7:8",
    "12345::",
    "::g",
    " ::1",
  ]) {
    assert.equal(holds("IpAddress", ["0.0.0.0/0", "::/0"], text), false, text);
  }
});
