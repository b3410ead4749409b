import { inspect } from "node:util";

/** A secret value in memory. Prints, serialises and inspects as `[redacted]`; `reveal` is the only way to the bytes. */
export class Plaintext {
  readonly #bytes: Buffer;

  constructor(value: string | Uint8Array) {
    this.#bytes = typeof value === "string" ? Buffer.from(value, "utf8") : Buffer.from(value);
  }

  get length(): number {
    return this.#bytes.length;
  }

  reveal(): Buffer {
    return this.#bytes;
  }

  revealText(): string {
    return this.#bytes.toString("utf8");
  }

  equals(other: Plaintext): boolean {
    return this.#bytes.equals(other.#bytes);
  }

  toString(): string {
    return "[redacted]";
  }

  toJSON(): string {
    return "[redacted]";
  }

  [inspect.custom](): string {
    return "[redacted]";
  }
}
