import { ServiceError } from "./error.ts";
import type { Span } from "./schedule-blackout.ts";
import { parseSecretsCron, type SecretsCron } from "./schedule-cron.ts";
import { utc, type Zone } from "./schedule-zone.ts";

/** When a secret is to be rotated, as RotateSecret takes it. */
export interface RotationRules {
  /** 1-1000. */
  readonly automaticallyAfterDays?: number | undefined;
  /** Length of the window, `1h` to `24h`. */
  readonly duration?: string | undefined;
  /** `rate(4 hours)`, `rate(10 days)`, `cron(0 8 ? * MON-FRI *)`. */
  readonly scheduleExpression?: string | undefined;
}

/** Rules that were read and found good. All windows lie within one day of their zone; `durationMs` is absent when they last until its end. */
export type Schedule =
  | { readonly kind: "days"; readonly days: number; readonly durationMs?: number }
  | { readonly kind: "interval"; readonly intervalMs: number; readonly durationMs: number }
  | { readonly kind: "cron"; readonly cron: SecretsCron; readonly durationMs?: number };

/** A rotation may start from `startsAt` on and is due before `endsAt`. */
export interface RotationWindow {
  readonly startsAt: number;
  readonly endsAt: number;
}

const hourMs = 3_600_000;
const dayMs = 24 * hourMs;
const maxAutomaticDays = 1000;
/** Kept free at the end of a window for the rotation itself and its retries: a quarter of it, at most this. */
const maxSpareMs = hourMs / 4;

const units = {
  second: { ms: 1000, min: 1, max: 86_399, refusal: "Rate in second should be greater than 0 and less than 86400." },
  minute: { ms: 60_000, min: 1, max: 1439, refusal: "Rate in minute should be greater than 0 and less than 1440." },
  hour: { ms: hourMs, min: 4, max: 23, refusal: "Rate in hour should be least 4 and less than 24." },
  day: { ms: dayMs, min: 1, max: 999, refusal: "Rate in day should be greater than 0 and less than 1000." },
} as const;

/**
 * Reads rotation rules. `extended` also allows `rate(N minutes)` and `rate(N seconds)`, under a day.
 * @throws ServiceError InvalidParameterException in AWS's words.
 * Source: AWS Secrets Manager user guide, "Schedule expressions"; API reference, RotationRulesType.
 */
export function parseRotationRules(rules: RotationRules, { extended }: { extended: boolean }): Schedule {
  const { automaticallyAfterDays: days, scheduleExpression: expression, duration } = rules;
  if (days !== undefined && expression !== undefined) {
    throw refused("You cannot specify both rotation frequency and schedule expression together.");
  }
  if (expression !== undefined) return parseExpression(expression, duration, extended);
  if (days === undefined || !Number.isInteger(days) || days < 1 || days > maxAutomaticDays) {
    throw refused("RotationRules must have a ScheduleExpression or AutomaticallyAfterDays from 1 to 1000.");
  }
  return { kind: "days", days, ...parseDuration(duration) };
}

export interface Since {
  readonly afterMs: number;
  readonly lastRotatedAt?: number | undefined;
}

export interface Since {
  readonly afterMs: number;
  readonly lastRotatedAt?: number | undefined;
}

/**
 * The first window that starts after `afterMs`. Schedules in days count from the day of the last rotation (of `afterMs` when there was
 * none), and a day that was missed is made up on the next one; the others follow the clock alone, which is that of `zone`: a window
 * that the clock skips opens when it jumps, and one that it repeats opens once.
 */
export function nextWindow(schedule: Schedule, since: Since, zone: Zone = utc): RotationWindow {
  return schedule.kind === "interval" ? nextOfInterval(schedule, since.afterMs, zone) : nextByTheClock(schedule, since, zone);
}

/** The first window that is open at `afterMs` or opens later. */
export function windowOpenAt(schedule: Schedule, { afterMs, lastRotatedAt = afterMs }: Since, zone: Zone = utc): RotationWindow {
  const longestMs = schedule.kind === "interval" ? schedule.durationMs : 2 * dayMs;
  let window = nextWindow(schedule, { afterMs: afterMs - longestMs, lastRotatedAt }, zone);
  while (window.endsAt <= afterMs) window = nextWindow(schedule, { afterMs: window.startsAt, lastRotatedAt }, zone);
  return window;
}

/** What Describe shows: rotated on or before the last second of the window, so that the date is that of its day. */
export function nextRotationDate({ endsAt }: RotationWindow): number {
  return endsAt - 1000;
}

/** What Describe shows as AutomaticallyAfterDays: days from a rotation to the next window, 1-1000. */
export function automaticallyAfterDays(schedule: Schedule, rotatedAt: number, zone: Zone = utc): number {
  if (schedule.kind === "days") return schedule.days;
  const { startsAt } = nextWindow(schedule, { afterMs: rotatedAt }, zone);
  const days = Math.round((startOfDay(zone.toWall(startsAt)) - startOfDay(zone.toWall(rotatedAt))) / dayMs);
  return Math.min(Math.max(days, 1), maxAutomaticDays);
}

/**
 * A moment to start at, so that many secrets with one schedule do not all start at once: in what is left of a window, the end of each
 * part spared; `undefined` when nothing is left. `seed` is in `[0, 1)`; `withinMs`: in the first so much of what is left.
 */
