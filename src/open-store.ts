import { chmodSync, existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Config } from "./config.ts";
import { ConfigError } from "./core/error.ts";
import type { Sql } from "./store/sql.ts";

type StoreConfig = Pick<Config, "data" | "databaseUrl">;

/** File of the embedded store. */
export const databaseFile = (config: StoreConfig): string => join(config.data, "rekey.db");

/** What the audit trail's key is derived for. */
export const auditKeyPurpose = "audit";

/** Makes the data folder, which only its owner may enter. */
export function makeDataFolder(config: StoreConfig): void {
  if (existsSync(config.data)) return;
  mkdirSync(config.data, { recursive: true, mode: 0o700 });
  chmodSync(config.data, 0o700); // also where the umask took the owner's own rights
}

/**
 * The store that the settings name. `create` makes the embedded one where none is; `readOnly` leaves it to its server.
 * @throws ConfigError when there is none, or when a server holds what is to be written.
 */
export async function openStore(config: StoreConfig, mode: { create?: boolean; readOnly?: boolean } = {}): Promise<Sql> {
  if (config.databaseUrl !== undefined) {
    const { openPostgres } = await import("./store/postgres.ts");
    return openPostgres(config.databaseUrl);
  }
  const file = databaseFile(config);
  if (!mode.create && !existsSync(file)) throw new ConfigError([`There is no store in ${config.data}; rekey init makes one.`]);
  if (mode.create) makeDataFolder(config);
  const { openSqlite } = await import("./store/sqlite.ts");
  return openSqlite(file, { readOnly: mode.readOnly ?? false });
}
