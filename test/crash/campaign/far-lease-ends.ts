// Leases that nobody ends before their time: none outlives it, whoever was killed meanwhile.
import { setTimeout as sleep } from "node:timers/promises";

/** Reliability I8. */
const mostOverMs = 10_000;
const lookEveryMs = 200;
/** The end of what ends so soon is waited for, while nothing goes wrong. */
const soonMs = 3_000;

export class LeaseEnds {
  /** That ended by themselves. */
  ended = 0;
  /** From the end of a lease's time to its own, also where somebody was dead meanwhile. */
  slowestMs = 0;
  /** The same of those that came to their time while all was well. */
  slowestCalmMs = 0;
  readonly #users: () => Promise<readonly string[]>;
  readonly #violated: (what: string) => void;
  /** By user: epoch ms. */
  readonly #endsAt = new Map<string, number>();
  readonly #closed = new AbortController();
  /** Since then nobody is dead, and no message is lost; epoch ms. */
  #calmSince = Number.POSITIVE_INFINITY;
  readonly #watching: Promise<void>;

  constructor(users: () => Promise<readonly string[]>, violated: (what: string) => void) {
    this.#users = users;
    this.#violated = violated;
    this.#watching = this.#watch();
  }

  expect(user: string, endsAt: number): void {
    this.#endsAt.set(user, endsAt);
  }

  trouble(): void {
    this.#calmSince = Number.POSITIVE_INFINITY;
  }

  calm(): void {
    this.#calmSince = Date.now();
  }

  /** While nothing goes wrong. */
  async settled(): Promise<void> {
    if (this.#calmSince === Number.POSITIVE_INFINITY) return;
    const isSoon = () => [...this.#endsAt.values()].some((endsAt) => endsAt < Date.now() + soonMs);
    while (isSoon() && !this.#closed.signal.aborted) await sleep(lookEveryMs);
  }

  async close(): Promise<void> {
    this.#closed.abort();
    await this.#watching;
  }

  async #watch(): Promise<void> {
    while (!this.#closed.signal.aborted) {
      if ([...this.#endsAt.values()].some((endsAt) => endsAt <= Date.now())) await this.#look();
      await sleep(lookEveryMs, undefined, { ref: false });
    }
  }

  async #look(): Promise<void> {
    const users = await this.#users().catch(() => undefined); // the target is dead
    const nowMs = Date.now();
    for (const [user, endsAt] of users ? this.#endsAt : []) {
      if (endsAt > nowMs) continue;
      const overMs = nowMs - endsAt;
      const isCalm = endsAt > this.#calmSince;
      if (users?.includes(user)) {
        const heldUpMs = nowMs - Math.max(endsAt, this.#calmSince);
        if (heldUpMs <= mostOverMs) continue;
        this.#violated(`${user} outlived its time by ${overMs} ms, of which ${heldUpMs} ms while nobody was dead`);
      } else {
        this.ended += 1;
        this.slowestMs = Math.max(this.slowestMs, overMs);
        if (isCalm) this.slowestCalmMs = Math.max(this.slowestCalmMs, overMs);
      }
      this.#endsAt.delete(user);
    }
  }
}
