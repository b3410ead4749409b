import { ServiceError } from "./error.ts";
import { parseSecretsCron, type SecretsCron } from "./schedule-cron.ts";

/** When a secret is to be rotated, as RotateSecret takes it. */
export interface RotationRules {
  /** 1-1000. */
  readonly automaticallyAfterDays?: number | undefined;
  /** Length of the window, `1h` to `24h`. */
  readonly duration?: string | undefined;
  /** `rate(4 hours)`, `rate(10 days)`, `cron(0 8 ? * MON-FRI *)`. */
  readonly scheduleExpression?: string | undefined;
}

/** Rules that were read and found good. All windows lie within one UTC day; `durationMs` is absent when they last until its end. */
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

/**
 * The first window that starts after `afterMs`. Schedules in days count from the day of the last rotation (of `afterMs` when there was
 * none), and a day that was missed is made up on the next one; the others follow the clock alone.
 */
export function nextWindow(
  schedule: Schedule,
  { afterMs, lastRotatedAt }: { readonly afterMs: number; readonly lastRotatedAt?: number | undefined },
): RotationWindow {
  const startsAt = nextStart(schedule, afterMs, lastRotatedAt);
  const dayEndsAt = startOfDay(startsAt) + dayMs;
  return {
    startsAt,
    endsAt: schedule.durationMs === undefined ? dayEndsAt : Math.min(startsAt + schedule.durationMs, dayEndsAt),
  };
}

/** What Describe shows: rotated on or before the last second of the window, so that the date is that of its day. */
export function nextRotationDate({ endsAt }: RotationWindow): number {
  return endsAt - 1000;
}

/** What Describe shows as AutomaticallyAfterDays: days from a rotation to the next window, 1-1000. */
export function automaticallyAfterDays(schedule: Schedule, rotatedAt: number): number {
  if (schedule.kind === "days") return schedule.days;
  const { startsAt } = nextWindow(schedule, { afterMs: rotatedAt });
  const days = Math.round((startOfDay(startsAt) - startOfDay(rotatedAt)) / dayMs);
  return Math.min(Math.max(days, 1), maxAutomaticDays);
}

/** A moment to start at, so that many secrets with one schedule do not all start at once. `seed` is in `[0, 1)`; the end is spared. */
export function spreadMoment({ startsAt, endsAt }: RotationWindow, seed: number): number {
  const length = endsAt - startsAt;
  return startsAt + Math.floor(seed * (length - Math.min(length / 4, maxSpareMs)));
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

function nextStart(schedule: Schedule, afterMs: number, lastRotatedAt: number | undefined): number {
  if (schedule.kind === "days") {
    const startsAt = startOfDay(lastRotatedAt ?? afterMs) + schedule.days * dayMs;
    return startsAt > afterMs ? startsAt : startOfDay(afterMs) + dayMs;
  }
  if (schedule.kind === "interval") {
    const midnight = startOfDay(afterMs);
    const passed = Math.floor((afterMs - midnight) / schedule.intervalMs);
    return Math.min(midnight + (passed + 1) * schedule.intervalMs, midnight + dayMs);
  }
  const startsAt = schedule.cron.next(afterMs);
  if (startsAt === undefined) throw new RangeError("the calendar has no window after this moment");
  return startsAt;
}

function startOfDay(at: number): number {
  return Math.floor(at / dayMs) * dayMs;
}

function refused(message: string): ServiceError {
  return new ServiceError("InvalidParameterException", message);
}
