import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import type { BareAnswer } from "./bare-server.ts";
import type { Job, Outcome } from "./load-client.ts";

/** Thrown when a figure would mean nothing: an answer was a refusal, a connection broke. */
export class Void extends Error {}

export interface LoadClient extends AsyncDisposable {
  /** @throws Void when any answer has another status than the job says. */
  run(job: Job): Promise<Outcome>;
}

/** Starts the process that sends requests. It ends with us. */
export function startLoadClient(): LoadClient {
  const child = startChild("load-client.ts");
  return {
    async run(job) {
      const answer = nextMessage<Outcome | { error: string }>(child);
      child.send(job);
      const outcome = await answer;
      if ("error" in outcome) throw new Void(`the load client failed: ${outcome.error}`);
      if (outcome.failed > 0)
        throw new Void(`${outcome.failed} of ${outcome.answered} answers failed; one: ${outcome.firstFailure}`);
      return outcome;
    },
    [Symbol.asyncDispose]: () => endChild(child),
  };
}

export interface BareServer extends AsyncDisposable {
  readonly port: number;
  readonly pid: number;
}

/** A `node:http` server in a process of its own that reads each request whole and gives the same answer to all. */
export async function startBareServer(answer: Omit<BareAnswer, "status"> & { status?: number }): Promise<BareServer> {
  const child = startChild("bare-server.ts");
  const listening = nextMessage<{ port: number }>(child);
  child.send({ status: 200, ...answer });
  const { port } = await listening;
  return { port, pid: child.pid ?? 0, [Symbol.asyncDispose]: () => endChild(child) };
}

export function startChild(file: string): ChildProcess {
  return fork(join(import.meta.dirname, file), { serialization: "advanced", stdio: ["ignore", "inherit", "inherit", "ipc"] });
}

export function nextMessage<T>(child: ChildProcess): Promise<T> {
  return new Promise((resolve, reject) => {
    const ended = () => {
      child.off("message", came);
      reject(new Void("a process of the measurement ended early"));
    };
    const came = (message: unknown) => {
      child.off("exit", ended);
      resolve(message as T);
    };
    child.once("message", came).once("exit", ended);
  });
}

export async function endChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, "exit");
  child.kill("SIGKILL");
  await ended;
}
