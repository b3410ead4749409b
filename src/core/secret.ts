import { ServiceError } from "./error.ts";
import type { RotationPolicy } from "./rotation-policy.ts";
import type { RotationPrincipal } from "./rotation-principal.ts";

const maxLabels = 20;
const maxVersions = 100;
const keptForMs = 24 * 3_600_000;

export type ValueKind = "string" | "binary";

/** A version's stored value: ciphertext and how to open it. `digest` (keyed, per version) tells equal values apart from others. */
export interface SealedValue {
  readonly kind: ValueKind;
  readonly sealed: Uint8Array;
  readonly wrappedDataKey: Uint8Array;
  readonly keyId: string;
  readonly keyVersion: number;
  readonly digest: Uint8Array;
}

/** `value` absent: no value yet (AWSPENDING of a rotation before createSecret). */
export interface SecretVersion {
  readonly id: string;
  readonly createdAt: number;
  readonly lastAccessedAt?: number | undefined;
  readonly stages: readonly string[];
  readonly kind?: ValueKind | undefined;
  readonly keyId?: string | undefined;
  readonly digest?: Uint8Array | undefined;
  /** Set on versions whose value is to be written by the save that follows. */
  readonly newValue?: SealedValue;
}

export interface RotationRules {
  readonly automaticallyAfterDays?: number | undefined;
  readonly duration?: string | undefined;
  readonly scheduleExpression?: string | undefined;
}

/** A secret with its versions, labels and tags; values stay outside. `undefined` means never set. */
export interface Secret {
  readonly id: string;
  readonly region: string;
  readonly name: string;
  readonly arn: string;
  readonly description?: string | undefined;
  /** As given by the caller; absent: the default key. */
  readonly kmsKeyId?: string | undefined;
  readonly policy?: string | undefined;
  readonly type?: string | undefined;
  readonly owningService?: string | undefined;
  readonly createdAt: number;
  readonly lastChangedAt: number;
  readonly lastAccessedAt?: number | undefined;
  /** When deletion was asked for, and when the secret goes for good. */
  readonly deletedAt?: number | undefined;
  readonly purgeAt?: number | undefined;
  /** Of replicas and of primaries that have replicas. */
  readonly primaryRegion?: string | undefined;
  /** Rises when AWSCURRENT moves. */
  readonly generation: number;
  readonly rowVersion: number;
  /** Until when readers of AWSCURRENT wait, while its password is being switched. */
  readonly switchingUntil?: number | undefined;
  /** The version that the target was last seen to accept in place of AWSCURRENT; counts while it bears AWSPENDING. */
  readonly switchedTo?: string | undefined;
  readonly rotationEnabled?: boolean | undefined;
  readonly rotationFunctionArn?: string | undefined;
  readonly rotationRules?: RotationRules | undefined;
  readonly rotationPolicy?: RotationPolicy | undefined;
  /** Whose rights built-in functions act with: who configured the rotation. */
  readonly rotationPrincipal?: RotationPrincipal | undefined;
  readonly externalRotation?:
    | { readonly roleArn?: string; readonly metadata?: readonly { Key: string; Value: string }[] }
    | undefined;
  readonly lastRotatedAt?: number | undefined;
  /** The latest moment of the next rotation, as AWS shows it. */
  readonly nextRotationAt?: number | undefined;
  /** When the engine starts the next rotation. */
  readonly rotationDueAt?: number | undefined;
  /** When the current credential is tried at its target next. */
  readonly heartbeatDueAt?: number | undefined;
  readonly tags?: Readonly<Record<string, string>> | undefined;
  readonly versions: readonly SecretVersion[];
}

export function versionWith(secret: Secret, label: string): SecretVersion | undefined {
  return secret.versions.find((version) => version.stages.includes(label));
}

export function versionOf(secret: Secret, versionId: string): SecretVersion | undefined {
  return secret.versions.find((version) => version.id === versionId);
}

export interface NewVersion {
  readonly id: string;
  /** Absent: AWSCURRENT. */
  readonly stages?: readonly string[] | undefined;
  readonly value: SealedValue;
  readonly createdAt: number;
}

/**
 * Adds a version, or fills the one that a rotation made without value. The same id with the same value changes nothing.
 * @throws ServiceError ResourceExistsException when the id holds another value; LimitExceededException for labels or versions.
 * Source: AWS API reference, PutSecretValue; user guide, "Staging labels".
 */
