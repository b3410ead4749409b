import type { Sql } from "./sql.ts";

/** Where an event stands in the order in which events became visible. */
export interface EventPosition {
  readonly txOrder: number;
  readonly id: number;
}

export interface ListedEvent extends EventPosition {
  readonly at: number;
  readonly type: string;
  readonly resource: string;
  readonly generation?: number | undefined;
  readonly detail: Readonly<Record<string, unknown>>;
}

interface Row {
  id: number;
  at: number;
  type: string;
  resource: string;
  generation: number | null;
  detail: string;
  tx_order: number;
}

/**
 * A page of events after (or, newest first, before) a position. Transactions of PostgreSQL commit in another order than they
 * take ids: there events come in the order of transactions, and only those that none can precede any more. So a reader who
 * goes on from the last one it saw misses none and sees none twice.
 */
const settled = "tx_order > 0 and tx_order < pg_snapshot_xmin(pg_current_snapshot())::text::bigint";
const texts = {
  sqlite: {
    after: "select * from events where id > $1 and 0 = $2 order by id limit $3",
    before: "select * from events where id < $1 and 0 = $2 order by id desc limit $3",
  },
  postgres: {
    after: `select * from events where (tx_order, id) > ($2, $1) and ${settled} order by tx_order, id limit $3`,
    before: `select * from events where (tx_order, id) < ($2, $1) and ${settled} order by tx_order desc, id desc limit $3`,
  },
} as const;

/** Later than `position`, oldest first; at most 1,000. */
export function eventsAfter(sql: Sql, position: EventPosition, limit: number): Promise<ListedEvent[]> {
  return read(sql, texts[sql.dialect].after, position, limit);
}

/** Earlier than `position`, newest first; at most 1,000. */
export function eventsBefore(sql: Sql, position: EventPosition, limit: number): Promise<ListedEvent[]> {
  return read(sql, texts[sql.dialect].before, position, limit);
}

/** Before the first event, and after the last. */
export const firstPosition: EventPosition = { txOrder: 0, id: 0 };
export const lastPosition = (sql: Sql): EventPosition => ({
  txOrder: sql.dialect === "sqlite" ? 0 : Number.MAX_SAFE_INTEGER,
  id: Number.MAX_SAFE_INTEGER,
});

async function read(sql: Sql, text: string, { id, txOrder }: EventPosition, limit: number): Promise<ListedEvent[]> {
  const rows = await sql.query<Row>(text, [id, sql.dialect === "sqlite" ? 0 : txOrder, limit]);
  return rows.map((row) => ({
    id: row.id,
    txOrder: row.tx_order,
    at: row.at,
    type: row.type,
    resource: row.resource,
    generation: row.generation ?? undefined,
    detail: JSON.parse(row.detail),
  }));
}
