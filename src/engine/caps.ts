/**
 * The target that an account is at, which others share; a secret that stands for itself shares nothing: what happens at its
 * target says nothing of that of another.
 */
export function targetOf(account: string): string {
  return account.startsWith("secret/") ? account : account.slice(0, account.lastIndexOf("/"));
}

/** How many may be inside at once, for each key. */
export class Caps {
  readonly #limit: () => number;
  readonly #inside = new Map<string, number>();
  /** Turned away since somebody left. */
  readonly #turnedAway = new Map<string, number>();

  /** `limit` may change with time. */
  constructor(limit: () => number) {
    this.#limit = limit;
  }

  /** False when it is full; else `leave` must follow. `most`: a lower limit of whoever comes. */
  enter(key: string, most = Number.POSITIVE_INFINITY): boolean {
    const count = this.#inside.get(key) ?? 0;
    if (count >= this.most(most)) {
      this.turnAway(key);
      return false;
    }
    this.#inside.set(key, count + 1);
    return true;
  }

  /** How many may be inside for somebody with a lower limit of their own. */
  most(most = Number.POSITIVE_INFINITY): number {
    return Math.min(this.#limit(), most);
  }

  inside(key: string): number {
    return this.#inside.get(key) ?? 0;
  }

  turnAway(key: string): void {
    this.#turnedAway.set(key, (this.#turnedAway.get(key) ?? 0) + 1);
  }

  /** How often somebody was turned away since the last one left: the more, the later it is worth to come again. */
  turnedAway(key: string): number {
    return this.#turnedAway.get(key) ?? 0;
  }

  leave(key: string): void {
    const count = (this.#inside.get(key) ?? 1) - 1;
    if (count > 0) this.#inside.set(key, count);
    else this.#inside.delete(key);
    this.#turnedAway.delete(key);
  }
}
