import type { OutcomeClass } from "./error.ts";
import { pauseMs } from "./rotation.ts";

/**
 * `creating`: on record, and soon at the target. `active`: it works. `revoking`: it is being ended, for as long as that takes.
 * `ended`: nothing of it is left.
 */
export type LeaseState = "creating" | "active" | "revoking" | "ended";

/** Why it ended or has to: `failed` could not be made, `unanswered` was made for somebody who had gone. */
export type LeaseReason = "expired" | "revoked" | "failed" | "unanswered" | "deleted" | "orphan";

/** A credential made from a dynamic secret, for a time. Everything but its value, which is sealed. */
export interface Lease {
  /** UUID. */
  readonly id: string;
  readonly dynamicSecretId: string;
  /** Names, as they were when it was asked for. */
  readonly dynamicSecret: string;
  readonly project: string;
  readonly config: string;
  /** Kind of its target, e.g. `postgres`. */
  readonly type: string;
  readonly integrationId: string;
  /** `<integration>/<number>`: how its target was reached when it was asked for. */
  readonly integrationVersion: string;
  /** The dynamic secret's, as they were then: JSON. */
  readonly settings: string;
  /** Of the user at the target. */
  readonly name: string;
  readonly handle?: string | undefined;
  /** Where its target was when it was asked for; absent: reached from here. */
  readonly network?: string | undefined;
  readonly target: string;
  /** ARN of who asked. */
  readonly principal: string;
  readonly workload?: string | undefined;
  readonly state: LeaseState;
  readonly reason?: LeaseReason | undefined;
  readonly createdAt: number;
  readonly expiresAt: number;
  /** No renewal goes beyond. */
  readonly maxExpiresAt: number;
  /** Asked for, and not yet known to the target. */
  readonly renewTo?: number | undefined;
  /** When its value was handed out first. */
  readonly answeredAt?: number | undefined;
  /** How many hold it. */
  readonly shares: number;
  readonly shareUntil?: number | undefined;
  /** When the engine looks at it next; absent: never more. */
  readonly dueAt?: number | undefined;
  /** Tries to end it that failed. */
  readonly attempt: number;
  readonly outcome?: OutcomeClass | undefined;
  /** Why the last try failed, in words. */
  readonly error?: string | undefined;
  readonly lastTryAt?: number | undefined;
  readonly endedAt?: number | undefined;
}

/** A lease whose value nobody took is ended after so long. */
const unansweredMs = 60_000;
/** Nobody waits any more for one that was asked for so long ago, whatever the clocks of nodes say. */
const forgottenMs = 180_000;
const longestPauseMs = 15 * 60_000;

export const leaseLimits = {
  /** Seconds. */
  ttl: { least: 60, usual: 1_800, most: 30 * 86_400 },
  maxTtlUsual: 86_400,
  maxLeases: { usual: 1_000, most: 20_000 },
  maxLeasesPerPrincipal: { usual: 50, most: 20_000 },
  shareSeconds: { most: 3_600 },
} as const;

/** What a due lease needs; `reset`: nothing before its end. */
export type LeaseWork =
  | { readonly kind: "create" | "renew" | "revoke" | "reset" }
  /** Nothing was done at the target. */
  | { readonly kind: "drop"; readonly reason: LeaseReason }
  | { readonly kind: "begin-revoking"; readonly reason: LeaseReason };

/**
 * What is to be done with a lease that is due. `takenOver`: whoever worked on it is gone, and what came of it is not known.
 * `begun`: somebody worked on it before.
 */
export function leaseWork(
  lease: Lease,
  { nowMs, takenOver, begun }: { readonly nowMs: number; readonly takenOver: boolean; readonly begun: boolean },
): LeaseWork {
  switch (lease.state) {
    case "creating":
      // It is made once: what an earlier try left at the target is looked for under its name and ended.
      if (takenOver) return { kind: "begin-revoking", reason: "failed" };
      // Whoever asked has gone.
      return nowMs - lease.createdAt > forgottenMs ? { kind: "drop", reason: "unanswered" } : { kind: "create" };
    case "active":
      if (lease.expiresAt <= nowMs) return { kind: "begin-revoking", reason: "expired" };
      if (lease.renewTo !== undefined) return { kind: "renew" };
      return lease.answeredAt === undefined ? { kind: "begin-revoking", reason: "unanswered" } : { kind: "reset" };
    case "revoking":
      return begun ? { kind: "revoke" } : { kind: "drop", reason: lease.reason ?? "revoked" };
    case "ended":
      return { kind: "reset" };
  }
}

/** When it is looked at after its value was made, or handed out. */
export function leaseDueAt({ expiresAt, answeredAt }: Pick<Lease, "expiresAt" | "answeredAt">, nowMs: number): number {
  return answeredAt === undefined ? Math.min(expiresAt, nowMs + unansweredMs) : expiresAt;
}

/** When it is tried again to end it, for ever: full jitter over a pause that doubles up to a quarter of an hour. `seed` is in [0, 1). */
export function nextRevocationAt(failures: number, nowMs: number, seed: number): number {
  return nowMs + Math.min(500 + pauseMs(failures, seed), longestPauseMs);
}
