import { ServiceError } from "../core/error.ts";
import type { WrappedDataKey } from "../crypto/envelope.ts";
import { outdatedDataKeys, replaceDataKey, type StoredDataKey, sealedTables } from "../store/data-keys.ts";
import type { EngineParts } from "./parts.ts";

const pageSize = 200;
/** A node that had not heard of a new version yet may have wrapped under the old one after it was looked for. */
const lookAgainMs = 600_000;

interface Stretch {
  readonly keyId: string;
  readonly table: StoredDataKey["table"];
}

/**
 * After a ring key was rotated, wraps the data keys under its earlier versions anew, while all goes on: sealed values stay as
 * they are. Nothing is remembered: what is left to do is found by index, after a restart too.
 */
export class Rewrapping {
  readonly #parts: EngineParts;
  #seenRevision: number | undefined;
  #lookAgainAt = 0;
  #ahead: Stretch[] = [];
  #after: StoredDataKey | undefined;

  constructor(parts: EngineParts) {
    this.#parts = parts;
  }

  /** Does a page, if there is anything to do. True when there may be more. */
  async page(): Promise<boolean> {
    const { keys, now, settings } = this.#parts;
    if (!settings.ownsStore) await keys.refresh();
    if (keys.revision !== this.#seenRevision || now() >= this.#lookAgainAt) this.#begin();
    const [stretch] = this.#ahead;
    const key = stretch && keys.find(stretch.keyId);
    if (!stretch) return false;
    const read = key?.state === "enabled" ? await this.#rewrapPage(stretch, key.currentVersion) : [];
    this.#after = read.at(-1);
    if (read.length < pageSize) {
      this.#ahead.shift();
      this.#after = undefined;
    }
    return this.#ahead.length > 0;
  }

  #begin(): void {
    const { keys, now } = this.#parts;
    this.#seenRevision = keys.revision;
    this.#lookAgainAt = now() + lookAgainMs;
    const rotated = keys.all().filter(({ state, currentVersion }) => state === "enabled" && currentVersion > 1);
    this.#ahead = rotated.flatMap(({ id }) => sealedTables().map((table) => ({ keyId: id, table })));
    this.#after = undefined;
  }

  async #rewrapPage({ keyId, table }: Stretch, belowVersion: number): Promise<StoredDataKey[]> {
    const { sql } = this.#parts;
    const page = await outdatedDataKeys(sql, { table, keyId, belowVersion, after: this.#after, limit: pageSize });
    const wrapped: [StoredDataKey, WrappedDataKey][] = [];
    for (const each of page) {
      const anew = await this.#rewrap(each);
      if (anew) wrapped.push([each, anew]);
    }
    if (wrapped.length > 0) {
      await sql.transaction(async (tx) => {
        for (const [each, anew] of wrapped) await replaceDataKey(tx, each, anew);
      });
    }
    return page;
  }

  /** One that cannot be unwrapped stays as it is: somebody may have the bytes that it should be. */
  async #rewrap({ wrappedDataKey, context, table, row }: StoredDataKey): Promise<WrappedDataKey | undefined> {
    try {
      return await this.#parts.envelope.rewrap(wrappedDataKey, context);
    } catch (error) {
      if (!(error instanceof ServiceError)) throw error;
      this.#parts.log.warn({ err: error, table, row }, "a data key cannot be wrapped anew and stays as it is");
      return undefined;
    }
  }
}
