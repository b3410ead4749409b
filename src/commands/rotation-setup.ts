import { setTimeout as sleep } from "node:timers/promises";
import { type Connection, callApi, rowsOf } from "./api-client.ts";
import type { ApiCommand, Typed } from "./api-command.ts";
import { CommandError } from "./command-error.ts";
import { showFindings } from "./job-command.ts";
import { type Answer, printLine, printTable } from "./output.ts";
import { withProgress } from "./progress.ts";
import { ruleOptions } from "./secret.ts";
import { planSetup, type Setup } from "./setup-plan.ts";

/** From a secret to one that is rotated, in one go. */
export const setup: ApiCommand = {
  usage: "setup <secret>",
  about: "make and configure all that a secret's rotation needs, look whether it will work, and rotate",
  examples: [
    "rekey rotation setup app/db",
    'rekey rotation setup app/db --superuser app/superuser --schedule "rate(30 days)"',
    "rekey rotation setup app/key --function rotate-app --runtime node --file rotate-app/index.mjs --yes",
  ],
  operation: "secrets/rotate",
  options: {
    "--function <name>": "rotation function; default the built-in one for the secret's engine and the strategy",
    "--strategy <strategy>": "such as single-user or alternating-users; default alternating-users with a superuser",
    "--superuser <secret>": "secret of the superuser that alternating users need",
    "--rds <identifier>": "RDS instance or cluster of the superuser, whose secret names no host: RDS is asked for its address",
    "--runtime <runtime>": "makes the function: node, python or executable",
    "--file <path>": "with --runtime: its file, below the server's --functions-dir",
    "--handler <name>": "with --runtime: what the file exports, default handler, in Python lambda_handler",
    "--env <name=value...>": "with --runtime: its variables; for settings, not for secrets",
    "--timeout-seconds <number>": "with --runtime: longest call, 1 to 900, default 30",
    ...ruleOptions,
    "--no-immediately": "do not rotate now; wait for the schedule",
    "--yes": "do what the plan says without asking",
  },
  notes:
    "Shows the plan first, and changes nothing when a rotation would fail: exit code 1. Run again, it makes only what is missing.",
  async ask(typed, connection) {
    const plan = await planSetup(typed, connection);
    const { ok } = plan.check;
    const open = plan.parts.filter(({ state }) => state !== "there");
    const isJson = typed.options.json === true;
    if (!isJson) showPlan(plan, typed);
    const wanted = ok === true && open.length > 0;
    const go = wanted && (typed.options.yes === true || (!isJson && (await agreed())));
    const rotation = go ? await apply(connection, plan) : undefined;
    const isUnderWay = rotation?.state === "running" && Number(rotation.failedTries) === 0;
    const isWell = rotation === undefined || rotation.state === "succeeded" || isUnderWay;
    if (ok !== true || !isWell) process.exitCode = 1;
    const parts = plan.parts.map(({ part, name, state }) => ({ part, name, state: go ? "there" : state }));
    const { findings, passed } = plan.check;
    return { ok, secretName: plan.secretName, functionArn: plan.functionArn, parts, findings, passed, applied: go, rotation };
  },
  show(answer) {
    const rows = answer.parts as readonly Answer[];
    if (answer.ok !== true) printLine("nothing was changed");
    else if (rows.every(({ state }) => state === "there")) printLine(ending(answer));
    else printLine("nothing was changed; --yes does it");
  },
};

function ending({ secretName, applied, rotation }: Answer): string {
  if (applied !== true) return "all of it is there: nothing was changed";
  const see = `rekey rotation status ${secretName} shows it`;
  const { state, testOnly, reason } = (rotation ?? {}) as Answer;
  if (state === undefined) return `rotation of ${secretName} is set up; ${see}`;
  if (state === "running" && reason !== undefined)
    return `rotation of ${secretName} is set up; the first try failed and will be repeated: ${reason}; ${see}`;
  if (state === "running") return `rotation of ${secretName} is set up and under way; ${see}`;
  if (state !== "succeeded")
    return `rotation of ${secretName} is set up, but the first one ${state}: ${reason ?? "no reason"}; ${see}`;
  return testOnly === true
    ? `rotation of ${secretName} is set up; its present value works`
    : `rotation of ${secretName} is set up; it was rotated`;
}

const planColumns = { PART: "part", NAME: "name", STATE: "state" };

function showPlan({ parts, check, functionArn, strategy }: Setup, typed: Typed): void {
  printLine(`Function ${functionArn.split(":")[6]}${strategy === undefined ? "" : `, ${strategy}`}`);
  printTable(
    parts.map(({ part, name, state }) => ({ part, name, state })),
    planColumns,
    "",
  );
  printLine("");
  showFindings(check, typed);
}

async function agreed(): Promise<boolean> {
  if (!process.stdin.isTTY || !process.stdout.isTTY) return false;
  const { confirm } = await import("@clack/prompts");
  return (await confirm({ message: "Do what the plan says?", initialValue: false })) === true;
}

/** In order: what comes later needs what comes before, and a second run finds what the first one made. */
async function apply(connection: Connection, { parts, secretName }: Setup): Promise<Answer | undefined> {
  let done: unknown;
  for (const { part, name, apply: make } of parts) {
    try {
      if (make) done = await make();
    } catch (error) {
      if (error instanceof CommandError)
        throw new CommandError(error.exitCode, `${part} ${name}: ${error.message}\nwhat was made stays; run it again to go on`);
      throw error;
    }
  }
  const versionId = (done as Answer | undefined)?.versionId;
  return versionId === undefined ? undefined : withProgress(`rotating ${secretName}`, () => ended(connection, secretName));
}

/** Longer ones go on without anybody waiting for them. */
const waitMs = 60_000;

async function ended(connection: Connection, secretId: string): Promise<Answer | undefined> {
  const until = Date.now() + waitMs;
  for (let pauseMs = 50; ; pauseMs = Math.min(pauseMs * 1.5, 1_000)) {
    const [newest] = rowsOf(await callApi(connection, "rotations/list", { secretId, limit: 1 }), "rotations");
    const waits = newest?.state === "running" && Number(newest.failedTries) === 0;
    if (!waits || Date.now() > until) return newest;
    await sleep(pauseMs);
  }
}
