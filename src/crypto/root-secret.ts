import { ConfigError, ServiceError } from "../core/error.ts";
import type { RingKeySnapshot, RingKeyVersionRow } from "../core/ring-key.ts";
import { type EncryptionContext, newKey } from "./aead.ts";
import type { RootKeyProvider } from "./key-provider.ts";
import type { RingKeyStore } from "./ring-key-store.ts";

const rootSecretContext: EncryptionContext = { "rekey:purpose": "root secret" };

/** The context in which the root key wraps a version of a ring key. */
export function ringKeyContext(keyId: string, version: number): EncryptionContext {
  return { "rekey:purpose": "ring key", "rekey:key": keyId, "rekey:version": String(version) };
}

/**
 * Makes the root secret of a store that has none yet. When two processes do so at once, the first one's stays.
 * @throws ConfigError when the root key cannot be used.
 */
export async function makeRootSecret(store: RingKeyStore, rootKey: RootKeyProvider): Promise<void> {
  const { bytes } = newKey();
  try {
    await store.keepRootSecret(await rootKey.wrap(bytes, rootSecretContext));
  } catch (error) {
    throw unusable(rootKey, error);
  } finally {
    bytes.fill(0);
  }
}

/** @throws ConfigError in words when this root key is not the store's, cannot be used, or the stored bytes are damaged. */
export async function unwrapRootSecret(rootKey: RootKeyProvider, wrapped: Uint8Array): Promise<Buffer> {
  const secret = await tryRootSecret(rootKey, wrapped);
  if (secret) return secret;
  throw new ConfigError([`The root key ${rootKey.name} is not the one that this store was made with. Nothing was changed.`]);
}

/**
 * Puts everything that the old root key wraps under the new one: unwrapped and wrapped again beforehand, exchanged in one
 * transaction. Cut off anywhere before its commit the store needs the old root key, after it the new one, never both; run
 * again with the same two keys it finishes or finds nothing to do. Keep the old key for backups made before.
 * @throws ConfigError when either key cannot be used or the old one is not the store's.
 */
export async function rotateRootKey(
  store: RingKeyStore,
  oldKey: RootKeyProvider,
  newKeyProvider: RootKeyProvider,
): Promise<void> {
  for (let tries = 0; tries < 10; tries++) {
    const before = await store.load();
    if (!before.rootSecret) throw new ConfigError(["This store has no root key yet: nothing to rotate."]);
    const secret = await tryRootSecret(oldKey, before.rootSecret);
    if (!secret) {
      if (await tryRootSecret(newKeyProvider, before.rootSecret)) return;
      throw new ConfigError([`The root key ${oldKey.name} is not the one that this store was made with. Nothing was changed.`]);
    }
    const rootSecret = await wrapProven(newKeyProvider, secret);
    const versions = await rewrapVersions(before, oldKey, newKeyProvider);
    if (await store.replaceRoot({ expected: before.rootSecret, rootSecret, versions })) return;
  }
  throw new ServiceError(
    "InternalServiceError",
    "Keys kept changing while the root key was rotated. Nothing was changed; try again.",
  );
}

/** Wraps and, before anything depends on it, unwraps again: a key that only encrypts must not become the root key. */
async function wrapProven(rootKey: RootKeyProvider, secret: Buffer): Promise<Buffer> {
  try {
    const wrapped = await rootKey.wrap(secret, rootSecretContext);
    const again = await rootKey.unwrap(wrapped, rootSecretContext);
    if (!again?.equals(secret)) throw new ConfigError([`The root key ${rootKey.name} does not unwrap what it wrapped.`]);
    again.fill(0);
    return wrapped;
  } catch (error) {
    throw unusable(rootKey, error);
  } finally {
    secret.fill(0);
  }
}

async function rewrapVersions(before: RingKeySnapshot, from: RootKeyProvider, to: RootKeyProvider): Promise<RingKeyVersionRow[]> {
  const rewrapped: RingKeyVersionRow[] = [];
  for (const row of before.versions) {
    const context = ringKeyContext(row.keyId, row.version);
    const material = await from.unwrap(row.wrapped, context).catch((error: unknown) => {
      throw unusable(from, error);
    });
    if (!material)
      throw new ConfigError([`Ring key ${row.keyId}, version ${row.version}, is not under the root key ${from.name}.`]);
    try {
      rewrapped.push({ ...row, wrapped: await to.wrap(material, context) });
    } catch (error) {
      throw unusable(to, error);
    } finally {
      material.fill(0);
    }
  }
  return rewrapped;
}

async function tryRootSecret(rootKey: RootKeyProvider, wrapped: Uint8Array): Promise<Buffer | undefined> {
  try {
    return await rootKey.unwrap(wrapped, rootSecretContext);
  } catch (error) {
    throw unusable(rootKey, error);
  }
}

/** A provider's refusal in words for whoever starts the program; anything else as it is. */
function unusable(rootKey: RootKeyProvider, error: unknown): unknown {
  if (!(error instanceof ServiceError)) return error;
  const detail = error.cause instanceof Error ? error.cause.message : error.message;
  return new ConfigError([`The root key ${rootKey.name} cannot be used: ${detail}`]);
}
