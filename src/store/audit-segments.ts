import type { KeyObject } from "node:crypto";
import { type ChainHead, chainLine, chainMac, openingRecord } from "../core/audit-chain.ts";
import { type AuditFile, type AuditFolder, segmentFileName } from "./audit-file.ts";

export interface Segments {
  /** Chains and keeps the records, all or none. @throws the system's error; the next call repairs and tries again. */
  write(records: readonly string[]): Promise<void>;
  head(): ChainHead;
  close(): Promise<void>;
}

export interface SegmentOptions {
  readonly folder: AuditFolder;
  readonly key: KeyObject;
  readonly writer: string;
  readonly previous: readonly ChainHead[];
  /** A segment that has grown this long is followed by the next one. */
  readonly maxBytes: number;
  onRolled(head: ChainHead): void;
}

/** One writer's chain as files `<writer>-<n>.log`; the first segment is there when it resolves. */
export async function openSegments(options: SegmentOptions): Promise<Segments> {
  const { folder, key, writer, maxBytes } = options;
  let segment = 0;
  let sequence = 0;
  let mac = "";
  let length = 0;
  let file: AuditFile | undefined;
  /** What lies behind `length` may be the rest of a failed write. */
  let unsure = false;

  const head = (): ChainHead => ({ writer, segment, sequence, mac });

  async function roll(): Promise<void> {
    const next = file ? segment + 1 : 0;
    const made = await folder.create(segmentFileName(writer, next));
    const finished = file;
    const last = head();
    [file, segment, length, unsure] = [made, next, 0, false];
    if (!finished) return;
    options.onRolled(last);
    await finished.close();
  }

  async function ready(): Promise<AuditFile> {
    if (!file || length >= maxBytes) await roll();
    if (!file) throw new Error("no audit segment is open");
    if (unsure) await file.truncate(length);
    unsure = false;
    return file;
  }

  async function write(records: readonly string[]): Promise<void> {
    const current = await ready();
    const previous = segment === 0 ? options.previous : [];
    const opening = length === 0 ? [JSON.stringify(openingRecord({ writer, segment, previous }, Date.now()))] : [];
    let [lastSequence, lastMac, text] = [sequence, mac, ""];
    for (const record of [...opening, ...records]) {
      lastSequence += 1;
      lastMac = chainMac(key, lastMac, lastSequence, record);
      text += `${chainLine({ sequence: lastSequence, record, mac: lastMac })}\n`;
    }
    const bytes = Buffer.from(text);
    unsure = true;
    await current.write(bytes, length);
    unsure = false;
    [sequence, mac] = [lastSequence, lastMac];
    length += bytes.length;
  }

  await write([]);
  return {
    write,
    head,
    async close() {
      if (unsure) await file?.truncate(length);
      await file?.close();
    },
  };
}
