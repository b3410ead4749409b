import {
  chmodSync,
  closeSync,
  existsSync,
  fsyncSync,
  linkSync,
  mkdtempSync,
  openSync,
  readSync,
  rmSync,
  statSync,
} from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { ConfigError } from "../core/error.ts";
import { listSegments } from "./audit-file.ts";
import { backupSqlite } from "./backup.ts";
import { isSealed, sealFile } from "./backup-seal.ts";
import { migrate, pendingMigrations } from "./migrate.ts";
import type { Row, Sql, SqlValue } from "./sql.ts";
import { openSqlite } from "./sqlite.ts";

/** Raised when a file's own tables change; those of the store tell their schema by its migrations. */
const format = 1;
const pageRows = 200;
const chunkBytes = 1024 * 1024;

/** A table of a store, as the file has it. */
export interface BackupTable {
  readonly name: string;
  readonly columns: readonly string[];
  readonly primaryKey: readonly string[];
}

/**
 * Copies the embedded store in folder `data`, its audit segments included, to the new file `to`, while it is in use.
 * All values in it stay encrypted: without the root key it reveals none.
 * @throws ConfigError when there is no store or `to` is there already.
 */
export async function backupEmbedded(data: string, to: string): Promise<void> {
  await makeFile(to, async (draft) => {
    await backupSqlite(join(data, "rekey.db"), draft);
    const file = new DatabaseSync(draft);
    try {
      file.exec("pragma journal_mode = delete");
      describe(file, "sqlite");
      // After the tables: segments may run ahead of what anchors say, never behind. A writer that began since has no anchor.
      const anchored = new Set(
        file
          .prepare("select distinct writer from audit_anchors")
          .all()
          .map(({ writer }) => writer),
      );
      for (const { writer, path } of (await listSegments(join(data, "audit"))).segments)
        if (anchored.has(writer)) copySegment(file, basename(path), path);
    } finally {
      file.close();
    }
  });
}

/** As `backupEmbedded`, of a PostgreSQL: every table as it was at one moment, read page by page. */
export async function backupPostgres(sql: Sql, to: string): Promise<void> {
  if ((await pendingMigrations(sql)).length > 0) throw new ConfigError(["the store has another schema; run rekey migrate first"]);
  await makeFile(to, async (draft) => {
    const empty = openSqlite(draft);
    await migrate(empty);
    await empty.close();
    const file = new DatabaseSync(draft, { enableForeignKeyConstraints: false });
    try {
      file.exec("pragma journal_mode = delete; delete from migrations");
      await sql.transaction((tx) => copyTables(tx, file));
      describe(file, "postgres");
    } finally {
      file.close();
    }
  });
}

/** Made whole in a folder beside its place, then linked there: never half a backup, never over another one. */
async function makeFile(to: string, make: (draft: string) => Promise<void>): Promise<void> {
  const target = resolve(to);
  if (existsSync(target)) throw new ConfigError([`${to} is there already: a backup replaces nothing`]);
  if (!existsSync(dirname(target))) throw new ConfigError([`the folder ${dirname(target)} does not exist`]);
  const folder = mkdtempSync(`${target}.part-`);
  try {
    const draft = join(folder, "rekey.db");
    await make(draft);
    chmodSync(draft, 0o600);
    sealFile(draft);
    sync(draft);
    linkSync(draft, target);
    sync(dirname(target));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function sync(path: string): void {
  const file = openSync(path, "r");
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

function describe(file: DatabaseSync, dialect: string): void {
  file.exec("create table backup (format integer not null, dialect text not null, made_at integer not null)");
  file.exec(
    "create table backup_segments (name text not null, start integer not null, bytes blob not null, primary key (name, start))",
  );
  file.prepare("insert into backup values (?, ?, ?)").run(format, dialect, Date.now());
}

function copySegment(file: DatabaseSync, name: string, path: string): void {
  const insert = file.prepare("insert into backup_segments values (?, ?, ?)");
  const source = openSync(path, "r");
  try {
    const end = statSync(path).size; // what is written meanwhile is left for the next backup
    const buffer = Buffer.alloc(chunkBytes);
    for (let start = 0; start < end; ) {
      const read = readSync(source, buffer, 0, Math.min(chunkBytes, end - start), start);
      if (read === 0) return;
      insert.run(name, start, buffer.subarray(0, read));
      start += read;
    }
  } finally {
    closeSync(source);
  }
}

/** Runs in one transaction of the source, which keeps showing the moment of its first statement. */
async function copyTables(tx: Sql, file: DatabaseSync): Promise<void> {
  await tx.query("set transaction isolation level repeatable read, read only");
  await tx.query("set local statement_timeout = 0");
  for (const table of tablesOf(file)) {
    const insert = file.prepare(`insert into ${table.name} (${table.columns}) values (${table.columns.map(() => "?")})`);
    for (let last: Row | undefined; ; ) {
      const rows = await readPage(tx, table, last);
      file.exec("begin");
      for (const row of rows) insert.run(...table.columns.map((column) => row[column] ?? null));
      file.exec("commit");
      last = rows.at(-1);
      if (rows.length < pageRows) break;
    }
  }
}

function readPage(tx: Sql, { name, columns, primaryKey }: BackupTable, last: Row | undefined): Promise<Row[]> {
  const after = last && primaryKey.map((column): SqlValue => last[column] ?? null);
  const where = after ? `where (${primaryKey}) > (${after.map((_, index) => `$${index + 1}`)})` : "";
  return tx.query(`select ${columns} from ${name} ${where} order by ${primaryKey} limit ${pageRows}`, after ?? []);
}

/** The store's tables in a backup, in the order of their making: what is referred to comes first. */
export function tablesOf(file: DatabaseSync): BackupTable[] {
  const names = file
    .prepare(
      "select name from sqlite_master where type = 'table' and name not like 'sqlite_%' and name not like 'backup%' order by rowid",
    )
    .all();
  return names.map(({ name }) => {
    const columns = file.prepare(`select name, pk from pragma_table_info('${name}') order by cid`).all();
    const keys = columns.filter(({ pk }) => Number(pk) > 0).sort((a, b) => Number(a.pk) - Number(b.pk));
    return {
      name: String(name),
      columns: columns.map((column) => String(column.name)),
      primaryKey: keys.map((key) => String(key.name)),
    };
  });
}

/**
 * Opens a backup for reading.
 * @throws ConfigError when it is missing, damaged, or of a newer program.
 */
export function openBackup(path: string): { file: DatabaseSync; dialect: string; migrations: number } {
  if (!existsSync(path)) throw new ConfigError([`there is no backup ${path}`]);
  const whole = isSealed(path); // before SQLite reads what may be anything
  const file = new DatabaseSync(path, { readOnly: true });
  try {
    const about = file.prepare("select format, dialect from backup").get();
    const check = file.prepare("pragma quick_check").get();
    const migrations = file.prepare("select count(*) as count from migrations").get();
    if (Number(about?.format) > format) throw new ConfigError([`${path} was made by a newer version of Rekey: upgrade this one`]);
    if (!whole || check?.quick_check !== "ok") throw new ConfigError([`${path} is damaged; use another backup`]);
    return { file, dialect: String(about?.dialect), migrations: Number(migrations?.count) };
  } catch (error) {
    file.close();
    if (error instanceof ConfigError) throw error;
    throw new ConfigError([`${path} is no backup of Rekey, or damaged; rekey backup makes them`]);
  }
}
