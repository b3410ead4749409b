import { stat } from "node:fs/promises";
import type { AuditRecord } from "../core/audit.ts";
import { readChainLine } from "../core/audit-chain.ts";
import { listSegments, readLines } from "./audit-file.ts";
import { listed } from "./json-list.ts";
import type { Sql } from "./sql.ts";

const page = 500;
/** How far the clock may have been set back between a change and the move of its record. */
const clockSlackMs = 600_000;

/** Moves waiting records into segments: appends, waits until they are durable, and only then deletes them here. */
export function outboxMover(sql: Sql, add: (record: string) => Promise<void>) {
  /** Appended, but still in the table because deleting them failed. */
  const appended = new Set<number>();
  let running: Promise<void> | undefined;

  async function movePage(): Promise<boolean> {
    const rows = await sql.query<{ id: number; record: string }>(`select id, record from audit_outbox order by id limit ${page}`);
    const fresh = rows.filter((row) => !appended.has(row.id));
    await Promise.all(fresh.map((row) => add(row.record))); // added in one turn, so they are one batch
    for (const row of fresh) appended.add(row.id);
    await deleteRows(sql, [...appended]);
    appended.clear();
    return rows.length === page;
  }

  async function moveAll(): Promise<void> {
    while (await movePage());
  }

  return {
    /** Moves all that waits; a call while another is at work waits for that one. */
    move(): Promise<void> {
      running ??= moveAll().finally(() => {
        running = undefined;
      });
      return running;
    },
  };
}

/** Records that are back after a power cut are found to be moved at the next start, as after any end (see below). */
async function deleteRows(sql: Sql, ids: readonly number[]): Promise<void> {
  if (ids.length === 0) return;
  const deleteAll = (tx: Sql) => tx.query(`delete from audit_outbox where id in ${listed(tx.dialect, 1)}`, [JSON.stringify(ids)]);
  await sql.transaction(deleteAll, { durable: false });
}

/**
 * Deletes records from the outbox that a process appended before it ended and could not delete any more. For the process
 * that owns the folder, before it moves anything.
 */
export async function dropMovedRecords(sql: Sql, folder: string): Promise<void> {
  const waiting = new Map<string, number>();
  let since = Number.POSITIVE_INFINITY;
  for await (const { id, record } of readOutbox(sql)) {
    const parsed = JSON.parse(record) as AuditRecord;
    waiting.set(changeKey(parsed), id);
    since = Math.min(since, parsed.at);
  }
  if (waiting.size === 0) return;
  const moved: number[] = [];
  for (const { path } of (await listSegments(folder)).segments) {
    if ((await stat(path)).mtimeMs < since - clockSlackMs) continue;
    for await (const key of changesIn(path)) {
      const id = waiting.get(key);
      if (id !== undefined) moved.push(id);
    }
  }
  for (let done = 0; done < moved.length; done += page) await deleteRows(sql, moved.slice(done, done + page));
}

const changeKey = (record: AuditRecord): string => `${record.requestId} ${record.change}`;

async function* changesIn(path: string): AsyncGenerator<string, void, undefined> {
  for await (const { text, finished } of readLines(path)) {
    const entry = finished && text.includes('"change":') ? readChainLine(text) : undefined;
    if (entry) yield changeKey(JSON.parse(entry.record) as AuditRecord);
  }
}

async function* readOutbox(sql: Sql): AsyncGenerator<{ id: number; record: string }, void, undefined> {
  let after = -1;
  while (true) {
    const rows = await sql.query<{ id: number; record: string }>(
      `select id, record from audit_outbox where id > $1 order by id limit ${page}`,
      [after],
    );
    yield* rows;
    const last = rows.at(-1);
    if (!last) return;
    after = last.id;
  }
}
