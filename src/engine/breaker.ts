import { type OutcomeClass, RotatorError } from "../core/error.ts";
import { isIn } from "../core/network.ts";

/** Silences in a row after which a target is left alone. */
const silencesBefore = 5;
const tryAgainMs = 30_000;
/** Of those that wait, so many a second come to see; all are woken when the target answers. */
const comeAgainMs = 100;
const longestMs = 15 * 60_000;
/** Whoever writes secrets names targets: the one that was heard of longest ago is forgotten then. */
const mostTargets = 10_000;

interface Silence {
  readonly sinceMs: number;
  count: number;
  nextTryAt: number;
  turnedAway: number;
  reason: string | undefined;
}

/** The target has been silent for so long that nothing is lost by leaving it alone until `againAt`. */
export class SilentTarget extends RotatorError {
  readonly againAt: number;

  constructor(outcome: "unreachable" | "timeout", message: string, againAt: number) {
    super(outcome, message);
    this.againAt = againAt;
  }
}

/** Stay away until then; the target has been silent since. */
export interface Away {
  readonly untilMs: number;
  readonly sinceMs: number;
  /** Why the last try did not get there, such as a network without agents; nothing of who tried. */
  readonly reason?: string;
}

/** What a call that ended so says about its target: whether it is there. `undefined`: nothing. */
function answers(outcome: OutcomeClass): boolean | undefined {
  if (outcome === "unreachable" || outcome === "timeout") return false;
  return outcome === "ok" || outcome === "refused" || outcome === "locked" || outcome === "expired" || outcome === "tls"
    ? true
    : undefined;
}

/**
 * Targets that do not answer are left alone but for one try each half minute, so that they hold up neither their own work
 * nor that of others. What one process has seen.
 */
export class Breakers {
  readonly #silent = new Map<string, Silence>();
  readonly #seen = new Set<string>();
  readonly #now: () => number;

  constructor(now: () => number) {
    this.#now = now;
  }

  /** `undefined` when the target may be tried. `again`: whoever asks has tried it just now. */
  away(target: string, again = false): Away | undefined {
    const silence = this.#silent.get(target);
    if (!silence || silence.count < silencesBefore) return undefined;
    const nowMs = this.#now();
    if (silence.nextTryAt <= nowMs && !again) {
      silence.nextTryAt = nowMs + tryAgainMs;
      silence.turnedAway = 0;
      return undefined;
    }
    const after = again ? 0 : Math.min(silence.turnedAway++ * comeAgainMs, longestMs);
    return toAway(silence, after);
  }

  /** Since when it is left alone, and until when; `undefined` when it is not. Nobody is let through by asking this. */
  silence(target: string): Away | undefined {
    const silence = this.#silent.get(target);
    return silence && silence.count >= silencesBefore ? toAway(silence) : undefined;
  }

  /** There is a way into the network again: its targets may be tried. Those that were silent, however short. */
  forget(network: string): string[] {
    const targets = [...this.#silent.keys()].filter((target) => isIn(network, target));
    for (const target of targets) this.#silent.delete(target);
    return targets;
  }

  /** How long a target has been silent, in words. */
  static words({ sinceMs, reason }: Away, kind: string, target: string): string {
    const since = `${kind} at ${target} has not answered since ${new Date(sinceMs).toISOString()}`;
    return `${since}; it is tried again every ${tryAgainMs / 1_000} s${reason === undefined ? "" : `: ${reason}`}`;
  }

  /** What came of a try. True when the target answers again, or for the first time: whoever waits for it may be woken. */
  note(target: string, outcome: OutcomeClass, reason?: string): boolean {
    const there = answers(outcome);
    if (there === undefined) return false;
    if (there) {
      const news = this.#silent.delete(target) || !this.#seen.has(target);
      this.#seen.add(target);
      forgetOldest(this.#seen);
      return news;
    }
    const nowMs = this.#now();
    const silence = this.#silent.get(target) ?? { sinceMs: nowMs, count: 0, nextTryAt: 0, turnedAway: 0, reason };
    silence.count++;
    silence.reason = reason ?? silence.reason;
    if (silence.count === silencesBefore) silence.nextTryAt = nowMs + tryAgainMs;
    this.#silent.delete(target);
    this.#silent.set(target, silence);
    forgetOldest(this.#silent);
    return false;
  }
}

function toAway({ nextTryAt, sinceMs, reason }: Silence, afterMs = 0): Away {
  return { untilMs: nextTryAt + afterMs, sinceMs, ...(reason !== undefined && { reason }) };
}

function forgetOldest(kept: Map<string, unknown> | Set<string>): void {
  const [oldest] = kept.keys();
  if (kept.size > mostTargets && oldest !== undefined) kept.delete(oldest);
}
