import type { Rotation } from "./rotation.ts";
import {
  automaticallyAfterDays,
  nextRotationDate,
  nextWindow,
  parseRotationRules,
  type RotationWindow,
  type Schedule,
  spreadMoment,
  windowOpenAt,
} from "./schedule.ts";
import { type Blackout, blackoutAt, freeSpans, parseBlackout, type Span } from "./schedule-blackout.ts";
import { type Zone, zoneOf } from "./schedule-zone.ts";
import type { Secret } from "./secret.ts";

/** When a secret is rotated by itself. */
interface Plan {
  readonly schedule: Schedule;
  readonly zone: Zone;
  readonly blackouts: readonly Blackout[];
}

function planOf({ rotationEnabled, rotationRules, rotationPolicy, deletedAt }: Secret): Plan | undefined {
  if (!rotationEnabled || !rotationRules || deletedAt !== undefined) return undefined;
  // Rules were checked against the server's settings when they were stored: extended ones stay good.
  return { schedule: parseRotationRules(asGiven(rotationRules), { extended: true }), ...calendarOf(rotationPolicy) };
}

function calendarOf(policy: Secret["rotationPolicy"]): { zone: Zone; blackouts: Blackout[] } {
  return { zone: zoneOf(policy?.timeZone), blackouts: (policy?.blackouts ?? []).flatMap((text) => parseBlackout(text) ?? []) };
}

/**
 * The secret with its next rotation planned, counted from `fromMs`: the date that callers see, and the moment at which the
 * engine starts, spread by `seed` in [0, 1) inside what blackouts leave of the window. Without a schedule both are cleared.
 */
export function planRotation(secret: Secret, fromMs: number, seed: number): Secret {
  const plan = planOf(secret);
  const window = plan && nextWindow(plan.schedule, { afterMs: fromMs, lastRotatedAt: secret.lastRotatedAt }, plan.zone);
  return planned(secret, plan, window, seed);
}

/**
 * The secret with its plan made anew after other rules for it came to count: a window that is open and was not used yet stays
 * to be used. As of `nowMs`.
 */
export function replanRotation(before: Secret, after: Secret, nowMs: number, seed: number): Secret {
  const plan = planOf(after);
  if (!plan) return planned(after, undefined, undefined, seed);
  if (!hasOpenWindow(before, nowMs)) return planRotation(after, nowMs, seed);
  const window = windowOpenAt(plan.schedule, { afterMs: nowMs, lastRotatedAt: after.lastRotatedAt }, plan.zone);
  return planned(after, plan, { ...window, startsAt: Math.max(window.startsAt, nowMs) }, seed);
}

/** The secret with the window after those that were missed, which may be open already, planned. As of `nowMs`. */
export function planAfterMiss(secret: Secret, { windowEndsAt }: Missed, nowMs: number, seed: number): Secret {
  const plan = planOf(secret);
  if (!plan) return planned(secret, undefined, undefined, seed);
  const window = windowOpenAt(plan.schedule, { afterMs: nowMs, lastRotatedAt: secret.lastRotatedAt }, plan.zone);
  if (window.startsAt < windowEndsAt) return planRotation(secret, nowMs, seed);
  return planned(secret, plan, { ...window, startsAt: Math.max(window.startsAt, nowMs) }, seed);
}

/** Whether the window that is planned for has opened already. */
function hasOpenWindow(secret: Secret, nowMs: number): boolean {
  const plan = planOf(secret);
  const endsAt = endOfWindow(secret);
  if (!plan || endsAt === undefined || endsAt <= nowMs) return false;
  const open = windowOpenAt(plan.schedule, { afterMs: nowMs, lastRotatedAt: secret.lastRotatedAt }, plan.zone);
  return open.startsAt <= nowMs && open.endsAt === endsAt;
}

function planned(secret: Secret, plan: Plan | undefined, window: RotationWindow | undefined, seed: number): Secret {
  if (!plan || !window) return { ...secret, nextRotationAt: undefined, rotationDueAt: undefined };
  const free = freeSpans({ from: window.startsAt, until: window.endsAt }, plan.blackouts, plan.zone);
  // Of a window in which nothing may start, that is what becomes due.
  const rotationDueAt = spread(secret, free, seed) ?? window.startsAt;
  return { ...secret, nextRotationAt: nextRotationDate(window), rotationDueAt };
}

function spread({ rotationPolicy }: Secret, free: readonly Span[], seed: number): number | undefined {
  const { jitterSeconds } = rotationPolicy ?? {};
  return spreadMoment(free, seed, jitterSeconds === undefined ? undefined : jitterSeconds * 1_000);
}

/** A window in which nothing was started, and those after it that have ended too. */
export interface Missed {
  readonly kind: "missed";
  readonly windowEndsAt: number;
  /** At least; more than 100 are not counted. */
  readonly windows: number;
  readonly reason: string;
}

/** What is to be done with a rotation that is due. */
export type Start =
  /** To begin now; no try is to be made after `untilMs`, when the last free part of the window ends. */
  { readonly kind: "now"; readonly untilMs: number } | { readonly kind: "later"; readonly at: number } | Missed;

const mostCounted = 100;

