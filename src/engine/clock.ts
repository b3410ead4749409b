import { hastenAllRevocations } from "../store/lease-claims.ts";
import { hastenAll, keepClaims } from "../store/rotation-claims.ts";
import { storeTime } from "../store/self-check.ts";
import type { EngineParts } from "./parts.ts";

const measureEveryMs = 60_000;
/** A difference that no adjustment of a clock makes. */
const jumpMs = 120_000;

/**
 * The time by which things fall due: nodes that share a store go by its clock. A clock that jumps is noticed: what is under
 * way stays in its hands, what waited for a moment that is far off again is tried at once, and nothing is ended for a while.
 */
export class Clock {
  readonly #parts: EngineParts;
  #offsetMs = 0;
  #measuredAt = Number.NEGATIVE_INFINITY;
  #settledAt = Number.NEGATIVE_INFINITY;
  #last: { readonly at: number; readonly elapsed: number; readonly wall: number } | undefined;

  constructor(parts: EngineParts) {
    this.#parts = parts;
  }

  /** Epoch ms. */
  now = (): number => this.#parts.now() + this.#offsetMs;

  /** False for the length of a claim after a jump ahead: whoever ends something may be misled about its deadline. */
  get isSettled(): boolean {
    const { now, elapsed } = this.#parts;
    if (!elapsed) return true;
    const last = this.#last;
    // It may have jumped since it was looked at.
    if (last && isJump(now() - last.wall - (elapsed() - last.elapsed))) return false;
    return elapsed() >= this.#settledAt;
  }

  /** Before each look for what is due. True when the clock has gone back: claims may last far longer than they should. */
  async look(): Promise<boolean> {
    const { now, elapsed } = this.#parts;
    if (!elapsed) return false;
    const before = this.#last;
    const hasJumped = before !== undefined && isJump(now() - before.wall - (elapsed() - before.elapsed));
    if (hasJumped || elapsed() - this.#measuredAt >= measureEveryMs) await this.#measure(elapsed());
    this.#last = { at: this.now(), elapsed: elapsed(), wall: now() };
    const byMs = before ? this.#last.at - before.at - (this.#last.elapsed - before.elapsed) : 0;
    if (isJump(byMs)) await this.#jumped(byMs, this.#last.elapsed);
    return byMs < -jumpMs;
  }

  async #measure(elapsed: number): Promise<void> {
    const { sql, now } = this.#parts;
    this.#measuredAt = elapsed;
    if (sql.dialect !== "postgres") return; // this machine's clock is the store's
    const askedAt = now();
    const storeAt = await storeTime(sql);
    const offsetMs = Math.round(storeAt - (askedAt + now()) / 2);
    if (isJump(offsetMs - this.#offsetMs))
      this.#parts.log.error(
        { offsetMs },
        "this machine's clock differs from the database's, which counts; keep it right with NTP",
      );
    this.#offsetMs = offsetMs;
  }

  async #jumped(byMs: number, elapsed: number): Promise<void> {
    const { sql, log, settings } = this.#parts;
    const [nowMs, untilMs] = [this.now(), this.now() + settings.claimMs];
    log.error({ byMs: Math.round(byMs) }, "the clock jumped: old credentials are not ended for a while; keep it right with NTP");
    if (byMs > 0) {
      this.#settledAt = elapsed + settings.claimMs;
      await keepClaims(sql, settings.node, untilMs);
    } else {
      await hastenAll(sql, nowMs);
      await hastenAllRevocations(sql, nowMs);
    }
  }
}

function isJump(ms: number): boolean {
  return Math.abs(ms) > jumpMs;
}

/** When a call at a target has to be over, by this machine's clock: that is the one which drivers look at. */
export function callDeadline(leftMs: number): number {
  return Date.now() + leftMs;
}
