import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runScenario } from "./campaign.ts";
import { type Hole, plant } from "./holes.ts";
import { scenarios } from "./scenarios.ts";

const testMaxMs = 300_000;

/** What shows the hole when it is planted in a copy of the program at `root`; `undefined` when nothing does. */
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
    const { scenario: name } = hole.by;
    const scenario = scenarios.find((one) => one.name === name);
    if (!scenario) throw new Error(`hole ${hole.name} names no scenario`);
    const { violations } = await runScenario(scenario, { kills, seed, root: copy, untilFound: true });
    return violations[0];
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}

/** Its first assertion that fails. */
function failureOf({ test, pattern }: { readonly test: string; readonly pattern: string }, root: string): string | undefined {
  const args = ["--disable-warning=ExperimentalWarning", "--test", `--test-name-pattern=${pattern}`, test];
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const { status, stdout, signal } = spawnSync(process.execPath, args, { cwd: root, env, encoding: "utf8", timeout: testMaxMs });
  if (status === 0) return undefined;
  if (signal !== null) return `${test} did not end`;
  return (
    stdout
      .split("\n")
      .find((line) => line.includes("AssertionError"))
      ?.trim() ?? `${test} failed`
  );
}
