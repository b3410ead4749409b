import { chmodSync, existsSync, mkdirSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import type { Config } from "./config.ts";
import { ConfigError } from "./core/error.ts";
import type { Sql } from "./store/sql.ts";

type StoreConfig = Pick<Config, "data" | "databaseUrl">;

/** File of the embedded store. */
export const databaseFile = (config: StoreConfig): string => join(config.data, "rekey.db");

/** `root-credentials.json` in the data folder, which only its owner may read. */
export const credentialsFile = (dataFolder: string): string => join(dataFolder, "root-credentials.json");

/** What the audit trail's key is derived for. */
export const auditKeyPurpose = "audit";

/** Makes the data folder, which only its owner may enter. An empty one that is there is made so, too. */
export function makeDataFolder(config: StoreConfig): void {
  const there = existsSync(config.data);
  if (there && readdirSync(config.data).length > 0) return;
  if (!there) mkdirSync(config.data, { recursive: true, mode: 0o700 });
  try {
    chmodSync(config.data, 0o700); // also where the umask took the owner's own rights
  } catch (error) {
    if (!there || !(error instanceof Error && "code" in error && error.code === "EPERM")) throw error;
  }
}

/** What in the data folder others may read or enter, in words that say what to do. */
export function looseModes(config: StoreConfig): string[] {
  const found: string[] = [];
  for (const [path, mode] of [
    [config.data, "700"],
    [databaseFile(config), "600"],
    [credentialsFile(config.data), "600"],
  ] as const)
    if (existsSync(path) && (statSync(path).mode & 0o077) !== 0) found.push(`others may read ${path}; run chmod ${mode} ${path}`);
  return found;
}

/** How a store is opened. */
export interface OpenMode {
  /** Make the embedded store where none is. */
  readonly create?: boolean;
  /** Read beside its server. */
  readonly readOnly?: boolean;
  /** Other processes of this server read it. */
  readonly shared?: boolean;
  /** On PostgreSQL, which servers share: for this process alone, as commands need that change what servers keep in memory. */
  readonly alone?: boolean;
}

/**
 * The store that the settings name, claimed until it is closed.
 * @throws ConfigError when there is none, or when a server holds what is to be written.
 */
export async function openStore(config: StoreConfig, mode: OpenMode = {}): Promise<Sql> {
  if (config.databaseUrl !== undefined) return openClaimed(config.databaseUrl, mode);
  const file = databaseFile(config);
  if (!mode.create && !existsSync(file)) throw new ConfigError([`There is no store in ${config.data}; rekey init makes one.`]);
  if (mode.create) makeDataFolder(config);
  const { openSqlite } = await import("./store/sqlite.ts");
  return openSqlite(file, mode);
}

async function openClaimed(url: string, { readOnly, alone }: OpenMode): Promise<Sql> {
  const [{ openPostgres }, { claimStore, shareStore }] = await Promise.all([
    import("./store/postgres.ts"),
    import("./store/postgres-claim.ts"),
  ]);
  if (readOnly) return openPostgres(url);
  const claim = await (alone ? claimStore(url) : shareStore(url));
  const sql = openPostgres(url);
  return {
    dialect: sql.dialect,
    query: sql.query,
    transaction: sql.transaction,
    async close() {
      await sql.close();
      await claim.release();
    },
  };
}
