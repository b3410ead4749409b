import type { SealedValue, Secret } from "../core/secret.ts";
import { findSecret, loadValue } from "./secrets.ts";
import type { Sql } from "./sql.ts";

/** About what a secret takes in memory: by itself, and for each of its versions, of which there are up to a hundred. */
const secretBytes = 1024;
const versionBytes = 512;

interface Entry {
  readonly secret: Secret;
  readonly values: Map<string, SealedValue>;
  /** The store's change counter when the entry was last known to be true. */
  counter: number | undefined;
}

/**
 * Secrets as read lately, ciphertext only, for the read path. An entry is used when nothing was committed since it was
 * checked, or when the secret's row version is still the same; so an answer is never older than the call.
 */
export class SecretCache {
  readonly #sql: Sql;
  readonly #counter: () => number | undefined;
  readonly #maxEntries: number;
  readonly #maxBytes: number;
  #bytes = 0;
  readonly #entries = new Map<string, Entry>();

  /** `counter` rises with every commit to the store, of whichever process; `undefined` where that is not known. */
  constructor(sql: Sql, counter: () => number | undefined, { maxEntries = 10_000, maxBytes = 64 * 1024 * 1024 } = {}) {
    this.#sql = sql;
    this.#counter = counter;
    this.#maxEntries = maxEntries;
    this.#maxBytes = maxBytes;
  }

  /** The secret that `secretId` names. Answers without a promise when it is at hand and nothing was committed meanwhile. */
  find(region: string, secretId: string): Secret | undefined | Promise<Secret | undefined> {
    const key = `${region}\n${secretId}`;
    const entry = this.#entries.get(key);
    const counter = this.#counter();
    if (entry && counter !== undefined && entry.counter === counter) return entry.secret;
    return this.#check(key, region, secretId, entry, counter);
  }

  /** The stored value of one of the secret's versions. `secret` must come from `find` of this call. */
  value(
    region: string,
    secretId: string,
    secret: Secret,
    versionId: string,
  ): SealedValue | undefined | Promise<SealedValue | undefined> {
    const entry = this.#entries.get(`${region}\n${secretId}`);
    const usable = entry?.secret === secret ? entry : undefined;
    return usable?.values.get(versionId) ?? this.#load(usable, secret, versionId);
  }

  /** Keeps what a change, committed by now, has made of the secret that was found. */
  replace(region: string, secretId: string, secret: Secret): void {
    this.#keep(`${region}\n${secretId}`, { secret, values: new Map(), counter: undefined });
  }

  async #check(
    key: string,
    region: string,
    secretId: string,
    entry: Entry | undefined,
    counter: number | undefined,
  ): Promise<Secret | undefined> {
    if (entry) {
      const [row] = await this.#sql.query<{ row_version: number }>("select row_version from secrets where id = $1", [
        entry.secret.id,
      ]);
      if (row?.row_version === entry.secret.rowVersion) {
        entry.counter = counter;
        return entry.secret;
      }
      this.#drop(key);
    }
    const secret = await findSecret(this.#sql, region, secretId);
    if (secret) this.#keep(key, { secret, values: new Map(), counter });
    return secret;
  }

  async #load(entry: Entry | undefined, secret: Secret, versionId: string): Promise<SealedValue | undefined> {
    const value = await loadValue(this.#sql, secret.id, versionId);
    if (value && entry && !entry.values.has(versionId)) {
      entry.values.set(versionId, value);
      this.#bytes += value.sealed.length;
      this.#shrink();
    }
    return value;
  }

  #keep(key: string, entry: Entry): void {
    this.#drop(key);
    this.#entries.set(key, entry);
    this.#bytes += sizeOf(entry.secret);
    this.#shrink();
  }

  #shrink(): void {
    for (const key of this.#entries.keys()) {
      if (this.#entries.size <= this.#maxEntries && this.#bytes <= this.#maxBytes) return;
      this.#drop(key);
    }
  }

  #drop(key: string): void {
    const entry = this.#entries.get(key);
    if (!entry) return;
    this.#bytes -= sizeOf(entry.secret);
    for (const value of entry.values.values()) this.#bytes -= value.sealed.length;
    entry.values.clear();
    this.#entries.delete(key);
  }
}

const sizeOf = ({ versions }: Secret): number => secretBytes + versions.length * versionBytes;
