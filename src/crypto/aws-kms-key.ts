import { ConfigError, ServiceError } from "../core/error.ts";
import { decryptionFailureText, encryptionFailureText } from "./failure-texts.ts";
import type { RootKeyProvider } from "./key-provider.ts";

/** Wrapped bytes: format (1) | AWS KMS's ciphertext blob, which names its key itself. */
const format = 2;
const callTimeoutMs = 5_000;

/**
 * A root key in AWS KMS, by key or alias ARN; credentials come from the usual places of the AWS SDK, which is loaded here.
 * @throws ConfigError when the ARN is malformed or the SDK is not installed.
 */
export async function openAwsKmsKey(arn: string): Promise<RootKeyProvider> {
  const region = /^arn:aws[a-z-]*:kms:([a-z0-9-]+):\d{12}:(?:key|alias)\/.+$/.exec(arn)?.[1];
  if (region === undefined)
    throw new ConfigError(["The root key aws-kms:… must name a key by ARN: arn:aws:kms:REGION:ACCOUNT:key/ID."]);
  const sdk = await loadSdk();
  const requestHandler = { connectionTimeout: 2_000, requestTimeout: callTimeoutMs, throwOnRequestTimeout: true };
  const client = new sdk.KMSClient({ region, requestHandler });
  const name = `aws-kms:${arn}`;
  return {
    name,
    async wrap(key, context) {
      try {
        const input = { KeyId: arn, Plaintext: key, EncryptionContext: { ...context } };
        const { CiphertextBlob: blob } = await client.send(new sdk.EncryptCommand(input));
        if (!blob) throw new Error("AWS KMS answered Encrypt without a ciphertext");
        return Buffer.concat([Buffer.of(format), blob]);
      } catch (error) {
        throw new ServiceError("EncryptionFailure", encryptionFailureText, { cause: error });
      }
    },
    async unwrap(wrapped, context) {
      if (wrapped[0] !== format) return undefined;
      try {
        const input = { KeyId: arn, CiphertextBlob: wrapped.subarray(1), EncryptionContext: { ...context } };
        const { Plaintext: key } = await client.send(new sdk.DecryptCommand(input));
        if (!key) throw new Error("AWS KMS answered Decrypt without a plaintext");
        return Buffer.from(key);
      } catch (error) {
        if (error instanceof sdk.IncorrectKeyException) return undefined;
        throw new ServiceError("DecryptionFailure", decryptionFailureText, { cause: error });
      }
    },
  };
}

async function loadSdk(): Promise<typeof import("@aws-sdk/client-kms")> {
  try {
    return await import("@aws-sdk/client-kms");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ERR_MODULE_NOT_FOUND")
      throw new ConfigError([
        "The root key aws-kms:… needs the package @aws-sdk/client-kms. Run: npm install @aws-sdk/client-kms",
      ]);
    throw error;
  }
}
