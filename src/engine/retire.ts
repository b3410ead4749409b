import { type OutcomeClass, RotatorError, ServiceError } from "../core/error.ts";
import { isLeft, nextLookAt, type RetirementOutcome, verdictOn } from "../core/retirement.ts";
import type { Secret } from "../core/secret.ts";
import type { RetirementClaim } from "../store/retirements.ts";
import { loadSecret } from "../store/secrets.ts";
import { Breakers } from "./breaker.ts";
import { targetOf } from "./caps.ts";
import { HeldRetirement } from "./held-retirement.ts";
import { Superseded } from "./held-rotation.ts";
import type { EngineParts } from "./parts.ts";
import { endOld, endStrays } from "./retire-credential.ts";
import { evidence, namesOf } from "./retire-evidence.ts";
import { Blocked, findFunctionRotator, Later, openTurn, requireConfigured, type Turn } from "./turn.ts";
import { type Limits, noteOutcome, outcomeAt, reasonOf } from "./within-limits.ts";

const busyPauseMs = 500;
const accountPauseMs = 5_000;
const labelPauseMs = 15 * 60_000;

/** Ends an old credential whose time has come, if its version's labels and the current credential let it. */
export async function retire(parts: EngineParts, claim: RetirementClaim, limits: Limits): Promise<void> {
  const held = new HeldRetirement(parts, claim);
  const { secretId, versionId, what } = claim.retirement;
  const log = parts.log.child({ secretId, versionId, what });
  const secret = await loadSecret(parts.sql, secretId);
  try {
    if (!secret) throw new Superseded(); // its retirements went with it
    await attempt(held, secret, limits).catch((error: unknown) => failed(held, secret, error));
  } catch (error) {
    if (!(error instanceof Superseded)) throw error;
    log.info("a retirement was called off or taken over meanwhile");
    return;
  }
  const { state, outcome, error, dueAt } = held.retirement;
  log[state === "blocked" ? "error" : "info"]({ state, outcome, error, dueAt }, "retirement");
}

async function failed(held: HeldRetirement, secret: Secret, error: unknown): Promise<void> {
  if (error instanceof Superseded) throw error;
  const { now } = held.parts;
  if (error instanceof Later) return held.wait(now() + error.byMs, error.message, error.remedy);
  await held.fail(toOutcome(held, error), secret);
}

function toOutcome({ parts, retirement }: HeldRetirement, error: unknown): RetirementOutcome {
  if (error instanceof Blocked) return { class: error.outcome, error: error.message, remedy: error.remedy };
  if (error instanceof RotatorError) return { class: error.outcome, error: error.message };
  if (error instanceof ServiceError && error.status < 500) {
    const outcome: OutcomeClass = error.code === "AccessDeniedException" ? "denied" : "invalid";
    return { class: outcome, error: `${error.code}: ${error.message}` };
  }
  parts.log.error({ err: error, secretId: retirement.secretId }, "a retirement met an internal error");
  return { class: "unknown", error: "internal error: see the log" };
}

async function attempt(held: HeldRetirement, secret: Secret, limits: Limits): Promise<void> {
  const { parts } = held;
  const { what, versionId, functionArn, strategy } = held.retirement;
  if (what === "credential") {
    const verdict = verdictOn(secret, versionId);
    if (verdict.kind === "cancel") return held.cancel(secret);
    if (verdict.kind === "wait") throw new Later(labelPauseMs, verdict.reason, verdict.remedy);
    if (!(await isTime(held, secret))) return;
  }
  await requireConfigured(parts, secret);
  const { rotator } = await findFunctionRotator(parts, functionArn, secret);
  const turn = await openTurn(parts, secret, rotator, strategy);
  await withinLimits(held, turn, limits);
}

/** @throws Later while the target is silent or busy, and what the work there throws */
async function withinLimits(held: HeldRetirement, turn: Turn, { caps, breakers }: Limits): Promise<void> {
  const { parts } = held;
  const target = targetOf(turn.account);
  const away = breakers.away(target);
  if (away) throw new Later(away.untilMs - parts.now(), Breakers.words(away, turn.rotator.kind, target));
  if (!caps.enter(target, turn.secret.rotationPolicy?.maxPerTarget)) {
    throw new Later(busyPauseMs * (1 + parts.random()), "the target was busy with other work");
  }
  try {
    await atAccount(held, turn);
    await noteOutcome(parts, breakers, { target, outcome: "ok" });
  } catch (error) {
    await noteOutcome(parts, breakers, { target, outcome: outcomeAt(error), reason: reasonOf(error) });
    throw error;
  } finally {
    caps.leave(target);
  }
}

/** Whether its deadline has passed, or all its readers were seen to have moved on; else when it is looked at next is written. */
async function isTime(held: HeldRetirement, secret: Secret): Promise<boolean> {
  const { parts, retirement } = held;
  const nowMs = parts.now();
  if (retirement.dueAt <= nowMs) return true;
  if (secret.rotationPolicy?.retireOnEvidence === true) {
    if (isLeft(await evidence(parts, secret, retirement.versionId), retirement, nowMs)) {
      held.retirement = { ...retirement, dueAt: nowMs };
      return true;
    }
    await held.wait(nextLookAt(retirement, nowMs));
  } else await held.wait(retirement.dueAt);
  return false;
}

async function atAccount(held: HeldRetirement, turn: Turn): Promise<void> {
  const { parts, retirement } = held;
  const { secret, account } = turn;
  if (!(await held.holdAccount(account))) {
    throw new Later(accountPauseMs * (1 + parts.random()), "a rotation or other work at the same account is under way");
  }
  if (retirement.what === "strays") {
    await endStrays(held, turn);
    return held.done(secret, {});
  }
  await endOld(held, turn);
  const { behind } = await evidence(parts, secret, retirement.versionId, retirement.createdAt);
  await held.done(secret, behind.length > 0 ? { stillReadBy: namesOf(behind) } : {});
}
