// A short run of the kill campaign (`npm run crash` is the long one): every scenario, another place each time.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { runScenario } from "./campaign/campaign.ts";
import { scenarios } from "./campaign/scenarios.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const kills = 12;

describe("killed again and again", { concurrency: 2 }, () => {
  for (const scenario of scenarios) {
    test(`${scenario.name}: nothing is lost, all of it heals`, { skip: scenario.skip }, async (context) => {
      const seed = Date.now();
      const report = await runScenario(scenario, { kills, seed, root });
      context.diagnostic(JSON.stringify({ seed, ...report }));
      assert.deepEqual(report.violations, [], `npm run crash -- --seed ${seed} --scenario "${scenario.name}"`);
      assert.equal(report.kills, kills);
      assert.ok(report.rotations > 0, "nothing was rotated");
    });
  }
});
