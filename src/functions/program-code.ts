import { createHash } from "node:crypto";
import { lstat, realpath } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { ConfigError, RotatorError } from "../core/error.ts";
import type { ProcessSettings } from "../core/function.ts";
import { type Bundle, type BundleFile, CodeRefused, readRegular, sha256 } from "./code-bundle.ts";
import { CodeCopies, type PutFile } from "./code-copies.ts";
import { type Publishers, readPublishers } from "./code-publishers.ts";
import { hasSignature, openBundle, readSigned, type SignedBundle } from "./code-verify.ts";
import { findProgramFile, type ProgramFile, requireClosed, settingsProblem } from "./program-file.ts";
import { readZip } from "./zip-file.ts";

/** What is asked of the code of functions: `enforce`: unsigned code does not run; `warn`: it does, and is on record. */
type CodeSigning = "enforce" | "warn" | "off";

export interface ProgramCodeParts {
  /** Where the files of process functions lie; absent: none is run. */
  readonly folder: string | undefined;
  readonly signing: CodeSigning;
  /** File or folder of the keys of those whose code may run. */
  readonly publishers: string | undefined;
  /** Folder for copies, for which nobody else may get there. */
  readonly copies: string;
  /** Other users of the system run the code. */
  readonly forOthers: boolean;
  now(): number;
}

/** Code as it may be run. */
export interface Program extends ProgramFile {
  /** The copy that it is a part of: nothing else is loaded with it. Absent: it runs where it lies. */
  readonly within?: string;
  /** Why it would not be run if signatures were enforced. */
  readonly doubt?: string;
}

interface Found extends Bundle {
  /** What is run, as a path in the bundle. */
  readonly file: string;
  readonly isZip: boolean;
}

const mostKnown = 1_000;
const maxZipBytes = 100 * 1024 * 1024;

/** Finds the code of process functions, holds it against its signature, and keeps what is run from being changed after that. */
export class ProgramCode {
  readonly #parts: ProgramCodeParts;
  readonly #copies: CodeCopies;
  /** By path: how bundles lay there when they were last seen to be as signed. */
  readonly #known = new Map<string, string>();

  constructor(parts: ProgramCodeParts) {
    const { copies, forOthers, now } = parts;
    this.#parts = parts;
    // Nobody but the server gets into its data folder.
    this.#copies = new CodeCopies({ within: forOthers ? tmpdir() : copies, forOthers, now });
  }

