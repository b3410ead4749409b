// The kill campaign: `npm run crash -- --kills 1000 --seed 7`. SIGKILL at points of a rotation and at moments, against real
// targets; ends with 1 when anything was lost, or when a planted hole was not found.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { parseArgs } from "node:util";
import { type CampaignOptions, type Report, runScenario } from "../test/crash/campaign/campaign.ts";
import { farScenarios, stoppedScenarios } from "../test/crash/campaign/far.ts";
import { findHole } from "../test/crash/campaign/find-hole.ts";
import { type Hole, holes } from "../test/crash/campaign/holes.ts";
import { leaseScenarios } from "../test/crash/campaign/lease-places.ts";
import { runLeases } from "../test/crash/campaign/leases.ts";
import { programScenarios, runProgram } from "../test/crash/campaign/program.ts";
import { scenarios } from "../test/crash/campaign/scenarios.ts";
import { runSchedules, schedulesName } from "../test/crash/campaign/schedules.ts";

const help = `npm run crash -- [options]
  --kills N          kills in all, shared among the scenarios (default 400)
  --seed S           a whole number; the same seed kills at the same points (default 1)
  --scenario NAME    only those whose names contain it; may be given again
  --only NAME        that one alone, by its whole name; prints its report as JSON
  --holes            plants faults in a copy of the program, one after another, and looks whether each is found
  --hole NAME        only that one
  --json             the reports as JSON`;

const root = join(import.meta.dirname, "..");
const { values } = parseArgs({
  options: {
    kills: { type: "string", default: "400" },
    seed: { type: "string", default: "1" },
    scenario: { type: "string", multiple: true },
    only: { type: "string" },
    holes: { type: "boolean", default: false },
    hole: { type: "string" },
    json: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});
interface Run {
  readonly name: string;
  readonly skip: string | false;
  run(options: CampaignOptions): Promise<Report>;
}

/** The engine in a process that knows its points, and the whole program. */
const runs: readonly Run[] = [
  ...scenarios.map((one): Run => ({ name: one.name, skip: one.skip, run: (options) => runScenario(one, options) })),
  ...programScenarios.map((one): Run => ({ name: one.name, skip: one.rotates.skip, run: (options) => runProgram(one, options) })),
  { name: schedulesName, skip: false, run: runSchedules },
  ...leaseScenarios.map((one): Run => ({ name: one.name, skip: one.skip, run: (options) => runLeases(one, options) })),
  ...farScenarios,
  ...stoppedScenarios,
];

process.exit(await main());

async function main(): Promise<number> {
  const [kills, seed] = [Number(values.kills), Number(values.seed)];
  if (values.help) return say(help, 0);
  if (!Number.isSafeInteger(kills) || kills < 1) return say("crash: --kills takes a whole number from 1", 2);
  if (!Number.isSafeInteger(seed)) return say("crash: --seed takes a whole number", 2);
  const planted = holes.filter(({ name }) => values.holes || name === values.hole);
  if (values.hole !== undefined && planted.length === 0)
    return say(`crash: no such hole; there are ${holes.map(({ name }) => name).join(", ")}`, 2);
  return planted.length > 0 ? findHoles(planted, kills, seed) : campaign(kills, seed);
}

async function campaign(kills: number, seed: number): Promise<number> {
  const { only, scenario: parts } = values;
  const chosen = runs.filter(({ name }) =>
    only === undefined ? (parts?.some((part) => name.includes(part)) ?? true) : name === only,
  );
  if (chosen.length === 0) return say(`crash: no such scenario; there are ${runs.map(({ name }) => name).join(", ")}`, 2);
  const options = { kills: Math.ceil(kills / chosen.length), seed, root, say: console.error };
  if (only !== undefined) {
    for (const { run } of chosen) await told(JSON.stringify(await run(options)));
    return 0; // whoever started this says the rest
  }
  const reports: Report[] = [];
  for (const { name, skip } of chosen) {
    if (skip !== false) console.error(`crash: ${name} left out: ${skip}`);
    else reports.push(await apart(name, options.kills, seed));
  }
  return conclude(reports, seed);
}

function conclude(reports: readonly Report[], seed: number): number {
  const lost = reports.reduce((sum, { violations }) => sum + violations.length, 0);
  if (values.json) console.log(JSON.stringify({ seed, reports }));
  else
    console.table(
      Object.fromEntries(reports.map(({ scenario, violations, ...row }) => [scenario, { ...row, lost: violations.length }])),
    );
  const all = reports.reduce((sum, report) => sum + report.kills, 0);
  // No event in n tries: the rate is below 3/n with a confidence of 95 %.
  console.error(
    `crash: ${all} kills, seed ${seed}, ${lost} violations${lost === 0 ? `; below ${(3 / all).toExponential(1)} a kill (95 %)` : ""}`,
  );
  return lost === 0 ? 0 : 1;
}

/** In a process of its own: what one scenario leaves in memory is not the next one's. */
async function apart(name: string, kills: number, seed: number): Promise<Report> {
  const args = [import.meta.filename, "--kills", String(kills), "--seed", String(seed), "--only", name];
  const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", ...args], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [printed] = await Promise.all([text(child.stdout), once(child, "close")]);
  if (printed === "") throw new Error(`${name} ended with ${child.exitCode ?? child.signalCode} and told nothing`);
  const report = JSON.parse(printed) as Report;
  console.error(`crash: ${name}: ${report.kills} kills, ${report.violations.length} violations`);
  for (const violation of report.violations) console.error(`crash: ${name}: ${violation}`);
  return report;
}

async function findHoles(planted: readonly Hole[], kills: number, seed: number): Promise<number> {
  let missed = 0;
  for (const hole of planted) {
    const found = await findHole(hole, { root, kills, seed });
    if (found === undefined) missed += 1;
    console.log(`${found === undefined ? "MISSED" : "found "}  ${hole.name} (${hole.about})${found ? `: ${found}` : ""}`);
  }
  return missed === 0 ? 0 : 1;
}

/** All of it, before the process ends. */
function told(text: string): Promise<void> {
  return new Promise((resolve) => process.stdout.write(text, () => resolve()));
}

function say(text: string, code: number): number {
  (code === 0 ? console.log : console.error)(text);
  return code;
}
