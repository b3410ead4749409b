import { closeSync, fdatasync, fdatasyncSync, openSync } from "node:fs";

/**
 * Makes what was committed durable, beside the thread that commits: SQLite writes a commit to its log without waiting, and
 * the log is flushed by a file descriptor of our own, as a flush is for the file and not for who wrote. One flush serves all
 * commits that were written before it began. A flush that failed says that nothing later can be trusted: it is final.
 */
export class LogSync {
  readonly #file: number;
  #written = 0;
  #durable = 0;
  #flushing = false;
  #failure: Error | undefined;
  readonly #waiting = new Map<number, PromiseWithResolvers<void>>();

  /** `path` is the log, which must be there. What an earlier process may have left in it is durable afterwards. */
  constructor(path: string) {
    this.#file = openSync(path, "r+");
    try {
      fdatasyncSync(this.#file);
    } catch (error) {
      closeSync(this.#file);
      throw error;
    }
  }

  /** A commit that must be durable is in the log now. */
  written(): void {
    this.#written += 1;
    if (!this.#flushing && !this.#failure) this.#flush();
  }

  /** Resolves when all that was written by now is durable; `undefined` when it is already. */
  durable(): Promise<void> | undefined {
    if (this.#failure) return Promise.reject(this.#failure);
    if (this.#durable === this.#written) return undefined;
    const known = this.#waiting.get(this.#written);
    if (known) return known.promise;
    const waiting = Promise.withResolvers<void>();
    waiting.promise.catch(() => undefined); // perhaps nobody waits any more
    this.#waiting.set(this.#written, waiting);
    return waiting.promise;
  }

  /** @throws Error after a flush that failed. */
  requireSound(): void {
    if (this.#failure) throw this.#failure;
  }

  /** For the end, when nothing waits. */
  close(): void {
    closeSync(this.#file);
  }

  #flush(): void {
    this.#flushing = true;
    const upTo = this.#written;
    fdatasync(this.#file, (error) => {
      this.#flushing = false;
      if (error) return this.#fail(error);
      this.#durable = upTo;
      if (this.#written > upTo) this.#flush();
      for (const [number, { resolve }] of this.#waiting) {
        if (number > upTo) break;
        this.#waiting.delete(number);
        resolve();
      }
    });
  }

  #fail(cause: Error): void {
    this.#failure = new Error("the store could not be made durable, and takes nothing more until it is opened again", { cause });
    for (const { reject } of this.#waiting.values()) reject(this.#failure);
    this.#waiting.clear();
  }
}
