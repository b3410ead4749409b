// A short run of the campaign through agents and functions of AWS Lambda; another scenario for each commit, and other places each time.
// CRASH_SHARE=1: all scenarios.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { sampleOf } from "../support/sample.ts";
import { farScenarios } from "./campaign/far.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const kills = 2;

describe("the server, or what works for it in a network, is killed again and again", () => {
  for (const { name, skip, run } of sampleOf(farScenarios, 1, "far scenarios")) {
    test(`${name}: nothing is lost, all of it heals`, { skip }, async (context) => {
      const seed = Date.now();
      const report = await run({ kills, seed, root });
      context.diagnostic(JSON.stringify({ seed, ...report }));
      assert.deepEqual(report.violations, [], `npm run crash -- --seed ${seed} --scenario "${name}"`);
      assert.ok(report.kills >= kills);
      assert.ok(report.rotations + (report.leases ?? 0) > 0, "nothing was rotated or leased");
    });
  }
});
