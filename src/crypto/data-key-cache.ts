import type { KeyObject } from "node:crypto";

interface CachedKey {
  readonly key: KeyObject;
  readonly ringKeyId: string;
}

interface Entry extends CachedKey {
  /** Read since it was last passed over for dropping. */
  used: boolean;
}

/**
 * Unwrapped data keys, within a bound: the oldest that was not read of late goes first. Reading only sets a mark, since
 * reordering a large map on every read costs as much as the rest of opening a value. A dropped KeyObject's bytes are
 * overwritten when it is freed.
 */
export class DataKeyCache {
  readonly #max: number;
  readonly #keys = new Map<string, Entry>();

  constructor(max: number) {
    this.#max = max;
  }

  get size(): number {
    return this.#keys.size;
  }

  get(wrapped: Uint8Array): CachedKey | undefined {
    const entry = this.#keys.get(identity(wrapped));
    if (entry) entry.used = true;
    return entry;
  }

  put(wrapped: Uint8Array, { key, ringKeyId }: CachedKey): void {
    const id = identity(wrapped);
    if (!this.#keys.has(id)) this.#makeRoom();
    this.#keys.set(id, { key, ringKeyId, used: false });
  }

  /** Drops every data key that this ring key wraps. */
  dropUnder(ringKeyId: string): void {
    for (const [id, entry] of this.#keys) if (entry.ringKeyId === ringKeyId) this.#keys.delete(id);
  }

  /** A marked entry loses its mark and goes to the end, so that one pass finds an entry to drop. */
  #makeRoom(): void {
    for (const [id, entry] of this.#keys) {
      if (this.#keys.size < this.#max) return;
      this.#keys.delete(id);
      if (entry.used) this.#keys.set(id, { ...entry, used: false });
    }
  }
}

/** All of the wrapped bytes, so that one changed bit is another key. */
function identity(wrapped: Uint8Array): string {
  return Buffer.from(wrapped.buffer, wrapped.byteOffset, wrapped.length).toString("latin1");
}
