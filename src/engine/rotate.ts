import type { OutcomeClass } from "../core/error.ts";
import { RotatorError, ServiceError } from "../core/error.ts";
import { blockedRemedy, type Decision, decide, mustProbe, type StepOutcome } from "../core/rotation.ts";
import { rotated } from "../core/rotation-schedule.ts";
import { addVersion, detach, isPending, moveLabel, type Secret, versionWith, withoutTestCopy } from "../core/secret.ts";
import { type Claim, holdAccount } from "../store/rotation-claims.ts";
import type { AnyCredential } from "../targets/index.ts";
import type { Rotator, Strategy } from "../targets/target.ts";
import type { Caps } from "./caps.ts";
import { HeldRotation, Superseded } from "./held-rotation.ts";
import { hasRotated } from "./own-account.ts";
import type { EngineParts } from "./parts.ts";
import { readSuperuser } from "./superuser.ts";
import { credentialValue, labelledCredential, openVersion, parseCredential, sealVersion } from "./values.ts";

/** All that one try knows: the rotator and what it is to work on. */
interface Turn {
  readonly secret: Secret;
  readonly rotator: Rotator<AnyCredential>;
  readonly strategy: Strategy;
  readonly current: AnyCredential;
  readonly account: string;
}

/** Neither version is accepted and nothing else may be used. */
class Blocked extends RotatorError {}
/** Another running rotation changes the same account. */
class AccountTaken extends Error {}

/**
 * Takes a claimed rotation as far as it goes now: through the remaining steps, or to a failure that is tried again later.
 * Calls at the target happen with no transaction open, each under a deadline before the claim's end.
 */
export async function rotate(parts: EngineParts, claim: Claim, caps: Caps): Promise<void> {
  const held = new HeldRotation(parts, claim);
  const log = parts.log.child({ rotationId: claim.rotation.id });
  const startedAt = parts.now();
  try {
    await attempt(held, caps).catch((error: unknown) => failed(held, error));
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
    return held.postpone(500 + 1_000 * held.parts.random(), "another rotation was changing the same account");
  }
  await held.fail(toOutcome(held, error));
}

function toOutcome({ parts, rotation }: HeldRotation, error: unknown): StepOutcome {
  if (error instanceof Blocked) return { class: error.outcome, error: error.message, blocked: blockedRemedy };
  if (error instanceof RotatorError) return { class: error.outcome, error: error.message };
  if (error instanceof ServiceError && error.status < 500) {
    const outcome: OutcomeClass = error.code === "AccessDeniedException" ? "denied" : "invalid";
    return { class: outcome, error: `${error.code}: ${error.message}` };
  }
  parts.log.error({ err: error, rotationId: rotation.id }, "a rotation met an internal error");
  return { class: "unknown", error: "internal error: see the log" };
}

async function attempt(held: HeldRotation, caps: Caps): Promise<void> {
  const { rotation, parts } = held;
  const secret = await held.readSecret();
  if (!secret) throw new Superseded(); // its rotations went with it
  if (secret.deletedAt !== undefined) return held.end("canceled");
  if (!isPending(secret, rotation.versionId)) return held.end("abandoned");
  const turn = await prepare(held, secret);
  const target = turn.account.slice(0, turn.account.lastIndexOf("/"));
  if (!caps.enter(target)) return held.postpone(50 + 200 * parts.random(), "the target was busy with other rotations");
  try {
    await (rotation.testOnly ? testCopy(held, turn) : switchOver(held, turn));
  } finally {
    caps.leave(target);
  }
}

async function prepare({ parts, rotation }: HeldRotation, secret: Secret): Promise<Turn> {
  await requireConfigured(parts, secret);
  const builtin = await parts.findFunction(rotation.functionArn);
  const rotator = builtin && (await parts.findRotator(builtin.kind, builtin.declaration));
  if (!rotator?.strategies.includes(builtin?.strategy ?? "single-user")) {
    throw new RotatorError("invalid", `${rotation.functionArn} names no function that can be run here`);
  }
  const strategy = builtin?.strategy ?? "single-user";
  const value = await labelledCredential(parts, secret, "AWSCURRENT");
  if (!value) throw new RotatorError("invalid", `${secret.name} has no current value to start from`);
  const current = checked(rotator, value, "the current value");
  return { secret, rotator, strategy, current, account: rotator.account(current, strategy) ?? `secret/${secret.id}` };
}

