import { setImmediate as nextTurn } from "node:timers/promises";
import { compileFilters, type FilteredSecret, type SecretFilter } from "../core/secret-filter.ts";
import { searchThreadOf } from "./search-thread.ts";
import type { Sql, SqlValue } from "./sql.ts";

export type SortColumn = "created_at" | "last_accessed_at" | "last_changed_at" | "name";

/** Where a secret stands in the order asked for: its sort value and row id. */
export type Position = readonly [value: string | number, id: string];

/** What to look for; plain data, since it may be sent to another thread. */
export interface SearchRequest {
  readonly region: string;
  readonly includeDeleted: boolean;
  readonly sortBy: SortColumn;
  readonly descending: boolean;
  readonly limit: number;
  /** Position of the last secret of the page before. */
  readonly after?: Position | undefined;
  /** Where an exact prefix of the name is known, only those names are looked at. */
  readonly namePrefix?: string | undefined;
  readonly filters: readonly SecretFilter[];
}

export interface SearchPage {
  readonly ids: readonly string[];
  /** Where the next page begins; absent when this was the last one. */
  readonly next?: Position;
}

/** How far a search has come. */
export interface ScanState {
  /** At most one more than asked for, which tells that there is a next page. */
  readonly found: readonly Position[];
  readonly after: Position | undefined;
  readonly done: boolean;
}

interface ScannedRow {
  id: string;
  position: string | number;
  name: string;
  description: string | null;
  tags: string | null;
  deleted_at: number | null;
  primary_region: string | null;
  owning_service: string | null;
}

const pageRows = { sqlite: 200, postgres: 1000 } as const;
/** So many names with one prefix are read and sorted at once; of more, the order is walked instead. */
const maxNamed = 500;

/**
 * Finds secrets along the order asked for, page by page. What the first page does not settle goes on in the search thread
 * where there is one.
 */
export async function searchSecrets(sql: Sql, request: SearchRequest): Promise<SearchPage> {
  const begin: ScanState = { found: [], after: request.after, done: false };
  const first = (await scanNamed(sql, request)) ?? (await scanSecrets(sql, request, begin, 1));
  const { found } = first.done ? first : await scanRest(sql, request, first);
  const next = found.length > request.limit ? found[request.limit - 1] : undefined;
  return { ids: found.slice(0, request.limit).map(([, id]) => id), ...(next && { next }) };
}

async function scanRest(sql: Sql, request: SearchRequest, state: ScanState): Promise<ScanState> {
  const thread = searchThreadOf(sql);
  return thread ? thread.ask<ScanState>("secrets", request, state) : scanSecrets(sql, request, state);
}

/** Goes on with a search until it is done or has read `maxPages`; other work runs between the pages. */
export async function scanSecrets(
  sql: Sql,
  request: SearchRequest,
  { found: before, after: start }: ScanState,
  maxPages = Number.POSITIVE_INFINITY,
): Promise<ScanState> {
  const wanted = wantedBy(request);
  const found = [...before];
  let after = start;
  for (let page = 0; page < maxPages; page += 1) {
    if (page > 0) await nextTurn();
    const rows = await readPage(sql, request, after);
    for (const row of rows) {
      after = [row.position, row.id];
      if (!wanted(row)) continue;
      found.push(after);
      if (found.length > request.limit) return { found, after, done: true };
    }
    if (rows.length < pageRows[sql.dialect]) return { found, after, done: true };
  }
  return { found, after, done: false };
}

/** The whole answer when few names have the prefix asked for, however the order is; else undefined. */
async function scanNamed(sql: Sql, request: SearchRequest): Promise<ScanState | undefined> {
  if (request.namePrefix === undefined || request.sortBy === "name") return undefined;
  const rows = await readRows(sql, request, nameRange(request.namePrefix), maxNamed + 1, "name");
  if (rows.length > maxNamed) return undefined;
  const wanted = wantedBy(request);
  const { after, descending, limit } = request;
  const order = (a: Position, b: Position) => (descending ? -compare(a, b) : compare(a, b));
  const positions = rows.filter(wanted).map((row): Position => [row.position, row.id]);
  const ahead = positions.filter((position) => !after || order(position, after) > 0).sort(order);
  return { found: ahead.slice(0, limit + 1), after: undefined, done: true };
}

function compare([a, idA]: Position, [b, idB]: Position): number {
  if (a !== b) return a < b ? -1 : 1;
  if (idA === idB) return 0;
  return idA < idB ? -1 : 1;
}

function wantedBy({ filters, includeDeleted }: SearchRequest): (row: ScannedRow) => boolean {
  const matches = compileFilters(filters);
  return (row) => (includeDeleted || row.deleted_at === null) && matches(toFiltered(row));
}

function toFiltered(row: ScannedRow): FilteredSecret {
  return {
    name: row.name,
    description: row.description ?? undefined,
    tags: row.tags === null ? undefined : (JSON.parse(row.tags) as Record<string, string>),
    primaryRegion: row.primary_region ?? undefined,
    owningService: row.owning_service ?? undefined,
  };
}

/** A condition on the rows; `$` stands for each of its values in turn. */
interface Condition {
  readonly text: string;
  readonly values: readonly SqlValue[];
}

function nameRange(prefix: string): Condition[] {
  return [{ text: "name >= $ and name < $", values: [prefix, `${prefix}\u{10ffff}`] }];
}

/** Those of equal value first, then those beyond it: one comparison of both would not let SQLite use the index on an expression. */
async function readPage(sql: Sql, request: SearchRequest, after: Position | undefined): Promise<ScannedRow[]> {
  const { sortBy, descending, namePrefix } = request;
  const size = pageRows[sql.dialect];
  const bounds = sortBy === "name" && namePrefix !== undefined ? nameRange(namePrefix) : [];
  if (!after) return readRows(sql, request, bounds, size);
  const [position, beyond] = [positionOf(sortBy), descending ? "<" : ">"];
  const equal = { text: `${position} = $ and id ${beyond} $`, values: after };
  const rows = sortBy === "name" ? [] : await readRows(sql, request, [...bounds, equal], size);
  if (rows.length === size) return rows;
  const further = { text: `${position} ${beyond} $`, values: [after[0]] };
  return [...rows, ...(await readRows(sql, request, [...bounds, further], size - rows.length))];
}

/** As the indexes have it, to the letter. */
const positionOf = (sortBy: SortColumn): string => (sortBy === "last_accessed_at" ? "coalesce(last_accessed_at, 0)" : sortBy);

async function readRows(
  sql: Sql,
  { region, sortBy, descending }: SearchRequest,
  conditions: readonly Condition[],
  limit: number,
  orderBy = sortBy,
): Promise<ScannedRow[]> {
  const values: SqlValue[] = [region];
  const place = (value: SqlValue) => `$${values.push(value)}`;
  const texts = conditions.map((condition) => {
    const given = condition.values.values();
    return condition.text.replaceAll("$", () => place(given.next().value ?? null));
  });
  const order = positionOf(orderBy);
  const direction = descending ? "desc" : "asc";
  return sql.query<ScannedRow>(
    `select id, ${positionOf(sortBy)} as position, name, description, tags, deleted_at, primary_region, owning_service from secrets
     where ${["region = $1", ...texts].join(" and ")}
     order by ${order} ${direction}, id ${direction} limit ${place(limit)}`,
    values,
  );
}
