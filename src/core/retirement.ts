import type { OutcomeClass } from "./error.ts";
import { type Intent, pauseMs, remedyOf, type Strategy } from "./rotation.ts";
import { type Secret, versionOf } from "./secret.ts";

/** `blocked`: somebody has to do what `remedy` says; Rekey looks again all the same. */
export type RetirementState = "waiting" | "running" | "blocked" | "done" | "canceled";

/** The end of an old credential at its target, after its grace period. */
export interface Retirement {
  /** The secret's row id. */
  readonly secretId: string;
  readonly versionId: string;
  /** A version's credential; or all that the rotation to it had made and that no version holds. */
  readonly what: "credential" | "strays";
  readonly strategy: Strategy;
  readonly functionArn: string;
  readonly state: RetirementState;
  /** The deadline. */
  readonly dueAt: number;
  /** When it is looked at next: before the deadline for evidence, after it for another try. */
  readonly runAt: number;
  /** Tries that failed. */
  readonly attempt: number;
  /** Of strays. */
  readonly intent?: Intent | undefined;
  readonly createdAt: number;
  readonly lastTryAt?: number | undefined;
  readonly endedAt?: number | undefined;
  readonly outcome?: OutcomeClass | undefined;
  readonly error?: string | undefined;
  readonly remedy?: string | undefined;
}

const hourMs = 3_600_000;
const graceMs = 24 * hourMs;
/** What needs somebody is looked at so often. */
const blockedPauseMs = hourMs;
/** Readers are given so long at least, whatever evidence says. */
const leastGraceMs = 60_000;

/**
 * How long an old credential still works after a rotation; `undefined` when it is not ended: that of a single user has ended,
 * a generated value is known to no target, and one of two users keeps the old password until its next turn, unless asked.
 */
export function retireAfterMs(strategy: Strategy, { rotationPolicy }: Secret): number | undefined {
  const { retireAfterSeconds } = rotationPolicy ?? {};
  if (strategy === "single-user" || strategy === "generator") return undefined;
  if (retireAfterSeconds !== undefined) return retireAfterSeconds * 1_000;
  return strategy === "alternating-users" ? undefined : graceMs;
}

/** A principal's last read of a version. Epoch ms. */
export interface LastRead {
  readonly principal: string;
  readonly versionId: string;
  readonly at: number;
}

/** What the reads say of an old version: who read it and has read the current one since, and who has not. */
export interface Evidence {
  readonly movedOn: readonly string[];
  /** Their last read is of the old version. */
  readonly behind: readonly string[];
}

export function evidenceOf(reads: readonly LastRead[], oldId: string, currentId: string): Evidence {
  const ofCurrent = new Map(reads.filter(({ versionId }) => versionId === currentId).map(({ principal, at }) => [principal, at]));
  const ofOld = reads.filter(({ versionId }) => versionId === oldId);
  const isBehind = ({ principal, at }: LastRead) => (ofCurrent.get(principal) ?? Number.NEGATIVE_INFINITY) <= at;
  const names = (some: readonly LastRead[]) => some.map(({ principal }) => principal).sort();
  return { movedOn: names(ofOld.filter((read) => !isBehind(read))), behind: names(ofOld.filter(isBehind)) };
}

/** Whether an old credential may end before its deadline: somebody used it, and all who did have moved on. */
export function isLeft({ movedOn, behind }: Evidence, retirement: Retirement, nowMs: number): boolean {
  return behind.length === 0 && movedOn.length > 0 && nowMs >= retirement.createdAt + leastGraceMs;
}

/** When evidence is looked for next: seldom for what waits long. */
export function nextLookAt({ createdAt, dueAt }: Pick<Retirement, "createdAt" | "dueAt">, nowMs: number): number {
  const pause = Math.min(Math.max(nowMs - createdAt, leastGraceMs), hourMs);
  return Math.min(nowMs + pause, Math.max(dueAt, nowMs));
}

/** What becomes of a retirement that is looked at: `go` on, `cancel`, or `wait` for the reason that is told. */
export type Verdict =
  | { readonly kind: "go" | "cancel" }
  | { readonly kind: "wait"; readonly reason: string; readonly remedy: string };

