import { type OutcomeClass, RotatorError } from "../core/error.ts";
import { isOwned } from "../core/rotated-secret.ts";
import { blockedRemedy, type Strategy } from "../core/rotation.ts";
import { type Secret, type SecretVersion, versionOf, versionWith } from "../core/secret.ts";
import { lastUnfinishedVersion } from "../store/rotations.ts";
import type { AnyCredential } from "../targets/index.ts";
import type { Access, Rotator } from "../targets/target.ts";
import type { HeldRotation } from "./held-rotation.ts";
import { suitable } from "./job-target.ts";
import { rotatorFor } from "./network.ts";
import { hasRotated } from "./own-account.ts";
import type { EngineParts } from "./parts.ts";
import { readSuperuser } from "./superuser.ts";
import { credentialOf, labelledCredential } from "./values.ts";

/** All that one try knows: the rotator and what it is to work on. */
export interface Turn {
  readonly secret: Secret;
  readonly rotator: Rotator<AnyCredential>;
  readonly strategy: Strategy;
  readonly current: AnyCredential;
  readonly account: string;
}

/** Whose rights are used: a rotation, or a retirement. */
export interface Held {
  readonly parts: EngineParts;
  readonly rotation: { readonly id: string };
  tools: HeldRotation["tools"];
}

/** Trying again would not help before somebody did what `remedy` says. */
export class Blocked extends RotatorError {
  readonly remedy: string;

  constructor(outcome: Exclude<OutcomeClass, "ok">, message: string, remedy: string = blockedRemedy) {
    super(outcome, message);
    this.remedy = remedy;
  }
}

/** Nothing went wrong, and yet it cannot go on now. */
export class Later extends Error {
  override readonly name = "Later";
  readonly byMs: number;
  readonly remedy: string | undefined;

  constructor(byMs: number, why: string, remedy?: string) {
    super(why);
    this.byMs = byMs;
    this.remedy = remedy;
  }
}

/** The rotator behind a function, and how it is asked to change credentials. @throws RotatorError `invalid`, `denied` */
export async function findFunctionRotator(
  parts: EngineParts,
  functionArn: string,
  secret: Secret,
): Promise<{ rotator: Rotator<AnyCredential>; asked: Strategy }> {
  const found = await parts.findFunction(functionArn);
  const refusal = await found?.refusal?.(secret);
  if (refusal) throw new RotatorError("denied", refusal.message, { cause: refusal });
  const rotator = found && (await rotatorFor(parts, found, secret));
  if (!found || !rotator?.strategies.includes(found.strategy)) {
    throw new RotatorError("invalid", `${functionArn} names no function that can be run here`);
  }
  return { rotator, asked: found.strategy };
}

/** What AWSCURRENT holds, and whose account it is. @throws RotatorError `invalid` */
export async function openTurn(
  parts: EngineParts,
  secret: Secret,
  rotator: Rotator<AnyCredential>,
  strategy: Strategy,
): Promise<Turn> {
  const value = await labelledCredential(parts, secret, "AWSCURRENT");
  if (!value) throw new RotatorError("invalid", `${secret.name} has no current value to start from`);
  const current = suitable(rotator, value, "the current value");
  return { secret, rotator, strategy, current, account: accountOf(secret, rotator, current, strategy) };
}

export function accountOf(
  { id }: Secret,
  rotator: Rotator<AnyCredential>,
  credential: AnyCredential,
  strategy: Strategy,
): string {
  return rotator.account(credential, strategy) ?? `secret/${id}`;
}

/**
 * A built-in function has the rights of whoever configured the rotation: of somebody who is gone, none. A config's own secrets
 * outlive whoever made them. @throws RotatorError `denied`
 */
