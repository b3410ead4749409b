import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { backOffMs } from "../../src/functions/agent-connection.ts";

test("pauses between tries are anywhere from none to a bound that doubles from half a second to 20 seconds", () => {
  const bounds = [1, 2, 3, 4, 5, 6, 7, 8, 100, Number.MAX_SAFE_INTEGER].map((failures) => backOffMs(failures, () => 1));
  assert.deepEqual(bounds, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 20_000, 20_000, 20_000, 20_000]);
  assert.equal(
    backOffMs(50, () => 0),
    0,
    "full jitter",
  );
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 1_000_000 }),
      fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
      (failures, random) => {
        const ms = backOffMs(failures, () => random);
        assert.ok(Number.isInteger(ms) && ms >= 0 && ms <= 20_000, `${ms}`);
        assert.ok(Math.abs(ms - random * backOffMs(failures, () => 1)) <= 0.5, "spread evenly");
      },
    ),
  );
});
