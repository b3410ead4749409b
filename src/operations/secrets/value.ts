import { ServiceError } from "../../core/error.ts";
import { Plaintext } from "../../core/plaintext.ts";
import type { SealedValue, Secret, ValueKind } from "../../core/secret.ts";
import { digestContext, encryptionContext } from "../../core/value-context.ts";
import { decryptionFailureText, encryptionFailureText } from "../../crypto/failure-texts.ts";
import type { RingKey } from "../../crypto/key-ring.ts";
import type { Call } from "../operation.ts";
import { keyUse } from "./key-use.ts";

const maxValueBytes = 65_536;

export interface ValueInput {
  readonly SecretString?: string | undefined;
  readonly SecretBinary?: string | undefined;
}

export interface GivenValue {
  readonly kind: ValueKind;
  readonly plaintext: Plaintext;
}

/** Members that must never reach the audit trail. */
export const valueMembers = ["SecretString", "SecretBinary"] as const;

/** The value that a request carries, if any. @throws ServiceError when it carries two, or one that is too long. */
export function givenValue({ SecretString, SecretBinary }: ValueInput): GivenValue | undefined {
  const text = SecretString || undefined;
  const binary = SecretBinary || undefined;
  if (text !== undefined && binary !== undefined)
    throw new ServiceError(
      "InvalidParameterException",
      "You can't specify both a binary secret value and a string secret value in the same secret.",
    );
  // Half of a surrogate pair has no bytes of its own: kept, the value would come back as another one.
  if (text !== undefined && !text.isWellFormed())
    throw new ServiceError("SerializationException", "secretString is not well-formed Unicode text.");
  if (text !== undefined) return { kind: "string", plaintext: bounded(new Plaintext(text), "secretString") };
  if (binary === undefined) return undefined;
  const bytes = Buffer.from(binary, "base64");
  if (bytes.length === 0 || !/^[A-Za-z0-9+/_-]*={0,2}$/.test(binary))
    throw new ServiceError("SerializationException", "secretBinary is not base64 text.");
  return { kind: "binary", plaintext: bounded(new Plaintext(bytes), "secretBinary") };
}

function bounded(plaintext: Plaintext, member: string): Plaintext {
  if (plaintext.length <= maxValueBytes) return plaintext;
  throw new ServiceError(
    "ValidationException",
    `1 validation error detected: Value at '${member}' failed to satisfy constraint: Member must have length less than or equal to ${maxValueBytes}`,
  );
}

type Keyed = Pick<Secret, "arn" | "kmsKeyId" | "region">;

/** Encrypts a value for one version of one secret, with the rights of the caller on the key. */
export async function sealValue(
  call: Call,
  secret: Keyed,
  versionId: string,
  { kind, plaintext }: GivenValue,
): Promise<SealedValue> {
  const { keys, envelope, digest } = call.services;
  const key = await keys.resolve(secret.kmsKeyId, secret.region);
  requireKeyAccess(call, key, "kms:GenerateDataKey", secret.arn);
  const sealed = await envelope.seal(plaintext, encryptionContext(secret.arn, versionId), key.id);
  return { kind, ...sealed, digest: digest(plaintext.reveal(), digestContext(kind, secret.arn, versionId)) };
}

/** Decrypts, at once where the keys are at hand. @throws ServiceError AccessDeniedException or DecryptionFailure */
export function openValue(call: Call, secret: Secret, versionId: string, value: SealedValue): Plaintext | Promise<Plaintext> {
  const key = call.services.keys.find(value.keyId);
  if (!key) return openUnderNewKey(call, secret, versionId, value);
  requireKeyAccess(call, key, "kms:Decrypt", secret.arn);
  const context = encryptionContext(secret.arn, versionId);
  return call.services.envelope.openCached(value, context) ?? call.services.envelope.open(value, context);
}

/** Under a key that another process made just now: not before this one knows what it asks of callers. */
async function openUnderNewKey(call: Call, secret: Secret, versionId: string, value: SealedValue): Promise<Plaintext> {
  const { keys } = call.services;
  await keys.refresh();
  const key = keys.find(value.keyId);
  const cause = new Error(`ring key ${value.keyId} is not in this store`);
  if (!key) throw new ServiceError("DecryptionFailure", decryptionFailureText, { cause });
  return openValue(call, secret, versionId, value);
}

/** The default key is everybody's of the account, who may use the secret; other keys need rights of their own. */
export function requireKeyAccess(call: Call, key: RingKey, action: string, secretArn: string): void {
  if (key.isDefault) return;
  const refusal = call.may(action, keyUse(key, secretArn));
  if (refusal) throw new ServiceError("AccessDeniedException", "Access to KMS is not allowed", { cause: refusal });
}

/**
 * A secret gets a key only from those who may seal and open under it. Source: user guide, "Secret encryption and decryption".
 * @throws ServiceError AccessDeniedException; EncryptionFailure for a disabled key
 */
export async function validateKey(call: Call, { arn, kmsKeyId, region }: Keyed): Promise<void> {
  const key = await call.services.keys.resolve(kmsKeyId, region);
  for (const action of ["kms:GenerateDataKey", "kms:Decrypt"]) requireKeyAccess(call, key, action, arn);
  if (key.state !== "enabled") throw new ServiceError("EncryptionFailure", encryptionFailureText);
}

/** Of a value that is to be answered. */
export function wireValue(kind: ValueKind, plaintext: Plaintext): { SecretString: string } | { SecretBinary: Buffer } {
  return kind === "string" ? { SecretString: plaintext.revealText() } : { SecretBinary: plaintext.reveal() };
}
