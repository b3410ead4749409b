import type { OutcomeClass } from "../core/error.ts";
import { RotatorError, ServiceError, UnfitCredential } from "../core/error.ts";
import { isOwned } from "../core/rotated-secret.ts";
import { type Decision, decide, mustProbe, probed, type StepOutcome } from "../core/rotation.ts";
import { isPending, type Secret, withoutTestCopy } from "../core/secret.ts";
import { type Claim, isAccountTaken } from "../store/rotation-claims.ts";
import { loadSecret } from "../store/secrets.ts";
import type { Sql } from "../store/sql.ts";
import type { AnyCredential } from "../targets/index.ts";
import { SilentTarget } from "./breaker.ts";
import { ChangedOutside, requireUnchanged } from "./changed-outside.ts";
import { finishSecret } from "./finish.ts";
import { startAnew } from "./fresh-candidate.ts";
import { HeldRotation, Superseded } from "./held-rotation.ts";
import { invokeSteps, StepFailed } from "./invoke.ts";
import { isGivenUp, issuedCredential } from "./issue.ts";
import { suitable } from "./job-target.ts";
import { pauseOwned } from "./owned-secrets.ts";
import type { EngineParts } from "./parts.ts";
import { AccountTaken, commitPending } from "./pending.ts";
import { requireLeft } from "./retire-evidence.ts";
import { EndpointError, testEverywhere } from "./topology.ts";
import {
  Blocked,
  findFunctionRotator,
  Later,
  openTurn,
  previousCredential,
  requireConfigured,
  supersededCredential,
  superuserForOwn,
  superuserIfOwn,
  superuserOrNone,
  type Turn,
} from "./turn.ts";
import { credentialValue, openVersion, parseCredential } from "./values.ts";
import { type Limits, withinLimits } from "./within-limits.ts";

/**
 * Takes a claimed rotation as far as it goes now: through the remaining steps, or to a failure that is tried again later.
 * Calls at the target happen with no transaction open, each under a deadline before the claim's end.
 */
export async function rotate(parts: EngineParts, claim: Claim, limits: Limits): Promise<void> {
  const held = new HeldRotation(parts, claim);
  const log = parts.log.child({ rotationId: claim.rotation.id });
  const startedAt = parts.now();
  try {
    await attempt(held, limits).catch((error: unknown) => failed(held, error));
  } catch (error) {
    if (!(error instanceof Superseded)) throw error;
    log.info("rotation was ended or taken over meanwhile");
    return;
  }
  const { state, step, outcome, error } = held.rotation;
  const level = state === "failed" || state === "blocked" ? "error" : "info";
  log[level]({ state, step, outcome, error, ms: parts.now() - startedAt }, "rotation");
}

async function failed(held: HeldRotation, error: unknown): Promise<void> {
  if (error instanceof Superseded) throw error;
  if (error instanceof AccountTaken) {
    return held.postpone(500 + 1_000 * held.parts.random(), "the same account was being changed already");
  }
  if (error instanceof Later) return held.postpone(error.byMs, error.message, error.remedy);
  const isUnfit = error instanceof UnfitCredential;
  if (isUnfit && (await startAnew(held, error))) return;
  const outcome = toOutcome(held, error);
  const pause = error instanceof ChangedOutside ? (tx: Sql) => pauseRotations(tx, held, error.message) : undefined;
  await held.fail(outcome, isUnfit || isGivenUp(held, outcome), pause);
}

async function pauseRotations(tx: Sql, { parts, rotation }: HeldRotation, reason: string): Promise<void> {
  const secret = await loadSecret(tx, rotation.secretId);
  if (secret) await pauseOwned(tx, parts, secret, reason);
}

function toOutcome({ parts, rotation }: HeldRotation, error: unknown): StepOutcome {
  if (error instanceof Blocked) return { class: error.outcome, error: error.message, blocked: error.remedy };
  if (error instanceof StepFailed || error instanceof EndpointError)
    return { class: error.outcome, error: error.message, remedy: error.remedy };
  if (error instanceof SilentTarget) return { class: error.outcome, error: error.message, againAt: error.againAt };
  if (error instanceof RotatorError) return { class: error.outcome, error: error.message };
  if (error instanceof ServiceError && error.status < 500) {
    const outcome: OutcomeClass = error.code === "AccessDeniedException" ? "denied" : "invalid";
    return { class: outcome, error: `${error.code}: ${error.message}` };
  }
  parts.log.error({ err: error, rotationId: rotation.id }, "a rotation met an internal error");
  return { class: "unknown", error: "internal error: see the log" };
}

