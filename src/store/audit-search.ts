import { stat } from "node:fs/promises";
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { AuditPage, AuditQuery, AuditRecord } from "../core/audit.ts";
import { readChainLine } from "../core/audit-chain.ts";
import { ServiceError } from "../core/error.ts";
import { readLines, segmentFileName } from "./audit-file.ts";
import { searchThreadOf } from "./search-thread.ts";
import type { Sql, SqlValue } from "./sql.ts";

/** Where the records are that audit_records does not have yet. */
export interface AuditTail {
  readonly folder: string;
  /** Segments that may have no anchor yet. */
  readonly young: readonly { readonly writer: string; readonly segment: number }[];
}

interface Place {
  readonly writer: string;
  readonly sequence: number;
  readonly at: number;
}

interface Found extends Place {
  readonly record: string;
}

interface Wanted {
  readonly query: AuditQuery;
  /** Only what stands behind this place in the order. */
  readonly after: Position | undefined;
  readonly limit: number;
}

/** The order is newest first, then by writer and sequence. */
type Position = readonly [at: number, writer: string, sequence: number];

/** All that one search reads of what is not shipped yet. */
const maxTailBytes = 32 * 1024 * 1024;
/** So many shipped records one search looks at; the next page goes on from there. */
const maxScanned = 100_000;
const pageRows = 500;
const defaultLimit = 100;
const maxLimit = 1000;

/**
 * A page of audit records, newest first; in the search thread where there is one. It may hold fewer than asked for, or none,
 * although there is a next page: a search looks at a bounded number of records.
 * @throws ServiceError InvalidNextTokenException for a cursor that no search gave.
 */
export async function searchAudit(sql: Sql, query: AuditQuery, tail?: AuditTail): Promise<AuditPage> {
  if (query.cursor !== undefined) readCursor(query.cursor);
  const thread = searchThreadOf(sql);
  return thread ? thread.ask<AuditPage>("audit", query, tail) : searchRecords(sql, query, tail);
}

/** The same, here. */
export async function searchRecords(sql: Sql, query: AuditQuery, tail?: AuditTail): Promise<AuditPage> {
  const limit = Math.min(Math.max(query.limit ?? defaultLimit, 1), maxLimit);
  const wanted = { query, after: query.cursor === undefined ? undefined : readCursor(query.cursor), limit: limit + 1 };
  // The tail first: what is shipped in the meantime is then found twice, never missed.
  const unshipped = tail ? await searchTail(sql, tail, wanted) : { found: [], complete: true };
  const table = await searchTable(sql, wanted);
  const found = new Map<string, Found>();
  for (const entry of [...unshipped.found, ...table.found]) found.set(`${entry.writer} ${entry.sequence}`, entry);
  const { stoppedAt } = table;
  const known = [...found.values()].filter((entry) => !stoppedAt || newestFirst(entry, stoppedAt) <= 0);
  const shown = known.sort(newestFirst).slice(0, wanted.limit);
  const records = shown.slice(0, limit).map((entry) => JSON.parse(entry.record) as AuditRecord);
  const next = shown.length > limit ? shown[limit - 1] : stoppedAt;
  return { records, complete: unshipped.complete, ...(next && { cursor: writeCursor(next) }) };
}

interface Row extends Found {
  readonly principal: string;
  readonly action: string;
  readonly resource: string;
  readonly outcome: string;
}

/** Walks back through the records, by the best index there is, until enough are found; `stoppedAt` tells that there may be more. */
async function searchTable(sql: Sql, { query, after, limit }: Wanted): Promise<{ found: Found[]; stoppedAt?: Place }> {
  const found: Found[] = [];
  let last: Place | undefined = after && { at: after[0], writer: after[1], sequence: after[2] };
  for (let scanned = 0; scanned < maxScanned; scanned += pageRows) {
    if (scanned > 0) await nextTurn();
    const rows = await readPage(sql, query, last);
    for (const row of rows) if (matches(row, query)) found.push(row);
    last = rows.at(-1);
    if (!last || rows.length < pageRows) return { found };
    if (found.length >= limit) break;
  }
  return { found, ...(last && { stoppedAt: last }) };
}