/** A built-in function has the rights of whoever configured the rotation: of somebody who is gone, none. @throws RotatorError `denied` */
async function requireConfigured(parts: EngineParts, { name, rotationPrincipal }: Secret): Promise<void> {
  if (!rotationPrincipal) throw new RotatorError("denied", `it is not known who configured the rotation of ${name}`);
  const refusal = await parts.mayRun(rotationPrincipal);
  if (refusal) throw new RotatorError("denied", refusal.message, { cause: refusal });
}

function checked(rotator: Rotator<AnyCredential>, value: AnyCredential, what: string): AnyCredential {
  const { data, error } = rotator.credential.safeParse(value);
  if (data) return data;
  const problems = error.issues.map(({ path, message }) => `${path.join(".")} ${message}`);
  throw new RotatorError("invalid", `${what} does not suit ${rotator.kind}: ${problems.join("; ")}`);
}

/** A rotation that only tests: a copy of the current value under AWSPENDING, which goes again. */
async function testCopy(held: HeldRotation, { secret, rotator, current }: Turn): Promise<void> {
  const { versionId } = held.rotation;
  if (!(await openVersion(held.parts, secret, versionId))) {
    await commitPending(held, secret, credentialValue(current), (before) => before);
  }
  await rotator.test(current, await held.tools());
  held.stepDone();
  await held.commit({ secret: (before) => withoutTestCopy(before, versionId), event: "rotation.test-succeeded" });
}

async function switchOver(held: HeldRotation, turn: Turn): Promise<void> {
  const doubtful = held.rotation.step !== "createSecret" && mustProbe(held.rotation, held.takenOver);
  const { pending, barrier } = await createSecret(held, turn);
  const decision = doubtful ? await probe(held, turn, pending) : "set";
  if (held.rotation.step === "setSecret" || decision !== "proceed") {
    if (decision !== "proceed") await setSecret(held, turn, pending, { decision, barrier });
    if (held.rotation.step === "setSecret") held.stepDone();
  }
  if (held.rotation.step === "testSecret") {
    held.switched = turn.strategy === "single-user";
    const tested = turn.rotator.test(pending, await held.tools());
    await (held.switched ? held.beforeReadersGiveUp(tested) : tested);
    held.stepDone();
  }
  await finishSecret(held);
}

/** The next credential: sealed and committed under the rotation's token before anything happens at the target. */
async function createSecret(held: HeldRotation, turn: Turn): Promise<{ pending: AnyCredential; barrier: boolean }> {
  const { parts, rotation } = held;
  const { secret, rotator, strategy, current, account } = turn;
  const made = await openVersion(parts, secret, rotation.versionId);
  const value = made ?? credentialValue(await rotator.create(current, strategy, await held.tools()));
  const pending = checked(rotator, parseCredential(value, "the pending value"), "the pending value");
  if (rotation.step !== "createSecret") return { pending, barrier: false };
  held.stepDone();
  const barrier = strategy === "single-user";
  const hold = (before: Secret) => (barrier ? held.withBarrier(before) : before);
  await commitPending(held, secret, made ? undefined : value, hold, account);
  return { pending, barrier };
}

async function commitPending(
  held: HeldRotation,
  secret: Secret,
  value: Parameters<typeof sealVersion>[3] | undefined,
  decideMore: (before: Secret) => Secret,
  account?: string,
): Promise<void> {
  const { parts, rotation } = held;
  const id = rotation.versionId;
  const sealed = value && (await sealVersion(parts, secret, id, value));
  await held.commit({
    hold: true,
    secret: (before) => {
      if (!isPending(before, id)) throw new Superseded();
      if (!sealed) return decideMore(before);
      const { secret: after } = addVersion(before, { id, stages: ["AWSPENDING"], value: sealed, createdAt: parts.now() });
      return decideMore(after);
    },
    also: async (tx) => {
      if (account !== undefined && !(await holdAccount(tx, rotation, account))) throw new AccountTaken();
    },
  });
}

