import type { z } from "zod";
import { type OutcomeClass, RotatorError } from "../core/error.ts";
import { type Secret, type SecretVersion, versionWith } from "../core/secret.ts";
import type { AnyCredential } from "../targets/index.ts";
import type { Rotator, Strategy } from "../targets/target.ts";
import { type Caps, targetOf } from "./caps.ts";
import { type HeldJob, JobPostponed, JobRefused } from "./held-job.ts";
import { rotatorFor } from "./network.ts";
import { hasRotated } from "./own-account.ts";
import { readSuperuser } from "./superuser.ts";
import { credentialOf } from "./values.ts";

/** What a secret's function would work with. */
export interface JobTarget {
  readonly secret: Secret;
  readonly rotator: Rotator<AnyCredential>;
  readonly strategy: Strategy;
  readonly functionArn: string;
}

/** The target with the credential that is in use there. */
export interface OpenTarget extends JobTarget {
  readonly current: AnyCredential;
  readonly account: string;
}

/** The rotator behind the function that the job names, or else the secret. @throws JobRefused when there is none */
export async function findTarget(held: HeldJob, secret: Secret): Promise<JobTarget> {
  const given = held.job.input.functionArn;
  const functionArn = typeof given === "string" ? given : secret.rotationFunctionArn;
  if (functionArn === undefined) {
    throw new JobRefused(`no rotation function is configured for ${secret.name}: name one with --function`);
  }
  const found = await held.parts.findFunction(functionArn);
  const refusal = await found?.refusal?.(secret);
  if (refusal) throw new JobRefused(refusal.message);
  const rotator = found && (await rotatorFor(held.parts, found, secret));
  if (!found || !rotator) {
    throw new JobRefused(`${functionArn} is not built in: Rekey cannot log in at its target by itself`);
  }
  if (!rotator.strategies.includes(found.strategy)) {
    throw new JobRefused(`${functionArn} rotates by ${found.strategy}, which ${rotator.kind} does not have`);
  }
  return { secret, rotator, strategy: found.strategy, functionArn };
}

/** @throws JobRefused, RotatorError `invalid` when there is no current value of the right shape */
export async function openTarget(held: HeldJob, secret: Secret): Promise<OpenTarget> {
  const target = await findTarget(held, secret);
  const version = versionWith(secret, "AWSCURRENT");
  const current = version && (await readCredential(held, target, version));
  if (!current) throw new JobRefused(`${secret.name} has no current value`);
  return { ...target, current, account: accountOf(target, current) };
}

export function accountOf({ secret, rotator, strategy }: JobTarget, credential: AnyCredential): string {
  return rotator.account(credential, strategy) ?? `secret/${secret.id}`;
}

/** The value of a version, checked; `undefined` when it has none. @throws RotatorError `invalid` */
export async function readCredential(
  { parts }: HeldJob,
  { secret, rotator }: JobTarget,
  version: SecretVersion,
): Promise<AnyCredential | undefined> {
  const what = `the value of version ${version.id}`;
  const value = await credentialOf(parts, secret, version, what);
  return value && suitable(rotator, value, what);
}

/** @throws RotatorError `invalid`, naming the keys that are wrong */
export function suitable(rotator: Rotator<AnyCredential>, value: AnyCredential, what: string): AnyCredential {
  const { data, error } = rotator.credential.safeParse(value);
  if (data) return data;
  throw unsuitable(what, rotator.kind, error);
}

/** Keys and rules, never values. */
function unsuitable(what: string, kind: string, { issues }: z.ZodError): RotatorError {
  const problems = issues.map(({ path, message }) => {
    const problem = message.endsWith("received undefined") ? "is missing" : message;
    return [path.join("."), problem].filter(Boolean).join(" ");
  });
  return new RotatorError("invalid", `${what} does not suit ${kind}: ${problems.join("; ")}`);
}

/** The superuser's credential that `masterarn` names, in its own shape. @throws RotatorError */
export async function readAdmin(held: HeldJob, target: OpenTarget): Promise<AnyCredential | undefined> {
  const { secret, rotator, current } = target;
  const { superuserAddress } = held.job.input;
  const asked = { parts: held.parts, rotation: { id: held.job.id } };
  const address = typeof superuserAddress === "string" ? superuserAddress : undefined;
  const value = await readSuperuser(asked, secret, current, address);
  if (!value) return undefined;
  const { data, error } = (rotator.admin ?? rotator.credential).safeParse(value);
  if (data) return data;
  throw unsuitable("the superuser's value", rotator.kind, error);
}

/** Whether a rotation of this secret has logged in to the account with what it made: only such a one may a superuser change. */
export function isOwn(held: HeldJob, { secret, rotator, strategy, account }: OpenTarget): Promise<boolean> {
  return hasRotated(held.parts, secret, rotator.kind, (value) => {
    const { data } = rotator.credential.safeParse(value);
    return data !== undefined && rotator.account(data, strategy) === account;
  });
}

/** A login that failed, in its words. */
export interface FailedLogin {
  readonly outcome: Exclude<OutcomeClass, "ok">;
  readonly reason: string;
}

/** Logs in. `undefined` when that went well. */
export async function failedLogin(
  held: HeldJob,
  rotator: Rotator<AnyCredential>,
  credential: AnyCredential,
): Promise<FailedLogin | undefined> {
  try {
    await rotator.test(credential, await held.tools());
    return undefined;
  } catch (error) {
    if (error instanceof RotatorError) return { outcome: error.outcome, reason: error.message };
    throw error;
  }
}

/** Works at a target within the limit that rotations there keep to, too. @throws JobPostponed when it is busy */
export async function atTarget<T>(caps: Caps, account: string, work: () => Promise<T>): Promise<T> {
  const target = targetOf(account);
  if (!caps.enter(target)) throw new JobPostponed(100);
  try {
    return await work();
  } finally {
    caps.leave(target);
  }
}