function readPage(sql: Sql, query: AuditQuery, last: Place | undefined): Promise<Row[]> {
  const values: SqlValue[] = [];
  const place = (value: SqlValue) => `$${values.push(value)}`;
  const conditions: string[] = [];
  // One of them has an index to walk along; more in the text would have the database step over rows without bound.
  const column = (["resource", "principal", "action"] as const).find((name) => query[name] !== undefined);
  if (column) conditions.push(`${column} = ${place(query[column] ?? null)}`);
  if (query.from !== undefined) conditions.push(`at >= ${place(query.from)}`);
  // Without an upper end of its own SQLite would sort the whole table instead of walking the index on `at`.
  const latest = Number.MAX_SAFE_INTEGER;
  conditions.push(`at <= ${place(Math.min(last?.at ?? latest, (query.to ?? latest) - 1))}`);
  if (last) conditions.push(`(at, writer, sequence) < (${place(last.at)}, ${place(last.writer)}, ${place(last.sequence)})`);
  return sql.query<Row>(
    `select writer, sequence, at, principal, action, resource, outcome, record from audit_records where ${conditions.join(" and ")}
      order by at desc, writer desc, sequence desc limit ${pageRows}`,
    values,
  );
}

/** Reads the newest `maxTailBytes` of what is not shipped; `complete` is false when there is more. */
async function searchTail(sql: Sql, tail: AuditTail, wanted: Wanted): Promise<{ found: Found[]; complete: boolean }> {
  const found: Found[] = [];
  let left = maxTailBytes;
  for (const part of await unshippedParts(sql, tail)) {
    const start = Math.max(part.start, part.size - left);
    if (start < part.size) await searchPart({ ...part, start }, wanted, found);
    if (start > part.start) return { found, complete: false };
    left -= part.size - start;
  }
  return { found, complete: true };
}

async function searchPart({ path, writer, start }: Part, wanted: Wanted, found: Found[]): Promise<void> {
  for await (const { text, finished } of readLines(path, start)) {
    const entry = finished ? matching(writer, text, wanted) : undefined;
    if (entry) found.push(entry);
    if (found.length > 2 * maxLimit) found.sort(newestFirst).length = wanted.limit;
  }
}

interface Part {
  readonly path: string;
  readonly writer: string;
  readonly start: number;
  readonly size: number;
}

async function unshippedParts(sql: Sql, { folder, young }: AuditTail): Promise<Part[]> {
  const segments = new Map(young.map((part) => [segmentFileName(part.writer, part.segment), { ...part, shipped_bytes: 0 }]));
  for (const condition of ["shipped_sequence < sequence", "state = 'open'"]) {
    const rows = await sql.query<{ writer: string; segment: number; shipped_bytes: number }>(
      `select writer, segment, shipped_bytes from audit_anchors where ${condition} order by at desc limit 1000`,
    );
    for (const row of rows) segments.set(segmentFileName(row.writer, row.segment), row);
  }
  const parts: (Part & { changedAt: number })[] = [];
  for (const [name, { writer, shipped_bytes: start }] of segments) {
    const path = join(folder, name);
    const { size, mtimeMs } = await stat(path).catch(() => ({ size: 0, mtimeMs: 0 }));
    if (size > start) parts.push({ path, writer, start, size, changedAt: mtimeMs });
  }
  return parts.sort((a, b) => b.changedAt - a.changedAt);
}

function matching(writer: string, line: string, { query, after }: Wanted): Found | undefined {
  const entry = readChainLine(line);
  if (!entry) return undefined;
  const record = parse(entry.record);
  if (!record || !matches(record, query)) return undefined;
  const found = { writer, sequence: entry.sequence, at: record.at, record: entry.record };
  if (after && newestFirst(found, { writer: after[1], sequence: after[2], at: after[0] }) <= 0) return undefined;
  return found;
}

function parse(record: string): AuditRecord | undefined {
  try {
    return JSON.parse(record) as AuditRecord;
  } catch {
    return undefined; // damaged: for verify to report
  }
}

function matches(record: Pick<AuditRecord, "principal" | "action" | "resource" | "outcome" | "at">, query: AuditQuery): boolean {
  for (const member of ["principal", "action", "resource", "outcome"] as const) {
    if (query[member] !== undefined && query[member] !== record[member]) return false;
  }
  return record.at >= (query.from ?? 0) && record.at < (query.to ?? Number.POSITIVE_INFINITY);
}

function newestFirst(a: Place, b: Place): number {
  if (a.at !== b.at) return b.at - a.at;
  if (a.writer !== b.writer) return a.writer < b.writer ? 1 : -1;
  return b.sequence - a.sequence;
}

function writeCursor({ at, writer, sequence }: Place): string {
  return Buffer.from(JSON.stringify([at, writer, sequence])).toString("base64url");
}

function readCursor(cursor: string): Position {
  try {
    const [at, writer, sequence] = JSON.parse(Buffer.from(cursor, "base64url").toString()) as unknown[];
    if (Number.isSafeInteger(at) && typeof writer === "string" && !writer.includes("\0") && Number.isSafeInteger(sequence))
      return [at as number, writer, sequence as number];
  } catch {
    // not made here, like any other wrong content
  }
  throw new ServiceError("InvalidNextTokenException", "The cursor is not one that a search gave.");
}
