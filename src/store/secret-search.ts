import { setImmediate as nextTurn } from "node:timers/promises";
import type { FilteredSecret } from "../core/secret-filter.ts";
import type { Sql, SqlValue } from "./sql.ts";

export type SortColumn = "created_at" | "last_accessed_at" | "last_changed_at" | "name";

export interface SearchRequest {
  readonly region: string;
  readonly includeDeleted: boolean;
  readonly sortBy: SortColumn;
  readonly descending: boolean;
  readonly limit: number;
  /** Position of the last secret of the page before: sort value and row id. */
  readonly after?: readonly [string | number, string] | undefined;
  /** Where an exact prefix of the name is known, only those names are looked at. */
  readonly namePrefix?: string | undefined;
  matches(secret: FilteredSecret): boolean;
}

export interface SearchPage {
  readonly ids: readonly string[];
  /** Where the next page begins; absent when this was the last one. */
  readonly next?: readonly [string | number, string];
}

interface ScannedRow {
  id: string;
  position: string | number;
  name: string;
  description: string | null;
  tags: string | null;
  primary_region: string | null;
  owning_service: string | null;
}

const rowsPerTurn = 200;

/** Finds secrets page by page along the order asked for; other work runs between the pages read. */
export async function searchSecrets(sql: Sql, request: SearchRequest): Promise<SearchPage> {
  const ids: string[] = [];
  let after = request.after;
  let last: SearchPage["next"];
  for (;;) {
    const rows = await readRows(sql, request, after);
    for (const row of rows) {
      after = [row.position, row.id];
      if (!request.matches(toFiltered(row))) continue;
      if (ids.length === request.limit) return { ids, ...(last && { next: last }) };
      ids.push(row.id);
      last = after;
    }
    if (rows.length < rowsPerTurn) return { ids };
    await nextTurn();
  }
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

async function readRows(sql: Sql, request: SearchRequest, after: SearchRequest["after"]): Promise<ScannedRow[]> {
  const { sortBy, descending, namePrefix } = request;
  const position = sortBy === "name" ? "name" : `coalesce(${sortBy}, 0)`;
  const [direction, beyond] = descending ? ["desc", "<"] : ["asc", ">"];
  const values: SqlValue[] = [request.region];
  const conditions = ["region = $1"];
  if (!request.includeDeleted) conditions.push("deleted_at is null");
  if (namePrefix !== undefined) {
    values.push(namePrefix, `${namePrefix}\u{10ffff}`);
    conditions.push(`name >= $${values.length - 1} and name < $${values.length}`);
  }
  if (after) {
    values.push(...after);
    conditions.push(`(${position}, id) ${beyond} ($${values.length - 1}, $${values.length})`);
  }
  return sql.query<ScannedRow>(
    `select id, ${position} as position, name, description, tags, primary_region, owning_service from secrets
     where ${conditions.join(" and ")} order by ${position} ${direction}, id ${direction} limit ${rowsPerTurn}`,
    values,
  );
}