async function attempt(held: HeldRotation, limits: Limits): Promise<void> {
  const { rotation, parts } = held;
  const secret = await held.readSecret();
  if (!secret) throw new Superseded(); // its rotations went with it
  if (secret.deletedAt !== undefined) return held.end("canceled");
  const called = await parts.findInvoked(rotation.functionArn);
  if (called) return invokeSteps(held, secret, called);
  if (!isPending(secret, rotation.versionId)) return held.end("abandoned");
  const turn = await prepare(held, secret);
  await withinLimits(held, turn, limits, async () =>
    rotation.testOnly ? testCopy(held, turn) : switchOver(held, await decideStrategy(held, turn)),
  );
}

async function prepare({ parts, rotation }: HeldRotation, secret: Secret): Promise<Turn> {
  await requireConfigured(parts, secret);
  const { rotator, asked } = await findFunctionRotator(parts, rotation.functionArn, secret);
  const decided = rotation.strategy;
  return openTurn(parts, secret, rotator, decided && rotator.strategies.includes(decided) ? decided : asked);
}

/** Asked once for each rotation: whoever goes on with it does it in the same way. @throws RotatorError */
async function decideStrategy(held: HeldRotation, turn: Turn): Promise<Turn> {
  const { rotator, current, secret } = turn;
  if (held.rotation.strategy === turn.strategy) return turn;
  let { strategy } = turn;
  if (rotator.prefer) {
    const access = { current, admin: await superuserIfOwn(held, turn) };
    strategy = await rotator.prefer(access, strategy, await held.tools());
    if (!rotator.strategies.includes(strategy)) throw new RotatorError("invalid", `${rotator.kind} does not have ${strategy}`);
  }
  held.rotation = { ...held.rotation, strategy };
  return strategy === turn.strategy ? turn : openTurn(held.parts, secret, rotator, strategy);
}

/** A rotation that only tests: a copy of the current value under AWSPENDING, which goes again. */
async function testCopy(held: HeldRotation, turn: Turn): Promise<void> {
  const { secret, rotator, current } = turn;
  const { versionId } = held.rotation;
  if (!(await openVersion(held.parts, secret, versionId))) {
    await commitPending(held, turn, credentialValue(current), (before) => before);
  }
  await rotator.test(current, await held.tools());
  held.stepDone();
  await held.commit({ secret: (before) => withoutTestCopy(before, versionId), event: "rotation.test-succeeded" });
}

async function switchOver(held: HeldRotation, turn: Turn): Promise<void> {
  const doubtful = held.rotation.step !== "createSecret" && mustProbe(held.rotation, held.takenOver);
  const { pending, barrier, isSet } = await createSecret(held, turn);
  if (isSet || isIssued(turn)) {
    if (held.rotation.step === "setSecret") held.stepDone();
  } else await putInForce(held, turn, pending, { doubtful, barrier });
  if (held.rotation.step === "testSecret") {
    held.switched = turn.strategy === "single-user";
    const tested = testEverywhere(held, turn, pending);
    await (held.switched ? held.beforeReadersGiveUp(tested) : tested);
    held.stepDone();
  }
  await finishSecret(held, turn);
}

/** A session that has logged in waits for its work at most about so long. */
const longestEarlyMs = 1_000;

/** What comes to be in force where it is made, or never is at any target: there is nothing to set. */
function isIssued({ strategy }: Turn): boolean {
  return strategy === "issuer" || strategy === "generator";
}

async function putInForce(
  held: HeldRotation,
  turn: Turn,
  pending: AnyCredential,
  { doubtful, barrier }: { doubtful: boolean; barrier: boolean },
): Promise<void> {
  // Not only when just taken over: whoever took over may have failed before it had waited.
  if (doubtful && turn.rotator.outwaited) await held.outwaitDead(turn.rotator.callsOutliveMs);
  const { decision, former }: Probed = doubtful ? await probe(held, turn, pending) : { decision: "set" };
  if (held.rotation.step !== "setSecret" && decision === "proceed") return;
  if (decision !== "proceed") await setSecret(held, turn, pending, { decision, barrier, former });
  if (held.rotation.step === "setSecret") held.stepDone();
}

interface Created {
  readonly pending: AnyCredential;
  /** Readers wait already. */
  readonly barrier: boolean;
  /** The target has taken it, too. */
  readonly isSet?: boolean;
}

/** The next credential: sealed and committed under the rotation's token before anything is changed at the target. */
async function createSecret(held: HeldRotation, turn: Turn): Promise<Created> {
  const { parts, rotation } = held;
  const { secret, rotator, strategy, current } = turn;
  const made = await openVersion(parts, secret, rotation.versionId);
  if (rotation.step === "createSecret") await requireUnchanged(held, turn);
  if (strategy === "issuer") return { pending: await issuedCredential(held, turn, made), barrier: false };
  if (rotation.step === "createSecret") await requireLeft(held, turn);
  const value = made ?? credentialValue(await rotator.create(current, strategy, await held.tools()));
  const pending = suitable(rotator, parseCredential(value, "the pending value"), "the pending value");
  if (rotation.step !== "createSecret") return { pending, barrier: false };
  held.stepDone();
  const barrier = strategy === "single-user";
  const hold = (before: Secret) => (barrier ? held.withBarrier(before) : before);
  const commit = () => commitPending(held, turn, made ? undefined : value, hold);
  if (await mayLogInEarly(held, turn)) {
    await commitAndSet(held, turn, pending, commit);
    return { pending, barrier, isSet: true };
  }
  await commit();
  return { pending, barrier };
}