/** What does the target accept now? Asked before anything is done there again. @throws RotatorError to wait, Blocked */
async function probe(held: HeldRotation, turn: Turn, pending: AnyCredential): Promise<Exclude<Decision, "wait" | "blocked">> {
  const { rotator, current } = turn;
  const tools = await held.tools();
  const answers: { pending: OutcomeClass; current: OutcomeClass; previous?: OutcomeClass } = {
    pending: await rotator.probe(pending, tools),
    current: "unknown",
  };
  if (answers.pending !== "ok") answers.current = await rotator.probe(current, tools);
  if (answers.pending === "refused" && answers.current === "refused") {
    const previous = await previousCredential(held, turn);
    if (previous) answers.previous = await rotator.probe(previous, tools);
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
  return decision;
}

interface SetOptions {
  readonly decision: Decision;
  readonly barrier: boolean;
}

async function setSecret(
  held: HeldRotation,
  turn: Turn,
  pending: AnyCredential,
  { decision, barrier }: SetOptions,
): Promise<void> {
  const { rotator, strategy, current } = turn;
  const alternating = strategy === "alternating-users";
  let admin: AnyCredential | undefined;
  if (alternating) admin = await superuserForOwn(held, turn);
  else if (decision === "reset") admin = await superuserOrNone(held, turn);
  const previous = alternating ? undefined : await previousCredential(held, turn);
  if (!alternating) await held.openBarrier(barrier);
  await rotator.set(
    { pending, current, previous, admin: admin && checked(rotator, admin, "the superuser's value") },
    strategy,
    await held.tools(),
  );
}

/** The superuser changes the secret's own account only: one that it was rotated to, or that its current value logs in to. */
async function superuserForOwn(held: HeldRotation, turn: Turn): Promise<AnyCredential | undefined> {
  const { secret, rotator, current } = turn;
  const admin = await readSuperuser(held, secret, current);
  if (admin && !(await isOwn(held, turn))) await rotator.test(current, await held.tools());
  return admin;
}

function isOwn({ parts }: HeldRotation, { secret, rotator, strategy, account }: Turn): Promise<boolean> {
  return hasRotated(parts, secret, (value) => {
    const { data } = rotator.credential.safeParse(value);
    return data !== undefined && rotator.account(data, strategy) === account;
  });
}

/** For a single user the superuser is a way out, not a need. */
async function superuserOrNone(held: HeldRotation, turn: Turn): Promise<AnyCredential | undefined> {
  try {
    return (await isOwn(held, turn)) ? await readSuperuser(held, turn.secret, turn.current) : undefined;
  } catch (error) {
    if (error instanceof RotatorError) return undefined;
    throw error;
  }
}

/** Of the same account only: the value may be older than a move to another server. */
async function previousCredential({ parts }: HeldRotation, turn: Turn): Promise<AnyCredential | undefined> {
  const { secret, rotator, strategy, account } = turn;
  const value =
    versionWith(secret, "AWSPREVIOUS") && (await labelledCredential(parts, secret, "AWSPREVIOUS").catch(ignoreInvalid));
  const { data } = rotator.credential.safeParse(value);
  return data && rotator.account(data, strategy) === account ? data : undefined;
}

function ignoreInvalid(error: unknown): undefined {
  if (!(error instanceof RotatorError)) throw error;
}

/** Labels, dates, the rotation's end and the event: all of it or nothing. */
async function finishSecret(held: HeldRotation): Promise<void> {
  const { parts, rotation } = held;
  const { versionId } = rotation;
  held.stepDone();
  await held.commit({
    event: "rotation.succeeded",
    secret: (before) => {
      if (!isPending(before, versionId)) throw new Superseded();
      const removeFrom = versionWith(before, "AWSCURRENT")?.id;
      const moved = moveLabel(before, { label: "AWSCURRENT", moveTo: versionId, removeFrom }, parts.now());
      return rotated(detach(moved, "AWSPENDING"), parts.now(), parts.random());
    },
  });
}
