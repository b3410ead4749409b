import {
  appendFileSync,
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { chainLine } from "../core/audit-chain.ts";
import { ConfigError } from "../core/error.ts";
import { segmentFileName } from "./audit-file.ts";
import { shipSegments } from "./audit-ship.ts";
import { type BackupTable, openBackup, tablesOf } from "./backup-file.ts";
import { unsealFile } from "./backup-seal.ts";
import { migrate } from "./migrate.ts";
import { migrations as allMigrations } from "./migrations/index.ts";
import type { Sql, SqlValue } from "./sql.ts";
import { claimWriter } from "./writer-claim.ts";

const rowsPerStatement = 50;

/**
 * Puts a backup into the empty data folder `data`. The store notes when, since whatever happened after the backup was made is
 * unknown to it. Cut off anywhere, the folder has no store yet.
 * @throws ConfigError when the folder holds a store or is in use, or the backup cannot be used.
 */
export function restoreEmbedded(from: string, data: string, nowMs: number): void {
  const { file, dialect } = openBackup(from);
  const claim = claimWriter(data);
  try {
    const audit = join(data, "audit");
    if (existsSync(join(data, "rekey.db")))
      throw new ConfigError([`${data} holds a store already; restore into an empty folder`]);
    if (existsSync(audit) && readdirSync(audit).length > 0)
      throw new ConfigError([`${audit} holds records of another store; move them away first`]);
    mkdirSync(audit, { recursive: true, mode: 0o700 });
    for (const { name, bytes } of file.prepare("select name, bytes from backup_segments order by name, start").iterate())
      appendFileSync(join(audit, safeName(String(name))), bytes as Uint8Array, { mode: 0o600 });
    if (dialect === "postgres") writeSegments(file, audit);
    file.close();
    const draft = join(data, "rekey.db.restoring");
    rmSync(draft, { force: true });
    writeFileSync(draft, "", { mode: 0o600 });
    copyFileSync(from, draft);
    chmodSync(draft, 0o600);
    unsealFile(draft);
    const copy = new DatabaseSync(draft);
    copy.exec("drop table backup; drop table backup_segments");
    copy
      .prepare("insert into meta values ('restored_at', ?) on conflict (key) do update set value = excluded.value")
      .run(String(nowMs));
    copy.close();
    renameSync(draft, join(data, "rekey.db"));
  } finally {
    if (file.isOpen) file.close();
    claim.release();
  }
}

/** PostgreSQL keeps the chains in a table, the embedded store in files: one file for each writer. */
function writeSegments(file: DatabaseSync, audit: string): void {
  const rows = file.prepare("select writer, sequence, record, mac from audit_records order by writer, sequence").iterate();
  for (const { writer, sequence, record, mac } of rows) {
    const line = chainLine({ sequence: Number(sequence), record: String(record), mac: String(mac) });
    appendFileSync(join(audit, safeName(segmentFileName(String(writer), 0))), `${line}\n`, { mode: 0o600 });
  }
}

/** A backup may have been tampered with: it must not write outside the folder. */
function safeName(name: string): string {
  if (!/^[a-z0-9-]+\.log$/.test(name)) throw new ConfigError(["the backup holds a file with a name that no audit segment has"]);
  return name;
}

/**
 * As `restoreEmbedded`, into an empty PostgreSQL, in one transaction. `scratch` is a folder for audit segments on their way.
 * @throws ConfigError when the database holds a store, or the backup cannot be used.
 */
export async function restorePostgres(
  from: string,
  sql: Sql,
  { nowMs, scratch }: { nowMs: number; scratch: string },
): Promise<void> {
  const { file, migrations } = openBackup(from);
  try {
    const known = allMigrations.slice(0, migrations);
    await migrate(sql, known);
    await sql.transaction(async (tx) => {
      const [used] = await tx.query("select 1 as found from meta limit 1");
      if (used) throw new ConfigError(["the database holds a store already; restore into an empty one"]);
      await tx.query("set local statement_timeout = 0");
      for (const table of tablesOf(file)) if (table.name !== "migrations") await insertAll(tx, file, table);
      await tx.query(
        "insert into meta (key, value) values ('restored_at', $1) on conflict (key) do update set value = excluded.value",
        [String(nowMs)],
      );
    });
    for (const { name, bytes } of file.prepare("select name, bytes from backup_segments order by name, start").iterate())
      appendFileSync(join(scratch, safeName(String(name))), bytes as Uint8Array, { mode: 0o600 });
    await shipSegments(sql, scratch, Number.POSITIVE_INFINITY);
  } finally {
    file.close();
  }
  await migrate(sql);
}

async function insertAll(tx: Sql, file: DatabaseSync, { name, columns: all }: BackupTable): Promise<void> {
  const columns = all.filter((column) => column !== "tx_order"); // of another database's transactions
  const identity = await tx.query<{ column: string }>(
    `select column_name as column from information_schema.columns
       where table_schema = current_schema() and table_name = $1 and is_identity = 'YES'`,
    [name],
  );
  const insert = async (rows: readonly SqlValue[][]) => {
    const places = rows.map((row, at) => `(${row.map((_, index) => `$${at * row.length + index + 1}`)})`);
    const override = identity.length > 0 ? "overriding system value" : "";
    await tx.query(`insert into ${name} (${columns}) ${override} values ${places}`, rows.flat());
  };
  let rows: SqlValue[][] = [];
  for (const row of file.prepare(`select ${columns} from ${name}`).iterate()) {
    rows.push(columns.map((column) => row[column] ?? null));
    if (rows.length < rowsPerStatement) continue;
    await insert(rows);
    rows = [];
  }
  if (rows.length > 0) await insert(rows);
  for (const { column } of identity)
    await tx.query(`select setval(pg_get_serial_sequence('${name}', '${column}'), (select max(${column}) from ${name}))`);
}
