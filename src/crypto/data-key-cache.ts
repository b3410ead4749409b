import type { KeyObject } from "node:crypto";

interface CachedKey {
  readonly key: KeyObject;
  readonly ringKeyId: string;
}

/** Unwrapped data keys, the least recently used dropped first. A dropped KeyObject's bytes are overwritten when it is freed. */
export class DataKeyCache {
  readonly #max: number;
  readonly #keys = new Map<string, CachedKey>();

  constructor(max: number) {
    this.#max = max;
  }

  get size(): number {
    return this.#keys.size;
  }

  get(wrapped: Uint8Array): CachedKey | undefined {
    const id = identity(wrapped);
    const cached = this.#keys.get(id);
    if (!cached) return undefined;
    this.#keys.delete(id);
    this.#keys.set(id, cached);
    return cached;
  }

  put(wrapped: Uint8Array, cached: CachedKey): void {
    this.#keys.set(identity(wrapped), cached);
    if (this.#keys.size <= this.#max) return;
    for (const oldest of this.#keys.keys()) {
      this.#keys.delete(oldest);
      return;
    }
  }

  /** Drops every data key that this ring key wraps. */
  dropUnder(ringKeyId: string): void {
    for (const [id, cached] of this.#keys) if (cached.ringKeyId === ringKeyId) this.#keys.delete(id);
  }
}

/** All of the wrapped bytes, so that one changed bit is another key. */
function identity(wrapped: Uint8Array): string {
  return Buffer.from(wrapped.buffer, wrapped.byteOffset, wrapped.length).toString("latin1");
}
