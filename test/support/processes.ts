// The child processes of a running server, as its log tells of them; and the program as one would run it by hand.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { program } from "./cli.ts";
import type { RekeyServer } from "./rekey-server.ts";

/** Runs `rekey` to its end. */
export async function runRekey(
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
): Promise<{ code: number | null; out: string; err: string }> {
  const options = { stdio: ["ignore", "pipe", "pipe"] as ["ignore", "pipe", "pipe"], env: { ...process.env, ...env } };
  const child = spawn(process.execPath, [program, ...args], options);
  const [out, err] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "close")]);
  return { code: child.exitCode, out, err };
}

export type LogLine = Readonly<Record<string, unknown>>;

/** Whole lines only. */
export function logLines(server: RekeyServer): LogLine[] {
  const lines = server.log().split("\n").slice(0, -1);
  return lines.filter((line) => line.startsWith("{")).map((line) => JSON.parse(line));
}

/** Process ids of those that serve now. */
export function workersOf(server: RekeyServer, role: "writer" | "reader" | "alone"): number[] {
  const serving = new Set<number>();
  for (const { msg, worker, role: its } of logLines(server)) {
    if (typeof worker !== "number" || its !== role) continue;
    if (msg === "a process serves") serving.add(worker);
    else serving.delete(worker);
  }
  return [...serving];
}

/** Waits for a line, however long that takes within reason. */
export async function awaitLog(server: RekeyServer, isIt: (line: LogLine) => boolean): Promise<void> {
  const giveUpAt = Date.now() + 120_000;
  while (!logLines(server).some(isIt)) {
    if (Date.now() > giveUpAt) throw new Error(`not in the log:\n${server.log()}`);
    await sleep(10);
  }
}

/** Ends one of those processes. */
export function endProcess(pid: number, signal: NodeJS.Signals): void {
  if (pid > 0) process.kill(pid, signal);
}
