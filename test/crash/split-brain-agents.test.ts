// An agent that is stopped in the middle of a verb, and goes on when another one has taken over; another scenario for each commit.
// CRASH_SHARE=1: all.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { sampleOf, share } from "../support/sample.ts";
import { stoppedScenarios } from "./campaign/far.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const stops = share === 1 ? 10 : 2;

describe("an agent that was stopped and goes on", () => {
  for (const { name, skip, run } of sampleOf(stoppedScenarios, 1, "stopped agents")) {
    test(`${name}: what it does late wins nothing, and nothing is lost`, { skip }, async (context) => {
      const seed = Date.now();
      const report = await run({ kills: stops, seed, root });
      context.diagnostic(JSON.stringify({ seed, ...report }));
      assert.deepEqual(report.violations, [], `npm run crash -- --seed ${seed} --scenario "${name}"`);
      assert.ok(report.stops >= stops);
    });
  }
});
