import assert from "node:assert/strict";
import { test } from "node:test";
import { createRequestRate } from "../../src/http/request-rate.ts";

test("a caller's requests of a second are counted, whatever others do", () => {
  const rate = createRequestRate(2);
  assert.equal(rate.maxPerSecond, 2);
  const counts = [0, 999, 999].map((at) => rate.countCaller("a", at));
  assert.deepEqual([...counts, rate.countCaller("b", 999), rate.countCaller("a", 1000)], [1, 2, 3, 1, 1]);
});

test("a clock that is set back does not hold callers up", () => {
  const rate = createRequestRate(1);
  const counts = [5_000_000, 0, 1].map((at) => rate.countCaller("a", at));
  assert.deepEqual(counts, [1, 1, 2]);
});

test("strangers are counted by address, IPv6 by its network", () => {
  const rate = createRequestRate(2);
  assert.deepEqual(
    ["192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2"].map((address) => rate.isFlood(address, 0)),
    [false, false, true, false],
  );
  assert.deepEqual(
    ["2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8:0:1::1"].map((address) => rate.isFlood(address, 0)),
    [false, false, true, false],
  );
  assert.equal(rate.isFlood("192.0.2.1", 1000), false);
});

test("of strangers a hundred of a second go on record for each address", () => {
  const rate = createRequestRate(10_000);
  const told = (address: string, at: number) =>
    Array.from({ length: 150 }, () => rate.isRecorded(address, at)).filter(Boolean).length;
  assert.deepEqual(
    [told("192.0.2.1", 0), told("192.0.2.1", 999), told("192.0.2.2", 999), told("192.0.2.1", 1000)],
    [100, 0, 100, 100],
  );
});

test("one refusal of a second goes on record", () => {
  const rate = createRequestRate(1);
  assert.deepEqual(
    [0, 1, 999, 1000, 1001].map((at) => rate.isFirstRefusal("a", at)),
    [true, false, false, true, false],
  );
});

test("it remembers a bounded number of names", () => {
  const rate = createRequestRate(1);
  for (let name = 0; name <= 10_000; name++) rate.countCaller(`caller ${name}`, 0);
  assert.equal(rate.countCaller("caller 0", 0), 1, "forgotten");
  assert.equal(rate.countCaller("caller 10000", 0), 2);
});
