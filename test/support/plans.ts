// How a database would run a statement: by an index, or by reading a whole table.
import type { Row, Sql, SqlValue } from "../../src/store/sql.ts";

/** The same store; the statements that it is given are kept. */
export function recording(sql: Sql): { sql: Sql; statements: Set<string> } {
  const statements = new Set<string>();
  const wrap = (inner: Sql): Sql => ({
    dialect: inner.dialect,
    query<R extends object = Row>(text: string, values?: readonly SqlValue[]) {
      statements.add(text);
      return inner.query<R>(text, values);
    },
    transaction: (work) => inner.transaction((tx) => work(wrap(tx))),
    close: () => inner.close(),
  });
  return { sql: wrap(sql), statements };
}

/** Tables that hold a few rows at most, whatever the store holds. */
export const smallTables = /\b(meta|ring_keys|ring_key_versions|key_aliases|signing_keys|migrations)\b/;

/** Steps of the plan that read a whole table. */
export async function fullScans(sql: Sql, text: string): Promise<string[]> {
  if (!/^\s*(select|with|insert|update|delete)\b/i.test(text)) return [];
  if (sql.dialect === "sqlite") {
    const places = (text.match(/\$\d+/g) ?? []).reduce((most, place) => Math.max(most, Number(place.slice(1))), 0);
    const steps = await sql.query<{ detail: string }>(`explain query plan ${text}`, Array(places).fill(null));
    // The outbox holds what the last moments brought; an index may be walked from its end when a bound stops that.
    const bounded = /\blimit\b|\bmin\(/.test(text);
    const fine = bounded
      ? /^SCAN .* USING (COVERING )?INDEX|^SCAN (json_each|audit_outbox|due|\d+-ROW VALUES CLAUSE)\b/
      : /^SCAN (json_each|\d+-ROW VALUES CLAUSE)\b/;
    return steps.map(({ detail }) => detail).filter((detail) => detail.startsWith("SCAN ") && !fine.test(detail));
  }
  const plan = await sql.transaction(async (tx) => {
    // A table of few rows is read whole in any case: so it must not be the choice, only the last resort.
    await tx.query("set local enable_seqscan = off");
    return tx.query<{ "QUERY PLAN": string }>(`explain (generic_plan) ${text}`);
  });
  return plan.map((row) => row["QUERY PLAN"]).filter((line) => line.includes("Seq Scan on"));
}
