import { networkOf } from "../core/address.ts";

/**
 * Bounds on requests in one second, kept by this process. What it remembers is bounded too: at most 10,000 names of
 * callers and as many addresses; the first one of this second is forgotten first.
 */
export interface RequestRate {
  /** How many requests of one caller in a second. */
  readonly maxPerSecond: number;
  /** Counts a request of a caller who is known; how many there were in this second, with it, also beyond the bound. */
  countCaller(principalArn: string, nowMs: number): number;
  /** Counts a request without good credentials. True: too many came from there. */
  isFlood(address: string, nowMs: number): boolean;
  /**
   * Whether this refusal is the first one of the second for this caller or address. Only that one goes on record: a flood
   * must not fill the audit trail.
   */
  isFirstRefusal(name: string, nowMs: number): boolean;
  /** Whether what a stranger was answered goes on record: a hundred a second from one address, since strangers are many. */
  isRecorded(address: string, nowMs: number): boolean;
}

const windowMs = 1_000;
const maxNames = 10_000;
const maxStrangersOnRecord = 100;

export function createRequestRate(maxPerSecond: number): RequestRate {
  const callers = new SecondCounter();
  const refusals = new SecondCounter();
  const strangers = new SecondCounter();
  const recorded = new SecondCounter();
  return {
    maxPerSecond,
    countCaller: (principalArn, nowMs) => callers.add(principalArn, nowMs),
    isFlood: (address, nowMs) => strangers.add(networkOf(address), nowMs) > maxPerSecond,
    isFirstRefusal: (name, nowMs) => refusals.add(name, nowMs) === 1,
    isRecorded: (address, nowMs) => recorded.add(networkOf(address), nowMs) <= maxStrangersOnRecord,
  };
}

/** Counts by name; everything is forgotten when a second is over. */
class SecondCounter {
  readonly #counts = new Map<string, { count: number }>();
  #since = Number.NEGATIVE_INFINITY;

  /** The count with this one. */
  add(name: string, nowMs: number): number {
    // A clock that was set back must not hold the window open.
    if (nowMs - this.#since >= windowMs || nowMs < this.#since) {
      this.#counts.clear();
      this.#since = nowMs;
    }
    const entry = this.#counts.get(name);
    if (entry) return ++entry.count;
    const first = this.#counts.size >= maxNames ? this.#counts.keys().next() : undefined;
    if (first && !first.done) this.#counts.delete(first.value);
    this.#counts.set(name, { count: 1 });
    return 1;
  }
}
