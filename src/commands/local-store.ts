import type { Config } from "../config.ts";
import { ConfigError } from "../core/error.ts";
import type { Envelope } from "../crypto/envelope.ts";
import type { KeyRing } from "../crypto/key-ring.ts";
import { databaseFile, openStore } from "../open-store.ts";
import type { Sql } from "../store/sql.ts";

/** A store opened by a command itself, with the keys that its root key unwraps. */
export interface LocalStore {
  readonly sql: Sql;
  readonly keys: KeyRing;
  readonly envelope: Envelope;
}

/**
 * Runs `work` on the store that the settings name, and closes it. `create` makes what is missing: folder, schema, root key;
 * `read` may run beside the server.
 * @throws ConfigError when there is no store, a server holds what is to be written, its schema is older, or the root key or
 * the account is not its own.
 */
export async function withKeys<T>(
  config: Config,
  mode: "create" | "write" | "read",
  work: (store: LocalStore) => Promise<T>,
): Promise<T> {
  const [{ migrate }, { checkAccount }] = await Promise.all([import("../store/migrate.ts"), import("../initialise.ts")]);
  const create = mode === "create";
  return withStore(config, { create, readOnly: mode === "read" }, async (sql) => {
    if (create) await migrate(sql);
    else await requireSchema(sql);
    await checkAccount(sql, config.account);
    const [{ openRootKey }, { openKeyRing }, { Envelope }, { ringKeyStore }] = await Promise.all([
      import("../crypto/key-provider.ts"),
      import("../crypto/key-ring.ts"),
      import("../crypto/envelope.ts"),
      import("../store/keys.ts"),
    ]);
    const store = ringKeyStore(sql);
    const fresh = create && (await store.load()).rootSecret === undefined;
    const rootKey = await openRootKey(config.rootKey, { env: process.env, create: fresh });
    const keys = await openKeyRing({ store, rootKey, account: config.account, now: Date.now, initialise: create });
    return work({ sql, keys, envelope: new Envelope(keys, { maxDataKeys: 100 }) });
  });
}

/** The same without keys. */
export async function withStore<T>(
  config: Config,
  mode: { create?: boolean; readOnly?: boolean },
  work: (sql: Sql) => Promise<T>,
): Promise<T> {
  const sql = await openStore(config, mode);
  try {
    return await work(sql);
  } finally {
    await sql.close();
  }
}

/** @throws ConfigError when the schema is older than this program's. */
export async function requireSchema(sql: Sql): Promise<void> {
  const { pendingMigrations } = await import("../store/migrate.ts");
  const pending = await pendingMigrations(sql);
  if (pending.length > 0) throw new ConfigError([`The store lacks ${pending.join(", ")}; run rekey migrate.`]);
}

/** Where the settings point, for people: without the password of a database URL. */
export function storeName(config: Config): string {
  if (config.databaseUrl === undefined) return databaseFile(config);
  const { hostname, port, pathname } = new URL(config.databaseUrl);
  return `PostgreSQL at ${hostname}${port && `:${port}`}, database ${pathname.slice(1) || "(default)"}`;
}
