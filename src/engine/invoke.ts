import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { RotatorError, type ServiceError } from "../core/error.ts";
import type { CallFailure, CallResult } from "../core/function.ts";
import type { Step } from "../core/rotation.ts";
import { addVersion, isPending, type Secret, versionOf, versionWith, withoutTestCopy } from "../core/secret.ts";
import { holdAccount } from "../store/rotation-claims.ts";
import { setRotationToken } from "../store/rotation-tokens.ts";
import type { Finding } from "../targets/target.ts";
import { type HeldRotation, Superseded } from "./held-rotation.ts";
import { rotatorFor } from "./network.ts";
import { AccountTaken } from "./pending.ts";
import { labelledCredential, openVersion, sealVersion } from "./values.ts";

/** What was found, and what was in order. */
export interface Inspection {
  readonly findings: readonly Finding[];
  readonly passed: readonly string[];
}

/** A function that answers AWS's rotation events, writes the value and moves the labels itself. */
export interface InvokedFunction {
  /** Nobody waits for a call after so long. */
  readonly longestMs: number;
  /** A call goes on when this server dies: who takes over waits for its end. */
  readonly outlivesServer: boolean;
  /** Whether the service may invoke it for this secret, as things stand now; the refusal if not. */
  refusal(secret: Secret): Promise<ServiceError | undefined>;
  /** What would keep it from being called for this secret, and from doing its work: found without calling it. */
  inspect(secret: Secret, superuserArn: string | undefined): Promise<Inspection>;
  /** `payload` is JSON text; `signal` ends the call. */
  call(payload: string, about: { readonly secretArn: string; readonly signal: AbortSignal }): Promise<CallResult>;
}

/** A step that a function did not do; with what would help. */
export class StepFailed extends RotatorError {
  readonly remedy: string | undefined;

  constructor(step: Step, { outcome, message, remedy }: CallFailure) {
    super(outcome, `during ${step}: ${message}`);
    this.remedy = remedy;
  }
}

/** Longer than the clocks of machines differ, and than a call takes to be noticed. */
const outwaitMs = 30_000;
const lookMs = 2_000;

/**
 * Takes a rotation through all its steps by calling a function, from the first one on at every try, as AWS does: its steps
 * may be repeated. What must hold is looked at before and after each step. Source: user guide, "How rotation works".
 */
export async function invokeSteps(held: HeldRotation, secret: Secret, called: InvokedFunction): Promise<void> {
  const { versionId, testOnly } = held.rotation;
  if (hasFinished(secret, versionId)) return finish(held);
  if (!isPending(secret, versionId)) return held.end("abandoned");
  const refusal = await called.refusal(secret);
  if (refusal) throw new RotatorError("denied", refusal.message, { cause: refusal });
  const token = randomUUID() + randomUUID();
  held.rotation = { ...held.rotation, step: testOnly ? "testSecret" : "createSecret" };
  const account = testOnly ? undefined : await accountBehind(held, secret);
  await held.commit({
    hold: true,
    also: async (tx) => {
      await setRotationToken(tx, held.rotation.id, token);
      if (account !== undefined && !(await holdAccount(tx, held.rotation, account))) throw new AccountTaken();
    },
  });
  if (testOnly) return testCopy(held, secret, called, token);
  for (;;) {
    const { step } = held.rotation;
    await call(held, secret, called, token);
    const after = await held.readSecret();
    if (!after) throw new Superseded();
    if (!hasFinished(after, versionId) && !isPending(after, versionId)) return held.end("abandoned");
    requireHolds(step, after, versionId);
    if (step === "finishSecret") return finish(held);
    held.stepDone();
    await held.commit({ hold: true });
  }
}

/**
 * What the function changes, as far as the secret's value says it in the words of one of our rotators: no other rotation works
 * there meanwhile. `undefined` when it does not.
 */
async function accountBehind({ parts }: HeldRotation, secret: Secret): Promise<string | undefined> {
  const value = await labelledCredential(parts, secret, "AWSCURRENT").catch((error: unknown) => {
    if (error instanceof RotatorError) return undefined; // not JSON: the function knows what it is
    throw error;
  });
  const kind = typeof value?.engine === "string" ? parts.kindOfEngine(value.engine) : undefined;
  const rotator = kind === undefined ? undefined : await rotatorFor(parts, { kind }, secret);
  const credential = rotator?.credential.safeParse(value).data;
  const strategy = rotator?.strategies.find((one) => one === "alternating-users") ?? rotator?.strategies[0];
  return credential && strategy && rotator?.account(credential, strategy);
}

