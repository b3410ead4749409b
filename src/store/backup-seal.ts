import { createHash, type Hash } from "node:crypto";
import { appendFileSync, closeSync, fstatSync, openSync, readSync, truncateSync } from "node:fs";

const chunkBytes = 1024 * 1024;
const title = "\nrekey backup, sha256 of all before this line: ";
/** What `sealFile` appends: the title, 64 hexadecimal digits, a line end. */
const sealBytes = title.length + 65;

/** Appends the SHA-256 of a file to it, which SQLite does not look at. It tells of damage; whoever forges the file can forge it. */
export function sealFile(path: string): void {
  const { digest } = digestOf(path, 0);
  appendFileSync(path, `${title}${digest.digest("hex")}\n`);
}

/** Whether the file is as it was sealed, to the last bit. */
export function isSealed(path: string): boolean {
  const { digest, rest } = digestOf(path, sealBytes);
  return rest === `${title}${digest.digest("hex")}\n`;
}

/** Takes the seal off a file that has one. */
export function unsealFile(path: string): void {
  const file = openSync(path, "r");
  const { size } = fstatSync(file);
  closeSync(file);
  truncateSync(path, size - sealBytes);
}

/** Of all but the last `without` bytes, which come as text. */
function digestOf(path: string, without: number): { digest: Hash; rest: string } {
  const digest = createHash("sha256");
  const file = openSync(path, "r");
  try {
    const end = Math.max(fstatSync(file).size - without, 0);
    const buffer = Buffer.alloc(chunkBytes);
    for (let at = 0; at < end; ) {
      const read = readSync(file, buffer, 0, Math.min(chunkBytes, end - at), at);
      if (read === 0) break;
      digest.update(buffer.subarray(0, read));
      at += read;
    }
    const read = readSync(file, buffer, 0, without, end);
    return { digest, rest: buffer.toString("latin1", 0, read) };
  } finally {
    closeSync(file);
  }
}
