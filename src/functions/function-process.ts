import { type ChildProcess, spawn } from "node:child_process";
import { chown, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, extname, isAbsolute, join } from "node:path";
import type { ProcessSettings } from "../core/function.ts";
import type { Exit } from "./call-failure.ts";
import { endAllOf, requireReadable } from "./process-users.ts";
import { openRuntimeApi, type RuntimeApi } from "./runtime-api.ts";

/** What a function's process is started with. */
export interface ProcessStart {
  readonly settings: ProcessSettings;
  /** The file itself, links followed. */
  readonly path: string;
  /** Folder that a Node handler loads all of its code from; absent: from where it finds it. */
  readonly within?: string | undefined;
  /** Of runtime `python`. */
  readonly python: string;
  readonly memoryMiB: number;
  /** All of its environment, but for what names its folder and its Runtime API. */
  readonly environment: Readonly<Record<string, string>>;
  /** Number of the system's user to run as, which nothing else runs as; absent: the server's own. */
  readonly user?: number | undefined;
}

export interface FunctionProcess {
  readonly api: RuntimeApi;
  readonly exited: Promise<Exit>;
  readonly pid: number;
  hasExited(): boolean;
  /** What it wrote and nobody has taken yet. */
  output(): string;
  /** The same, taken; `cut`: it wrote more than is kept. */
  takeOutput(): { readonly text: string; readonly cut: boolean };
  /** Ends it and all that it started; of those that went to a session of their own, at its exit, if it has a user to itself. */
  kill(): void;
}

/**
 * Group leader over the function: sets the memory limit, and ends the group when the pipe on its descriptor 3 closes, which
 * it does whatever way the server ends. The function itself has no part of the pipe. Arguments: limit in KiB, most processes
 * and threads of its user or nothing, command.
 */
const guard = `ulimit -c 0; ulimit -d "$1" 2>/dev/null
[ -z "$2" ] || ulimit -p "$2" 2>/dev/null || ulimit -u "$2" 2>/dev/null
shift 2
"$@" 3<&- & child=$!
{ read -r _ <&3; kill -KILL 0; } & watch=$!
wait "$child"; code=$?
kill -KILL "$watch" 2>/dev/null
exit "$code"`;

/** Of a user that nothing else runs as: where others count as well, it would be theirs that are refused. */
const mostProcesses = 256;
const maxOutputChars = 262_144;
/** What Node reserves before a handler has anything of its own, measured with Node 24 on x64. */
const nodeReservesMiB = 640;
const ownFolder = import.meta.dirname;

export async function startProcess(start: ProcessStart): Promise<FunctionProcess> {
  const { user } = start;
  const { command, limitMiB } = commandOf(start);
  if (user !== undefined) await requireReadable(command.filter((part) => isAbsolute(part)));
  const home = await mkdtemp(join(tmpdir(), "rekey-function-"));
  if (user !== undefined) await chown(home, user, user);
  const api = await openRuntimeApi(user);
  const limits = [String(limitMiB * 1024), user === undefined ? "" : String(mostProcesses)];
  const child = spawn("/bin/sh", ["-c", guard, "rekey-function", ...limits, ...command], {
    ...(user !== undefined && { uid: user, gid: user }), // drops all other groups, too
    cwd: dirname(start.path),
    env: { ...start.environment, AWS_LAMBDA_RUNTIME_API: api.address, HOME: home, TMPDIR: home },
    stdio: ["ignore", "pipe", "pipe", "pipe"],
    detached: true,
  });
  const exited = exitOf(child).then(async (exit) => {
    api.close();
    if (user !== undefined) await endAllOf(user);
    await rm(home, { recursive: true, force: true });
    return exit;
  });
  return { api, exited, pid: child.pid ?? 0, ...outputOf(child), hasExited: () => hasEnded(child), kill: () => killGroup(child) };
}

function commandOf({ settings, path, within, python, memoryMiB }: ProcessStart): { command: string[]; limitMiB: number } {
  const { runtime, handler } = settings;
  if (runtime === "executable") return { command: [path], limitMiB: memoryMiB };
  if (runtime === "python") {
    const bootstrap = join(ownFolder, "python-bootstrap.py");
    return { command: [python, bootstrap, path, handler ?? "lambda_handler"], limitMiB: memoryMiB };
  }
  const bootstrap = join(ownFolder, `node-bootstrap${extname(import.meta.filename)}`);
  const command = [process.execPath, `--max-old-space-size=${memoryMiB}`, bootstrap, path, handler ?? "handler"];
  if (within !== undefined) command.push(within);
  return { command, limitMiB: memoryMiB + nodeReservesMiB };
}

function exitOf(child: ChildProcess): Promise<Exit> {
  return new Promise((resolve) => {
    child.once("error", () => resolve({ code: 127, signal: null }));
    child.once("exit", (code, signal) => {
      killGroup(child); // what it may have left running holds the output open
      const end = () => resolve({ code, signal });
      child.once("close", end);
      setTimeout(end, 500).unref();
    });
  });
}

function hasEnded({ exitCode, signalCode, pid }: ChildProcess): boolean {
  return pid === undefined || exitCode !== null || signalCode !== null;
}

function killGroup({ pid }: ChildProcess): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, "SIGKILL");
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ESRCH")) throw error; // all of it has ended
  }
}

function outputOf({ stdout, stderr }: ChildProcess): Pick<FunctionProcess, "output" | "takeOutput"> {
  let text = "";
  let cut = false;
  for (const stream of [stdout, stderr]) {
    stream?.setEncoding("utf8").on("data", (chunk: string) => {
      cut ||= text.length + chunk.length > maxOutputChars;
      text += chunk.slice(0, maxOutputChars - text.length);
    });
    stream?.on("error", () => undefined);
  }
  return {
    output: () => text,
    takeOutput() {
      const taken = { text, cut };
      [text, cut] = ["", false];
      return taken;
    },
  };
}
