import type { KeyObject } from "node:crypto";
import { ChainCheck, type ChainEntry, readChainLine, readOpening } from "../core/audit-chain.ts";
import { readLines, type SegmentLine, type SegmentName } from "./audit-file.ts";
import { type AuditRow, auditRow, readRows } from "./audit-rows.ts";
import type { Findings, WriterFacts } from "./audit-verify.ts";
import type { Sql } from "./sql.ts";

/** Checks one writer's chain in audit_records (PostgreSQL). Returns how many records it has. */
export async function verifyRows(sql: Sql, key: KeyObject, facts: WriterFacts, findings: Findings): Promise<number> {
  const { writer } = facts;
  const check = new ChainCheck(key);
  const heads = headCheck(facts, findings);
  let count = 0;
  for await (const row of readRows(sql, writer)) {
    count += 1;
    const what =
      (count === 1 ? openingProblem(row.record, writer, 0) : undefined) ?? check.next(row) ?? rowProblem(writer, row, row);
    if (what) findings.problem({ writer, sequence: row.sequence, what });
    heads.pass(row);
  }
  heads.end();
  return count;
}

/** Checks one writer's segments, and that what audit_records has of them is the same. Returns how many records they have. */
export async function verifySegments(sql: Sql, key: KeyObject, facts: WriterFacts, findings: Findings): Promise<number> {
  const { writer, files } = facts;
  const check = new ChainCheck(key);
  const heads = headCheck(facts, findings);
  const copy = copyCheck(sql, facts, findings);
  let count = 0;
  let expected = 0;
  for (const file of files) {
    for (; expected < file.segment; expected += 1)
      findings.problem({ writer, segment: expected, what: "the segment is missing" });
    expected = file.segment + 1;
    const whole = wholeLines(file, facts, findings);
    for await (const { line, entry } of whole) {
      const opening = line === 1 ? openingProblem(entry.record, writer, file.segment) : undefined;
      const what = opening ?? check.next(entry);
      if (what) findings.problem({ writer, segment: file.segment, line, sequence: entry.sequence, what });
      count += 1;
      heads.pass(entry);
      await copy.pass(entry, file.segment);
    }
  }
  heads.end();
  await copy.end(check);
  return count;
}

interface NumberedEntry {
  readonly line: number;
  readonly entry: ChainEntry;
}

/** The entries of one segment; everything else in it is reported. */
async function* wholeLines(
  { path, writer, segment }: SegmentName,
  facts: WriterFacts,
  findings: Findings,
): AsyncGenerator<NumberedEntry, void, undefined> {
  let line = 0;
  for await (const read of readLines(path)) {
    line += 1;
    const entry = read.finished ? readChainLine(read.text) : undefined;
    if (entry) yield { line, entry };
    else if (isTorn(read, segment, facts))
      findings.note({
        writer,
        segment,
        line,
        what: `an unfinished line of ${Buffer.byteLength(read.text)} bytes, as a crash leaves it`,
      });
    else findings.problem({ writer, segment, line, what: "not a record of this trail" });
  }
  if (line > 0) return;
  const finding = { writer, segment, what: "the segment is empty" };
  if (segment === facts.files.at(-1)?.segment) findings.note(finding);
  else findings.problem(finding);
}

/** Only the end of a chain that nobody closed may be unfinished. */
function isTorn(line: SegmentLine, segment: number, { files, anchors }: WriterFacts): boolean {
  const closed = anchors.some((anchor) => anchor.state === "closed" || (anchor.state === "rolled" && anchor.segment === segment));
  return !line.finished && !closed && segment === files.at(-1)?.segment;
}

function openingProblem(record: string, writer: string, segment: number): string | undefined {
  const opening = readOpening(record);
  if (opening?.writer === writer && opening.segment === segment) return undefined;
  return opening
    ? `this is the beginning of ${opening.writer}, segment ${opening.segment}`
    : "the beginning of the segment is missing";
}

/** Whether all heads that are named elsewhere are passed. */
function headCheck({ writer, heads }: WriterFacts, findings: Findings) {
  const waiting = new Map<number, Set<string>>();
  for (const { sequence, mac } of heads) waiting.set(sequence, (waiting.get(sequence) ?? new Set()).add(mac));
  return {
    pass({ sequence, mac }: ChainEntry): void {
      const macs = waiting.get(sequence);
      if (macs?.delete(mac) && macs.size === 0) waiting.delete(sequence);
    },
    end(): void {
      const missing = [...waiting.keys()].sort((a, b) => a - b);
      const last = missing.at(-1);
      if (last === undefined) return;
      findings.problem({
        writer,
        sequence: last,
        what: `cut: an anchor or a later writer names ${missing.length === 1 ? "this record" : `${missing.length} records up to this one`}, but the trail does not have it`,
      });
    },
  };
}

/** Walks along the writer's rows of audit_records beside its segments. */
function copyCheck(sql: Sql, { writer, anchors }: WriterFacts, findings: Findings) {
  const rows = readRows(sql, writer);
  const shipped = new Map(anchors.map((anchor) => [anchor.segment, anchor.shipped_sequence]));
  let row: AuditRow | undefined;
  let started = false;

  async function step(): Promise<void> {
    row = (await rows.next()).value ?? undefined;
  }
  const strange = ({ sequence }: AuditRow) =>
    findings.problem({ writer, sequence, what: "audit_records has a record that the trail has not" });

  return {
    async pass(entry: ChainEntry, segment: number): Promise<void> {
      if (!started) await step();
      started = true;
      for (; row && row.sequence < entry.sequence; await step()) strange(row);
      if (row?.sequence === entry.sequence) {
        const what = rowProblem(writer, row, entry);
        if (what) findings.problem({ writer, segment, sequence: entry.sequence, what });
        await step();
      } else if (entry.sequence <= (shipped.get(segment) ?? 0))
        findings.problem({ writer, segment, sequence: entry.sequence, what: "the record was removed from audit_records" });
    },
    /** A running server may have shipped more since the end of the file was read: such rows continue the chain. */
    async end(check: ChainCheck): Promise<void> {
      if (!started) await step();
      for (; row; await step()) if (!started || check.next(row) !== undefined || rowProblem(writer, row, row)) strange(row);
    },
  };
}

/** Whether a row says what the entry says, in each of its columns. */
function rowProblem(writer: string, row: AuditRow, entry: ChainEntry): string | undefined {
  try {
    const right = Object.entries(auditRow(writer, { sequence: entry.sequence, record: entry.record, mac: entry.mac }));
    const wrong = right.filter(([column, value]) => row[column as keyof AuditRow] !== value).map(([column]) => column);
    return wrong.length === 0 ? undefined : `audit_records differs in ${wrong.join(", ")}`;
  } catch {
    return "the record is no JSON";
  }
}
