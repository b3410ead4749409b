import assert from "node:assert/strict";
import { createSecretKey, randomBytes } from "node:crypto";
import { test } from "node:test";
import fc from "fast-check";
import {
  type Anchor,
  anchorSeal,
  ChainCheck,
  type ChainEntry,
  chainLine,
  chainMac,
  openingRecord,
  readChainLine,
  readOpening,
} from "../../src/core/audit-chain.ts";

const key = createSecretKey(Buffer.alloc(32, 7));
const records = fc.array(fc.dictionary(fc.string({ unit: "binary" }), fc.string({ unit: "binary" })), {
  minLength: 1,
  maxLength: 12,
});

function chainOf(texts: readonly object[], chainKey = key): ChainEntry[] {
  let mac = "";
  return texts.map((text, index) => {
    const record = JSON.stringify(text);
    mac = chainMac(chainKey, mac, index + 1, record);
    return { sequence: index + 1, record, mac };
  });
}

function problems(entries: readonly (ChainEntry | undefined)[]): number {
  const check = new ChainCheck(key);
  return entries.filter((entry) => entry === undefined || check.next(entry) !== undefined).length;
}

test("a line is read back as it was written, whatever the record holds", () => {
  fc.assert(
    fc.property(records, (texts) => {
      const entries = chainOf(texts);
      const lines = entries.map(chainLine);
      assert.deepEqual(lines.map(readChainLine), entries);
      assert.equal(problems(lines.map(readChainLine)), 0);
      for (const line of lines) assert.doesNotMatch(line, /\n/);
    }),
  );
});

test("any changed character of a line is one finding", () => {
  fc.assert(
    fc.property(
      records,
      fc.nat(),
      fc.nat(),
      fc.string({ unit: "binary", minLength: 1, maxLength: 1 }),
      (texts, which, where, put) => {
        const lines = chainOf(texts).map(chainLine);
        const index = which % lines.length;
        const line = lines[index] ?? "";
        const at = where % line.length;
        const changed = line.slice(0, at) + put + line.slice(at + 1);
        fc.pre(changed !== line);
        lines[index] = changed;
        assert.ok(problems(lines.map(readChainLine)) >= 1);
      },
    ),
  );
});

test("one changed record is reported once, at its own place", () => {
  const entries = chainOf([{ a: 1 }, { a: 2 }, { a: 3 }, { a: 4 }]);
  const check = new ChainCheck(key);
  const found = entries.map((entry) => check.next(entry.sequence === 2 ? { ...entry, record: '{"a":9}' } : entry));
  assert.deepEqual(found, [undefined, "the record was changed, or the one before it replaced", undefined, undefined]);
});

test("removed, repeated and swapped records and those of another key are found", () => {
  const [first, second, third] = chainOf([{ a: 1 }, { a: 2 }, { a: 3 }]);
  assert.equal(problems([first, second, third]), 0);
  assert.ok(problems([first, third]) >= 1);
  assert.ok(problems([second, third]) >= 1);
  assert.ok(problems([first, first, second, third]) >= 1);
  assert.ok(problems([second, first, third]) >= 1);
  assert.equal(problems(chainOf([{ a: 1 }, { a: 2 }], createSecretKey(randomBytes(32)))), 2);
});

test("a record of another chain under the same number is found", () => {
  const mine = chainOf([{ a: 1 }, { a: 2 }, { a: 3 }]);
  const other = chainOf([{ b: 1 }, { a: 2 }, { a: 3 }]);
  assert.equal(problems(other), 0);
  assert.ok(problems([...mine.slice(0, 1), ...other.slice(1)]) >= 1);
  assert.ok(problems([...mine.slice(0, 2), ...other.slice(2)]) >= 1);
});

test("an opening record is told from any other", () => {
  const opening = { writer: "a-1-b", segment: 3, previous: [{ writer: "c-1-d", segment: 0, sequence: 4, mac: "m" }] };
  assert.deepEqual(readOpening(JSON.stringify(openingRecord(opening, 1))), opening);
  assert.equal(readOpening('{"action":"secretsmanager:GetSecretValue","resource":"rekey:OpenAuditSegment"}'), undefined);
  assert.equal(readOpening("rekey:OpenAuditSegment"), undefined);
});

test("a seal holds each part of its anchor", () => {
  const anchor: Anchor = { writer: "a-1-b", segment: 0, sequence: 5, mac: "m", at: 9, state: "open" };
  const seal = anchorSeal(key, anchor);
  const others: Anchor[] = [
    { ...anchor, writer: "a-1-c" },
    { ...anchor, segment: 1 },
    { ...anchor, sequence: 4 },
    { ...anchor, mac: "n" },
    { ...anchor, at: 8 },
    { ...anchor, state: "closed" },
  ];
  for (const other of others) assert.notEqual(anchorSeal(key, other), seal);
  assert.notEqual(anchorSeal(createSecretKey(Buffer.alloc(32, 8)), anchor), seal);
});
