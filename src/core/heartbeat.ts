import type { OutcomeClass } from "./error.ts";
import type { RotationPolicy } from "./rotation-policy.ts";
import type { Secret } from "./secret.ts";

/** What the last tries of a secret's current credential came to. Epoch ms. */
export interface Heartbeat {
  readonly outcome: OutcomeClass;
  /** Of the last try. */
  readonly at: number;
  /** Of the first try in a row that ended so. */
  readonly since: number;
}

/** Targets lock accounts after some failed logins: what is refused again is not tried more often than that. */
const refusedPauseMs = 15 * 60_000;

/** Whoever asked for heartbeats wants to see one. */
const firstWithinMs = 5_000;

/** The secret with its next heartbeat planned, or without any, as its policy says. `seed` in [0, 1) spreads the first ones. */
export function planHeartbeat(secret: Secret, nowMs: number, seed: number): Secret {
  const { heartbeatSeconds } = secret.rotationPolicy ?? {};
  if (heartbeatSeconds === undefined) return { ...secret, heartbeatDueAt: undefined };
  const latest = nowMs + heartbeatSeconds * 1_000;
  if (secret.heartbeatDueAt !== undefined && secret.heartbeatDueAt <= latest) return secret;
  return { ...secret, heartbeatDueAt: Math.floor(nowMs + seed * firstWithinMs) };
}

/** When the next try is due; `undefined` without a policy that asks for one. `seed` in [0, 1) spreads by a tenth. */
export function nextHeartbeatAt(
  policy: RotationPolicy | undefined,
  before: Heartbeat | undefined,
  nowMs: number,
  seed: number,
): number | undefined {
  if (policy?.heartbeatSeconds === undefined) return undefined;
  const intervalMs = policy.heartbeatSeconds * 1_000 * (0.95 + seed / 10);
  const again = before !== undefined && before.at > before.since;
  const slow = again && countsAsFailedLogin.has(before.outcome);
  return Math.floor(nowMs + (slow ? Math.max(intervalMs, refusedPauseMs) : intervalMs));
}

const countsAsFailedLogin: ReadonlySet<OutcomeClass> = new Set(["refused", "locked", "expired", "denied"]);

/** Of a silent target nothing is known of the credential: these are one and the same news. */
const silent: ReadonlySet<OutcomeClass> = new Set(["unreachable", "timeout", "unknown"]);
const isSame = (a: OutcomeClass, b: OutcomeClass): boolean => a === b || (silent.has(a) && silent.has(b));

/** What a try tells. */
export interface BeatNews {
  readonly after: Heartbeat;
  /** Type of the event, when something has changed. */
  readonly event?: "credential.drifted" | "credential.recovered";
  /** Refused for the second time in a row: it is time for a repair. */
  readonly refusedAgain: boolean;
}

/** The heartbeat after one more try. */
export function beat(before: Heartbeat | undefined, outcome: OutcomeClass, nowMs: number): BeatNews {
  const same = before !== undefined && isSame(before.outcome, outcome);
  const after = { outcome, at: nowMs, since: same ? before.since : nowMs };
  const refusedAgain = same && outcome === "refused" && before.at === before.since;
  if (same || (before === undefined && outcome === "ok")) return { after, refusedAgain };
  return { after, refusedAgain, event: outcome === "ok" ? "credential.recovered" : "credential.drifted" };
}

/** In words, for people. */
export const heartbeatWords: Readonly<Record<OutcomeClass, string>> = {
  ok: "logs in",
  refused: "changed outside: the target refuses it",
  locked: "locked at the target",
  expired: "expired at the target",
  unreachable: "not known: the target cannot be reached",
  timeout: "not known: the target did not answer in time",
  tls: "not known: there is no verified TLS connection",
  denied: "denied by the target",
  invalid: "cannot be used as configured",
  unknown: "not known: the connection ended before the answer",
};
