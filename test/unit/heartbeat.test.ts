import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { OutcomeClass } from "../../src/core/error.ts";
import { beat, type Heartbeat, nextHeartbeatAt } from "../../src/core/heartbeat.ts";

const outcomes: readonly OutcomeClass[] = ["ok", "refused", "locked", "expired", "unreachable", "timeout", "tls", "unknown"];
const silent = new Set<OutcomeClass>(["unreachable", "timeout", "unknown"]);
const group = (outcome: OutcomeClass) => (silent.has(outcome) ? "silent" : outcome);

test("one event for each change, and one call for repair at the second refusal in a row", () => {
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...outcomes), { maxLength: 30 }), (seen) => {
      let before: Heartbeat | undefined;
      for (const [index, outcome] of seen.entries()) {
        const news = beat(before, outcome, index);
        const last = index === 0 ? "ok" : group(seen[index - 1] ?? "ok");
        const changed = group(outcome) !== last;
        const expected = outcome === "ok" ? "credential.recovered" : "credential.drifted";
        assert.equal(news.event, changed ? expected : undefined);
        const inRow = seen
          .slice(0, index + 1)
          .toReversed()
          .findIndex((one) => one !== "refused");
        assert.equal(news.refusedAgain, (inRow < 0 ? index + 1 : inRow) === 2);
        before = news.after;
      }
    }),
  );
});

test("the next try comes after the interval, but seldom where failed logins count", () => {
  const policy = { heartbeatSeconds: 60 };
  const ok: Heartbeat = { outcome: "ok", at: 0, since: 0 };
  assert.equal(nextHeartbeatAt(policy, ok, 1_000, 0.5), 61_000);
  assert.equal(nextHeartbeatAt({}, ok, 1_000, 0.5), undefined);
  assert.equal(nextHeartbeatAt(policy, { outcome: "refused", at: 5, since: 5 }, 1_000, 0.5), 61_000);
  assert.equal(nextHeartbeatAt(policy, { outcome: "refused", at: 6, since: 5 }, 1_000, 0.5), 901_000);
  assert.equal(nextHeartbeatAt(policy, { outcome: "unreachable", at: 6, since: 5 }, 1_000, 0.5), 61_000);
});
