/** Uses of one credential are noted once in this time. */
const usedEveryMs = 60_000;

/**
 * What is known of credentials, for one version of all identities: another version empties it. Bounded: the oldest entry
 * goes first. Loads of one credential at the same time are one load. Absence is not kept.
 */
export class CredentialCache<T> {
  readonly #maxEntries: number;
  #version = "";
  readonly #entries = new Map<string, T>();
  readonly #loading = new Map<string, Promise<T | undefined>>();
  readonly #lastUsedAt = new Map<string, number>();
  #uses = new Map<string, number>();

  constructor(maxEntries: number) {
    this.#maxEntries = maxEntries;
  }

  get(id: string, version: string): T | undefined {
    return version === this.#version ? this.#entries.get(id) : undefined;
  }

  /** `name` tells loads apart that look for one id in different ways; `version` is the one read before. */
  async load(id: string, name: string, version: string, find: () => Promise<T | undefined>): Promise<T | undefined> {
    const key = `${version} ${name}`;
    const loading = this.#loading.get(key) ?? find();
    this.#loading.set(key, loading);
    try {
      const found = await loading;
      if (found !== undefined) this.#keep(id, version, found);
      return found;
    } finally {
      this.#loading.delete(key);
    }
  }

  #keep(id: string, version: string, found: T): void {
    if (version !== this.#version) {
      // A load that began before a change may end after one that began later. Then the next caller only loads again.
      this.#entries.clear();
      this.#version = version;
    }
    const oldest = this.#entries.keys().next();
    if (this.#entries.size >= this.#maxEntries && !oldest.done) this.#entries.delete(oldest.value);
    this.#entries.set(id, found);
  }

  used(id: string, atMs: number): void {
    if (atMs - (this.#lastUsedAt.get(id) ?? 0) < usedEveryMs) return;
    if (this.#lastUsedAt.size >= this.#maxEntries) this.#lastUsedAt.clear();
    this.#lastUsedAt.set(id, atMs);
    this.#uses.set(id, atMs);
  }

  /** When credentials were used, since this was asked last. */
  takeUses(): ReadonlyMap<string, number> {
    const uses = this.#uses;
    this.#uses = new Map();
    return uses;
  }
}