export function addVersion(secret: Secret, added: NewVersion): { secret: Secret; changed: boolean } {
  const existing = versionOf(secret, added.id);
  if (existing?.digest) {
    if (existing.kind === added.value.kind && equalBytes(existing.digest, added.value.digest)) return { secret, changed: false };
    throw new ServiceError(
      "ResourceExistsException",
      `You can't use ClientRequestToken ${added.id} because that value is already in use for a version of secret ${secret.arn}.`,
    );
  }
  const stages = new Set(added.stages ?? ["AWSCURRENT"]);
  const former = versionWith(secret, "AWSCURRENT");
  // The first value is current whatever was asked for: a version without value beside it, as of a rotation, is none.
  if (!former) stages.add("AWSCURRENT");
  const fresh: SecretVersion = {
    id: added.id,
    createdAt: existing?.createdAt ?? added.createdAt,
    stages: existing?.stages ?? [],
    kind: added.value.kind,
    keyId: added.value.keyId,
    digest: added.value.digest,
    newValue: added.value,
  };
  const others = secret.versions.filter((version) => version.id !== added.id);
  let next: Secret = { ...secret, versions: [...others, fresh], lastChangedAt: added.createdAt };
  if (stages.has("AWSCURRENT")) next = detach(putCurrent(next, added.id), "AWSPENDING");
  // Where AWSCURRENT moves, AWSPREVIOUS is the former one's: else the way back would be lost.
  if (stages.has("AWSCURRENT") && former) stages.delete("AWSPREVIOUS");
  for (const stage of stages) if (stage !== "AWSCURRENT") next = attach(next, stage, added.id);
  checkLabels(next);
  return { secret: prune(next, added.createdAt, added.id), changed: true };
}

/** A version without value for a rotation that begins: its id is the rotation's token, its label AWSPENDING. */
export function addPending(secret: Secret, versionId: string, nowMs: number): Secret {
  const known = versionOf(secret, versionId);
  const versions = known ? secret.versions : [...secret.versions, { id: versionId, createdAt: nowMs, stages: [] }];
  const next = attach({ ...secret, versions, lastChangedAt: nowMs }, "AWSPENDING", versionId);
  checkLabels(next);
  return prune(next, nowMs, versionId);
}

/** Without the version that a rotation that only tests had made, unless something else came to use it. */
export function withoutTestCopy(secret: Secret, versionId: string): Secret {
  const copy = versionWith(secret, "AWSPENDING");
  if (copy?.id !== versionId || copy.stages.length > 1) return secret;
  return { ...secret, versions: secret.versions.filter(({ id }) => id !== versionId) };
}

/** Whether the version still waits to become current. */
export function isPending(secret: Secret, versionId: string): boolean {
  const pending = versionWith(secret, "AWSPENDING");
  return pending?.id === versionId && !pending.stages.includes("AWSCURRENT");
}

/** What a reader of AWSCURRENT is to get: that version, unless the target was seen to take AWSPENDING's value in its place. */
export function currentInForce(secret: Secret): SecretVersion | undefined {
  const { switchedTo } = secret;
  return switchedTo !== undefined && isPending(secret, switchedTo)
    ? versionOf(secret, switchedTo)
    : versionWith(secret, "AWSCURRENT");
}

export interface LabelMove {
  readonly label: string;
  readonly moveTo?: string | undefined;
  readonly removeFrom?: string | undefined;
}

/**
 * Moves, attaches or detaches one staging label.
 * @throws ServiceError with AWS's texts. Source: AWS API reference, UpdateSecretVersionStage.
 */
export function moveLabel(secret: Secret, { label, moveTo, removeFrom }: LabelMove, nowMs: number): Secret {
  const holder = versionWith(secret, label)?.id;
  for (const id of [moveTo, removeFrom]) if (id !== undefined) requireVersion(secret, id);
  if (moveTo === undefined) {
    checkDetach(label, holder, removeFrom);
    return { ...detach(secret, label), lastChangedAt: nowMs };
  }
  checkMove(label, holder, moveTo, removeFrom);
  if (holder === moveTo) return secret;
  if (label === "AWSCURRENT" && versionOf(secret, moveTo)?.kind === undefined)
    throw new ServiceError(
      "InvalidRequestException",
      `You can't move staging label AWSCURRENT to version ${moveTo} because it has no value.`,
    );
  const moved = label === "AWSCURRENT" ? putCurrent(secret, moveTo) : attach(secret, label, moveTo);
  checkLabels(moved);
  return { ...moved, lastChangedAt: nowMs };
}