/** Whether the version's labels let its credential end. AWSPREVIOUS does: it keeps its meaning, and logs in no more. */
export function verdictOn(secret: Secret, versionId: string): Verdict {
  const stages = versionOf(secret, versionId)?.stages ?? [];
  if (stages.includes("AWSCURRENT")) return { kind: "cancel" };
  const label = stages.find((stage) => stage !== "AWSPREVIOUS");
  if (label === undefined) return { kind: "go" };
  return {
    kind: "wait",
    reason: `the version bears the staging label ${label}`,
    remedy: `Move ${label} to another version, or take it away.`,
  };
}

/** Who names a credential at the target: a version of the secret, and what is known of its end. */
export interface Named {
  readonly id: string;
  readonly stages: readonly string[];
  /** Deadline of its retirement, when one waits. */
  readonly dueAt?: number | undefined;
}

/**
 * The one rule before anything is deleted at a target: never an id that a version with a staging label names, nor one that
 * awaits its retirement. Only AWSPREVIOUS does not keep what its retirement's deadline has reached.
 */
export function mayDelete(id: string, named: readonly Named[], nowMs: number): boolean {
  return named.every((version) => {
    if (version.id !== id) return true;
    if (version.dueAt !== undefined && version.dueAt > nowMs) return false;
    return version.stages.every((stage) => stage === "AWSPREVIOUS" && version.dueAt !== undefined);
  });
}

/** What a target lists; see `Issued`. */
export interface Listed {
  readonly id: string;
  readonly createdAt?: number | undefined;
  readonly rotationId?: string | undefined;
}

/** Clocks of two machines may differ so much. */
const clockSkewMs = 5 * 60_000;

/** What is known of the asking that may have left something behind. */
export interface Asked {
  /** Absent: only marks tell. */
  readonly intent: Intent | undefined;
  /** The secret's own. */
  readonly rotationIds: ReadonlySet<string>;
  /** The target's list names the rotation of each that Rekey asked for. */
  readonly marks: boolean;
  /** Longest that one call takes. */
  readonly callMs: number;
}

/**
 * Ids that our asking left at the target and that no version names: by their mark, or else those that were not there before
 * and came, as far as the target tells, while we asked. Where it cannot tell what was there before, none.
 */
export function straysOf(listed: readonly Listed[], asked: Asked, named: readonly Named[]): string[] {
  const known = new Set(named.map(({ id }) => id));
  return listed.filter((each) => !known.has(each.id) && isOurs(each, asked)).map(({ id }) => id);
}

function isOurs({ id, createdAt, rotationId }: Listed, { intent, rotationIds, marks, callMs }: Asked): boolean {
  if (rotationId !== undefined) return rotationIds.has(rotationId);
  if (marks || !intent?.before || intent.before.includes(id)) return false;
  if (createdAt === undefined) return true;
  return createdAt >= intent.firstAt - clockSkewMs && createdAt <= intent.lastAt + callMs + clockSkewMs;
}

/** What came of one try to end a credential. `remedy` in words. */
export interface RetirementOutcome {
  readonly class: OutcomeClass;
  readonly error?: string | undefined;
  readonly remedy?: string | undefined;
}

/** These need somebody; the others pass by themselves, or may. */
const blocking: ReadonlySet<OutcomeClass> = new Set(["refused", "locked", "expired", "denied", "invalid"]);

/** The retirement after one try. It is tried for ever: what has not ended is never forgotten. `seed` is in [0, 1). */
export function advanceRetirement(retirement: Retirement, outcome: RetirementOutcome, nowMs: number, seed: number): Retirement {
  const tried = { ...retirement, lastTryAt: nowMs, outcome: outcome.class, error: outcome.error };
  if (outcome.class === "ok") return { ...tried, state: "done", endedAt: nowMs, remedy: undefined };
  const blocked = blocking.has(outcome.class);
  return {
    ...tried,
    state: blocked ? "blocked" : "waiting",
    attempt: retirement.attempt + 1,
    remedy: outcome.remedy ?? remedyOf(outcome.class),
    runAt: nowMs + (blocked ? blockedPauseMs : pauseMs(retirement.attempt, seed)),
  };
}
