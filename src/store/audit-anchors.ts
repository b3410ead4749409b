import type { KeyObject } from "node:crypto";
import { type Anchor, anchorSeal, type ChainHead } from "../core/audit-chain.ts";
import { lastEntry, listSegments } from "./audit-file.ts";
import type { Sql } from "./sql.ts";

/** An anchor as it is stored: `seal` is right only if the holder of the audit key wrote it. */
export interface StoredAnchor extends Anchor {
  readonly seal: string;
  /** Up to here the segment's records are in audit_records. */
  readonly shipped_sequence: number;
}

const maxUnfollowed = 1000;
/** On PostgreSQL nobody can tell a silent writer from a dead one; after this time it is named once more and then left. */
const silentMs = 3_600_000;

/** Notes how far a segment has come. Repeatable; an anchor that comes late does not take a newer one back. */
export async function saveAnchor(tx: Sql, key: KeyObject, anchor: Anchor): Promise<void> {
  const { writer, segment, sequence, mac, at, state } = anchor;
  await tx.query(
    `insert into audit_anchors (writer, segment, sequence, mac, at, state, seal, followed_by, shipped_sequence, shipped_bytes)
      values ($1, $2, $3, $4, $5, $6, $7, $8, 0, 0)
      on conflict (writer, segment) do update set sequence = excluded.sequence, mac = excluded.mac, at = excluded.at,
        state = excluded.state, seal = excluded.seal, followed_by = excluded.followed_by
      where audit_anchors.sequence <= excluded.sequence`,
    [writer, segment, sequence, mac, at, state, anchorSeal(key, anchor), state === "rolled" ? writer : null],
  );
}

/** What one writer tells of its chain: how far its segments have come, and the heads that its first record names. */
export interface AnchorNote {
  readonly writer: string;
  readonly anchors: readonly Anchor[];
  readonly followed: readonly Anchor[];
}

/** Keeps such a note in one transaction. Repeatable. */
export async function keepAnchors(sql: Sql, key: KeyObject, { writer, anchors, followed }: AnchorNote): Promise<void> {
  await sql.transaction(async (tx) => {
    for (const anchor of anchors) await saveAnchor(tx, key, anchor);
    await followHeads(tx, writer, followed, Date.now());
  });
}

/** All anchors by writer and segment, a page at a time. */
export async function* readAnchors(sql: Sql): AsyncGenerator<StoredAnchor, void, undefined> {
  let [writer, segment] = ["", -1];
  while (true) {
    const rows = await sql.query<StoredAnchor>(
      `select writer, segment, sequence, mac, at, state, seal, shipped_sequence from audit_anchors
        where (writer, segment) > ($1, $2) order by writer, segment limit 500`,
      [writer, segment],
    );
    yield* rows;
    const last = rows.at(-1);
    if (!last) return;
    [writer, segment] = [last.writer, last.segment];
  }
}

/** The heads that a new writer's first record names: those that no other has named since they moved. */
export function unfollowedHeads(sql: Sql): Promise<Anchor[]> {
  return sql.query<Anchor>(
    `select writer, segment, sequence, mac, at, state from audit_anchors where followed_by is null order by at desc limit ${maxUnfollowed}`,
  );
}

/** Notes that `writer` names these heads. One that still lives takes it back with its next anchor. */
export async function followHeads(tx: Sql, writer: string, heads: readonly Anchor[], now: number): Promise<void> {
  for (const head of heads) {
    if (head.state === "open" && head.at > now - silentMs) continue;
    await tx.query("update audit_anchors set followed_by = $1 where writer = $2 and segment = $3 and sequence = $4", [
      writer,
      head.writer,
      head.segment,
      head.sequence,
    ]);
  }
}

/**
 * Moves the anchors of writers that ended without closing to the true ends of their files. Only for the process that owns
 * the folder, before any other writes there.
 */
export async function recoverHeads(sql: Sql, key: KeyObject, folder: string, now: number): Promise<void> {
  const crashed = (await unfollowedHeads(sql)).filter((head) => head.state === "open");
  if (crashed.length === 0) return;
  const { segments } = await listSegments(folder);
  for (const head of crashed) {
    const files = segments.filter((file) => file.writer === head.writer && file.segment >= head.segment);
    const anchors: Anchor[] = [];
    for (const [index, { segment, path }] of files.entries()) {
      const end: ChainHead = { writer: head.writer, segment, ...((await lastEntry(path)) ?? head) };
      if (end.sequence < head.sequence) continue; // cut: the anchor stays, so that verify says so
      const state = index === files.length - 1 ? "ended" : "rolled";
      anchors.push({ writer: end.writer, segment, sequence: end.sequence, mac: end.mac, at: now, state });
    }
    await sql.transaction(async (tx) => {
      for (const anchor of anchors) await saveAnchor(tx, key, anchor);
    });
  }
}
