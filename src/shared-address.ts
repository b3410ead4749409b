import type { Listen } from "./setting.ts";

/**
 * Where all processes listen. With port 0 the system chooses for the first one, and the others get the same by asking for 0
 * too, as long as any of them listens; after that the chosen port is asked for by its number.
 */
export class SharedAddress {
  #asked: Listen;
  #endpoint: string | undefined;
  #listening = 0;

  constructor(listen: Listen) {
    this.#asked = listen;
  }

  ask(): Listen {
    if (this.#listening === 0 && this.#endpoint !== undefined)
      this.#asked = { ...this.#asked, port: Number(new URL(this.#endpoint).port) || this.#asked.port };
    return this.#asked;
  }

  /** False: a process listens elsewhere than the others, so it must not stay. */
  takes(endpoint: string): boolean {
    this.#endpoint ??= endpoint;
    if (this.#endpoint !== endpoint) return false;
    this.#listening += 1;
    return true;
  }

  left(): void {
    this.#listening -= 1;
  }
}
