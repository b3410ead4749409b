import {
  automaticallyAfterDays,
  nextRotationDate,
  nextWindow,
  parseRotationRules,
  type RotationWindow,
  spreadMoment,
} from "./schedule.ts";
import type { Secret } from "./secret.ts";

/** The window of a secret's next rotation counted from `fromMs`; `undefined` when it has no schedule or is not rotated. */
function scheduledWindow(secret: Secret, fromMs: number): RotationWindow | undefined {
  if (!secret.rotationEnabled || !secret.rotationRules || secret.deletedAt !== undefined) return undefined;
  // Rules were checked against the server's settings when they were stored: extended ones stay good.
  const schedule = parseRotationRules(asGiven(secret.rotationRules), { extended: true });
  return nextWindow(schedule, { afterMs: fromMs, lastRotatedAt: secret.lastRotatedAt });
}

/**
 * The secret with its next rotation planned, counted from `fromMs`: the date that callers see, and the moment at which the
 * engine starts, spread inside the window by `seed` in [0, 1). Without a schedule both are cleared.
 */
export function planRotation(secret: Secret, fromMs: number, seed: number): Secret {
  const window = scheduledWindow(secret, fromMs);
  if (!window) return { ...secret, nextRotationAt: undefined, rotationDueAt: undefined };
  return { ...secret, nextRotationAt: nextRotationDate(window), rotationDueAt: spreadMoment(window, seed) };
}

/** The secret after a rotation that succeeded at `nowMs`: AutomaticallyAfterDays is computed anew, the next one planned. */
export function rotated(secret: Secret, nowMs: number, seed: number): Secret {
  const { rotationRules } = secret;
  const after = { ...secret, lastRotatedAt: nowMs };
  if (rotationRules?.scheduleExpression === undefined) return planRotation(after, nowMs, seed);
  const days = automaticallyAfterDays(parseRotationRules(asGiven(rotationRules), { extended: true }), nowMs);
  return planRotation({ ...after, rotationRules: { ...rotationRules, automaticallyAfterDays: days } }, nowMs, seed);
}

/** AutomaticallyAfterDays beside an expression is computed, not a rule. */
function asGiven(rules: NonNullable<Secret["rotationRules"]>): NonNullable<Secret["rotationRules"]> {
  return rules.scheduleExpression === undefined ? rules : { ...rules, automaticallyAfterDays: undefined };
}
