import type { OutcomeClass } from "../core/error.ts";
import { RotatorError } from "../core/error.ts";
import { isOwned } from "../core/rotated-secret.ts";
import { type Secret, type SecretVersion, versionWith } from "../core/secret.ts";
import { hasRetirement } from "../store/retirements.ts";
import { loadSecret } from "../store/secrets.ts";
import { busyAccount } from "../store/target-jobs.ts";
import type { AnyCredential } from "../targets/index.ts";
import type { HeldRotation } from "./held-rotation.ts";
import { ownerOf } from "./owned-secrets.ts";
import { AccountTaken } from "./pending.ts";
import { Blocked, Later, previousCredential, type Turn } from "./turn.ts";
import { credentialOf } from "./values.ts";

/** Somebody has set another password than the one that a config's own secret holds. */
export class ChangedOutside extends Blocked {}

/** A silence says nothing of the credential: the rotation waits for an answer. */
const silences: ReadonlySet<OutcomeClass> = new Set(["unreachable", "timeout", "tls", "unknown"]);

/**
 * Before anything is changed at the target of a config's own secret, what is thought to be in force there is tried: the credential
 * that is shown, and the one of the user whose turn it is. @throws ChangedOutside, RotatorError while the target is silent, Later
 */
export async function requireUnchanged(held: HeldRotation, turn: Turn): Promise<void> {
  if (!isOwned(turn.secret)) return;
  if (await isRefused(held, turn, turn.current)) {
    await requireSettled(held, turn);
    throw await changedOutside(held, turn, { credential: turn.current, isShown: true });
  }
  const idle = await idleCredential(held, turn);
  if (idle && (await isRefused(held, turn, idle))) {
    await requireSettled(held, turn);
    throw await changedOutside(held, turn, { credential: idle, isShown: false });
  }
}

/** @throws RotatorError while the target is silent */
async function isRefused(held: HeldRotation, { rotator, account }: Turn, credential: AnyCredential): Promise<boolean> {
  const answer = await rotator.probe(credential, await held.tools());
  if (answer !== "ok" && silences.has(answer)) {
    throw new RotatorError(answer, `${account}: it is not known whether ${userOf(credential)}'s credential still logs in`);
  }
  return answer === "refused";
}

/** Of the user whose turn it is; `undefined` when it was ended, or when an unfinished rotation may have set another one. */
async function idleCredential(held: HeldRotation, turn: Turn): Promise<AnyCredential | undefined> {
  const { secret, strategy, current } = turn;
  const previous = versionWith(secret, "AWSPREVIOUS");
  if (strategy !== "alternating-users" || !previous) return undefined;
  const idle = await previousCredential(held, turn);
  if (!idle || userOf(idle) === userOf(current)) return undefined;
  if (await hasRetirement(held.parts.sql, secret.id, previous.id)) return undefined;
  return (await mayHaveSet(held, turn, idle, previous)) ? undefined : idle;
}

/** A value for the same user that came later, and that no rotation finished with. */
async function mayHaveSet(
  { parts }: HeldRotation,
  { secret }: Turn,
  idle: AnyCredential,
  known: SecretVersion,
): Promise<boolean> {
  const currentId = versionWith(secret, "AWSCURRENT")?.id;
  const later = secret.versions.filter(
    ({ id, kind, createdAt }) => kind && id !== known.id && id !== currentId && createdAt >= known.createdAt,
  );
  for (const version of later) {
    const value = await credentialOf(parts, secret, version, `the value of version ${version.id}`);
    if (value && userOf(value) === userOf(idle)) return true;
  }
  return false;
}

/** A refusal says nothing while Rekey's own work is under way there, or all of the target may not know a new credential yet. */
async function requireSettled(held: HeldRotation, { secret, account, rotator }: Turn): Promise<void> {
  const { sql, now } = held.parts;
  const busy = await busyAccount(sql, account, { jobId: "", secretId: secret.id });
  if (busy !== undefined && busy !== "own rotation") throw new AccountTaken();
  const after = await loadSecret(sql, secret.id);
  if (!after || !isSame(after, secret)) throw new AccountTaken();
  const settledAt = (versionWith(secret, "AWSCURRENT")?.createdAt ?? 0) + (rotator.issuer?.settlesWithinMs ?? 0);
  if (rotator.issuer && settledAt > now()) {
    throw new Later(settledAt - now(), `${account}: all of the target may not know the current credential yet`);
  }
}

const isSame = (one: Secret, other: Secret): boolean =>
  ["AWSCURRENT", "AWSPREVIOUS"].every((label) => versionWith(one, label)?.id === versionWith(other, label)?.id);

async function changedOutside(
  { parts }: HeldRotation,
  { secret }: Turn,
  { credential, isShown }: { readonly credential: AnyCredential; readonly isShown: boolean },
): Promise<ChangedOutside> {
  const owner = await ownerOf(parts.sql, secret);
  const name = owner?.name ?? secret.name;
  const place = owner ? ` --project ${owner.config.projectId} --config ${owner.config.name}` : "";
  const user = userOf(credential);
  const problem = `the target refuses the credential of ${user}, ${isShown ? "which is shown" : "whose turn it is"}: it was changed outside, and nothing was changed now`;
  const resume = `rekey rotated resume ${name}${place}`;
  const remedy = isShown
    ? `Give the one in force with ${resume} --password (or --credential for a key); or set the former one at the target again, and then run it without.`
    : `Make sure that nobody uses ${user}'s new password; then ${resume} lets the next rotation set another one.`;
  return new ChangedOutside("refused", problem, remedy);
}

const userOf = (credential: AnyCredential): string => String(credential.username ?? "the user");
