import type { KeyObject } from "node:crypto";
import { type ChainEntry, type ChainHead, chainMac, openingRecord } from "../core/audit-chain.ts";
import { saveAnchor } from "./audit-anchors.ts";
import { auditRow, insertRows } from "./audit-rows.ts";
import type { Sql } from "./sql.ts";

export interface AuditTable {
  /** Chains and keeps the records, all or none, and moves the anchor along in the same transaction. */
  write(records: readonly string[]): Promise<void>;
  /** Moves up to `maxMoved` waiting records from the outbox, each exactly once whoever else does the same; how many. */
  move(): Promise<number>;
  close(): Promise<void>;
}

export interface AuditTableOptions {
  readonly sql: Sql;
  readonly key: KeyObject;
  readonly writer: string;
  readonly previous: readonly ChainHead[];
}

export const maxMoved = 200;

/** One writer's chain as rows of audit_records (PostgreSQL); its opening record is there when it resolves. */
export async function openAuditTable({ sql, key, writer, previous }: AuditTableOptions): Promise<AuditTable> {
  let sequence = 0;
  let mac = "";
  /** A commit that got no answer may have happened. */
  let unsure = false;
  let last: Promise<unknown> = Promise.resolve();

  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    const run = last.then(work, work);
    last = run.catch(() => undefined);
    return run;
  }

  async function lookUpHead(): Promise<void> {
    const [row] = await sql.query<{ sequence: number; mac: string }>(
      "select sequence, mac from audit_records where writer = $1 order by sequence desc limit 1",
      [writer],
    );
    if (row && row.sequence > sequence) ({ sequence, mac } = row);
    unsure = false;
  }

  /** `gather` gives the records inside the transaction. */
  async function chain(gather: (tx: Sql) => Promise<readonly string[]>, state: "open" | "closed" = "open"): Promise<number> {
    if (unsure) await lookUpHead();
    unsure = true;
    const done = await sql.transaction(async (tx) => {
      const entries = chained(await gather(tx));
      const end = entries.at(-1) ?? { sequence, mac };
      await insertRows(
        tx,
        entries.map((entry) => auditRow(writer, entry)),
      );
      if (entries.length > 0 || state === "closed")
        await saveAnchor(tx, key, { writer, segment: 0, sequence: end.sequence, mac: end.mac, at: Date.now(), state });
      return { end, count: entries.length };
    });
    ({ sequence, mac } = done.end);
    unsure = false;
    return done.count;
  }

  function chained(records: readonly string[]): ChainEntry[] {
    let [lastSequence, lastMac] = [sequence, mac];
    return records.map((record) => {
      lastSequence += 1;
      lastMac = chainMac(key, lastMac, lastSequence, record);
      return { sequence: lastSequence, record, mac: lastMac };
    });
  }

  await chain(async () => [JSON.stringify(openingRecord({ writer, segment: 0, previous }, Date.now()))]);
  return {
    async write(records) {
      await inTurn(() => chain(async () => records));
    },
    move: () =>
      inTurn(() =>
        chain(async (tx) => {
          const rows = await tx.query<{ id: number; record: string }>(
            `delete from audit_outbox where id in
              (select id from audit_outbox order by id limit ${maxMoved} for update skip locked) returning id, record`,
          );
          return rows.sort((a, b) => a.id - b.id).map((row) => row.record);
        }),
      ),
    async close() {
      await inTurn(() => chain(async () => [], "closed"));
    },
  };
}
