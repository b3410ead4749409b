// Zips as nobody should make them.
import { crc32, deflateRawSync } from "node:zlib";

export interface CraftedFile {
  readonly name: string;
  readonly text?: string;
  /** Of the local header, where it differs. */
  readonly localName?: string;
  readonly mode?: number;
  readonly flags?: number;
  readonly method?: number;
  /** As the directory says. */
  readonly crc?: number;
  readonly size?: number;
  /** Names the place of the first file as its own. */
  readonly sharesFirst?: boolean;
}

export function craftZip(files: readonly CraftedFile[]): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const { name, text = "text", localName = name, mode = 0o100644, flags = 0, method = 8, crc, size, sharesFirst } of files) {
    const packed = deflateRawSync(Buffer.from(text));
    const nameBytes = Buffer.from(name);
    const entry = Buffer.alloc(46);
    entry.writeUInt32LE(0x02014b50);
    entry.writeUInt16LE((3 << 8) | 20, 4);
    entry.writeUInt16LE(flags, 8);
    entry.writeUInt16LE(method, 10);
    entry.writeUInt32LE(crc ?? crc32(Buffer.from(text)), 16);
    entry.writeUInt32LE(packed.length, 20);
    entry.writeUInt32LE(size ?? Buffer.byteLength(text), 24);
    entry.writeUInt16LE(nameBytes.length, 28);
    entry.writeUInt32LE((mode << 16) >>> 0, 38);
    entry.writeUInt32LE(sharesFirst ? 0 : offset, 42);
    directory.push(entry, nameBytes);
    const local = Buffer.alloc(30);
    local.writeUInt32LE(0x04034b50);
    local.writeUInt16LE(flags, 6);
    local.writeUInt16LE(method, 8);
    local.writeUInt16LE(Buffer.byteLength(localName), 26);
    parts.push(local, Buffer.from(localName), packed);
    offset += 30 + Buffer.byteLength(localName) + packed.length;
  }
  const size = directory.reduce((sum, { length }) => sum + length, 0);
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50);
  end.writeUInt16LE(files.length, 8);
  end.writeUInt16LE(files.length, 10);
  end.writeUInt32LE(size, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...parts, ...directory, end]);
}
