import { type KeyObject, randomBytes } from "node:crypto";
import { join } from "node:path";
import type { Audit, AuditRecord } from "../core/audit.ts";
import type { Anchor, AnchorState, ChainHead } from "../core/audit-chain.ts";
import { ServiceError } from "../core/error.ts";
import { type AnchorNote, followHeads, keepAnchors, recoverHeads, unfollowedHeads } from "./audit-anchors.ts";
import { batches } from "./audit-batch.ts";
import { type AuditFolder, openAuditFolder } from "./audit-file.ts";
import { dropMovedRecords, outboxMover } from "./audit-outbox.ts";
import { type AuditTail, searchAudit } from "./audit-search.ts";
import { openSegments } from "./audit-segments.ts";
import { shipSegments } from "./audit-ship.ts";
import { maxMoved, openAuditTable } from "./audit-table.ts";
import type { Sql } from "./sql.ts";

/** How often a segment's head is anchored, when it has moved. */
export const anchorSeconds = 5;
const moveEveryMs = 200;
const maxSegmentBytes = 16 * 1024 * 1024;

export interface AuditOptions {
  readonly sql: Sql;
  /** HMAC key of the whole trail, the same for all processes and for `verifyAudit`. */
  readonly key: KeyObject;
  /** The embedded store's data folder; segments go to `audit/` in it. Not used on PostgreSQL. */
  readonly dir?: string;
  /**
   * Whether this process moves the outbox, ships segments and takes up what crashed writers left; on the embedded store
   * exactly one may, and it opens the trail before the others do. Default true.
   */
  readonly owner?: boolean;
  /** Keeps anchors for a process that cannot write to the store; default: this process does. */
  readonly keepAnchors?: (note: AnchorNote) => Promise<void>;
  /** Default: a new one from time, process id and chance. */
  readonly writer?: string;
  readonly maxSegmentBytes?: number;
  /** Where segments are made, instead of `dir`'s folder on disk. */
  readonly folder?: AuditFolder;
  /** What fails in the background and is tried again. */
  readonly onError?: (error: unknown) => void;
}

/** The running trail of one process. */
export interface AuditLog extends Audit<Sql>, AsyncDisposable {
  readonly writer: string;
  /** Moves what waits in the outbox and anchors the chain now; otherwise both happen by themselves. */
  settle(): Promise<void>;
  /** Makes records of the segments searchable fast, at most about `maxRecords`; how many. For a timer of the owner. */
  ship(maxRecords?: number): Promise<number>;
  /** Settles, anchors the end as final and refuses all later records. */
  close(): Promise<void>;
}

/** What differs between segments and the table. */
interface Trail {
  write(records: readonly string[]): Promise<void>;
  move(): Promise<void>;
  anchor(state: AnchorState): Promise<void>;
  ship(maxRecords: number): Promise<number>;
  tail(): AuditTail | undefined;
  close(): Promise<void>;
}

/** Opens the trail for writing under a new writer's name. @throws the system's error when nothing can be written there. */
export async function openAudit(options: AuditOptions): Promise<AuditLog> {
  const { sql, owner = true, onError = () => undefined } = options;
  const writer = options.writer ?? `${Date.now().toString(36)}-${process.pid}-${randomBytes(4).toString("hex")}`;
  const trail = await (sql.dialect === "postgres" ? openTableTrail : openSegmentTrail)(options, writer, (record) =>
    group.add(record),
  );
  const group = batches((records) => trail.write(records));
  let changes = 0;
  let closed: Promise<void> | undefined;
  /** Looks at the outbox that are worth it: the first may come before the commit. */
  let movesDue = 0;

  const inBackground = (work: () => Promise<unknown>) => void work().catch(onError);
  const settle = async (state: AnchorState = "open") => {
    try {
      if (owner) await trail.move();
    } finally {
      await trail.anchor(state);
    }
  };
  const ticking = setInterval(() => inBackground(settle), anchorSeconds * 1000);
  ticking.unref();
  const moving = setInterval(() => {
    if (movesDue === 0) return;
    movesDue -= 1;
    inBackground(() => trail.move());
  }, moveEveryMs);
  moving.unref();

  async function end(): Promise<void> {
    clearInterval(ticking);
    clearInterval(moving);
    await group.idle();
    try {
      await settle("closed");
    } finally {
      await trail.close();
    }
  }
  const close = () => {
    closed ??= end();
    return closed;
  };

  return {
    writer,
    async append(record) {
      if (closed) throw new ServiceError("InternalServiceError", "The audit trail is closed.");
      try {
        await group.add(JSON.stringify(record));
      } catch (cause) {
        throw new ServiceError("InternalServiceError", "The request could not be recorded in the audit trail.", { cause });
      }
    },
    async inTransaction(tx, record) {
      changes += 1;
      if (owner) movesDue = 2;
      const numbered: AuditRecord = { ...record, change: changes };
      await tx.query("insert into audit_outbox (record) values ($1)", [JSON.stringify(numbered)]);
    },
    search: (query) => searchAudit(sql, query, trail.tail()),
    settle: () => settle(),
    ship: (maxRecords = 2000) => trail.ship(maxRecords),
    close,
    [Symbol.asyncDispose]: close,
  };
}