/** Of a secret whose rotation is due: whether it may begin at `nowMs`, later in its window, or not any more. */
export function startOf(secret: Secret, nowMs: number, seed: number): Start {
  const windowEndsAt = endOfWindow(secret) ?? nowMs;
  const missed = missedBy(secret, nowMs, "nothing could be started before the window had ended");
  if (missed) return missed;
  const { zone, blackouts } = calendarOf(secret.rotationPolicy);
  const free = freeSpans({ from: nowMs, until: windowEndsAt }, blackouts, zone);
  const [first] = free;
  if (!first) return { kind: "missed", windowEndsAt, windows: 1, reason: blackoutReason(secret, nowMs) ?? "" };
  if (first.from <= nowMs) return { kind: "now", untilMs: free.at(-1)?.until ?? first.until };
  return { kind: "later", at: spread(secret, free, seed) ?? first.from };
}

/** What ended unused, and on no record, of the window that is planned for and of those since; `undefined` when nothing did. */
export function missedBy(secret: Secret, nowMs: number, reason: string): Missed | undefined {
  const windowEndsAt = secret.rotationDueAt === undefined ? undefined : (endOfWindow(secret) ?? nowMs);
  if (windowEndsAt === undefined || windowEndsAt > nowMs) return undefined;
  return { kind: "missed", windowEndsAt, windows: countEnded(secret, windowEndsAt, nowMs), reason };
}

/**
 * The first moment from `at` on at which a rotation may go on that began by itself: what began in a blackout, somebody asked for.
 * Never when nothing is left before its window ends.
 */
export function goesOnAt(
  { rotationPolicy }: Secret,
  { origin, startedAt, windowEndsAt }: Pick<Rotation, "origin" | "startedAt" | "windowEndsAt">,
  at: number,
): number {
  const { zone, blackouts } = calendarOf(rotationPolicy);
  const byItself = (origin === "schedule" || origin === "retry") && !blackoutAt(startedAt, blackouts, zone);
  if (!byItself || blackouts.length === 0 || at >= windowEndsAt) return at;
  const [free] = freeSpans({ from: at, until: windowEndsAt }, blackouts, zone);
  return free?.from ?? Number.POSITIVE_INFINITY;
}

/** The window that ended at `endedAt` and those since that have ended by `nowMs`. */
function countEnded(secret: Secret, endedAt: number, nowMs: number): number {
  const plan = planOf(secret);
  let count = 1;
  for (let afterMs = endedAt - 1; plan && count < mostCounted; count++) {
    const { startsAt, endsAt } = nextWindow(plan.schedule, { afterMs, lastRotatedAt: secret.lastRotatedAt }, plan.zone);
    if (endsAt > nowMs) return count;
    afterMs = startsAt;
  }
  return count;
}

/** The date that callers see is the last second of the window. */
function endOfWindow({ nextRotationAt }: Secret): number | undefined {
  return nextRotationAt === undefined ? undefined : nextRotationAt + 1_000;
}

/** Why nothing may start at a moment, in words; `undefined` when it may. */
function blackoutReason({ rotationPolicy }: Secret, at: number): string | undefined {
  const { zone, blackouts } = calendarOf(rotationPolicy);
  const found = blackoutAt(at, blackouts, zone);
  return found && `blackout ${found.text} (${rotationPolicy?.timeZone ?? "UTC"}) leaves nothing of the window`;
}

/** The next scheduled rotation, and why then, in words. */
export interface NextRotation {
  /** When it is to begin; absent when the window is wholly blacked out. */
  readonly startsAt?: number | undefined;
  readonly windowEndsAt?: number | undefined;
  readonly reason: string;
}

export function explainNext(secret: Secret): NextRotation {
  const { rotationRules, rotationDueAt, rotationPolicy } = secret;
  const windowEndsAt = endOfWindow(secret);
  if (!secret.rotationEnabled) return { reason: "rotation is off" };
  if (!rotationRules || rotationDueAt === undefined)
    return { reason: "there is no schedule: it rotates when somebody asks for it" };
  const { scheduleExpression, automaticallyAfterDays: days, duration } = rotationRules;
  const rule = `${scheduleExpression ?? `every ${days} days`}${duration === undefined ? "" : ` for ${duration}`}`;
  const inZone = `${rule}, by the clock of ${rotationPolicy?.timeZone ?? "UTC"}`;
  const dark = blackoutReason(secret, rotationDueAt);
  if (dark) return { windowEndsAt, reason: `${inZone}; ${dark}: it will be recorded as missed` };
  const { jitterSeconds } = rotationPolicy ?? {};
  const within =
    jitterSeconds === 0
      ? "at its beginning"
      : `at a random moment of ${jitterSeconds === undefined ? "it" : `its first ${jitterSeconds} s`}`;
  const rest = (rotationPolicy?.blackouts ?? []).length > 0 ? ", blackouts left out" : "";
  return { startsAt: rotationDueAt, windowEndsAt, reason: `${inZone}; ${within}${rest}` };
}

/** The secret after a rotation that succeeded at `nowMs`: AutomaticallyAfterDays is computed anew, the next one planned. */
export function rotated(secret: Secret, nowMs: number, seed: number): Secret {
  const { rotationRules } = secret;
  const after = { ...secret, lastRotatedAt: nowMs };
  if (rotationRules?.scheduleExpression === undefined) return planRotation(after, nowMs, seed);
  const schedule = parseRotationRules(asGiven(rotationRules), { extended: true });
  const days = automaticallyAfterDays(schedule, nowMs, zoneOf(secret.rotationPolicy?.timeZone));
  return planRotation({ ...after, rotationRules: { ...rotationRules, automaticallyAfterDays: days } }, nowMs, seed);
}

/** AutomaticallyAfterDays beside an expression is computed, not a rule. */
function asGiven(rules: NonNullable<Secret["rotationRules"]>): NonNullable<Secret["rotationRules"]> {
  return rules.scheduleExpression === undefined ? rules : { ...rules, automaticallyAfterDays: undefined };
}
