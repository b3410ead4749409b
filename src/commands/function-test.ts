import { existsSync } from "node:fs";
import { basename, dirname, extname, resolve } from "node:path";
import { RotatorError } from "../core/error.ts";
import {
  environmentNameProblem,
  type FunctionRecord,
  functionArn,
  functionLimits,
  type ProcessSettings,
} from "../core/function.ts";
import type { TestedFunction } from "../functions/contract-caller.ts";
import type { ContractResult } from "../functions/contract-kit.ts";
import { findProgramFile } from "../functions/program-file.ts";
import { type Connection, callApi, rowsOf } from "./api-client.ts";
import type { ApiCommand, Typed } from "./api-command.ts";
import { CommandError } from "./command-error.ts";
import { contractStore } from "./contract-store.ts";
import { type Answer, cell, printLine, printTable } from "./output.ts";
import { withProgress } from "./progress.ts";
import { numberOf, tagsOf } from "./typed-values.ts";

/** Tries a rotation function out against the contract that every one of them has to keep. */
export const test: ApiCommand = {
  usage: "test <function>",
  about: "take a rotation function through its steps with repeats, kills and lost answers, and print a score",
  examples: [
    "rekey function test rotate-app/index.mjs --secret throw-away/app",
    "rekey function test rotate-app --functions-dir /srv/functions --secret throw-away/app --yes",
  ],
  operation: "secrets/describe",
  options: {
    "--secret <secret>": "secret of a user that nothing else needs (required)",
    "--functions-dir <folder>": "of a registered function: the server's folder (REKEY_FUNCTIONS_DIR)",
    "--handler <name>": "what the file exports, default handler, in Python lambda_handler",
    "--env <name=value...>": "variables that it gets, as rekey function create gives them",
    "--python <file>": "program that runs Python, default python3",
    "--timeout-seconds <number>": "longest call, 1 to 900, default 30, or what the function has",
    "--no-target": "no target checks the value: leave out what only a target could show",
    "--yes": "begin without asking",
  },
  notes:
    "The function runs here, as you and with your own rights to the secret; what its role may do is not tested. The secret is rotated for real about a dozen times, and the function is killed on purpose: take a secret that nothing else reads. Exit code 1 means less than the full score.",
  ask,
  show: showScore,
};

async function ask(typed: Typed, connection: Connection): Promise<Answer> {
  const { options, args } = typed;
  if (typeof options.secret !== "string") throw new CommandError(2, "name the secret to rotate with --secret");
  const secret = await callApi(connection, "secrets/describe", { secretId: options.secret });
  await requireIdle(connection, secret);
  const tested = await findTested(typed, connection, secret);
  if (options.yes !== true && !(options.json !== true && (await agreed(secret, tested))))
    throw new CommandError(1, "nothing was done; --yes begins without asking");
  const { runContractKit } = await import("../functions/contract-kit.ts");
  const interrupted = new AbortController();
  const interrupt = () => interrupted.abort();
  process.once("SIGINT", interrupt);
  let progress = 0;
  try {
    const points = await withProgress(`testing ${args[0]}`, () =>
      runContractKit({
        tested,
        secret: { arn: String(secret.arn), name: String(secret.name) },
        store: contractStore(connection),
        hasTarget: options.target !== false,
        signal: interrupted.signal,
        onPoint: (done) => {
          progress = done;
        },
      }),
    );
    const score = points.filter(({ result }) => result === "won").length;
    const of = points.filter(({ result }) => result !== "skipped").length;
    if (score < of) process.exitCode = 1;
    return { function: args[0], secretName: secret.name, score, of, points };
  } catch (error) {
    if (error instanceof CommandError)
      throw new CommandError(
        error.exitCode,
        `${error.message}\nthe test ended after ${progress} points; see rekey secret versions ${secret.name}`,
      );
    throw error;
  } finally {
    process.off("SIGINT", interrupt);
  }
}

/** The engine must not rotate it meanwhile. */
async function requireIdle(connection: Connection, { name, arn, rotationEnabled }: Answer): Promise<void> {
  const running = await callApi(connection, "rotations/list", { secretId: arn, state: "running", limit: 1 });
  if (rotationEnabled === true || rowsOf(running, "rotations").length > 0)
    throw new CommandError(
      1,
      `rotation of ${name} is on: take another secret, one that nothing else needs, or turn it off with rekey rotation cancel ${name}`,
    );
}

