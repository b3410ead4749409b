import { promisify } from "node:util";
import { crc32, inflateRaw } from "node:zlib";
import { bundleLimits, CodeRefused, pathsProblem } from "./code-bundle.ts";

/** A file in a zip. */
export interface ZippedFile {
  readonly path: string;
  readonly size: number;
  readonly executable: boolean;
  /** @throws CodeRefused when it is not what the zip's own directory says. */
  read(): Promise<Buffer>;
}

interface Entry extends Omit<ZippedFile, "read"> {
  readonly name: Buffer;
  readonly method: number;
  readonly crc: number;
  readonly packed: number;
  readonly offset: number;
  readonly type: number;
}

interface Directory {
  readonly count: number;
  readonly offset: number;
  readonly end: number;
}

const inflate = promisify(inflateRaw);
const [localMark, entryMark, endMark] = [0x04034b50, 0x02014b50, 0x06054b50];
const [localBytes, entryBytes, endBytes] = [30, 46, 22];
const maxCommentBytes = 0xffff;
/** How much more a zip may hold than it has, beyond the first megabytes. */
const mostTimes = 100;
const freeBytes = 16 * 1024 * 1024;
const [stored, deflated] = [0, 8];
const fileTypes = { none: 0, folder: 0o040000, file: 0o100000 };

/**
 * The files of a zip, by its central directory. Nothing is unpacked before `read`, and then never more than was said.
 * Source: APPNOTE.TXT 6.3.10, sections 4.3.7, 4.3.12, 4.3.16, 4.4.
 * @throws CodeRefused for what is cut off, encrypted, ZIP64, or larger than a bundle may be; for links, overlapping files, names
 *  that are there twice, and paths that lead out of it.
 */
export function readZip(zip: Buffer): readonly ZippedFile[] {
  const directory = findDirectory(zip);
  const entries = entriesOf(zip, directory);
  const files = entries.filter(({ type }) => type !== fileTypes.folder);
  const problem = pathsProblem(files.map(({ path }) => path));
  if (problem !== undefined) throw new CodeRefused(`in the zip ${problem}`);
  const bytes = files.reduce((sum, { size }) => sum + size, 0);
  if (bytes > bundleLimits.bytes) throw new CodeRefused(`the zip holds more than ${bundleLimits.bytes} bytes`);
  if (bytes > freeBytes && bytes > zip.length * mostTimes)
    throw new CodeRefused(`the zip holds ${mostTimes} times what it has, or more`);
  const contents = files.map((entry) => ({ entry, packed: contentOf(zip, entry, directory.offset) }));
  requireApart(contents.map(({ packed }) => packed));
  return contents.map(({ entry, packed }) => ({
    path: entry.path,
    size: entry.size,
    executable: entry.executable,
    read: () => unpack(entry, zip.subarray(packed.begin, packed.end)),
  }));
}

function findDirectory(zip: Buffer): Directory {
  for (let at = zip.length - endBytes; at >= Math.max(0, zip.length - endBytes - maxCommentBytes); at -= 1) {
    if (zip.readUInt32LE(at) !== endMark || at + endBytes + zip.readUInt16LE(at + 20) !== zip.length) continue;
    const [count, size, offset] = [zip.readUInt16LE(at + 10), zip.readUInt32LE(at + 12), zip.readUInt32LE(at + 16)];
    const onOneDisk = zip.readUInt32LE(at + 4) === 0 && zip.readUInt16LE(at + 8) === count;
    if (count === 0xffff || offset === 0xffffffff) throw new CodeRefused("the zip is in ZIP64 form, which is not taken");
    if (!onOneDisk || offset + size !== at) break;
    if (count > bundleLimits.files) throw new CodeRefused(`the zip holds more than ${bundleLimits.files} files`);
    return { count, offset, end: at };
  }
  throw new CodeRefused("this is no whole zip: it is cut off, damaged, or has something behind its end");
}

