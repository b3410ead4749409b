import { createHmac, type KeyObject } from "node:crypto";
import type { AuditRecord } from "./audit.ts";

/** The action of the first record of each segment (on PostgreSQL: of each writer): who writes, and what came before. */
const openingAction = "rekey:OpenAuditSegment";

/** A point of one writer's chain: `sequence` counts its records from 1, over all its segments. */
export interface ChainHead {
  readonly writer: string;
  readonly segment: number;
  readonly sequence: number;
  readonly mac: string;
}

/** `parameters` of an opening record. `previous` names how far other writers' chains had come. */
export interface Opening {
  readonly writer: string;
  readonly segment: number;
  readonly previous: readonly ChainHead[];
}

export interface ChainEntry {
  readonly sequence: number;
  /** The record's JSON, to the byte as it was chained. */
  readonly record: string;
  readonly mac: string;
}

const linePattern = /^\{"sequence":([1-9]\d{0,14}),"record":(\{.*\}),"mac":"([\w-]{43})"\}$/;

/** HMAC-SHA256 over the mac before it (none: empty) and the record with its number; `key` is a KeyObject because bytes cost seven times as much. */
export function chainMac(key: KeyObject, previousMac: string, sequence: number, record: string): string {
  return createHmac("sha256", key).update(`${previousMac}{"sequence":${sequence},"record":${record}`).digest("base64url");
}

/** One line of a segment, without its line end. */
export function chainLine({ sequence, record, mac }: ChainEntry): string {
  return `{"sequence":${sequence},"record":${record},"mac":"${mac}"}`;
}

/** Reads what `chainLine` wrote; undefined for anything else. */
export function readChainLine(line: string): ChainEntry | undefined {
  const match = linePattern.exec(line);
  if (!match) return undefined;
  return { sequence: Number(match[1]), record: match[2] ?? "", mac: match[3] ?? "" };
}

/** The first record of a segment. */
export function openingRecord(opening: Opening, at: number): AuditRecord {
  return {
    requestId: `${opening.writer}-${opening.segment}`,
    at,
    principal: "rekey",
    action: openingAction,
    resource: `audit/${opening.writer}-${opening.segment}`,
    region: "",
    sourceIp: "",
    parameters: opening,
    outcome: "ok",
  };
}

/** The opening in a record's JSON; undefined when it is another record or none. */
export function readOpening(record: string): Opening | undefined {
  if (!record.includes(openingAction)) return undefined;
  try {
    const { action, parameters } = JSON.parse(record) as AuditRecord;
    return action === openingAction ? (parameters as Opening) : undefined;
  } catch {
    return undefined;
  }
}

/** `open` may grow; `rolled` is followed by the next segment; `closed` ended in order; `ended` was found after a crash. */
export type AnchorState = "open" | "rolled" | "closed" | "ended";

export interface Anchor extends ChainHead {
  readonly at: number;
  readonly state: AnchorState;
}

/** Keeps anchors from being made up: a head is in the trail for all to read, its seal needs the key. */
export function anchorSeal(key: KeyObject, anchor: Anchor): string {
  const { writer, segment, sequence, mac, at, state } = anchor;
  return createHmac("sha256", key).update(["anchor", writer, segment, sequence, mac, at, state].join("\n")).digest("base64url");
}

/** Follows one writer's chain entry by entry and says what is wrong with each. */
export class ChainCheck {
  readonly #key: KeyObject;
  #sequence = 0;
  #mac = "";

  constructor(key: KeyObject) {
    this.#key = key;
  }

  get sequence(): number {
    return this.#sequence;
  }

  /** What is wrong, undefined when nothing. Goes on from the entry as it stands, so one change is one finding, not thousands. */
  next(entry: ChainEntry): string | undefined {
    const expected = this.#sequence + 1;
    const right = chainMac(this.#key, this.#mac, entry.sequence, entry.record) === entry.mac;
    this.#sequence = entry.sequence;
    this.#mac = entry.mac;
    if (entry.sequence > expected) return `records ${expected} to ${entry.sequence - 1} are missing before this one`;
    if (entry.sequence < expected) return `out of order: record ${expected} is expected here`;
    return right ? undefined : "the record was changed, or the one before it replaced";
  }
}
