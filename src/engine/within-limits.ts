import { type OutcomeClass, RotatorError } from "../core/error.ts";
import { hastenRevocations } from "../store/lease-claims.ts";
import { wakeWaiting } from "../store/rotation-waits.ts";
import { type Away, Breakers, SilentTarget } from "./breaker.ts";
import { type Caps, targetOf } from "./caps.ts";
import type { HeldRotation } from "./held-rotation.ts";
import type { EngineParts } from "./parts.ts";
import { EndpointError } from "./topology.ts";
import type { Turn } from "./turn.ts";

/** What keeps a target, and the work at others, from too much at once. */
export interface Limits {
  readonly caps: Caps;
  readonly breakers: Breakers;
}

const longestBusyMs = 10_000;

/**
 * Works at the rotation's target. While that is busy the rotation waits; while it is silent, nothing is tried there.
 * @throws SilentTarget, and what `work` throws
 */
export async function withinLimits(held: HeldRotation, turn: Turn, limits: Limits, work: () => Promise<void>): Promise<void> {
  const { caps, breakers } = limits;
  const target = targetOf(turn.account);
  const say = (away: Away) => Breakers.words(away, turn.rotator.kind, target);
  held.rotation = { ...held.rotation, waitsFor: undefined };
  const away = breakers.away(target);
  if (away) {
    held.rotation = { ...held.rotation, waitsFor: target };
    throw new SilentTarget("unreachable", say(away), away.untilMs);
  }
  if (!(await enter(held, turn, { target, caps }))) {
    const pauseMs = (50 + 200 * held.parts.random()) * caps.turnedAway(target);
    return held.postpone(Math.min(pauseMs, longestBusyMs), "the target was busy with other rotations");
  }
  let failure: unknown;
  try {
    await work();
  } catch (error) {
    failure = error;
  } finally {
    caps.leave(target);
  }
  const outcome = failure === undefined ? "ok" : outcomeAt(failure);
  await noteOutcome(held.parts, breakers, { target, outcome, reason: reasonOf(failure) });
  if (failure === undefined) return;
  if (outcome !== "unreachable" && outcome !== "timeout") throw failure;
  held.rotation = { ...held.rotation, waitsFor: target };
  const still = breakers.away(target, true);
  throw still ? new SilentTarget(outcome, say(still), still.untilMs) : failure;
}

/** False when it is full: here, or with what other nodes do there. Else `leave` must follow. */
async function enter(held: HeldRotation, turn: Turn, { target, caps }: { target: string; caps: Caps }): Promise<boolean> {
  const { maxPerTarget } = turn.secret.rotationPolicy ?? {};
  if (!caps.enter(target, maxPerTarget)) return false;
  let entered = false;
  try {
    entered = await held.enterTarget(target, caps.most(maxPerTarget));
  } finally {
    if (!entered) {
      caps.leave(target);
      caps.turnAway(target);
    }
  }
  return entered;
}

/** What a try at the target came to, whoever made it: rotations and leases that wait for it to answer are woken when it does. */
export async function noteOutcome(
  { sql, now }: EngineParts,
  breakers: Breakers,
  { target, outcome, reason }: { readonly target: string; readonly outcome: OutcomeClass; readonly reason?: string | undefined },
): Promise<void> {
  if (!breakers.note(target, outcome, reason)) return;
  await wakeWaiting(sql, target, now());
  await hastenRevocations(sql, target, now());
}

/** Why it was not reached, for all who want something there; what took too long is the business of whoever asked for it. */
export function reasonOf(error: unknown): string | undefined {
  return error instanceof RotatorError && error.outcome === "unreachable" ? error.message : undefined;
}

/** What an error tells about the target itself. */
export function outcomeAt(error: unknown): OutcomeClass {
  if (error instanceof EndpointError) return "ok";
  return error instanceof RotatorError ? error.outcome : "unknown";
}
