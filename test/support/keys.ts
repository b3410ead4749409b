import { randomBytes } from "node:crypto";
import { Envelope } from "../../src/crypto/envelope.ts";
import { openRootKey, type RootKeyProvider } from "../../src/crypto/key-provider.ts";
import { type KeyRing, openKeyRing } from "../../src/crypto/key-ring.ts";
import type { RingKeyStore } from "../../src/crypto/ring-key-store.ts";
import { ringKeyStore } from "../../src/store/keys.ts";
import { migrate } from "../../src/store/migrate.ts";
import type { Sql } from "../../src/store/sql.ts";
import { openSqlite } from "../../src/store/sqlite.ts";

export const account = "123456789012";
export const region = "eu-central-1";

/** An empty store in memory. */
export async function memoryStore(): Promise<Sql> {
  const sql = openSqlite(":memory:");
  await migrate(sql);
  return sql;
}

/** A root key that exists nowhere else. */
export async function randomRootKey(name = "ROOT_KEY"): Promise<RootKeyProvider> {
  return openRootKey(`env:${name}`, { env: { [name]: randomBytes(32).toString("base64") } });
}

export async function openRing(store: RingKeyStore, rootKey: RootKeyProvider, { now = () => 0 } = {}): Promise<KeyRing> {
  return openKeyRing({ store, rootKey, account, now, initialise: true });
}

export interface Keys {
  readonly sql: Sql;
  readonly store: RingKeyStore;
  readonly rootKey: RootKeyProvider;
  readonly ring: KeyRing;
  readonly envelope: Envelope;
  /** The default key of `region`. */
  readonly keyId: string;
}

/** A key ring and an envelope over a store in memory. */
export async function freshKeys({ maxDataKeys = 100 } = {}): Promise<Keys> {
  const sql = await memoryStore();
  const store = ringKeyStore(sql);
  const rootKey = await randomRootKey();
  const ring = await openRing(store, rootKey);
  const envelope = new Envelope(ring, { maxDataKeys });
  return { sql, store, rootKey, ring, envelope, keyId: (await ring.resolve(undefined, region)).id };
}
