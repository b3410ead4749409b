/** How many may be inside at once, for each key. */
export class Caps {
  readonly #limit: number;
  readonly #inside = new Map<string, number>();

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** False when it is full; else `leave` must follow. */
  enter(key: string): boolean {
    const count = this.#inside.get(key) ?? 0;
    if (count >= this.#limit) return false;
    this.#inside.set(key, count + 1);
    return true;
  }

  leave(key: string): void {
    const count = (this.#inside.get(key) ?? 1) - 1;
    if (count > 0) this.#inside.set(key, count);
    else this.#inside.delete(key);
  }
}