function hasFinished(secret: Secret, versionId: string): boolean {
  return versionWith(secret, "AWSCURRENT")?.id === versionId;
}

/** What a step leaves behind. @throws StepFailed */
function requireHolds(step: Step, secret: Secret, versionId: string): void {
  if (versionOf(secret, versionId)?.kind === undefined)
    throw new StepFailed(step, {
      outcome: "invalid",
      message: "the function answered, but the version labelled AWSPENDING has no value",
      remedy: "createSecret must call PutSecretValue with its ClientRequestToken and VersionStages [AWSPENDING].",
    });
  if (step === "finishSecret" && !hasFinished(secret, versionId))
    throw new StepFailed(step, {
      outcome: "invalid",
      message: "the function answered, but AWSCURRENT is not at the new version",
      remedy: "finishSecret must call UpdateSecretVersionStage to move AWSCURRENT to the version of its ClientRequestToken.",
    });
}

/** The claim covers the longest that the call may go on; while it does, it is seen to that the rotation is still ours. */
async function call(held: HeldRotation, secret: Secret, called: InvokedFunction, token: string): Promise<void> {
  const { now } = held.parts;
  const { step, versionId } = held.rotation;
  const endsAt = now() + called.longestMs + outwaitMs;
  if (called.outlivesServer) {
    held.rotation = { ...held.rotation, runAt: endsAt };
    await held.commit({ hold: true });
  }
  await held.holdUntil(endsAt);
  const event = { Step: step, SecretId: secret.arn, ClientRequestToken: versionId, RotationToken: token };
  const [stopped, done] = [new AbortController(), new AbortController()];
  const watching = stopWhenSuperseded(held, endsAt, stopped, done.signal);
  try {
    const result = await called.call(JSON.stringify(event), { secretArn: secret.arn, signal: stopped.signal });
    await record(held, secret, result);
    if (stopped.signal.aborted) throw new Superseded();
    if (result.failure) throw new StepFailed(step, result.failure);
  } finally {
    done.abort();
    await watching;
  }
}

/** That the service had the function do a step; what the function did with it is on record under its role. */
async function record({ parts, rotation }: HeldRotation, { arn, region }: Secret, result: CallResult): Promise<void> {
  await parts.audit.append({
    requestId: result.requestId,
    at: parts.now(),
    principal: "secretsmanager.amazonaws.com",
    action: "lambda:InvokeFunction",
    resource: rotation.functionArn,
    region,
    sourceIp: "secretsmanager.amazonaws.com",
    parameters: { Step: rotation.step, SecretId: arn, ClientRequestToken: rotation.versionId },
    outcome: result.failure ? result.failure.outcome : "ok",
  });
}

async function stopWhenSuperseded(
  held: HeldRotation,
  untilMs: number,
  stopped: AbortController,
  done: AbortSignal,
): Promise<void> {
  while (!done.aborted) {
    await sleep(lookMs, undefined, { signal: done }).catch(() => undefined);
    if (done.aborted) return;
    try {
      await held.holdUntil(untilMs);
    } catch (error) {
      if (error instanceof Superseded) stopped.abort();
      // A store that does not answer is asked again: the claim was taken for the whole call.
    }
  }
}

/** A rotation that only tests: a copy of the current value under AWSPENDING, which goes again. */
async function testCopy(held: HeldRotation, secret: Secret, called: InvokedFunction, token: string): Promise<void> {
  const { parts } = held;
  const { versionId } = held.rotation;
  const current = versionWith(secret, "AWSCURRENT");
  const value = current && (await openVersion(parts, secret, current.id));
  if (!value) throw new RotatorError("invalid", `${secret.name} has no current value to test with`);
  if (versionOf(secret, versionId)?.kind === undefined) {
    const sealed = await sealVersion(parts, secret, versionId, value);
    await held.commit({
      hold: true,
      secret: (before) => {
        if (!isPending(before, versionId)) throw new Superseded();
        const added = { id: versionId, stages: ["AWSPENDING"], value: sealed, createdAt: parts.now() };
        return addVersion(before, added).secret;
      },
    });
  }
  await call(held, secret, called, token);
  held.stepDone();
  await held.commit({ secret: (before) => withoutTestCopy(before, versionId), event: "rotation.test-succeeded" });
}

/** The function has moved the labels: dates, the rotation's end and the event. */
async function finish(held: HeldRotation): Promise<void> {
  held.rotation = { ...held.rotation, step: "finishSecret" };
  await held.succeed((before) => before);
}
