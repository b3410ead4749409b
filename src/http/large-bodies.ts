import type { IncomingMessage, ServerResponse } from "node:http";

/** Smaller bodies are bounded by the number of connections alone. */
const largeBytes = 64 * 1024;
const maxHeldBytes = 256 * 1024 * 1024;

/** Memory for large bodies: anybody may send one, also who shows no credentials, and all at once they would be more than there is. */
export class LargeBodies {
  readonly #maxBodyBytes: number;
  #held = 0;

  constructor(maxBodyBytes: number) {
    this.#maxBodyBytes = maxBodyBytes;
  }

  /** Whether there is room for the request's body; kept until its answer is over. */
  hasRoom({ headers }: IncomingMessage, response: ServerResponse): boolean {
    const announced = headers["transfer-encoding"] === undefined ? Number(headers["content-length"] ?? 0) : this.#maxBodyBytes;
    if (announced <= largeBytes || announced > this.#maxBodyBytes) return true; // what is too large is refused unread
    if (this.#held + announced > maxHeldBytes) return false;
    this.#held += announced;
    response.once("close", () => {
      this.#held -= announced;
    });
    return true;
  }
}
