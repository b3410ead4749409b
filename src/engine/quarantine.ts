import { mkdir, open, readFile, rename } from "node:fs/promises";
import { dirname } from "node:path";
import {
  findQuarantine,
  lastEventId,
  type Quarantine,
  raiseEpoch,
  readAge,
  type StoreAge,
  startQuarantine,
} from "../store/quarantine.ts";
import type { Sql } from "../store/sql.ts";
import type { EngineParts } from "./parts.ts";

const lookEveryMs = 10_000;
const remindEveryMs = 10 * 60_000;
const sayHow = "nothing is done at any target before rekey quarantine release; rekey quarantine plan shows what would be";

/**
 * Keeps the engine from acting on a store that is older than what was done with it: whatever such a store believes of its
 * targets may be wrong. A restored backup says so itself. For stores that were put back by other means an epoch is kept in the
 * store and, outside of it, in a file: it rises while there is work, and a store that has fallen behind the file is an old one.
 */
export class QuarantineWatch {
  readonly #parts: EngineParts;
  #found: Quarantine | undefined;
  #lookAt = 0;
  #remindAt = 0;
  #known: StoreAge | undefined;
  #lastEvent = -1;
  #fileWorks = true;

  constructor(parts: EngineParts) {
    this.#parts = parts;
  }

  /** Whether nothing may be done now. */
  async holds(): Promise<boolean> {
    const nowMs = this.#parts.now();
    if (this.#found === undefined && nowMs < this.#lookAt) return false;
    if (nowMs >= this.#lookAt) {
      this.#lookAt = nowMs + lookEveryMs;
      await this.#compare(nowMs);
    }
    const before = this.#found;
    this.#found = await findQuarantine(this.#parts.sql);
    if (this.#found) this.#remind(this.#found, nowMs);
    else if (before) this.#parts.log.warn("the quarantine is over: work at targets begins");
    return this.#found !== undefined;
  }

  #remind({ sinceAt, reason }: Quarantine, nowMs: number): void {
    if (nowMs < this.#remindAt) return;
    this.#remindAt = nowMs + remindEveryMs;
    this.#parts.log.warn({ since: new Date(sinceAt).toISOString(), reason }, `quarantined: ${sayHow}`);
  }

  async #compare(nowMs: number): Promise<void> {
    const { sql, settings } = this.#parts;
    const age = await readAge(sql);
    const seen = newer(this.#known, settings.epochFile === undefined ? undefined : await this.#read(settings.epochFile), age);
    if (seen > age.epoch) {
      const reason = `this store is older than what was done with it (epoch ${age.epoch} of ${seen}): it was put back without rekey restore`;
      await sql.transaction((tx: Sql) => startQuarantine(tx, { sinceAt: nowMs, reason }, seen));
    }
    const lastEvent = await lastEventId(sql);
    if (lastEvent === this.#lastEvent && seen <= age.epoch) return;
    this.#lastEvent = lastEvent;
    this.#known = { store: age.store, epoch: await raiseEpoch(sql) };
    if (settings.epochFile !== undefined) await this.#write(settings.epochFile, this.#known);
  }

  async #read(file: string): Promise<StoreAge | undefined> {
    try {
      const read: unknown = JSON.parse(await readFile(file, "utf8"));
      if (typeof read === "object" && read !== null && "epoch" in read && "store" in read)
        return { epoch: Number(read.epoch), store: String(read.store) };
    } catch (error) {
      if (isMissing(error)) return undefined;
      this.#parts.log.warn({ err: error, file }, "the epoch file cannot be read");
    }
    return undefined;
  }

  /** Whole or not at all. A folder that cannot be written to keeps nothing else from being done. */
  async #write(file: string, age: StoreAge): Promise<void> {
    const draft = `${file}.new`;
    try {
      await mkdir(dirname(file), { recursive: true, mode: 0o700 });
      const handle = await open(draft, "w", 0o600);
      try {
        await handle.writeFile(`${JSON.stringify(age)}\n`);
        await handle.sync();
      } finally {
        await handle.close();
      }
      await rename(draft, file);
      this.#fileWorks = true;
    } catch (error) {
      if (!(error instanceof Error && "code" in error)) throw error;
      if (this.#fileWorks) this.#parts.log.warn({ err: error, file }, "the epoch file cannot be written");
      this.#fileWorks = false;
    }
  }
}

/** The highest epoch of this very store that is known outside of it. */
function newer(known: StoreAge | undefined, file: StoreAge | undefined, { store }: StoreAge): number {
  return Math.max(0, ...[known, file].flatMap((age) => (age?.store === store && age.epoch > 0 ? [age.epoch] : [])));
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}
