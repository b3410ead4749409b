import { hkdfSync, type KeyObject, randomUUID } from "node:crypto";
import { ConfigError, ServiceError } from "../core/error.ts";
import type { RingKeyChange, RingKeyRow, RingKeySnapshot, RingKeyVersionRow } from "../core/ring-key.ts";
import { keyBytes, keyFrom, newKey } from "./aead.ts";
import { checkNewAlias, defaultAlias, invalidKeyId, kmsArn, readKeyName } from "./key-names.ts";
import type { RootKeyProvider } from "./key-provider.ts";
import type { RingKeyStore } from "./ring-key-store.ts";
import { makeRootSecret, ringKeyContext, rotateRootKey, unwrapRootSecret } from "./root-secret.ts";

/** A ring key as shown: what a KmsKeyId names. */
export interface RingKey extends RingKeyRow {
  /** `arn:aws:kms:REGION:ACCOUNT:key/ID`. */
  readonly arn: string;
  /** `alias/NAME`, in order. */
  readonly aliases: readonly string[];
}

export interface NewKeyInput {
  readonly region: string;
  readonly description?: string | undefined;
  readonly alias?: string | undefined;
  readonly policy?: string | undefined;
}

export interface KeyRingOptions {
  readonly store: RingKeyStore;
  readonly rootKey: RootKeyProvider;
  readonly account: string;
  now(): number;
  /** Make the root secret if the store has none: first start on an empty store, `init`. */
  readonly initialise?: boolean;
}

/**
 * Opens the keys of a store.
 * @throws ConfigError when the root key is not the store's or cannot be used, or the store is not initialised.
 */
export async function openKeyRing(options: KeyRingOptions): Promise<KeyRing> {
  const { store, rootKey } = options;
  let snapshot = await store.load();
  if (!snapshot.rootSecret && options.initialise && snapshot.keys.length === 0) {
    await makeRootSecret(store, rootKey);
    snapshot = await store.load();
  }
  const { rootSecret } = snapshot;
  if (!rootSecret) throw new ConfigError(["This store has no root key yet. Run: rekey init"]);
  return new KeyRing(options, snapshot, rootSecret, keyFrom(await unwrapRootSecret(rootKey, rootSecret)));
}

/**
 * The ring keys of a store, in memory; their material is unwrapped on first use and dropped when a key is disabled.
 * Changes may be given a store of their caller's transaction (`via`); else each is a transaction of its own.
 */
export class KeyRing {
  readonly #options: KeyRingOptions;
  readonly #listeners: ((keyId: string) => void)[] = [];
  #rootKey: RootKeyProvider;
  /** As it was when this process unwrapped it: what this process's wrapped rows belong to. */
  #wrappedRootSecret: Uint8Array;
  readonly #rootSecret: KeyObject;
  #revision = -1;
  #keys = new Map<string, RingKey>();
  #idByAlias = new Map<string, string>();
  #versions = new Map<string, RingKeyVersionRow>();
  readonly #material = new Map<string, KeyObject>();
  readonly #unlocking = new Map<string, Promise<Error | undefined>>();
  readonly #makingDefault = new Map<string, Promise<RingKey>>();
  #reloading: Promise<void> = Promise.resolve();

  constructor(options: KeyRingOptions, snapshot: RingKeySnapshot, wrappedRootSecret: Uint8Array, rootSecret: KeyObject) {
    this.#options = options;
    this.#rootKey = options.rootKey;
    this.#wrappedRootSecret = wrappedRootSecret;
    this.#rootSecret = rootSecret;
    this.#apply(snapshot);
  }