/**
 * Where somebody else changes the account just now, the password may be another one by the time of a login: it would be refused,
 * and such count against the account.
 */
async function mayLogInEarly({ parts, rotation }: HeldRotation, { rotator, account }: Turn): Promise<boolean> {
  if (!rotator.logsInEarly || parts.settings.settleMs > longestEarlyMs) return false;
  return !(await isAccountTaken(parts.sql, rotation, account));
}

/** Logs in while the intent is made durable and readers settle: neither waits for the other, and nothing is changed before both. */
async function commitAndSet(held: HeldRotation, turn: Turn, pending: AnyCredential, commit: () => Promise<void>): Promise<void> {
  const { rotator, strategy, current } = turn;
  const others = actingBeside(held, turn, "set");
  const ready = commit().then(() => (strategy === "single-user" ? held.openBarrier(true) : undefined));
  const setting = others.then(async ({ admin, previous }) => {
    const versions = { pending, current, previous, admin, pairIsProven: isOwned(turn.secret) };
    await rotator.set(versions, strategy, { ...(await held.tools()), ready });
  });
  const [committed, set] = await Promise.allSettled([ready, setting]);
  if (committed.status === "rejected") throw committed.reason;
  if (set.status === "rejected") throw set.reason;
}

interface Probed {
  readonly decision: Exclude<Decision, "wait" | "blocked">;
  /** Neither pending nor current, and yet the one that logs in. */
  readonly former?: AnyCredential | undefined;
}

/** What does the target accept now? Asked before anything is done there again. @throws RotatorError to wait, Blocked */
async function probe(held: HeldRotation, turn: Turn, pending: AnyCredential): Promise<Probed> {
  const { rotator, current } = turn;
  const ask = async (credential: AnyCredential): Promise<OutcomeClass> => {
    const answer = await rotator.probe(credential, await held.tools());
    held.rotation = probed(held.rotation, answer);
    return answer;
  };
  const answers: { pending: OutcomeClass; current: OutcomeClass; previous?: OutcomeClass } = {
    pending: await ask(pending),
    current: "unknown",
  };
  if (answers.pending !== "ok") answers.current = await ask(current);
  let former: AnyCredential | undefined;
  for (const find of [previousCredential, supersededCredential]) {
    if (Object.values(answers).some((answer) => answer !== "refused")) break;
    former = await find(held, turn);
    if (former) answers.previous = await ask(former);
  }
  const admin =
    Object.values(answers).every((answer) => answer === "refused") && (await superuserOrNone(held, turn)) !== undefined;
  const decision = decide({ ...answers, admin });
  if (decision === "wait") {
    const unsure = Object.values(answers).find((answer) => answer !== "refused" && answer !== "ok") ?? "unknown";
    throw new RotatorError(
      unsure as Exclude<OutcomeClass, "ok">,
      `${turn.account}: it is not known which password is in force (${unsure})`,
    );
  }
  if (decision === "blocked") throw new Blocked("refused", `${turn.account}: none of the secret's passwords is accepted`);
  return { decision, former: answers.previous === "ok" ? former : undefined };
}

interface SetOptions {
  readonly decision: Decision;
  readonly barrier: boolean;
  readonly former: AnyCredential | undefined;
}

async function setSecret(
  held: HeldRotation,
  turn: Turn,
  pending: AnyCredential,
  { decision, barrier, former }: SetOptions,
): Promise<void> {
  const { rotator, strategy, current } = turn;
  const { admin, previous } = await actingBeside(held, turn, decision, former);
  if (strategy === "single-user") await held.openBarrier(barrier);
  const pairIsProven = isOwned(turn.secret);
  await rotator.set({ pending, current, previous, admin, pairIsProven }, strategy, await held.tools());
}

/** What may act at the target beside the current credential, when one is put in force. @throws RotatorError */
async function actingBeside(
  held: HeldRotation,
  turn: Turn,
  decision: Decision,
  former?: AnyCredential,
): Promise<{ admin: AnyCredential | undefined; previous: AnyCredential | undefined }> {
  const { strategy } = turn;
  let admin: AnyCredential | undefined;
  if (strategy === "alternating-users" || strategy === "dual-slot") admin = await superuserForOwn(held, turn);
  else if (decision === "reset") admin = await superuserOrNone(held, turn);
  // Of two who take turns, it is the other one's, who may have to log in for its own change.
  return { admin, previous: former ?? (await previousCredential(held, turn)) };
}
