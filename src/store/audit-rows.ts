import type { AuditRecord } from "../core/audit.ts";
import type { ChainEntry } from "../core/audit-chain.ts";
import type { Sql, SqlValue } from "./sql.ts";

/** A row of audit_records: an entry of the chain with what is searched for beside it. */
export interface AuditRow extends ChainEntry {
  readonly writer: string;
  readonly at: number;
  readonly request_id: string;
  readonly principal: string;
  readonly action: string;
  readonly resource: string;
  readonly outcome: string;
}

const columns = [
  "writer",
  "sequence",
  "at",
  "request_id",
  "principal",
  "action",
  "resource",
  "outcome",
  "record",
  "mac",
] as const;
/** Rows per statement: few sizes, so that there are few to prepare. SQLite looks each placeholder up by name, one by one: many cost more than many statements. */
const sizes = { postgres: [100, 10, 1], sqlite: [1] } as const;

const statements = new Map<number, string>(
  sizes.postgres.map((size) => {
    const rows = Array.from(
      { length: size },
      (_, row) => `(${columns.map((_, column) => `$${row * columns.length + column + 1}`)})`,
    );
    return [size, `insert into audit_records (${columns}) values ${rows}`];
  }),
);

/** @throws SyntaxError when the entry's record is no JSON. */
export function auditRow(writer: string, entry: ChainEntry): AuditRow {
  const { at, requestId, principal, action, resource, outcome } = JSON.parse(entry.record) as AuditRecord;
  return { writer, ...entry, at, request_id: requestId, principal, action, resource, outcome };
}

/** Adds rows; with `repeatable`, those that are there already stay as they are. */
export async function insertRows(tx: Sql, rows: readonly AuditRow[], { repeatable = false } = {}): Promise<void> {
  let done = 0;
  while (done < rows.length) {
    const size = sizes[tx.dialect].find((fits) => fits <= rows.length - done) ?? 1;
    const values: SqlValue[] = rows.slice(done, done + size).flatMap((row) => columns.map((column) => row[column]));
    await tx.query(`${statements.get(size)}${repeatable ? " on conflict (writer, sequence) do nothing" : ""}`, values);
    done += size;
  }
}

/** One writer's rows in order, a page at a time. */
export async function* readRows(sql: Sql, writer: string): AsyncGenerator<AuditRow, void, undefined> {
  let after = -1;
  while (true) {
    const rows = await sql.query<AuditRow>(
      `select ${columns} from audit_records where writer = $1 and sequence > $2 order by sequence limit 500`,
      [writer, after],
    );
    yield* rows;
    const last = rows.at(-1);
    if (!last) return;
    after = last.sequence;
  }
}

/** The writers that have rows, found by stepping over each one's rows in the index. */
export async function* readWriters(sql: Sql): AsyncGenerator<string, void, undefined> {
  let writer = "";
  while (true) {
    const [row] = await sql.query<{ writer: string | null }>(
      "select min(writer) as writer from audit_records where writer > $1",
      [writer],
    );
    if (!row?.writer) return;
    writer = row.writer;
    yield writer;
  }
}