  /** A key of its own for each purpose, for ever the same in this store, whatever becomes of root and ring keys. */
  deriveKey(purpose: string): KeyObject {
    return keyFrom(Buffer.from(hkdfSync("sha256", this.#rootSecret, "", `rekey derived 1 ${purpose}`, keyBytes)));
  }

  /** Proves that the root key can still be used. @throws ConfigError when not. */
  async check(): Promise<void> {
    (await unwrapRootSecret(this.#rootKey, this.#wrappedRootSecret)).fill(0);
  }

  find(keyId: string): RingKey | undefined {
    return this.#keys.get(keyId);
  }

  /** Rises with every change of any key, as far as this process has heard. */
  get revision(): number {
    return this.#revision;
  }

  /** The keys of all regions. */
  all(): RingKey[] {
    return [...this.#keys.values()];
  }

  /** In order of their making. */
  list(region: string): RingKey[] {
    return [...this.#keys.values()].filter((key) => key.region === region);
  }

  /**
   * The key that a KmsKeyId names: id, key ARN, `alias/NAME`, alias ARN. Absent or empty is the region's default key, made
   * on first use. A disabled key is found too.
   * @throws ServiceError InvalidParameterException when it names none here, AccessDeniedException for another account's.
   */
  async resolve(kmsKeyId: string | undefined, region: string): Promise<RingKey> {
    const name = readKeyName(kmsKeyId, region, this.#options.account);
    if ("alias" in name && name.alias === defaultAlias) return this.#defaultKey(region);
    const find = () => {
      const key = this.#keys.get("id" in name ? name.id : (this.#idByAlias.get(aliasKey(region, name.alias)) ?? ""));
      return key?.region === region ? key : undefined;
    };
    let key = find();
    if (!key) {
      await this.refresh();
      key = find();
    }
    if (!key) throw invalidKeyId();
    return key;
  }

  /** @throws ServiceError ResourceExistsException when the alias is taken, InvalidParameterException when it is malformed. */
  async create(input: NewKeyInput, via: RingKeyStore = this.#options.store): Promise<RingKey> {
    if (input.alias !== undefined) checkNewAlias(input.alias);
    return this.#create(input, false, via);
  }

  /** A new version for all wrapping from now on; older ones keep unwrapping. */
  async rotate(keyId: string, via: RingKeyStore = this.#options.store): Promise<RingKey> {
    const key = this.#existing(keyId);
    const version = await this.#newVersion(keyId, key.currentVersion + 1);
    const outcome = await via.insertVersion(version, this.#wrappedRootSecret);
    if (outcome === "root-changed") throw rootChanged();
    await this.reload();
    if (outcome === "version-taken")
      throw new ServiceError("InvalidRequestException", "The key was rotated by another request just now.");
    return this.#existing(keyId);
  }

  /**
   * Changes state, description or policy. A disabled key neither seals nor opens until it is enabled again.
   * @throws ServiceError InvalidRequestException for disabling a default key: access keys are sealed by it too.
   */
  async change(keyId: string, change: RingKeyChange, via: RingKeyStore = this.#options.store): Promise<RingKey> {
    if (this.#existing(keyId).isDefault && change.state === "disabled")
      throw new ServiceError("InvalidRequestException", "You can't disable the default key of a region.");
    await via.changeKey(keyId, change);
    await this.reload();
    return this.#existing(keyId);
  }

  /** @throws ServiceError ResourceExistsException when the alias is taken, InvalidParameterException when it is malformed. */
  async createAlias(alias: string, keyId: string, via: RingKeyStore = this.#options.store): Promise<void> {
    checkNewAlias(alias);
    const { region } = this.#existing(keyId);
    if ((await via.insertAlias({ region, alias, keyId })) === "alias-taken") throw this.#aliasTaken(region, alias);
    await this.reload();
  }

  /** See `rotateRootKey`; this process goes on with the new root key, others must be started with it. */
  async rotateRootKey(rootKey: RootKeyProvider): Promise<void> {
    const { store } = this.#options;
    await rotateRootKey(store, this.#rootKey, rootKey);
    const { rootSecret } = await store.load();
    if (rootSecret) this.#wrappedRootSecret = rootSecret;
    this.#rootKey = rootKey;
    await this.reload();
  }

  /** Takes over what other processes changed; one small query when nothing did. */
  async refresh(): Promise<void> {
    if ((await this.#options.store.loadRevision()) !== this.#revision) await this.reload();
  }

  /** Takes over what led to this revision, unless it is there already. */
  follow(revision: number): Promise<void> | undefined {
    return revision > this.#revision ? this.reload() : undefined;
  }

  /** Reads all keys again; calls queue up, so that each sees what was stored when it was made. */
  async reload(): Promise<void> {
    const load = async () => this.#apply(await this.#options.store.load());
    this.#reloading = this.#reloading.then(load, load);
    await this.#reloading;
  }

  /** Told the id of each key that was disabled or rotated: what is cached under it must go. */
  onRetired(listener: (keyId: string) => void): void {
    this.#listeners.push(listener);
  }

  /** The unwrapped key, now; `undefined` when it is disabled, unknown or not unlocked yet. */
  material(keyId: string, version: number): KeyObject | undefined {
    return this.#keys.get(keyId)?.state === "enabled" ? this.#material.get(versionKey(keyId, version)) : undefined;
  }

  /** Makes `material` answer. What is returned is why it cannot, for the log. */
  async unlock(keyId: string, version: number): Promise<Error | undefined> {
    const id = versionKey(keyId, version);
    if (!this.#versions.has(id)) await this.refresh();
    if (this.material(keyId, version)) return undefined;
    const running = this.#unlocking.get(id) ?? this.#unwrap(keyId, version).finally(() => this.#unlocking.delete(id));
    this.#unlocking.set(id, running);
    return running;
  }

  async #unwrap(keyId: string, version: number): Promise<Error | undefined> {
    const row = this.#versions.get(versionKey(keyId, version));
    const key = this.#keys.get(keyId);
    if (!row || !key) return new Error(`ring key ${keyId}, version ${version}, is not in this store`);
    if (key.state !== "enabled") return new Error(`ring key ${keyId} is ${key.state}`);
    try {
      const bytes = await this.#rootKey.unwrap(row.wrapped, ringKeyContext(keyId, version));
      if (!bytes) return new Error(`ring key ${keyId}, version ${version}, is not under the root key ${this.#rootKey.name}`);
      if (this.#keys.get(keyId)?.state === "enabled") this.#material.set(versionKey(keyId, version), keyFrom(bytes));
      return undefined;
    } catch (error) {
      if (error instanceof ServiceError)
        return new Error(`ring key ${keyId}, version ${version}, cannot be unwrapped`, { cause: error.cause });
      throw error;
    }
  }

  async #defaultKey(region: string): Promise<RingKey> {
    const known = this.#keys.get(this.#idByAlias.get(aliasKey(region, defaultAlias)) ?? "");
    if (known) return known;
    const making = this.#makingDefault.get(region) ?? this.#makeDefault(region).finally(() => this.#makingDefault.delete(region));
    this.#makingDefault.set(region, making);
    return making;
  }

  async #makeDefault(region: string): Promise<RingKey> {
    await this.refresh();
    const find = () => this.#keys.get(this.#idByAlias.get(aliasKey(region, defaultAlias)) ?? "");
    const known = find();
    if (known) return known;
    const input = { region, description: "Default key for secrets when no other key is named", alias: defaultAlias };
    try {
      return await this.#create(input, true, this.#options.store);
    } catch (error) {
      // Another process was faster: its key is the default one.
      if (!(error instanceof ServiceError && error.code === "ResourceExistsException")) throw error;
      await this.reload();
      const winner = find();
      if (!winner) throw error;
      return winner;
    }
  }

  async #create(input: NewKeyInput, isDefault: boolean, via: RingKeyStore): Promise<RingKey> {
    const { region, description = "", alias, policy } = input;
    const id = randomUUID();
    const version = await this.#newVersion(id, 1);
    const key: RingKeyRow = {
      id,
      region,
      description,
      state: "enabled",
      isDefault,
      currentVersion: 1,
      policy,
      createdAt: version.createdAt,
    };
    const outcome = await via.insertKey({ key, version, alias, rootSecret: this.#wrappedRootSecret });
    if (outcome === "root-changed") throw rootChanged();
    if (outcome === "alias-taken") throw this.#aliasTaken(region, alias ?? "");
    await this.reload();
    return this.#existing(id);
  }

  async #newVersion(keyId: string, version: number): Promise<RingKeyVersionRow> {
    const { bytes } = newKey();
    try {
      const wrapped = await this.#rootKey.wrap(bytes, ringKeyContext(keyId, version));
      return { keyId, version, wrapped, createdAt: this.#options.now() };
    } finally {
      bytes.fill(0);
    }
  }

  #existing(keyId: string): RingKey {
    const key = this.#keys.get(keyId);
    if (!key) throw invalidKeyId();
    return key;
  }

  #aliasTaken(region: string, alias: string): ServiceError {
    const arn = kmsArn(region, this.#options.account, alias);
    return new ServiceError("ResourceExistsException", `An alias with the name ${arn} already exists`);
  }

  #apply(snapshot: RingKeySnapshot): void {
    if (snapshot.revision < this.#revision) return;
    const before = this.#keys;
    const { account } = this.#options;
    this.#revision = snapshot.revision;
    this.#versions = new Map(snapshot.versions.map((row) => [versionKey(row.keyId, row.version), row]));
    this.#idByAlias = new Map(snapshot.aliases.map(({ region, alias, keyId }) => [aliasKey(region, alias), keyId]));
    const aliases = Map.groupBy(snapshot.aliases, ({ keyId }) => keyId);
    const shown = (row: RingKeyRow): RingKey => ({
      ...row,
      arn: kmsArn(row.region, account, `key/${row.id}`),
      aliases: (aliases.get(row.id) ?? []).map(({ alias }) => alias).sort(),
    });
    this.#keys = new Map(snapshot.keys.map((row) => [row.id, shown(row)]));
    for (const old of before.values()) this.#retire(old, this.#keys.get(old.id));
  }

  #retire(old: RingKey, now: RingKey | undefined): void {
    const disabled = old.state === "enabled" && now?.state !== "enabled";
    if (!disabled && now?.currentVersion === old.currentVersion) return;
    if (disabled)
      for (let version = 1; version <= old.currentVersion; version++) this.#material.delete(versionKey(old.id, version));
    for (const listener of this.#listeners) listener(old.id);
  }
}

function rootChanged(): ServiceError {
  return new ServiceError(
    "InvalidRequestException",
    "The root key of this store was changed. Start this process again with the new root key.",
  );
}

function versionKey(keyId: string, version: number): string {
  return `${keyId}/${version}`;
}

function aliasKey(region: string, alias: string): string {
  return `${region} ${alias}`;
}
