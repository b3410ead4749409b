import type { KeyObject } from "node:crypto";
import { newKey, openBytes, sealBytes } from "./aead.ts";

const noHeader = new Uint8Array(0);
const noData = new Uint8Array(0);

interface Entry<About> {
  readonly sealed: Buffer;
  readonly about: About;
}

/**
 * Texts with secret values in memory, bounded, each encrypted under a key that this process made for itself: so none lies
 * open in the heap longer than somebody asks for it. What is used longest ago goes first.
 */
export class SealedCache<About = { readonly generation: number; readonly etag: string; readonly contentType: string }> {
  readonly #key: KeyObject;
  readonly #maxBytes: number;
  readonly #entries = new Map<string, Entry<About>>();
  #bytes = 0;

  constructor({ maxBytes = 64 * 1024 * 1024 } = {}) {
    const { key, bytes } = newKey();
    bytes.fill(0);
    this.#key = key;
    this.#maxBytes = maxBytes;
  }

  /** What is known of a text, without opening it. */
  about(name: string): About | undefined {
    const entry = this.#entries.get(name);
    if (!entry) return undefined;
    this.#entries.delete(name); // to the end
    this.#entries.set(name, entry);
    return entry.about;
  }

  text(name: string): string | undefined {
    const entry = this.#entries.get(name);
    return entry && openBytes(this.#key, entry.sealed, noData, 0)?.toString("utf8");
  }

  put(name: string, text: string, about: About): void {
    this.#drop(name);
    const bytes = Buffer.from(text, "utf8");
    const sealed = sealBytes(this.#key, bytes, noData, noHeader);
    bytes.fill(0);
    this.#entries.set(name, { sealed, about });
    this.#bytes += size(name, sealed);
    for (const oldest of this.#entries.keys()) {
      if (this.#bytes <= this.#maxBytes) return;
      this.#drop(oldest);
    }
  }

  #drop(name: string): void {
    const entry = this.#entries.get(name);
    if (!entry) return;
    this.#bytes -= size(name, entry.sealed);
    this.#entries.delete(name);
  }
}

/** With what an entry takes beside its text. */
function size(name: string, sealed: Uint8Array): number {
  return 2 * name.length + sealed.length + 500;
}
