// A process of the campaign that works until it is killed, and what it says.
import assert from "node:assert/strict";
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

export interface WorkerProcess {
  readonly child: ChildProcessWithoutNullStreams;
  readonly ended: Promise<unknown>;
  /** All that it has said and logged. */
  text(): string;
  /** Waits for a line. @throws when it ends before */
  said(line: string): Promise<void>;
}

/** Runs `file` with the job as JSON in CAMPAIGN_JOB and the root key in ROOT_KEY; `take` gets what it says, line by line. */
export function startWorker(file: string, job: object, rootKey: string, take: (line: string) => void = () => {}): WorkerProcess {
  const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", file], {
    env: {
      NODE_COMPILE_CACHE: join(tmpdir(), "rekey-compiled"),
      ...process.env,
      CAMPAIGN_JOB: JSON.stringify(job),
      ROOT_KEY: rootKey,
    },
  });
  const ended = once(child, "close");
  const output: string[] = [];
  const said = new Set<string>();
  let rest = "";
  child.stdin.on("error", () => {}); // it was killed
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    output.push(text);
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      said.add(line);
      take(line);
    }
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => output.push(text));
  const text = () => output.join("");
  return {
    child,
    ended,
    text,
    async said(line) {
      while (!said.has(line)) {
        assert.equal(child.exitCode ?? child.signalCode, null, `[fails] ${text().slice(-2_000)}`);
        await sleep(5);
      }
    },
  };
}
