import { hash } from "node:crypto";
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { CommandError } from "../command-error.ts";
import { ownFolder } from "../own-folders.ts";
import { isOutOfReach, writePrivateFile } from "../private-file.ts";
import type { ConfigConnection } from "../scope.ts";
import { CopySealer, type OfflineCopy } from "./sealed-copy.ts";

/** Below this age the same copy is not written again only to say that it still holds. */
const freshMs = 60_000;

/** The offline copy of one config for one token, in a file that only this user may read. */
export class OfflineFile {
  readonly path: string;
  readonly #sealer: CopySealer;
  /** Whether the path was chosen by name: such a file is never removed. */
  readonly #isChosen: boolean;
  /** Of a part of the config's secrets only: it takes no place of a file that was made of all. */
  readonly #isPart: boolean;

  constructor(
    connection: ConfigConnection,
    { path, names }: { path?: string | undefined; names?: readonly string[] | undefined } = {},
  ) {
    const { endpoint, token, project = "", config = "" } = connection;
    this.#isChosen = path !== undefined;
    this.#isPart = names !== undefined;
    this.#sealer = new CopySealer(token);
    const about = [endpoint, token, project, config, ...(names ?? []).toSorted()];
    const name = hash("sha256", about.join("\n")).slice(0, 40);
    this.path = path ?? join(ownFolder("state"), "offline", name);
  }

  /**
   * `undefined` when there is none, or none that this token opens. Whoever could write it without the token could only take it
   * away: it is sealed.
   */
  async read(): Promise<OfflineCopy | undefined> {
    try {
      return await this.#sealer.open(readFileSync(this.path, "utf8"));
    } catch (error) {
      if (isOutOfReach(error)) return undefined;
      throw error;
    }
  }

  /** Keeps a copy. Where nothing can be written, as in a container with a read-only disk, that is told and no failure. */
  async keep(copy: OfflineCopy, before: OfflineCopy | undefined, warn: (text: string) => void): Promise<void> {
    if (this.#isChosen && this.#isPart) return;
    if (before && isSame(copy, before) && copy.confirmedAt - before.confirmedAt < freshMs) return;
    try {
      await this.write(copy);
    } catch (error) {
      if (!(error instanceof Error && "code" in error)) throw error;
      warn(
        `no offline copy can be kept in ${this.path} (${String(error.code)}); --fallback FILE names another place, --no-fallback does without`,
      );
    }
  }

  async write(copy: OfflineCopy): Promise<void> {
    writePrivateFile(this.path, await this.#sealer.seal(copy));
  }

  /** When the server says that this token may not read the config any more, neither may whoever finds the file. */
  remove(): void {
    if (!this.#isChosen) rmSync(this.path, { force: true });
  }
}

const isSame = (a: OfflineCopy, b: OfflineCopy): boolean =>
  a.etag !== undefined && a.etag === b.etag && a.leasedNames.join() === b.leasedNames.join();

/** @throws CommandError when a copy is too old, or of another config than the one that is asked for. */
export function requireUsable(copy: OfflineCopy, asked: ConfigConnection, maxAgeSeconds: number | undefined, now: number): void {
  const ageSeconds = Math.round((now - copy.confirmedAt) / 1000);
  if (maxAgeSeconds !== undefined && ageSeconds > maxAgeSeconds)
    throw new CommandError(3, `the offline copy is ${ageSeconds} s old, and --fallback-max-age allows ${maxAgeSeconds} s`);
  if (asked.config !== undefined && copy.config !== undefined && asked.config !== copy.config)
    throw new CommandError(2, `the offline copy is of config ${copy.config}, not of ${asked.config}`);
}
