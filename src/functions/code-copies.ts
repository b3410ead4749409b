import { randomUUID } from "node:crypto";
import { chmod, mkdir, mkdtemp, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { RotatorError } from "../core/error.ts";
import { foldersOf, listBundle, pathsProblem } from "./code-bundle.ts";

/** Puts one file into a copy. */
export type PutFile = (path: string, bytes: Uint8Array, executable: boolean) => Promise<void>;

interface Copy {
  readonly path: string;
  readonly bytes: number;
  readonly print: string;
  usedAt: number;
}

/** A call may take 900 s, and its process waits for the next one: what was not asked for this long is in nobody's use. */
const unusedMs = 20 * 60_000;
/** Of all copies of a process. */
const mostBytes = 1024 * 1024 * 1024;
const folderPrefix = "rekey-code-";
/** Until then the folder of a server of which nothing is known may still be in use. */
const abandonedMs = 60 * 60_000;

/**
 * Copies of code that only this process of the server writes, each in a folder named by its content. They end with the
 * process, and before that when nothing has used them for 20 minutes.
 */
export class CodeCopies {
  readonly #within: string;
  readonly #forOthers: boolean;
  readonly #now: () => number;
  readonly #copies = new Map<string, Copy>();
  readonly #making = new Map<string, Promise<string>>();
  #root: Promise<string> | undefined;

  /** `within`: where their folder is made; `forOthers`: other users of the system read them. */
  constructor({ within, forOthers, now }: { within: string; forOthers: boolean; now: () => number }) {
    this.#within = within;
    this.#forOthers = forOthers;
    this.#now = now;
  }

  /**
   * The folder with this content; `write` puts it there when it is not, or is no longer as it was made.
   * @throws what `write` throws; RotatorError `unreachable` when there is no room.
   */
  async take(digest: string, write: (put: PutFile) => Promise<void>): Promise<string> {
    await this.#sweep();
    const known = this.#copies.get(digest);
    if (known && (await printOf(known.path)) === known.print) {
      known.usedAt = this.#now();
      return known.path;
    }
    if (known) this.#copies.set(`${digest} ${known.path}`, known); // a process of it may still run
    const making = this.#making.get(digest) ?? this.#make(digest, write).finally(() => this.#making.delete(digest));
    this.#making.set(digest, making);
    return making;
  }

  async close(): Promise<void> {
    await Promise.allSettled(this.#making.values());
    const root = await this.#root?.catch(() => undefined);
    this.#copies.clear();
    this.#root = undefined;
    if (root !== undefined) await remove(root);
  }

  async #make(digest: string, write: (put: PutFile) => Promise<void>): Promise<string> {
    this.#root ??= this.#makeRoot();
    const root = await this.#root.catch((error: unknown) => {
      this.#root = undefined;
      throw error;
    });
    const draft = join(root, `draft-${randomUUID()}`);
    const taken = [...this.#copies.values()].reduce((sum, { bytes }) => sum + bytes, 0);
    let bytes = 0;
    try {
      await mkdir(draft);
      await chmod(draft, 0o755); // whatever the umask is
      await write(async (path, content, executable) => {
        const problem = pathsProblem([path]);
        if (problem !== undefined) throw new Error(`a copy cannot have the path ${problem}`);
        bytes += content.length;
        if (taken + bytes > mostBytes)
          throw new RotatorError(
            "unreachable",
            `copies of functions' code take more than ${mostBytes} bytes here: try again later`,
          );
        await makeFolders(draft, path);
        await writeFile(join(draft, path), content, { flag: "wx", mode: 0o600 });
        await chmod(join(draft, path), executable ? 0o555 : 0o444);
      });
      // Under a name of its own: processes of one that was tampered with may still run.
      const path = join(root, `${digest}-${randomUUID().slice(0, 8)}`);
      await rename(draft, path);
      this.#copies.set(digest, { path, bytes, print: (await printOf(path)) ?? "", usedAt: this.#now() });
      return path;
    } finally {
      await remove(draft);
    }
  }

  async #makeRoot(): Promise<string> {
    await mkdir(this.#within, { recursive: true, mode: 0o700 });
    await this.#removeAbandoned();
    const root = await mkdtemp(join(this.#within, `${folderPrefix}${process.pid}-`));
    await chmod(root, this.#forOthers ? 0o711 : 0o700);
    await writeFile(join(root, "package.json"), "{}\n", { mode: 0o444 }); // Node looks for no other one above
    await chmod(join(root, "package.json"), 0o444);
    return root;
  }

  /** Of servers that were killed. */
  async #removeAbandoned(): Promise<void> {
    for (const name of await readdir(this.#within)) {
      const [, pid] = new RegExp(`^${folderPrefix}(\\d+)-\\w{6}$`).exec(name) ?? [];
      if (pid === undefined) continue;
      const path = join(this.#within, name);
      const found = await stat(path).catch(() => undefined);
      const isOld = found?.isDirectory() && found.uid === process.getuid?.() && this.#now() - found.mtimeMs > abandonedMs;
      if (isOld && !isAlive(Number(pid))) await remove(path);
    }
  }

  async #sweep(): Promise<void> {
    for (const [digest, { path, usedAt }] of [...this.#copies]) {
      if (this.#now() - usedAt <= unusedMs) continue;
      this.#copies.delete(digest);
      await remove(path);
    }
  }
}

/** `undefined`: it is not as it was made. */
async function printOf(path: string): Promise<string | undefined> {
  try {
    return (await listBundle({ path, kind: "folder" })).print;
  } catch (error) {
    if (error instanceof RotatorError) return undefined;
    throw error;
  }
}

async function makeFolders(root: string, file: string): Promise<void> {
  for (const folder of foldersOf(file))
    if ((await mkdir(join(root, folder), { recursive: true })) !== undefined) await chmod(join(root, folder), 0o755);
}

async function remove(path: string): Promise<void> {
  await rm(path, { recursive: true, force: true });
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return !(error instanceof Error && "code" in error && error.code === "ESRCH");
  }
}
