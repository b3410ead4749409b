import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { lstat, open, readdir } from "node:fs/promises";
import { basename, join } from "node:path";
import { RotatorError } from "../core/error.ts";

/** One file of a bundle. */
export interface BundleFile {
  /** Below the bundle, parts divided by `/`; of a bundle that is one file, its name. */
  readonly path: string;
  /** base64url */
  readonly sha256: string;
  readonly size: number;
  readonly executable: boolean;
}

/** Code that is signed and run as a whole: a folder, or one file, which may be a zip. */
export interface Bundle {
  readonly path: string;
  readonly kind: "file" | "folder";
}

/** What lies there, by what the file system says alone. */
export interface Listing {
  readonly files: readonly Omit<BundleFile, "sha256">[];
  /** Another one as soon as a file was written, replaced, added or taken away, whatever its times were set to. */
  readonly print: string;
}

/** Source of `bytes`: AWS Lambda quotas, unzipped deployment package. */
export const bundleLimits = { files: 10_000, bytes: 250 * 1024 * 1024, pathChars: 512, foldersDeep: 64 } as const;

/** What keeps code from being run, or signed: it is not what it should be. */
export class CodeRefused extends RotatorError {
  constructor(message: string, options?: ErrorOptions) {
    super("denied", message, options);
  }
}

/**
 * What is wrong with the paths of a bundle, or `undefined`: one that leads out of it, has characters that systems read in
 * different ways, or cannot be told from another where capitals or kinds of accents do not count.
 */
export function pathsProblem(paths: readonly string[]): string | undefined {
  const seen = new Set<string>();
  const folded = (path: string) => path.normalize("NFC").toLowerCase();
  for (const path of paths) {
    const problem = pathProblem(path);
    if (problem !== undefined) return problem;
    if (seen.has(folded(path))) return `${shown(path)} is there twice, or differs from another name in capitals alone`;
    seen.add(folded(path));
  }
  const below = paths.find((path) => foldersOf(folded(path)).some((folder) => seen.has(folder)));
  return below === undefined ? undefined : `${shown(below)} lies below a file`;
}

function pathProblem(path: string): string | undefined {
  const parts = path.split("/");
  if (path.length > bundleLimits.pathChars || parts.length > bundleLimits.foldersDeep) return `${shown(path)} is too long`;
  if (!/^[^\p{Cc}\p{Cs}\\:\uFFFD]+$/u.test(path)) return `${shown(path)} has characters that a path in a bundle must not have`;
  const isBelow = parts.every((part) => part !== "" && part !== "." && part !== "..");
  return isBelow ? undefined : `${shown(path)} is no path below the bundle`;
}

/** All folders that a path lies in, below the bundle. */
export function foldersOf(path: string): string[] {
  const parts = path.split("/").slice(0, -1);
  return parts.map((_, index) => parts.slice(0, index + 1).join("/"));
}

const shown = (path: string) => JSON.stringify(path.slice(0, 200));

/** @throws CodeRefused for links, special files and paths that a bundle must not have, and beyond its limits. */
export async function listBundle({ path, kind }: Bundle): Promise<Listing> {
  const files: Omit<BundleFile, "sha256">[] = [];
  const print = createHash("sha256");
  let bytes = 0;
  const add = async (file: string, absolute: string): Promise<void> => {
    const found = await lstat(absolute, { bigint: true }).catch(gone(file));
    if (!found.isFile()) throw new CodeRefused(`${file} is a link or no file: a bundle has files and folders only`);
    const { dev, ino, mode, size, mtimeNs, ctimeNs } = found;
    print.update(`${JSON.stringify(file)} ${dev} ${ino} ${mode} ${size} ${mtimeNs} ${ctimeNs}\n`);
    files.push({ path: file, size: Number(size), executable: (mode & 0o100n) !== 0n });
    bytes += Number(size);
    if (files.length > bundleLimits.files) throw new CodeRefused(`a bundle has at most ${bundleLimits.files} files`);
    if (bytes > bundleLimits.bytes) throw new CodeRefused(`a bundle has at most ${bundleLimits.bytes} bytes`);
  };
  const walk = async (below: string, depth: number): Promise<void> => {
    if (depth > bundleLimits.foldersDeep)
      throw new CodeRefused(`${below} is too deep: a bundle has ${bundleLimits.foldersDeep} levels`);
    const entries = await readdir(join(path, below), { withFileTypes: true }).catch(gone(below));
    for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
      const file = below === "" ? entry.name : `${below}/${entry.name}`;
      if (entry.isDirectory()) await walk(file, depth + 1);
      else await add(file, join(path, file));
    }
  };
  if (kind === "folder") await walk("", 0);
  else await add(basename(path), path);
  files.sort((a, b) => (a.path < b.path ? -1 : 1));
  const problem = pathsProblem(files.map((file) => file.path));
  if (problem !== undefined) throw new CodeRefused(problem);
  return { files, print: print.digest("base64url") };
}

/** The files with their digests, for a signature. @throws CodeRefused as `listBundle` */
export async function describeBundle(bundle: Bundle): Promise<BundleFile[]> {
  const described: BundleFile[] = [];
  for (const file of (await listBundle(bundle)).files) {
    const bytes = await readRegular(pathIn(bundle, file.path), file.size);
    described.push({ ...file, sha256: sha256(bytes) });
  }
  return described;
}

/** Where a file of a bundle lies. */
export function pathIn({ path, kind }: Bundle, file: string): string {
  return kind === "file" ? path : join(path, file);
}

export function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("base64url");
}

/**
 * All of a file that is no link and has at most so many bytes. What was put in its place meanwhile cannot hold the server up.
 * @throws CodeRefused
 */
export async function readRegular(path: string, maxBytes: number): Promise<Buffer> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch(gone(path));
  try {
    const found = await file.stat();
    if (!found.isFile()) throw new CodeRefused(`${path} is no file`);
    const bytes = Buffer.alloc(Math.min(found.size, maxBytes) + 1);
    let length = 0;
    for (;;) {
      const { bytesRead } = await file.read(bytes, length, bytes.length - length);
      length += bytesRead;
      if (length > maxBytes) throw new CodeRefused(`${path} has more than ${maxBytes} bytes, or grows as it is read`);
      if (bytesRead === 0 || length === bytes.length) return bytes.subarray(0, length);
    }
  } finally {
    await file.close();
  }
}

/** It was there when it was looked for, or should be; a link in its place is refused by the system (ELOOP). */
function gone(path: string): (cause: Error) => never {
  return (cause) => {
    const code = "code" in cause ? String(cause.code) : "unreadable";
    throw new CodeRefused(`${path || "the bundle"} cannot be read as a file or folder of its own (${code})`, { cause });
  };
}
