// A short run of the kill campaign (`npm run crash` is the long one): some scenarios of each kind, others for each commit, and another
// place each time. CRASH_SHARE=1: all scenarios.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { sampleOf } from "../support/sample.ts";
import { type Report, runScenario } from "./campaign/campaign.ts";
import { leaseScenarios } from "./campaign/lease-places.ts";
import { runLeases } from "./campaign/leases.ts";
import { programScenarios, runProgram } from "./campaign/program.ts";
import { scenarios } from "./campaign/scenarios.ts";
import { runSchedules } from "./campaign/schedules.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const kills = 2;
/** Of the whole program, which takes longer to start. */
const killsOfProgram = 2;

describe("killed again and again", { concurrency: 2 }, () => {
  const runs = [
    ...sampleOf(programScenarios, 1, "programs").map((one) => ({
      ...one,
      skip: one.rotates.skip,
      kills: killsOfProgram,
      run: runProgram.bind(null, one),
    })),
    { name: "program, schedules", skip: false as const, kills: killsOfProgram, run: runSchedules },
    ...sampleOf(leaseScenarios, 1, "leases").map((one) => ({ ...one, kills, run: runLeases.bind(null, one) })),
    ...sampleOf(scenarios, 5, "scenarios").map((one) => ({ ...one, kills, run: runScenario.bind(null, one) })),
  ];
  for (const { name, skip, run, kills: count } of runs) {
    test(`${name}: nothing is lost, all of it heals`, { skip }, async (context) => {
      const seed = Date.now();
      const report: Report & { readonly leases?: number } = await run({ kills: count, seed, root });
      context.diagnostic(JSON.stringify({ seed, ...report }));
      assert.deepEqual(report.violations, [], `npm run crash -- --seed ${seed} --scenario "${name}"`);
      assert.equal(report.kills, count);
      assert.ok(report.rotations + (report.leases ?? 0) > 0, "nothing was rotated or leased");
    });
  }
});
