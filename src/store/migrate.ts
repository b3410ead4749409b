import { ConfigError } from "../core/error.ts";
import { migrations as allMigrations } from "./migrations/index.ts";
import type { Migration } from "./migrations/migration.ts";
import type { Sql } from "./sql.ts";

/** The only words of a migration in which the databases differ. */
const typeWords = {
  sqlite: {
    bytes: "blob",
    serial_key: "integer primary key autoincrement",
    byte_ordered: "text",
    tx_ordered: "bigint not null default 0", // one transaction at a time
  },
  postgres: {
    bytes: "bytea",
    serial_key: "bigint generated always as identity primary key",
    byte_ordered: 'text collate "C"',
    tx_ordered: "bigint not null default (pg_current_xact_id()::text::bigint)",
  },
} as const;

/** Any number will do, as long as every node takes the same one. */
const advisoryLock = 7_310_547;

/** Name of a migration as told to people: `0001-first`. */
const title = ({ id, name }: { id: number; name: string }): string => `${String(id).padStart(4, "0")}-${name}`;

/**
 * Brings the database to this program's schema: all that is missing in one transaction, which several nodes starting at once
 * settle among themselves. Gives the names of those applied, e.g. `0001-first`; none when there was nothing to do.
 * @throws ConfigError when the database was made by a newer or another program; it is then unchanged.
 */
export async function migrate(sql: Sql, migrations: readonly Migration[] = allMigrations): Promise<{ applied: string[] }> {
  return sql.transaction(async (tx) => {
    if (tx.dialect === "postgres") {
      await tx.query("set local statement_timeout = 0"); // waiting for another node, or a large table
      await tx.query("select pg_advisory_xact_lock($1)", [advisoryLock]);
    }
    await tx.query(
      "create table if not exists migrations (id integer primary key, name text not null, applied_at bigint not null)",
    );
    const missing = await findMissing(tx, migrations);
    for (const migration of missing) await apply(tx, migration);
    return { applied: missing.map(title) };
  });
}

/**
 * Names of the migrations that the database lacks, oldest first. Changes nothing.
 * @throws ConfigError when the database was made by a newer or another program.
 */
export async function pendingMigrations(sql: Sql, migrations: readonly Migration[] = allMigrations): Promise<string[]> {
  const isThere = {
    sqlite: "select 1 as there from sqlite_master where type = 'table' and name = 'migrations'",
    postgres: "select 1 as there where to_regclass('migrations') is not null",
  };
  const [table] = await sql.query(isThere[sql.dialect]);
  return (table ? await findMissing(sql, migrations) : migrations).map(title);
}

async function findMissing(sql: Sql, migrations: readonly Migration[]): Promise<readonly Migration[]> {
  const applied = await sql.query<{ id: number; name: string }>("select id, name from migrations order by id");
  for (const [index, row] of applied.entries()) {
    const ours = migrations[index];
    if (ours && ours.id === row.id && ours.name === row.name) continue;
    const newer = ours ? "by another program" : "by a newer version of Rekey: upgrade this one";
    throw new ConfigError([`the database was changed ${newer} (it has migration ${title(row)})`]);
  }
  return migrations.slice(applied.length);
}

async function apply(tx: Sql, migration: Migration): Promise<void> {
  const words: Record<string, string> = typeWords[tx.dialect];
  for (const statement of migration.sql) {
    await tx.query(statement.replace(/\w+/g, (word) => (Object.hasOwn(words, word) ? (words[word] ?? word) : word)));
  }
  const row = [migration.id, migration.name, Date.now()];
  await tx.query("insert into migrations (id, name, applied_at) values ($1, $2, $3)", row);
}
