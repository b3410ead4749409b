import cluster, { type Worker } from "node:cluster";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import type { Config } from "./config.ts";
import { ConfigError } from "./core/error.ts";
import { mergeMetrics } from "./http/merged-metrics.ts";
import type { MetricsListener } from "./http/metrics.ts";
import { createLog } from "./log.ts";
import { closeLostConnections } from "./lost-connections.ts";
import { Questions } from "./questions.ts";
import type { RunningServer } from "./server-node.ts";
import { SharedAddress } from "./shared-address.ts";
import type { FromWorker, ToWorker } from "./worker-messages.ts";

const shortestPauseMs = 100;
const longestPauseMs = 10_000;
/** A worker that served this long is started again without a long pause. */
const steadyMs = 30_000;
/** Beyond the drain: for a call at a target that is under way, and for what is written at the end. */
const endMs = 20_000;
/** For a process to say its metrics. */
const measureMs = 2_000;
/** Longest path of a socket on the systems that Node runs on, less the names in the folder. Source: unix(7), sun_path. */
const maxFolderLength = 80;

/**
 * Runs the server in `config.processes` child processes that share one address; this one only starts them, starts one again
 * that died, and ends them in order. It opens neither the store nor keys.
 * @throws ConfigError when the first start fails, with what the child process said.
 */