function checkDetach(label: string, holder: string | undefined, removeFrom: string | undefined): void {
  if (removeFrom === undefined)
    throw new ServiceError("InvalidParameterException", "You must specify MoveToVersionId, RemoveFromVersionId, or both.");
  if (label === "AWSCURRENT")
    throw new ServiceError(
      "InvalidParameterException",
      "You can only move staging label AWSCURRENT to a different secret version. It can't be completely removed.",
    );
  if (holder !== removeFrom)
    throw new ServiceError("InvalidParameterException", `Staging label ${label} is not attached to version ${removeFrom}.`);
}

function checkMove(label: string, holder: string | undefined, moveTo: string, removeFrom: string | undefined): void {
  if (holder !== undefined && holder !== moveTo && removeFrom === undefined)
    throw new ServiceError(
      "InvalidParameterException",
      `The parameter RemoveFromVersionId can't be empty. Staging label ${label} is currently attached to version ${holder}, so you must explicitly reference that version in RemoveFromVersionId.`,
    );
  if (removeFrom !== undefined && removeFrom !== holder)
    throw new ServiceError(
      "InvalidParameterException",
      `When you move staging label ${label}, if you specify RemoveFromVersionId, it must be set to the version that currently has the staging label ${label}.`,
    );
}

/** Removes a label from wherever it is. */
export function detach(secret: Secret, label: string): Secret {
  if (!versionWith(secret, label)) return secret;
  return { ...secret, versions: secret.versions.map((version) => without(version, label)) };
}

/** AWSCURRENT goes to `versionId`; AWSPREVIOUS follows to the version that was current. */
function putCurrent(secret: Secret, versionId: string): Secret {
  const current = versionWith(secret, "AWSCURRENT");
  if (current?.id === versionId) return secret;
  // Whatever was being switched: nobody waits for it any more.
  const moved = { ...secret, generation: secret.generation + 1, switchingUntil: undefined, switchedTo: undefined };
  const next = attach(moved, "AWSCURRENT", versionId);
  return current ? attach(next, "AWSPREVIOUS", current.id) : next;
}

function attach(secret: Secret, label: string, versionId: string): Secret {
  const versions = secret.versions.map((version) => {
    const others = without(version, label);
    return version.id === versionId ? { ...others, stages: [...others.stages, label].sort() } : others;
  });
  return { ...secret, versions };
}

function without(version: SecretVersion, label: string): SecretVersion {
  return version.stages.includes(label) ? { ...version, stages: version.stages.filter((stage) => stage !== label) } : version;
}

function requireVersion(secret: Secret, versionId: string): void {
  if (!versionOf(secret, versionId))
    throw new ServiceError(
      "ResourceNotFoundException",
      `Secrets Manager can't find the specified secret value for VersionId: ${versionId}`,
    );
}

function checkLabels(secret: Secret): void {
  const labels = secret.versions.reduce((count, version) => count + version.stages.length, 0);
  if (labels > maxLabels)
    throw new ServiceError(
      "LimitExceededException",
      `A secret can't have more than ${maxLabels} staging labels across all of its versions.`,
    );
}

/** Above the limit, unlabelled versions go, oldest first, but never ones younger than a day. */
function prune(secret: Secret, nowMs: number, keepId: string): Secret {
  let surplus = secret.versions.length - maxVersions;
  if (surplus <= 0) return secret;
  const oldestFirst = [...secret.versions].sort((a, b) => a.createdAt - b.createdAt);
  const gone = new Set<string>();
  for (const version of oldestFirst) {
    if (surplus === 0) break;
    if (version.stages.length > 0 || version.id === keepId || version.createdAt > nowMs - keptForMs) continue;
    gone.add(version.id);
    surplus--;
  }
  if (surplus > 0)
    throw new ServiceError(
      "LimitExceededException",
      `A secret can't have more than ${maxVersions} versions that have staging labels or are younger than 24 hours.`,
    );
  return { ...secret, versions: secret.versions.filter((version) => !gone.has(version.id)) };
}

function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.from(a).equals(b);
}