function entriesOf(zip: Buffer, { count, offset, end }: Directory): Entry[] {
  const entries: Entry[] = [];
  let at = offset;
  for (let index = 0; index < count; index += 1) {
    if (at + entryBytes > end || zip.readUInt32LE(at) !== entryMark) throw damaged();
    const name = zip.subarray(at + entryBytes, at + entryBytes + zip.readUInt16LE(at + 28));
    const next = at + entryBytes + name.length + zip.readUInt16LE(at + 30) + zip.readUInt16LE(at + 32);
    if (next > end) throw damaged();
    entries.push(entryAt(zip, at, name));
    at = next;
  }
  if (at !== end) throw damaged();
  return entries;
}

function entryAt(zip: Buffer, at: number, name: Buffer): Entry {
  const path = textOf(name);
  const madeOnUnix = zip.readUInt8(at + 5) === 3;
  const mode = madeOnUnix ? zip.readUInt16LE(at + 40) : 0;
  const isFolder = path.endsWith("/");
  const entry = {
    path,
    name,
    method: zip.readUInt16LE(at + 10),
    crc: zip.readUInt32LE(at + 16),
    packed: zip.readUInt32LE(at + 20),
    size: zip.readUInt32LE(at + 24),
    offset: zip.readUInt32LE(at + 42),
    executable: (mode & 0o100) !== 0,
    type: isFolder ? fileTypes.folder : mode & 0o170000,
  };
  const shown = JSON.stringify(path.slice(0, 200));
  if ((zip.readUInt16LE(at + 8) & 1) !== 0) throw new CodeRefused(`${shown} in the zip is encrypted`);
  if (entry.method !== stored && entry.method !== deflated)
    throw new CodeRefused(`${shown} is packed in a way that is not taken`);
  if (isFolder ? entry.size > 0 : entry.type !== fileTypes.none && entry.type !== fileTypes.file)
    throw new CodeRefused(`${shown} in the zip is a link or no file: a bundle has files and folders only`);
  if (entry.method === stored && entry.packed !== entry.size) throw damaged();
  return entry;
}

interface Range {
  readonly begin: number;
  readonly end: number;
  /** With its own header. */
  readonly from: number;
}

function contentOf(zip: Buffer, { offset, name, packed }: Entry, limit: number): Range {
  if (offset + localBytes > limit || zip.readUInt32LE(offset) !== localMark) throw damaged();
  const nameEnd = offset + localBytes + zip.readUInt16LE(offset + 26);
  const begin = nameEnd + zip.readUInt16LE(offset + 28);
  if (begin + packed > limit || !zip.subarray(offset + localBytes, nameEnd).equals(name)) throw damaged();
  return { from: offset, begin, end: begin + packed };
}

/** A small zip can hold much where files share their bytes. */
function requireApart(ranges: readonly Range[]): void {
  const sorted = ranges.toSorted((a, b) => a.from - b.from);
  for (const [index, { from }] of sorted.entries()) {
    const before = sorted[index - 1];
    if (before && before.end > from) throw new CodeRefused("files of the zip overlap");
  }
}

async function unpack({ path, method, size, crc }: Entry, packed: Buffer): Promise<Buffer> {
  const wrong = (cause?: unknown) =>
    new CodeRefused(`${JSON.stringify(path)} in the zip is not what its directory says`, { cause });
  const bytes =
    method === stored
      ? packed
      : await inflate(packed, { maxOutputLength: Math.max(1, size) }).catch((cause: unknown) => {
          throw wrong(cause);
        });
  if (bytes.length !== size || crc32(bytes) !== crc) throw wrong();
  return bytes;
}

function textOf(name: Buffer): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(name);
  } catch (cause) {
    throw new CodeRefused("a name in the zip is not in UTF-8", { cause });
  }
}

function damaged(): CodeRefused {
  return new CodeRefused("the zip's directory does not fit what it holds");
}
