import { join } from "node:path";
import type { Config } from "../config.ts";
import { ConfigError } from "../core/error.ts";
import type { Envelope } from "../crypto/envelope.ts";
import type { KeyRing } from "../crypto/key-ring.ts";
import { databaseFile, makeDataFolder, openStore } from "../open-store.ts";
import type { Sql } from "../store/sql.ts";

/** A store opened by a command itself, with the keys that its root key unwraps. */
export interface LocalStore {
  readonly sql: Sql;
  readonly keys: KeyRing;
  readonly envelope: Envelope;
}

/** What a command does with the store: make what is missing, change it, or only read it, also beside a server. */
export type StoreUse = "create" | "write" | "read";

/**
 * Runs `work` on the store that the settings name, and closes it. `create` makes what is missing: folder, schema, root key;
 * `read` may run beside the server.
 * @throws ConfigError when there is no store, a server holds what is to be written, its schema is older, or the root key or
 * the account is not its own.
 */
export async function withKeys<T>(config: Config, mode: StoreUse, work: (store: LocalStore) => Promise<T>): Promise<T> {
  const [{ migrate }, { checkAccount }] = await Promise.all([import("../store/migrate.ts"), import("../initialise.ts")]);
  const create = mode === "create";
  if (create) makeKeyFolder(config);
  return withStore(config, mode, async (sql) => {
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

/** The same without keys, and whatever its schema. */
export async function withStore<T>(config: Config, mode: StoreUse, work: (sql: Sql) => Promise<T>): Promise<T> {
  const readOnly = mode === "read";
  const sql = await openStore(config, { create: mode === "create", readOnly, alone: !readOnly });
  try {
    return await work(sql);
  } finally {
    await sql.close();
  }
}

/** Where nothing else is said, the root key lies in the data folder, also that of a store on PostgreSQL. */
function makeKeyFolder(config: Config): void {
  if (config.rootKey === `file:${join(config.data, "root.key")}`) makeDataFolder(config);
}

/** @throws ConfigError when the schema is older than this program's. */
async function requireSchema(sql: Sql): Promise<void> {
  const { pendingMigrations } = await import("../store/migrate.ts");
  const pending = await pendingMigrations(sql);
  if (pending.length > 0) throw new ConfigError([lacking(pending)]);
}

/** What a store lacks and what to do, in words; `pending` are the names of migrations. */
export function lacking(pending: readonly string[]): string {
  if (pending[0]?.startsWith("0001-")) return "The store is empty; run rekey init.";
  return `The store lacks ${pending.join(", ")}; run rekey migrate.`;
}

/** Where the settings point, for people: without the password of a database URL. */
export function storeName(config: Config): string {
  if (config.databaseUrl === undefined) return databaseFile(config);
  const { hostname, port, pathname } = new URL(config.databaseUrl);
  return `PostgreSQL at ${hostname}${port && `:${port}`}, database ${pathname.slice(1) || "(default)"}`;
}
