import type { ValueKind } from "./secret.ts";

/** What a value is sealed under. Source: AWS Secrets Manager user guide, "Secret encryption and decryption". */
export function encryptionContext(secretArn: string, versionId: string): Record<string, string> {
  return { SecretARN: secretArn, SecretVersionId: versionId };
}

/** Context of the keyed digest that tells a repeated value of a version from another one. */
export function digestContext(kind: ValueKind, secretArn: string, versionId: string): string {
  return `${kind} ${secretArn} ${versionId}`;
}