export async function startProcesses(config: Config): Promise<RunningServer> {
  const log = createLog(config.logLevel);
  const folder = makeSocketFolder();
  cluster.setupPrimary({ exec: join(import.meta.dirname, `worker${extname(import.meta.filename)}`), args: [] });
  const around: Surroundings = {
    config,
    folder,
    log,
    address: new SharedAddress(config.listen),
    tellEngine: () => first.tell({ tell: "wake" }),
    metrics: () => metricsOf([first, ...others]),
  };
  const first = new Seat(0, around);
  const others = Array.from({ length: config.processes - 1 }, (_, index) => new Seat(index + 1, around));
  let stopped: Promise<void> | undefined;
  let scraped: MetricsListener | undefined;
  const stop = async () => {
    await scraped?.[Symbol.asyncDispose]();
    first.tell({ tell: "drain" });
    await Promise.all(others.map((seat) => seat.stop())); // they hand on to the first what they still have
    await first.stop();
    rmSync(folder, { recursive: true, force: true });
  };
  const close = () => (stopped ??= stop());
  try {
    if (config.metricsListen) {
      const { openMetrics } = await import("./open-metrics.ts"); // with libraries that this process does without otherwise
      scraped = await openMetrics({ text: around.metrics }, config.metricsListen, log);
    }
    const endpoint = await first.start();
    await Promise.all(others.map((seat) => seat.start()));
    const reloadTls = () => {
      for (const seat of [first, ...others]) seat.tell({ tell: "reload TLS" });
    };
    return { endpoint, close, reloadTls, [Symbol.asyncDispose]: close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function metricsOf(seats: readonly Seat[]): Promise<string> {
  const texts = new Map<number, string>();
  await Promise.all(
    seats.map(async (seat, index) => {
      const text = await seat.metrics();
      if (text !== undefined) texts.set(index, text);
    }),
  );
  return mergeMetrics(new Map([...texts].sort(([a], [b]) => a - b)));
}

/** A folder for sockets that only this user can enter. */
function makeSocketFolder(): string {
  const system = tmpdir();
  return mkdtempSync(join(system.length > maxFolderLength ? "/tmp" : system, "rekey-"));
}

interface Surroundings {
  readonly config: Config;
  readonly folder: string;
  readonly log: Logger;
  readonly address: SharedAddress;
  tellEngine(): void;
  /** Of all processes. */
  metrics(): Promise<string>;
}

/** One place among the processes, with the worker that holds it now. The first one writes and runs the engine. */
class Seat {
  readonly #index: number;
  readonly #around: Surroundings;
  #worker: Worker | undefined;
  #ended = Promise.resolve();
  #stopping = new AbortController();
  #pauseMs = shortestPauseMs;
  readonly #questions = new Questions();

  constructor(index: number, around: Surroundings) {
    this.#index = index;
    this.#around = around;
  }

  /** Its part of the users that functions run as: no two processes run functions as the same one. */
  #usersOf({ functionsUsers: all, processes }: Config): Config["functionsUsers"] {
    if (all === undefined || all === "same") return all;
    const each = Math.floor((all.last - all.first + 1) / processes);
    const first = all.first + this.#index * each;
    return { first, last: first + each - 1 };
  }

  /** Where it serves, once it does. @throws ConfigError when its worker says that it cannot. */
  async start(): Promise<string> {
    const { config, folder, log, address } = this.#around;
    const first = this.#index === 0;
    const role = config.databaseUrl !== undefined ? "alone" : first ? "writer" : "reader";
    const worker = cluster.fork();
    this.#worker = worker;
    closeLostConnections(worker);
    const ready = Promise.withResolvers<string>();
    const ended = Promise.withResolvers<void>();
    this.#ended = ended.promise;
    worker.on("message", (message: FromWorker) => this.#hear(message, ready));
    // What is said to one that is ending may not arrive; its end is told by "exit".
    worker.on("error", (error) => log.debug({ err: error, worker: worker.process.pid }, "a process did not listen"));
    worker.once("exit", (code, signal) => {
      if (this.#worker === worker) this.#worker = undefined; // else it could not start, and another one is here already
      ended.resolve();
      ready.reject(new Error(`process ${worker.process.pid} ${howItEnded(code, signal)} before it served`));
    });
    this.tell({
      tell: "start",
      role,
      socketFolder: folder,
      config: {
        ...config,
        listen: address.ask(),
        functionsUsers: this.#usersOf(config),
        maxConnections: Math.ceil(config.maxConnections / config.processes),
        maxFailedLoginsPerMinute: Math.ceil(config.maxFailedLoginsPerMinute / config.processes),
        engine: config.engine && first,
        processes: 1,
      },
    });
    const endpoint = await ready.promise;
    if (!address.takes(endpoint)) {
      worker.process.kill("SIGKILL");
      throw new Error(`process ${worker.process.pid} got another address than the others`);
    }
    const servesSince = Date.now();
    worker.once("exit", (code, signal) => {
      address.left();
      if (this.#stopping.signal.aborted) return;
      log.error({ worker: worker.process.pid, role }, `a process ${howItEnded(code, signal)}; it is started again`);
      if (Date.now() - servesSince > steadyMs) this.#pauseMs = shortestPauseMs;
      void this.#startAgain();
    });
    log.info({ worker: worker.process.pid, role }, "a process serves");
    return endpoint;
  }

  tell(message: ToWorker): void {
    if (this.#worker?.isConnected()) this.#worker.send(message);
  }

  /** Undefined while nobody answers there. */
  async metrics(): Promise<string | undefined> {
    if (!this.#worker?.isConnected()) return undefined;
    return this.#questions.ask((id) => this.tell({ tell: "measure", id }), measureMs);
  }

  /** Resolves when its worker has answered open requests and ended. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.tell({ tell: "stop" });
    const late = setTimeout(() => this.#worker?.process.kill("SIGKILL"), this.#around.config.drainSeconds * 1000 + endMs);
    await this.#ended;
    clearTimeout(late);
  }

  #hear(message: FromWorker, ready: PromiseWithResolvers<string>): void {
    if (message.tell === "ready") ready.resolve(message.endpoint);
    else if (message.tell === "failed") ready.reject(new ConfigError(message.problems));
    else if (message.tell === "measured") this.#questions.answer(message.id, message.text);
    else if (message.tell === "measure all") void this.#tellAll(message.id);
    else this.#around.tellEngine();
  }

  async #tellAll(id: number): Promise<void> {
    this.tell({ tell: "measured", id, text: await this.#around.metrics() });
  }

  /** Until it serves, with growing pauses. */
  async #startAgain(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      await sleep(this.#pauseMs, undefined, { signal }).catch(() => undefined); // told to stop: the loop ends
      if (signal.aborted) return;
      this.#pauseMs = Math.min(this.#pauseMs * 2, longestPauseMs);
      try {
        await this.start();
        return;
      } catch (error) {
        this.#around.log.error({ err: error }, "a process could not be started again");
      }
    }
  }
}

const howItEnded = (code: number, signal: string | null): string =>
  signal ? `was ended by ${signal}` : `ended with code ${code}`;
