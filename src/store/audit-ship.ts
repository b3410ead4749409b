import { join } from "node:path";
import { readChainLine } from "../core/audit-chain.ts";
import { readLines, segmentFileName } from "./audit-file.ts";
import { type AuditRow, auditRow, insertRows } from "./audit-rows.ts";
import type { Sql } from "./sql.ts";

interface Unshipped {
  readonly writer: string;
  readonly segment: number;
  readonly sequence: number;
  readonly shipped_sequence: number;
  readonly shipped_bytes: number;
}

const page = 200;

/**
 * Copies anchored records from the segments into audit_records, where they are found fast; at most about `maxRecords`.
 * Returns how many. Repeatable: a page and its progress are one transaction.
 */
export async function shipSegments(sql: Sql, folder: string, maxRecords: number): Promise<number> {
  let shipped = 0;
  while (shipped < maxRecords) {
    const [due] = await sql.query<Unshipped>(
      `select writer, segment, sequence, shipped_sequence, shipped_bytes from audit_anchors
        where shipped_sequence < sequence order by at limit 1`,
    );
    if (!due) return shipped;
    shipped += await shipPage(sql, folder, due);
  }
  return shipped;
}

async function shipPage(sql: Sql, folder: string, due: Unshipped): Promise<number> {
  const rows: AuditRow[] = [];
  let [sequence, bytes] = [due.shipped_sequence, due.shipped_bytes];
  for await (const { text, end, finished } of readLines(join(folder, segmentFileName(due.writer, due.segment)), bytes)) {
    if (!finished || sequence >= due.sequence || rows.length >= page) break;
    bytes = end;
    const row = rowOf(due.writer, text);
    if (row) rows.push(row);
    if (row && row.sequence <= due.sequence) sequence = Math.max(sequence, row.sequence);
  }
  // A file that is cut or gone would be asked for again and again; verify reports it.
  if (bytes === due.shipped_bytes) sequence = due.sequence;
  const ship = async (tx: Sql) => {
    await insertRows(tx, rows, { repeatable: true });
    await tx.query("update audit_anchors set shipped_sequence = $1, shipped_bytes = $2 where writer = $3 and segment = $4", [
      sequence,
      bytes,
      due.writer,
      due.segment,
    ]);
  };
  await sql.transaction(ship, { durable: false }); // what a power cut undoes is copied again
  return Math.max(rows.length, 1);
}

/** A damaged line has no row; verify reports both. */
function rowOf(writer: string, text: string): AuditRow | undefined {
  const entry = readChainLine(text);
  if (!entry) return undefined;
  try {
    const row = auditRow(writer, entry);
    return Object.values(row).includes(undefined) ? undefined : row;
  } catch {
    return undefined;
  }
}