async function openTableTrail({ sql, key }: AuditOptions, writer: string): Promise<Trail> {
  const previous = await unfollowedHeads(sql);
  const table = await openAuditTable({ sql, key, writer, previous: previous.map(headOf) });
  await sql.transaction((tx) => followHeads(tx, writer, previous, Date.now()));
  return {
    write: (records) => table.write(records),
    async move() {
      while ((await table.move()) === maxMoved);
    },
    anchor: async (state) => (state === "closed" ? table.close() : undefined),
    ship: async () => 0,
    tail: () => undefined,
    close: async () => undefined,
  };
}

async function openSegmentTrail(options: AuditOptions, writer: string, add: (record: string) => Promise<void>): Promise<Trail> {
  const { sql, key, dir, owner = true, onError = () => undefined } = options;
  const keep = options.keepAnchors ?? ((note: AnchorNote) => keepAnchors(sql, key, note));
  if (dir === undefined) throw new Error("the embedded store's audit trail needs its folder");
  const path = join(dir, "audit");
  const folder = options.folder ?? (await openAuditFolder(path));
  if (owner) {
    await recoverHeads(sql, key, path, Date.now());
    await dropMovedRecords(sql, path);
  }
  const previous = await unfollowedHeads(sql);
  const rolled = new Map<number, Anchor>();
  const maxBytes = options.maxSegmentBytes ?? maxSegmentBytes;
  const onRolled = (head: ChainHead) => void rolled.set(head.segment, { ...head, at: Date.now(), state: "rolled" });
  const segments = await openSegments({ folder, key, writer, previous: previous.map(headOf), maxBytes, onRolled });
  const mover = outboxMover(sql, add);
  let anchored = 0;
  let final = false;
  let anchoring: Promise<void> | undefined;

  async function anchor(state: AnchorState, followed: readonly Anchor[] = []): Promise<void> {
    if (final && state === "open") return; // a late timer must not reopen what is closed
    final = state === "closed";
    const head = segments.head();
    const waiting = [...rolled.values()];
    if (head.sequence === anchored && waiting.length === 0 && state === "open") return;
    const anchors = [...waiting, { ...head, at: Date.now(), state }];
    await keep({ writer, anchors, followed: owner ? followed.map(asEnded) : followed });
    anchored = head.sequence;
    for (const one of waiting) rolled.delete(one.segment);
  }

  await anchor("open", previous);
  return {
    async write(records) {
      await segments.write(records);
      if (rolled.size === 0 || anchoring) return;
      anchoring = anchor("open")
        .catch(onError)
        .finally(() => {
          anchoring = undefined;
        });
    },
    move: () => mover.move(),
    anchor,
    ship: async (maxRecords) => (owner ? shipSegments(sql, path, maxRecords) : 0),
    tail: () => ({ folder: path, young: [...rolled.values(), segments.head()] }),
    close: () => segments.close(),
  };
}

const headOf = ({ writer, segment, sequence, mac }: Anchor): ChainHead => ({ writer, segment, sequence, mac });
/** When the owner of a folder opens, no other writer in it lives. */
const asEnded = (head: Anchor): Anchor => ({ ...head, state: "ended" });