export function spreadMoment(parts: readonly Span[], seed: number, withinMs = Number.POSITIVE_INFINITY): number | undefined {
  const lengths = parts.map(({ from, until }) => until - from - Math.min((until - from) / 4, maxSpareMs));
  const total = lengths.reduce((sum, length) => sum + length, 0);
  let rest = Math.floor(seed * Math.min(total, withinMs));
  for (const [index, { from }] of parts.entries()) {
    const length = lengths[index] ?? 0;
    if (rest < length || index === parts.length - 1) return from + rest;
    rest = Math.ceil(rest - length);
  }
  return undefined;
}

function parseExpression(expression: string, duration: string | undefined, extended: boolean): Schedule {
  const [, form, inner = ""] = /^(rate|cron)\((.+)\)$/.exec(expression) ?? [];
  if (form === "rate") return parseRate(inner, duration, extended);
  const cron = form === "cron" ? parseSecretsCron(inner) : undefined;
  if (!cron) throw refused("Invalid schedule expression.");
  return cronSchedule(cron, parseDuration(duration).durationMs);
}

function parseRate(text: string, duration: string | undefined, extended: boolean): Schedule {
  const [, value, unitName] = /^(\d+) +(second|minute|hour|day)s?$/.exec(text) ?? [];
  if (unitName === undefined || (!extended && (unitName === "second" || unitName === "minute"))) {
    throw refused("Invalid schedule expression.");
  }
  const unit = units[unitName as keyof typeof units];
  const count = Number(value);
  if (count < unit.min || count > unit.max) throw refused(unit.refusal);
  const given = parseDuration(duration);
  if (unitName === "day") return { kind: "days", days: count, ...given };
  const intervalMs = count * unit.ms;
  const durationMs = given.durationMs ?? Math.min(hourMs, intervalMs);
  if (durationMs > intervalMs) throw refused("Duration cannot be greater than Rate in hour.");
  return { kind: "interval", intervalMs, durationMs };
}

function cronSchedule(cron: SecretsCron, given: number | undefined): Schedule {
  const { hours } = cron;
  if (given === undefined) return hours.length === 1 ? { kind: "cron", cron } : { kind: "cron", cron, durationMs: hourMs };
  const fits = hours.every((hour, index) => index === 0 || hour * hourMs >= (hours[index - 1] ?? 0) * hourMs + given);
  if (!fits) throw refused("Duration cannot be greater than Rate in hour.");
  if ((hours.at(-1) ?? 0) * hourMs + given > dayMs) throw refused("Starting hour and duration must be within a day.");
  return { kind: "cron", cron, durationMs: given };
}

function parseDuration(text: string | undefined): { durationMs?: number } {
  if (text === undefined) return {};
  const hours = /^\d{1,2}h$/.test(text) ? Number.parseInt(text, 10) : 0;
  if (hours < 1 || hours > 24) throw refused("Duration must be at least 1 hour, at most 24 hour.");
  return { durationMs: hours * hourMs };
}

function nextByTheClock(schedule: Exclude<Schedule, { kind: "interval" }>, since: Since, zone: Zone): RotationWindow {
  const { afterMs, lastRotatedAt = afterMs } = since;
  const rotated = zone.toWall(lastRotatedAt);
  let wall = nextOnTheClock(schedule, zone.toWall(afterMs), rotated);
  // In an hour that comes again the clock reads as it did before windows that were open already.
  while (zone.toInstant(wall) <= afterMs) wall = nextOnTheClock(schedule, wall, rotated);
  const startsAt = zone.toInstant(wall);
  const dayEndsAt = zone.toInstant(startOfDay(zone.toWall(startsAt)) + dayMs);
  const { durationMs } = schedule;
  if (durationMs === undefined) return { startsAt, endsAt: dayEndsAt };
  const closesAt = zone.toInstant(wall + durationMs);
  return { startsAt, endsAt: Math.min(closesAt > startsAt ? closesAt : startsAt + durationMs, dayEndsAt) };
}

/** All in wall time. */
function nextOnTheClock(schedule: Exclude<Schedule, { kind: "interval" }>, after: number, rotated: number): number {
  if (schedule.kind === "days") {
    const start = startOfDay(rotated) + schedule.days * dayMs;
    return start > after ? start : startOfDay(after) + dayMs;
  }
  const start = schedule.cron.next(after);
  if (start === undefined) throw new RangeError("the calendar has no window after this moment");
  return start;
}

/** Intervals are counted from each midnight on, by the time that really passes. */
function nextOfInterval(schedule: Extract<Schedule, { kind: "interval" }>, afterMs: number, zone: Zone): RotationWindow {
  const { intervalMs, durationMs } = schedule;
  let day = startOfDay(zone.toWall(afterMs));
  while (zone.toInstant(day + dayMs) <= afterMs) day += dayMs;
  const [midnight, nextMidnight] = [zone.toInstant(day), zone.toInstant(day + dayMs)];
  const startsAt = midnight + (Math.floor((afterMs - midnight) / intervalMs) + 1) * intervalMs;
  if (startsAt >= nextMidnight) return { startsAt: nextMidnight, endsAt: nextMidnight + durationMs };
  return { startsAt, endsAt: Math.min(startsAt + durationMs, nextMidnight) };
}

function startOfDay(at: number): number {
  return Math.floor(at / dayMs) * dayMs;
}

function refused(message: string): ServiceError {
  return new ServiceError("InvalidParameterException", message);
}
