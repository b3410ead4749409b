import { ConfigError } from "../core/error.ts";
import type { EncryptionContext } from "./aead.ts";
import { openAwsKmsKey } from "./aws-kms-key.ts";
import { openEnvKey, openFileKey } from "./local-key.ts";

/**
 * Holder of the root key, which never leaves it. It wraps ring keys and the root secret, 32 bytes each; all other keys
 * follow from those, so changing the root key re-wraps a handful of rows.
 */
export interface RootKeyProvider {
  /** The setting that it was opened with, fit for logs: `file:/etc/rekey/root.key`. */
  readonly name: string;
  wrap(key: Buffer, context: EncryptionContext): Promise<Buffer>;
  /**
   * `undefined`: the bytes were wrapped by another root key.
   * @throws ServiceError DecryptionFailure when they are damaged, were wrapped with another context, or the key cannot be reached.
   */
  unwrap(wrapped: Uint8Array, context: EncryptionContext): Promise<Buffer | undefined>;
}

export interface OpenRootKeyOptions {
  readonly env: NodeJS.ProcessEnv;
  /** Make the key file if it is missing. Only for a store that has nothing wrapped yet. */
  readonly create?: boolean;
}

const kinds: Record<string, (rest: string, options: OpenRootKeyOptions) => Promise<RootKeyProvider>> = {
  file: openFileKey,
  env: openEnvKey,
  "aws-kms": openAwsKmsKey,
};

/**
 * The root key named by a setting: `file:PATH`, `env:NAME` or `aws-kms:KEY_ARN`.
 * @throws ConfigError when it is malformed, missing or, as a file, readable by others.
 */
export async function openRootKey(setting: string, options: OpenRootKeyOptions): Promise<RootKeyProvider> {
  const colon = setting.indexOf(":");
  const kind = setting.slice(0, Math.max(colon, 0));
  const open = Object.hasOwn(kinds, kind) ? kinds[kind] : undefined;
  const rest = setting.slice(colon + 1);
  if (!open || rest === "") throw new ConfigError(["The root key must be file:PATH, env:NAME or aws-kms:KEY_ARN."]);
  return open(rest, options);
}
