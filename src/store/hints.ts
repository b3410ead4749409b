/**
 * Tells waiters in this process that something of a name changed, e.g. `lease/ID` or `config/ID`. A hint only: other
 * processes change the store too, so whoever waits looks again after a while all the same.
 */
export class Hints {
  readonly #waiting = new Map<string, Set<() => void>>();

  give(name: string): void {
    const waiting = this.#waiting.get(name);
    this.#waiting.delete(name);
    for (const wake of waiting ?? []) wake();
  }

  /** Resolves at the next hint, at the latest after `ms`, or when `signal` is aborted; never rejects. */
  wait(name: string, ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal?.aborted) return resolve();
      const end = () => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", end);
        const waiting = this.#waiting.get(name);
        waiting?.delete(end);
        if (waiting?.size === 0) this.#waiting.delete(name);
        resolve();
      };
      const timer = setTimeout(end, ms);
      signal?.addEventListener("abort", end);
      const waiting = this.#waiting.get(name) ?? new Set();
      this.#waiting.set(name, waiting.add(end));
    });
  }
}