export async function requireConfigured(parts: EngineParts, secret: Secret): Promise<void> {
  const { name, rotationPrincipal } = secret;
  if (isOwned(secret)) return;
  if (!rotationPrincipal) throw new RotatorError("denied", `it is not known who configured the rotation of ${name}`);
  const refusal = await parts.mayRun(rotationPrincipal);
  if (refusal) throw new RotatorError("denied", refusal.message, { cause: refusal });
}

/** The superuser that `masterarn` names, in its own shape. @throws RotatorError */
async function readAdmin(held: Held, { secret, rotator, current }: Turn): Promise<AnyCredential | undefined> {
  const value = await readSuperuser(held, secret, current);
  return value && suitable({ ...rotator, credential: rotator.admin ?? rotator.credential }, value, "the superuser's value");
}

/** The superuser changes the secret's own account only: one that it was rotated to, or that its current value logs in to. */
export async function superuserForOwn(held: Held, turn: Turn): Promise<AnyCredential | undefined> {
  const admin = await readAdmin(held, turn);
  if (admin && !(await isOwn(held, turn))) await turn.rotator.test(turn.current, await held.tools());
  return admin;
}

function isOwn({ parts }: Held, { secret, rotator, strategy, account }: Turn): Promise<boolean> {
  return hasRotated(parts, secret, rotator.kind, (value) => {
    const { data } = rotator.credential.safeParse(value);
    return data !== undefined && rotator.account(data, strategy) === account;
  });
}

/** For a single user the superuser is a way out, not a need; when nothing logs in, only what it was rotated to is its own. */
export function superuserOrNone(held: Held, turn: Turn): Promise<AnyCredential | undefined> {
  return orNone(turn, async () => ((await isOwn(held, turn)) ? readAdmin(held, turn) : undefined));
}

/** As `superuserForOwn`, where the superuser is no need. */
export function superuserIfOwn(held: Held, turn: Turn): Promise<AnyCredential | undefined> {
  return orNone(turn, () => superuserForOwn(held, turn));
}

async function orNone(
  { secret, current }: Turn,
  superuser: () => Promise<AnyCredential | undefined>,
): Promise<AnyCredential | undefined> {
  if (current.masterarn === undefined || current.masterarn === secret.arn) return undefined; // itself opens nothing more
  try {
    return await superuser();
  } catch (error) {
    if (error instanceof RotatorError) return undefined;
    throw error;
  }
}

/** Who may act beside the current credential, as the strategy has it. @throws RotatorError */
export async function accessFor(held: Held, turn: Turn): Promise<Access<AnyCredential>> {
  const needed = turn.strategy === "alternating-users" || turn.strategy === "issuer";
  const admin = await (needed ? superuserForOwn(held, turn) : superuserOrNone(held, turn));
  return { current: turn.current, admin };
}

export function previousCredential(held: Held, turn: Turn): Promise<AnyCredential | undefined> {
  return ofSameAccount(held, turn, versionWith(turn.secret, "AWSPREVIOUS"));
}

/**
 * What the rotation before this one may have set before it was ended, as by a value that was put by hand meanwhile: its
 * version bears no label any more.
 */
export async function supersededCredential(held: HeldRotation, turn: Turn): Promise<AnyCredential | undefined> {
  const versionId = await lastUnfinishedVersion(held.parts.sql, turn.secret.id, held.rotation.versionId);
  const version = versionId === undefined ? undefined : versionOf(turn.secret, versionId);
  return version?.stages.length === 0 ? ofSameAccount(held, turn, version) : undefined;
}

/** The value may be older than a move to another server. */
async function ofSameAccount(
  { parts }: Held,
  { secret, rotator, strategy, account }: Turn,
  version: SecretVersion | undefined,
): Promise<AnyCredential | undefined> {
  const value = await credentialOf(parts, secret, version, "the value").catch(ignoreInvalid);
  const { data } = rotator.credential.safeParse(value);
  return data && rotator.account(data, strategy) === account ? data : undefined;
}

function ignoreInvalid(error: unknown): undefined {
  if (!(error instanceof RotatorError)) throw error;
}
