import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { closeSync, constants, lstatSync, open, openSync, renameSync, rmSync } from "node:fs";
import { Socket } from "node:net";
import { promisify } from "node:util";
import { CommandError } from "../command-error.ts";
import { isAbsent } from "../private-file.ts";

const run = promisify(execFile);
/** Gives a plain descriptor: a socket takes it over and closes it. */
const openFile = promisify<string, number, number>(open);

/**
 * A named pipe that gives whoever opens it a text, and that only this user may open: nothing of it ever lies on a disk. Each
 * reader gets a pipe of its own: the next one takes its place at the path as soon as one is opened.
 */
export class Mount {
  readonly #path: string;
  readonly #maxReads: number;
  #content: string;
  #reads = 0;
  #isClosed = false;
  #spare: string | undefined;
  readonly #open = new Set<Socket>();
  #served: Promise<void> = Promise.resolve();

  private constructor(path: string, content: string, maxReads: number) {
    this.#path = path;
    this.#content = content;
    this.#maxReads = maxReads;
  }

  /** @throws CommandError when something else is there, or pipes cannot be made. */
  static async at(path: string, content: string, maxReads = Number.POSITIVE_INFINITY): Promise<Mount> {
    requireFree(path);
    const mount = new Mount(path, content, maxReads);
    renameSync(await makePipe(path), path);
    mount.#served = mount.#serve();
    return mount;
  }

  /** What readers get from now on. */
  replace(content: string): void {
    this.#content = content;
  }

  /** Removes the pipe; a reader that is reading is cut off. */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const socket of this.#open) socket.destroy();
    const reader = openReader(this.#path);
    rmSync(this.#path, { force: true });
    await this.#served;
    if (reader !== undefined) closeSync(reader);
    if (this.#spare) rmSync(this.#spare, { force: true });
  }

  async #serve(): Promise<void> {
    while (!this.#isClosed && this.#reads < this.#maxReads) {
      this.#spare = this.#reads + 1 < this.#maxReads ? await makePipe(this.#path) : undefined;
      const pipe = await openForWriting(this.#path);
      if (pipe === undefined) return;
      if (this.#isClosed) {
        closeSync(pipe);
        return;
      }
      this.#reads += 1;
      if (this.#spare) renameSync(this.#spare, this.#path);
      else rmSync(this.#path, { force: true });
      this.#spare = undefined;
      this.#give(pipe);
    }
  }

  #give(pipe: number): void {
    const socket = new Socket({ fd: pipe, readable: false, writable: true });
    this.#open.add(socket);
    socket.on("error", () => undefined); // a reader may stop half way
    socket.once("close", () => this.#open.delete(socket));
    socket.end(this.#content);
  }
}

/** A pipe that nobody serves is what a run left that was killed. */
function requireFree(path: string): void {
  try {
    const found = lstatSync(path);
    if (!found.isFIFO() || found.uid !== process.getuid?.())
      throw new CommandError(2, `${path} is there already: remove it, or mount at another path`);
  } catch (error) {
    if (!isAbsent(error)) throw error;
  }
}

/** Beside `path`, readable by this user only. */
async function makePipe(path: string): Promise<string> {
  const made = `${path}.${randomBytes(6).toString("hex")}`;
  try {
    await run("mkfifo", ["-m", "600", made]);
    return made;
  } catch (error) {
    const said = error instanceof Error && "stderr" in error ? String(error.stderr).trim() : String(error);
    throw new CommandError(1, `${path} cannot be made a named pipe (${said || "no mkfifo"}); choose a path on a local disk`, {
      cause: error,
    });
  }
}

/** Waits until somebody opens it for reading; `undefined` when it was removed. */
async function openForWriting(path: string): Promise<number | undefined> {
  try {
    return await openFile(path, constants.O_WRONLY);
  } catch (error) {
    if (isAbsent(error)) return undefined;
    throw error;
  }
}

/** Lets an `open` go on that waits for a reader, or that is about to. */
function openReader(path: string): number | undefined {
  try {
    return openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    if (isAbsent(error)) return undefined;
    throw error;
  }
}
