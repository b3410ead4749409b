import assert from "node:assert/strict";
import { test } from "node:test";
import { formMembers, isTooLong, toXml } from "../../src/http/query-form.ts";

/** Through JSON: members have no prototype. */
const members = (text: string): unknown => JSON.parse(JSON.stringify(formMembers(new URLSearchParams(text))));

test("lists and structures are read from their paths, in the order of their numbers", () => {
  const form = "Action=A&Version=V&RoleArn=r&Tags.member.10.Key=b&Tags.member.2.Key=a&Tags.member.2.Value=1&Keys.member.1=k";
  assert.deepEqual(members(form), {
    RoleArn: "r",
    Tags: [{ Key: "a", Value: "1" }, { Key: "b" }],
    Keys: ["k"],
  });
});

test("a form that contradicts itself, or is too large or too deep, is refused", () => {
  const many = Array.from({ length: 501 }, (_, i) => `m${i}=1`).join("&");
  for (const form of ["a=1&a=2", "a=1&a.b=2", "a.b=2&a=1", many, "a.b.c.d.e.f.g.h.i.j=1"]) {
    assert.throws(() => members(form), { code: "SerializationException" }, form.slice(0, 20));
  }
});

test("a form of too many members is known before anything is made of it", () => {
  assert.equal(isTooLong(Buffer.from("a=1&".repeat(500))), false);
  assert.equal(isTooLong(Buffer.from("&a".repeat(501))), true);
});

test("a member called __proto__ is only a member", () => {
  const read = formMembers(new URLSearchParams("__proto__.polluted=1&Tags.member.1.__proto__.polluted=1"));
  assert.equal(({} as { polluted?: string }).polluted, undefined);
  assert.equal((read as { polluted?: string }).polluted, undefined);
});

test("answers are well-formed XML whatever the text", () => {
  const answer = { Text: `<&>"'\u0000\ud800`, At: new Date(Date.UTC(2026, 0, 1)), List: ["a", "b"], None: undefined };
  assert.equal(
    toXml(answer),
    "<Text>&lt;&amp;&gt;&quot;&apos;\ufffd\ufffd</Text><At>2026-01-01T00:00:00Z</At><List><member>a</member><member>b</member></List>",
  );
});
