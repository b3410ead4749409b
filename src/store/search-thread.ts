import { once } from "node:events";
import { extname } from "node:path";
import { Worker } from "node:worker_threads";
import { ServiceError } from "../core/error.ts";
import type { Sql } from "./sql.ts";

const maxWaiting = 64;
const closeTimeoutMs = 2_000;
const maxHeapMb = 256;

/** What is sent to the thread, and what comes back. Everything in it is copied, so it holds data only. */
export interface SearchTask {
  readonly id: number;
  readonly name: string;
  readonly args: readonly unknown[];
}
export type SearchAnswer = { readonly id: number; readonly result: unknown } | { readonly id: number; readonly error: string };

/** A thread with a read-only connection of its own, for searches that look at a whole table: they must not hold up requests. */
export interface SearchThread {
  /** @throws ServiceError ThrottlingException when too many searches wait already; Error when the thread ended on its way. */
  ask<T>(name: string, ...args: readonly unknown[]): Promise<T>;
  close(): Promise<void>;
}

const threads = new WeakMap<Sql, SearchThread>();

export function setSearchThread(sql: Sql, thread: SearchThread): void {
  threads.set(sql, thread);
}

/** Absent where none is needed: PostgreSQL searches in its own processes. */
export function searchThreadOf(sql: Sql): SearchThread | undefined {
  return threads.get(sql);
}

interface Waiting {
  resolve(result: unknown): void;
  reject(error: Error): void;
}

/**
 * The thread for the embedded store in file `path`. It begins with the first search, and again with the next one after it
 * ended by itself; it keeps the process alive only while a search runs.
 */
export function createSearchThread(path: string): SearchThread {
  const waiting = new Map<number, Waiting>();
  let worker: Worker | undefined;
  let lastId = 0;
  let closed = false;

  function begin(): Worker {
    // The file beside this one, as it is: TypeScript from the sources, JavaScript when built.
    const file = new URL(`./search-worker${extname(import.meta.filename)}`, import.meta.url);
    const made = new Worker(file, {
      name: "rekey-search",
      workerData: path,
      env: {}, // what a search cannot need, it cannot leak
      resourceLimits: { maxOldGenerationSizeMb: maxHeapMb },
    });
    made.unref();
    made.on("message", (answer: SearchAnswer) => settle(answer));
    made.on("error", (error: Error) => end(made, error));
    made.on("exit", () => end(made, new Error("the search thread ended")));
    return made;
  }

  function settle(answer: SearchAnswer): void {
    const search = waiting.get(answer.id);
    waiting.delete(answer.id);
    if (waiting.size === 0) worker?.unref();
    if ("error" in answer) search?.reject(new Error(`a search failed: ${answer.error}`));
    else search?.resolve(answer.result);
  }

  function end(ended: Worker, cause: Error): void {
    if (worker !== ended) return;
    worker = undefined;
    const lost = [...waiting.values()];
    waiting.clear();
    for (const { reject } of lost) reject(new Error("a search was cut off", { cause }));
  }

  return {
    ask<T>(name: string, ...args: readonly unknown[]): Promise<T> {
      if (closed) throw new Error("the store is closed");
      if (waiting.size >= maxWaiting) throw new ServiceError("ThrottlingException", "Rate exceeded: too many searches at once.");
      worker ??= begin();
      worker.ref();
      lastId += 1;
      const task: SearchTask = { id: lastId, name, args };
      const { promise, resolve, reject } = Promise.withResolvers<unknown>();
      waiting.set(task.id, { resolve, reject });
      worker.postMessage(task);
      return promise as Promise<T>;
    },
    async close() {
      closed = true;
      const ending = worker;
      if (!ending) return;
      ending.ref();
      const exit = once(ending, "exit", { signal: AbortSignal.timeout(closeTimeoutMs) });
      ending.postMessage(undefined); // closes its connection first, so that the writer's end can fold the log into the file
      await exit.catch(() => ending.terminate());
    },
  };
}