async function agreed(secret: Answer, { path }: TestedFunction): Promise<boolean> {
  if (!process.stdin.isTTY || !process.stdout.isTTY) return false;
  const { confirm } = await import("@clack/prompts");
  const read = secret.lastAccessedDate === undefined ? "" : ` (last read ${cell(secret.lastAccessedDate)})`;
  const message = `This rotates ${secret.name}${read} about a dozen times at its real target with ${path}, and interrupts that on purpose. Begin?`;
  return (await confirm({ message, initialValue: false })) === true;
}

/** A file's path, or else the name of a registered function. @throws CommandError */
async function findTested({ args, options }: Typed, connection: Connection, secret: Answer): Promise<TestedFunction> {
  const given = args[0] ?? "";
  const isFile = existsSync(given);
  const found = isFile ? undefined : await registered(given, connection);
  const folder = isFile ? dirname(resolve(given)) : String(options.functionsDir ?? process.env.REKEY_FUNCTIONS_DIR ?? "");
  if (folder === "") throw new CommandError(2, `${given} is no file here; for a registered function give --functions-dir`);
  const settings = (found?.process as ProcessSettings | undefined) ?? settingsOf(given);
  const process_ = { ...settings, ...(options.handler !== undefined && { handler: String(options.handler) }) };
  try {
    const { path } = await findProgramFile(folder, process_);
    return {
      record: recordOf(found, process_, { timeoutSeconds: numberOf(options.timeoutSeconds, "--timeout-seconds"), secret }),
      path,
      python: typeof options.python === "string" ? options.python : "python3",
      variables: variablesOf(options.env),
    };
  } catch (error) {
    if (error instanceof RotatorError) throw new CommandError(1, error.message, { cause: error });
    throw error;
  }
}

async function registered(functionName: string, connection: Connection): Promise<Answer> {
  const found = await callApi(connection, "functions/get", { functionName });
  if (found.kind === "process") return found;
  throw new CommandError(1, `${functionName} is of kind ${found.kind}: only functions that run as a process can be tested here`);
}

function settingsOf(path: string): ProcessSettings {
  const runtimes: Readonly<Record<string, ProcessSettings["runtime"]>> = {
    ".mjs": "node",
    ".cjs": "node",
    ".js": "node",
    ".py": "python",
  };
  return { runtime: runtimes[extname(path)] ?? "executable", file: basename(path) };
}

interface Given {
  readonly timeoutSeconds: number | undefined;
  readonly secret: Answer;
}

function recordOf(
  found: Answer | undefined,
  process_: ProcessSettings,
  { timeoutSeconds, secret }: Given,
): FunctionRecord & TestedFunction["record"] {
  const [, , , region = "", account = ""] = String(secret.arn).split(":");
  const { timeoutSeconds: times, memoryMiB, concurrency } = functionLimits;
  const seconds = timeoutSeconds ?? Number(found?.timeout ?? times.usual);
  if (seconds < times.least || seconds > times.most)
    throw new CommandError(2, `--timeout-seconds must be from ${times.least} to ${times.most}`);
  const name = String(found?.functionName ?? "contract-kit");
  return {
    kind: "process",
    process: process_,
    region,
    name,
    arn: functionArn(region, account, name),
    timeoutSeconds: seconds,
    memoryMiB: Number(found?.memorySize ?? memoryMiB.usual),
    concurrency: concurrency.usual,
    environmentNames: [],
    createdAt: 0,
    updatedAt: 0,
  };
}

function variablesOf(given: unknown): Record<string, string> {
  const variables = tagsOf(given) ?? [];
  for (const { key } of variables) {
    const problem = environmentNameProblem(key);
    if (problem !== undefined) throw new CommandError(2, `--env ${key} ${problem}`);
  }
  return Object.fromEntries(variables.map(({ key, value }) => [key, value]));
}

function showScore({ score, of, points }: Answer): void {
  const all = points as readonly ContractResult[];
  const words = { won: "ok", lost: "LOST", skipped: "-" } as const;
  printTable(
    all.map(({ title, result, reason }) => ({ title, result: words[result], reason: result === "won" ? "" : reason })),
    { "": "result", POINT: "title", WHY: "reason" },
    "",
  );
  const lost = all.filter(({ result }) => result === "lost");
  for (const { title, reason, remedy } of lost) printLine(`\n${title}\n  ${cell(reason)}\n  ${remedy}`);
  printLine(`\n${score}/${of}`);
}
