import assert from "node:assert/strict";
import { test } from "node:test";
import { readJsonObject } from "../../src/http/json-body.ts";

const read = (text: string) => readJsonObject(Buffer.from(text));
const refusal = { code: "SerializationException", message: "The request body is not a JSON object." };

test("a body is a JSON object, or none", () => {
  assert.deepEqual(read(""), {});
  assert.deepEqual(read('{"a":[{"b":null}]}'), { a: [{ b: null }] });
  for (const text of ["[]", "null", '"x"', "1", "{", "{}{}"]) assert.throws(() => read(text), refusal, text);
});

test("one so deep that walking through it would exhaust the stack is refused", () => {
  const nested = (depth: number, open: string, close: string) => `{"a":${open.repeat(depth)}1${close.repeat(depth)}}`;
  for (const [open, close] of [
    ["[", "]"],
    ['{"b":', "}"],
  ] as const) {
    assert.doesNotThrow(() => read(nested(60, open, close)));
    for (const depth of [100, 150_000]) assert.throws(() => read(nested(depth, open, close)), refusal);
  }
});
