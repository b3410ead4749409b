import { constants, createReadStream, fdatasync, writeSync } from "node:fs";
import { chmod, type FileHandle, mkdir, open, readdir } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { readChainLine } from "../core/audit-chain.ts";

/** One segment being written. Positions are bytes from its start. */
export interface AuditFile {
  /** All of `bytes`, durable when it resolves. */
  write(bytes: Uint8Array, position: number): Promise<void>;
  truncate(length: number): Promise<void>;
  close(): Promise<void>;
}

/** Where segments are made; a port, so that what reaches the disk can be counted and refused. */
export interface AuditFolder {
  create(name: string): Promise<AuditFile>;
}

export interface SegmentName {
  readonly writer: string;
  readonly segment: number;
  readonly path: string;
}

/** A line of a segment. `finished` is false for a last one that lacks its line end. */
export interface SegmentLine {
  readonly text: string;
  /** The byte after the line. */
  readonly end: number;
  readonly finished: boolean;
}

const dataSync = promisify(fdatasync);

const segmentPattern = /^([a-z0-9]+-[0-9]+-[a-z0-9]+)-(0|[1-9][0-9]{0,8})\.log$/;

/** `DIR/audit` on disk, 0700 with 0600 files; made when absent. */
export async function openAuditFolder(path: string): Promise<AuditFolder> {
  await mkdir(path, { recursive: true, mode: 0o700 });
  await chmod(path, 0o700);
  return {
    async create(name) {
      const { O_CREAT, O_NOFOLLOW, O_TRUNC, O_WRONLY } = constants;
      // Truncated, for a segment whose making failed half-way; no other process has this writer's name.
      const handle = await open(join(path, name), O_CREAT | O_NOFOLLOW | O_TRUNC | O_WRONLY, 0o600);
      try {
        await syncFolder(path);
      } catch (error) {
        await handle.close();
        throw error;
      }
      return auditFile(handle);
    },
  };
}

/** Without this a new file may be gone after a power cut although its content was made durable. */
async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

function auditFile(handle: FileHandle): AuditFile {
  return {
    async write(bytes, position) {
      // Into the system's memory at once: that takes less time than handing it to another thread, and the sync begins sooner.
      let done = 0;
      while (done < bytes.length) done += writeSync(handle.fd, bytes, done, bytes.length - done, position + done);
      await dataSync(handle.fd);
    },
    truncate: (length) => handle.truncate(length),
    close: () => handle.close(),
  };
}

/** `<writer>-<n>.log` */
export function segmentFileName(writer: string, segment: number): string {
  return `${writer}-${segment}.log`;
}

/** The segments of a folder by writer and number, and the names of files that are none. An absent folder is an empty one. */
export async function listSegments(folder: string): Promise<{ segments: SegmentName[]; foreign: string[] }> {
  const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw error;
  });
  const segments: SegmentName[] = [];
  const foreign: string[] = [];
  for (const name of names) {
    const match = segmentPattern.exec(name);
    if (match) segments.push({ writer: match[1] ?? "", segment: Number(match[2]), path: join(folder, name) });
    else foreign.push(name);
  }
  segments.sort((a, b) => (a.writer === b.writer ? a.segment - b.segment : a.writer < b.writer ? -1 : 1));
  return { segments, foreign: foreign.sort() };
}

/** The lines of a file from byte `start`, which must begin a line. A file that is not there has none. */
export async function* readLines(path: string, start = 0): AsyncGenerator<SegmentLine, void, undefined> {
  let rest: Buffer[] = [];
  let end = start;
  try {
    for await (const chunk of createReadStream(path, { start, highWaterMark: 256 * 1024 }) as AsyncIterable<Buffer>) {
      let from = 0;
      for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, from)) {
        const line = Buffer.concat([...rest, chunk.subarray(from, at)]);
        rest = [];
        from = at + 1;
        end += line.length + 1;
        yield { text: line.toString(), end, finished: true };
      }
      if (from < chunk.length) rest.push(chunk.subarray(from));
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
  const last = Buffer.concat(rest);
  if (last.length > 0) yield { text: last.toString(), end: end + last.length, finished: false };
}

/** The last whole entry of a segment. What follows it is not part of the trail. */
export async function lastEntry(path: string): Promise<{ sequence: number; mac: string } | undefined> {
  let last: { sequence: number; mac: string } | undefined;
  for await (const { text, finished } of readLines(path)) {
    const entry = finished ? readChainLine(text) : undefined;
    if (entry) last = entry;
  }
  return last;
}
