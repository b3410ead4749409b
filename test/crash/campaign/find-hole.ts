import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { postgresSkip } from "../../support/postgres-server.ts";
import { redisSkip } from "../../support/redis-server.ts";
import { type CampaignOptions, type Report, runScenario } from "./campaign.ts";
import { type Hole, plant } from "./holes.ts";
import { leaseScenarios } from "./lease-places.ts";
import { runLeases } from "./leases.ts";
import { scenarios } from "./scenarios.ts";

const testMaxMs = 300_000;

/**
 * What shows the hole when it is planted in a copy of the program at `root`; `undefined` when nothing does.
 * @throws Error when the copy or its test cannot run at all
 */
export async function findHole(
  hole: Hole,
  { root, kills, seed }: { readonly root: string; readonly kills: number; readonly seed: number },
): Promise<string | undefined> {
  const copy = mkdtempSync(join(tmpdir(), "rekey-hole-"));
  try {
    for (const part of ["src", "test", "package.json"]) cpSync(join(root, part), join(copy, part), { recursive: true });
    symlinkSync(join(root, "node_modules"), join(copy, "node_modules"));
    plant(hole, copy);
    if ("test" in hole.by) return failureOf(hole.by, copy);
    const { violations } = await scenarioOf(hole).run({ kills, seed, root: copy, untilFound: true });
    const [found] = violations.filter((text) => /^I\d+:/.test(text));
    if (found === undefined && violations.length > 0)
      throw new Error(`${hole.name} was not found, the program fails: ${violations[0]}`);
    return found;
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}

/** Why it cannot be looked for here; false when it can. */
export function skipOf(hole: Hole): string | false {
  return "test" in hole.by ? postgresSkip || redisSkip : scenarioOf(hole).skip;
}

interface Found {
  readonly skip: string | false;
  run(options: CampaignOptions): Promise<Report>;
}

function scenarioOf({ name, by }: Hole): Found {
  const asked = "scenario" in by ? by.scenario : undefined;
  const rotates = scenarios.find((one) => one.name === asked);
  if (rotates) return { skip: rotates.skip, run: (options) => runScenario(rotates, options) };
  const leases = leaseScenarios.find((one) => one.name === asked);
  if (leases) return { skip: leases.skip, run: (options) => runLeases(leases, options) };
  throw new Error(`hole ${name} names no scenario`);
}

/** Its first assertion that fails. @throws Error when it fails otherwise: that tells nothing of the hole */
function failureOf({ test, pattern }: { readonly test: string; readonly pattern: string }, root: string): string | undefined {
  const args = ["--disable-warning=ExperimentalWarning", "--test", `--test-name-pattern=${pattern}`, test];
  const { NODE_TEST_CONTEXT: _, ...inherited } = process.env;
  const env = { ...inherited, CRASH_SHARE: "1" };
  const ran = spawnSync(process.execPath, args, { cwd: root, env, encoding: "utf8", timeout: testMaxMs });
  if (ran.status === 0) return undefined;
  const lines = ran.stdout.split("\n").map((line) => line.trim());
  const from = lines.findIndex((line) => line.includes("AssertionError"));
  const shown = lines.slice(from, from + 12).filter((line) => line !== "" && !line.startsWith("at "));
  if (from >= 0 && !shown.some((line) => line.includes("[fails]"))) return shown.join(" ").slice(0, 500);
  throw new Error(`not found, the test fails: ${ran.stdout.slice(-1_500)}${ran.stderr.slice(-500)}`);
}