  /**
   * What a call is to run, asked before every one: what lies there, or who is trusted, may have changed.
   * @throws CodeRefused when signatures are enforced and this code has none that holds; RotatorError as `findProgramFile`.
   */
  async find(settings: ProcessSettings): Promise<Program> {
    const { folder, signing, forOthers } = this.#parts;
    if (folder === undefined || settingsProblem(settings) !== undefined) return findProgramFile(folder, settings, forOthers);
    if (signing === "off") return this.#unsigned(folder, settings);
    try {
      return await this.#signed(folder, settings);
    } catch (error) {
      if (!(error instanceof CodeRefused) || signing === "enforce") throw error;
      return { ...(await this.#unsigned(folder, settings)), doubt: error.message };
    }
  }

  close(): Promise<void> {
    return this.#copies.close();
  }

  async #unsigned(folder: string, settings: ProcessSettings): Promise<Program> {
    if (!settings.file.includes(".zip/")) return findProgramFile(folder, settings, this.#parts.forOthers);
    const found = await locate(folder, settings.file, () => false);
    if (!found.isZip) return findProgramFile(folder, settings, this.#parts.forOthers);
    const zip = await readRegular(found.path, maxZipBytes);
    return this.#program(settings, found, await this.#copyOfZip(zip));
  }

  async #signed(folder: string, settings: ProcessSettings): Promise<Program> {
    try {
      const found = await locate(folder, settings.file, hasSignature);
      return await this.#program(settings, found, await this.#verifiedCopy(found));
    } catch (error) {
      if (!(error instanceof CodeRefused)) throw error;
      throw new CodeRefused(`the code of ${settings.file} is not trusted: ${error.message}`, { cause: error });
    }
  }

  async #verifiedCopy(found: Found): Promise<string> {
    const publishers = await this.#publishers();
    const signed = await openBundle(found, { publishers, nowMs: this.#parts.now() });
    const path = await this.#copyOf(found, signed);
    this.#known.delete(found.path);
    this.#known.set(found.path, signed.print);
    const [oldest] = this.#known.keys();
    if (this.#known.size > mostKnown && oldest !== undefined) this.#known.delete(oldest);
    return path;
  }

  /** What is copied are the very bytes whose digest was taken; what lies there unchanged since then is not read again. */
  async #copyOf(found: Found, { statement: { files }, print }: SignedBundle): Promise<string> {
    if (this.#known.get(found.path) !== print) for (const file of files) await readSigned(found, file);
    const [first] = files;
    if (found.isZip && first) return this.#copies.take(first.sha256, async (put) => putZip(await readSigned(found, first), put));
    return this.#copies.take(digestOf(found, files), async (put) => {
      for (const file of files) await put(file.path, await readSigned(found, file), file.executable);
    });
  }

  #copyOfZip(zip: Buffer): Promise<string> {
    return this.#copies.take(sha256(zip), (put) => putZip(zip, put));
  }

  async #program(settings: ProcessSettings, { file }: Found, copy: string): Promise<Program> {
    const { forOthers } = this.#parts;
    const inside = await lstat(join(copy, file)).catch(() => undefined);
    if (!inside?.isFile()) throw new RotatorError("invalid", `${settings.file} is not in its bundle`);
    return { ...(await findProgramFile(copy, { ...settings, file }, forOthers)), within: await realpath(copy) };
  }

  async #publishers(): Promise<Publishers> {
    try {
      return await readPublishers(this.#parts.publishers ?? "");
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      throw new CodeRefused(error.message, { cause: error });
    }
  }
}

/**
 * The bundle that a file of the functions folder belongs to: the outermost folder above it that is signed, or the zip that it is
 * in, or itself.
 * @throws CodeRefused for links on the way, where another than the one that is looked at could be read.
 */
async function locate(folder: string, file: string, isSigned: (path: string) => Promise<boolean> | boolean): Promise<Found> {
  const root = await realpath(folder).catch((cause: unknown) => {
    throw new RotatorError("invalid", "the functions folder cannot be read: is it there?", { cause });
  });
  const parts = file.split("/").filter((part) => part !== "" && part !== ".");
  await requireClosed(root, root);
  for (let length = 1; length <= parts.length; length += 1) {
    const path = join(root, ...parts.slice(0, length));
    const rest = parts.slice(length).join("/");
    const found = await lstat(path).catch((cause: unknown) => {
      throw new RotatorError("invalid", `${file} cannot be read: is it there?`, { cause });
    });
    if (found.isSymbolicLink()) throw new CodeRefused(`${parts.slice(0, length).join("/")} is a link`);
    if (found.isDirectory()) {
      await requireClosed(path, root);
      if (await isSigned(path)) return { path, kind: "folder", file: rest, isZip: false };
    } else return { path, kind: "file", file: rest || basename(path), isZip: rest !== "" && path.endsWith(".zip") };
  }
  throw new RotatorError("invalid", `${file} is not a file`);
}

function digestOf({ kind, path }: Bundle, files: readonly BundleFile[]): string {
  const hash = createHash("sha256").update(`${kind} ${basename(path)}\n`);
  for (const file of files) hash.update(`${JSON.stringify(file.path)} ${file.sha256} ${file.executable}\n`);
  return hash.digest("base64url");
}

async function putZip(zip: Buffer, put: PutFile): Promise<void> {
  for (const file of readZip(zip)) await put(file.path, await file.read(), file.executable);
}
