import { RotatorError } from "../core/error.ts";
import { Plaintext } from "../core/plaintext.ts";
import { type SealedValue, type Secret, type SecretVersion, type ValueKind, versionWith } from "../core/secret.ts";
import { digestContext, encryptionContext } from "../core/value-context.ts";
import { loadValue } from "../store/secrets.ts";

import type { AnyCredential } from "../targets/index.ts";
import type { EngineParts } from "./parts.ts";

export interface OpenedValue {
  readonly kind: ValueKind;
  readonly plaintext: Plaintext;
}

/** The value of a version; `undefined` when it has none. @throws ServiceError DecryptionFailure */
export async function openVersion(parts: EngineParts, secret: Secret, versionId: string): Promise<OpenedValue | undefined> {
  const stored = await loadValue(parts.sql, secret.id, versionId);
  if (!stored) return undefined;
  await seeKeyChanges(parts);
  return { kind: stored.kind, plaintext: await parts.envelope.open(stored, encryptionContext(secret.arn, versionId)) };
}

/** Encrypts a value for one version under the secret's key. @throws ServiceError EncryptionFailure */
export async function sealVersion(
  parts: EngineParts,
  secret: Secret,
  versionId: string,
  value: OpenedValue,
): Promise<SealedValue> {
  await seeKeyChanges(parts);
  const key = await parts.keys.resolve(secret.kmsKeyId, secret.region);
  const { kind, plaintext } = value;
  const sealed = await parts.envelope.seal(plaintext, encryptionContext(secret.arn, versionId), key.id);
  return { kind, ...sealed, digest: parts.digest(plaintext.reveal(), digestContext(kind, secret.arn, versionId)) };
}

/** Another node may have disabled or rotated a key; of the embedded store this process makes all changes itself. */
async function seeKeyChanges({ keys, settings }: EngineParts): Promise<void> {
  if (!settings.ownsStore) await keys.refresh();
}

/** The JSON object in the version that bears a label; `undefined` when there is no such version or value. */
export async function labelledCredential(parts: EngineParts, secret: Secret, label: string): Promise<AnyCredential | undefined> {
  return credentialOf(parts, secret, versionWith(secret, label), `the value labelled ${label} of ${secret.name}`);
}

/** The JSON object in a version; `undefined` when there is no version or value. */
export async function credentialOf(
  parts: EngineParts,
  secret: Secret,
  version: SecretVersion | undefined,
  what: string,
): Promise<AnyCredential | undefined> {
  const value = version && (await openVersion(parts, secret, version.id));
  return value && parseCredential(value, what);
}

/** @throws RotatorError `invalid` */
export function parseCredential({ kind, plaintext }: OpenedValue, what: string): AnyCredential {
  const refusal = new RotatorError("invalid", `${what} is not a JSON object`);
  if (kind !== "string") throw refusal;
  try {
    const parsed: unknown = JSON.parse(plaintext.revealText());
    if (typeof parsed === "object" && parsed !== null && !Array.isArray(parsed)) return parsed as AnyCredential;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error; // its text quotes the value: it is not kept as the cause
  }
  throw refusal;
}

export function credentialValue(credential: AnyCredential): OpenedValue {
  return { kind: "string", plaintext: new Plaintext(JSON.stringify(credential)) };
}
