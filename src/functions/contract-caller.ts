import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { FunctionRecord, ProcessSettings } from "../core/function.ts";
import type { ContractDoor } from "./contract-door.ts";
import { type FunctionProcess, startProcess } from "./function-process.ts";
import { environmentOf } from "./process-environment.ts";
import { startMs } from "./process-pool.ts";

/** The function under test. */
export interface TestedFunction {
  readonly record: FunctionRecord & { readonly kind: "process"; readonly process: ProcessSettings };
  /** The file itself. */
  readonly path: string;
  readonly python: string;
  readonly variables: Readonly<Record<string, string>>;
}

/** What came of one call. */
export interface Called {
  readonly ok: boolean;
  /** In words: what it answered in place of a result, or how it ended. */
  readonly error: string;
  /** It was ended for taking too long. */
  readonly late: boolean;
  /** All that it wrote, its error with it. */
  readonly output: string;
  readonly tookMs: number;
}

interface CallOptions {
  /** In a new process, whether or not one waits. */
  readonly fresh?: boolean;
  /** Gets what ends the process, at the moment at which the call is handed over. */
  readonly onBegun?: (kill: () => void) => void;
}

/** Starts processes of the function and calls it; one that has answered is used again, as in a server. */
export class ContractCaller {
  readonly #tested: TestedFunction;
  readonly #door: Pick<ContractDoor, "endpoint" | "sessionToken">;
  readonly #idle: FunctionProcess[] = [];
  readonly #alive = new Set<FunctionProcess>();

  constructor(tested: TestedFunction, door: Pick<ContractDoor, "endpoint" | "sessionToken">) {
    this.#tested = tested;
    this.#door = door;
  }

  async call(event: object, { fresh = false, onBegun }: CallOptions = {}): Promise<Called> {
    const process = (fresh ? undefined : this.#idle.pop()) ?? (await this.#start());
    const begun = await this.#begun(process);
    const startedAt = performance.now();
    let killed = false;
    const kill = () => {
      killed = true; // it may have answered by then, and is of no more use
      process.kill();
    };
    const ended = begun ?? (await this.#answer(process, event, () => onBegun?.(kill)));
    const tookMs = performance.now() - startedAt;
    if (!ended.over) {
      await Promise.race([process.api.ready(), process.exited, sleep(200)]);
      if (!killed && !process.hasExited()) this.#idle.push(process);
    }
    const { text } = process.takeOutput();
    return { ok: ended.ok, error: ended.error, late: ended.late, tookMs, output: `${text}\n${ended.error}` };
  }

  /** Ends those that wait: the next call has a new process. */
  renew(): void {
    for (const process of this.#idle.splice(0)) process.kill();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const process of this.#alive) process.kill();
    await Promise.all([...this.#alive].map(({ exited }) => exited));
  }

  async #start(): Promise<FunctionProcess> {
    const { record, path, python, variables } = this.#tested;
    const { endpoint, sessionToken } = this.#door;
    const session = {
      accessKeyId: "ASIACONTRACTKIT00000",
      secretAccessKey: randomUUID(),
      sessionToken,
      expiresAt: 0,
    };
    const environment = { ...variables, ...environmentOf(record, session, endpoint) };
    const process = await startProcess({ settings: record.process, path, python, memoryMiB: record.memoryMiB, environment });
    this.#alive.add(process);
    void process.exited.then(() => this.#alive.delete(process));
    return process;
  }

  async #begun(process: FunctionProcess): Promise<Ended | undefined> {
    const ready = process.api.ready().then(() => undefined);
    const failed = process.api.initFailed.then(({ payload }) => ({ ...over, error: errorIn(payload) }));
    const exited = process.exited.then(() => ({ ...over, error: "it ended before it asked for its first call" }));
    const late = sleep(startMs, { ...over, late: true, error: `it did not begin within ${startMs / 1_000} s` }, { ref: false });
    const first = await Promise.race([ready, failed, exited, late]);
    if (first) process.kill();
    return first;
  }

  async #answer(process: FunctionProcess, event: object, begun: () => void): Promise<Ended> {
    const { arn, timeoutSeconds } = this.#tested.record;
    const invocation = { requestId: randomUUID(), functionArn: arn, deadlineAt: Date.now() + timeoutSeconds * 1_000 };
    const done = process.api.call({ ...invocation, payload: JSON.stringify(event) }).then(({ kind, payload }) => ({
      ok: kind === "response",
      error: kind === "response" ? "" : errorIn(payload),
      late: false,
      over: false,
    }));
    begun();
    const exited = process.exited.then(() => ({ ...over, error: "its process ended before it answered" }));
    const tooLong = new AbortController();
    const error = `it did not answer within ${timeoutSeconds} s`;
    const late = sleep(timeoutSeconds * 1_000, { ...over, late: true, error }, { signal: tooLong.signal }).catch(() => over);
    const ended = await Promise.race([done, exited, late]);
    tooLong.abort();
    if (ended.late) process.kill();
    return ended;
  }
}

interface Ended {
  readonly ok: boolean;
  readonly error: string;
  readonly late: boolean;
  /** The process is of no more use. */
  readonly over: boolean;
}

const over: Ended = { ok: false, error: "", late: false, over: true };

function errorIn(payload: string): string {
  try {
    const { errorType, errorMessage } = JSON.parse(payload) as Record<string, unknown>;
    return `${errorType}: ${errorMessage}`;
  } catch {
    return "it answered an error that is not JSON";
  }
}
