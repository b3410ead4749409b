import { RotatorError } from "../core/error.ts";
import { nextLookAt, retireAfterMs } from "../core/retirement.ts";
import { detach, isPending, moveLabel, type Secret, type SecretVersion, versionWith } from "../core/secret.ts";
import { addEvent } from "../store/events.ts";
import { endOverwritten, hasRetirement, insertRetirement } from "../store/retirements.ts";
import { functionThatRotatedTo, noteRotatedTo } from "../store/rotations.ts";
import type { Sql } from "../store/sql.ts";
import { type HeldRotation, Superseded } from "./held-rotation.ts";
import { tellOwner } from "./owned-secrets.ts";
import type { Turn } from "./turn.ts";

/** Labels, dates, the rotation's end, its event, and what is to end later: all of it or nothing. */
export async function finishSecret(held: HeldRotation, turn: Turn): Promise<void> {
  const { parts, rotation } = held;
  const { versionId } = rotation;
  const old = await endingVersions(held, turn);
  let raised: readonly string[] = [];
  const become = (before: Secret): Secret => {
    if (!isPending(before, versionId)) throw new Superseded();
    const removeFrom = versionWith(before, "AWSCURRENT")?.id;
    const moved = moveLabel(before, { label: "AWSCURRENT", moveTo: versionId, removeFrom }, parts.now());
    return detach(moved, "AWSPENDING");
  };
  await held.succeed(become, async (tx) => {
    await noteRotatedTo(tx, rotation);
    for (const { id } of old) await schedule(tx, held, turn, id);
    await endReplaced(tx, held, turn);
    if (rotation.intent?.doubtful) await held.findStrays(tx);
    raised = await tellOwner(tx, parts, turn);
  });
  for (const configId of raised) parts.hints.give(`config/${configId}`);
}

/** Versions whose credentials live on at the target, though a new one is in force. */
async function endingVersions(held: HeldRotation, turn: Turn): Promise<SecretVersion[]> {
  const { secret, strategy, rotator } = turn;
  const issues = strategy === "issuer";
  if (retireAfterMs(strategy, secret) === undefined || !(issues || rotator.retire)) return [];
  const [current, previous] = [versionWith(secret, "AWSCURRENT"), versionWith(secret, "AWSPREVIOUS")];
  const ending: SecretVersion[] = [];
  if (current && (!issues || (await isOwnCredential(held, turn, current)))) ending.push(current);
  // One that was rolled back from, or replaced by hand, lives on as well.
  if (issues && previous && (await isLeftBehind(held, previous))) ending.push(previous);
  return ending;
}

/** What was in the slot that the new credential has taken logs in no more, whatever its deadline. */
async function endReplaced(tx: Sql, { parts }: HeldRotation, { secret, strategy }: Turn): Promise<void> {
  if (strategy !== "alternating-users" && strategy !== "dual-slot") return;
  const keptId = versionWith(secret, "AWSCURRENT")?.id ?? "";
  const ended = await endOverwritten(tx, { secretId: secret.id, keptId, strategy }, parts.now());
  const { arn: resource, generation } = secret;
  for (const versionId of ended) {
    const detail = { versionId, strategy, overwritten: true };
    await addEvent(tx, { at: parts.now(), type: "retirement.done", resource, generation, detail });
  }
}

/** One that a rotation by this function made, or that logs in. @throws RotatorError while that cannot be known */
async function isOwnCredential(held: HeldRotation, turn: Turn, version: SecretVersion): Promise<boolean> {
  const { secret, rotator, current, account } = turn;
  if ((await functionThatRotatedTo(held.parts.sql, secret.id, version.id)) === held.rotation.functionArn) return true;
  if (rotator.issuer?.idUnproven) return false;
  const answer = await rotator.probe(current, await held.tools());
  if (answer === "unreachable" || answer === "timeout" || answer === "tls" || answer === "unknown") {
    throw new RotatorError(answer, `${account}: it is not known whether the old credential still logs in`);
  }
  return answer === "ok";
}

async function isLeftBehind({ parts, rotation }: HeldRotation, previous: SecretVersion): Promise<boolean> {
  const { secretId, functionArn } = rotation;
  const made = (await functionThatRotatedTo(parts.sql, secretId, previous.id)) === functionArn;
  return made && !(await hasRetirement(parts.sql, secretId, previous.id));
}

async function schedule(
  tx: Sql,
  { parts, rotation }: HeldRotation,
  { secret, strategy }: Turn,
  versionId: string,
): Promise<void> {
  const createdAt = parts.now();
  const dueAt = createdAt + (retireAfterMs(strategy, secret) ?? 0);
  const { secretId, functionArn } = rotation;
  const looksEarly = secret.rotationPolicy?.retireOnEvidence === true;
  const runAt = looksEarly ? nextLookAt({ createdAt, dueAt }, createdAt) : dueAt;
  await insertRetirement(tx, { secretId, versionId, strategy, functionArn, dueAt, runAt, createdAt });
  const detail = { rotationId: rotation.id, versionId, dueAt };
  await addEvent(tx, { at: createdAt, type: "retirement.scheduled", resource: secret.arn, detail });
}
