import type { KeyObject } from "node:crypto";
import { join } from "node:path";
import type { AuditFinding, AuditVerdict } from "../core/audit.ts";
import { anchorSeal, type ChainHead, readChainLine, readOpening } from "../core/audit-chain.ts";
import { anchorSeconds } from "./audit.ts";
import { readAnchors, type StoredAnchor } from "./audit-anchors.ts";
import { listSegments, readLines, type SegmentName } from "./audit-file.ts";
import { readRows, readWriters } from "./audit-rows.ts";
import { verifyRows, verifySegments } from "./audit-verify-writer.ts";
import type { Sql } from "./sql.ts";

export interface VerifyOptions {
  readonly sql: Sql;
  readonly key: KeyObject;
  /** As for `openAudit`. */
  readonly dir?: string;
}

/** All that is known of one writer before its records are read. */
export interface WriterFacts {
  readonly writer: string;
  readonly files: SegmentName[];
  readonly anchors: StoredAnchor[];
  /** Heads that anchors and other writers' first records name: each must be in the trail. */
  readonly heads: ChainHead[];
}

export interface Findings {
  problem(finding: AuditFinding): void;
  note(finding: AuditFinding): void;
}

const maxFindings = 1000;

/**
 * Reads the whole trail, a line at a time, and finds any record that was changed, removed, reordered, repeated or cut off.
 * May run beside a running server. What it cannot see: records younger than `windowSeconds` cut from the end of a chain that
 * was not closed, a change's record changed in or deleted from the outbox before it was moved (moments after its commit), and a trail that
 * was put back to an earlier state as a whole, database and files together, or from which the newest writers are gone with
 * all that names them.
 */
export async function verifyAudit({ sql, key, dir }: VerifyOptions): Promise<AuditVerdict> {
  const [problems, notes]: [AuditFinding[], AuditFinding[]] = [[], []];
  let [more, records] = [0, 0];
  const findings: Findings = {
    problem(finding) {
      if (problems.length < maxFindings) problems.push(finding);
      else more += 1;
    },
    note(finding) {
      if (notes.length < maxFindings) notes.push(finding);
    },
  };
  const inTable = sql.dialect === "postgres";
  const writers = new Writers();
  // Anchors before segments: a running server moves both on, and an anchor must not name what was not yet there to read.
  for await (const anchor of readAnchors(sql)) addAnchor(writers, key, anchor, findings);
  for await (const writer of readWriters(sql)) writers.of(writer);
  if (!inTable && dir !== undefined) await addFiles(writers, join(dir, "audit"), findings);
  for (const { writer, files } of writers.all()) {
    for (const head of await previousHeads(sql, inTable, writer, files)) writers.of(head.writer).heads.push(head);
  }
  for (const facts of writers.all()) {
    const own = await (inTable ? verifyRows(sql, key, facts, findings) : verifySegments(sql, key, facts, findings));
    records += own;
    if (await lacksAnchor(sql, facts, own))
      findings.problem({ writer: facts.writer, what: "the anchor of its end was removed, so that its end may be cut off" });
  }
  await noteOutbox(sql, findings);
  const ok = problems.length === 0;
  return { ok, records, writers: writers.all().length, problems, more, notes, windowSeconds: inTable ? 0 : anchorSeconds };
}

class Writers {
  readonly #facts = new Map<string, WriterFacts>();

  of(writer: string): WriterFacts {
    const known = this.#facts.get(writer) ?? { writer, files: [], anchors: [], heads: [] };
    this.#facts.set(writer, known);
    return known;
  }

  all(): WriterFacts[] {
    return [...this.#facts.values()];
  }
}

function addAnchor(writers: Writers, key: KeyObject, anchor: StoredAnchor, findings: Findings): void {
  const { writer, segment, sequence } = anchor;
  const facts = writers.of(writer);
  if (anchorSeal(key, anchor) !== anchor.seal) {
    findings.problem({
      writer,
      segment,
      sequence,
      what: "the anchor was not written by this service, or with another audit key",
    });
    return;
  }
  facts.anchors.push(anchor);
  facts.heads.push(anchor);
}

/**
 * A chain's records come after its first anchor (on PostgreSQL with it), and the anchor of a segment that was rolled comes
 * with the next one's.
 */
async function lacksAnchor(sql: Sql, { writer, anchors }: WriterFacts, records: number): Promise<boolean> {
  const last = anchors.at(-1);
  if (last) return last.state === "rolled";
  const beginning = sql.dialect === "postgres" ? 0 : 1;
  if (records <= beginning) return false;
  // A writer that began after the anchors were read has one by now.
  const [young] = await sql.query("select 1 as found from audit_anchors where writer = $1 limit 1", [writer]);
  return !young;
}

async function addFiles(writers: Writers, folder: string, findings: Findings): Promise<void> {
  const { segments, foreign } = await listSegments(folder);
  for (const file of segments) writers.of(file.writer).files.push(file);
  for (const name of foreign) findings.problem({ writer: "", what: `${name} in the audit folder is no segment` });
}

/** What a writer's first record names. A record that was tampered with is found when the chain is read. */
async function previousHeads(
  sql: Sql,
  inTable: boolean,
  writer: string,
  files: readonly SegmentName[],
): Promise<readonly ChainHead[]> {
  const record = inTable ? await firstRow(sql, writer) : await firstLine(files[0]);
  const previous: unknown = record === undefined ? [] : readOpening(record)?.previous;
  if (!Array.isArray(previous)) return [];
  return previous.filter((head) => typeof head?.writer === "string" && typeof head.sequence === "number");
}

async function firstRow(sql: Sql, writer: string): Promise<string | undefined> {
  for await (const row of readRows(sql, writer)) return row.record;
  return undefined;
}

async function firstLine(file: SegmentName | undefined): Promise<string | undefined> {
  if (file?.segment !== 0) return undefined;
  for await (const line of readLines(file.path)) return readChainLine(line.text)?.record;
  return undefined;
}

async function noteOutbox(sql: Sql, findings: Findings): Promise<void> {
  const rows = await sql.query<{ id: number }>("select id from audit_outbox order by id limit 1000");
  if (rows.length === 0) return;
  const count = rows.length === 1000 ? "1000 or more" : rows.length;
  findings.note({ writer: "", what: `records of changes that wait to be moved into the trail: ${count}` });
}
