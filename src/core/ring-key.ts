/** A ring key as stored: what a KmsKeyId names. Its material is in its versions. */
export interface RingKeyRow {
  /** A UUID. */
  readonly id: string;
  readonly region: string;
  readonly description: string;
  readonly state: "enabled" | "disabled";
  /** The key behind `alias/aws/secretsmanager` of its region. */
  readonly isDefault: boolean;
  readonly currentVersion: number;
  /** Key policy, as JSON text; evaluated by authorization. */
  readonly policy?: string | undefined;
  readonly createdAt: number;
}

/** One version of a ring key's material, wrapped by the root key. Versions count from 1 and are never removed. */
export interface RingKeyVersionRow {
  readonly keyId: string;
  readonly version: number;
  readonly wrapped: Uint8Array;
  readonly createdAt: number;
}

export interface KeyAliasRow {
  readonly region: string;
  /** With its prefix: `alias/name`. */
  readonly alias: string;
  readonly keyId: string;
}

/** Everything stored about keys at one moment. */
export interface RingKeySnapshot {
  /** Rises with every change to any of it. */
  readonly revision: number;
  /** Source of all derived keys, wrapped by the root key; absent in a store that was never initialised. */
  readonly rootSecret: Uint8Array | undefined;
  readonly keys: readonly RingKeyRow[];
  readonly versions: readonly RingKeyVersionRow[];
  readonly aliases: readonly KeyAliasRow[];
}

/** A key with its first version, and the wrapped root secret that the version belongs to. */
export interface NewRingKey {
  readonly key: RingKeyRow;
  readonly version: RingKeyVersionRow;
  readonly alias?: string | undefined;
  readonly rootSecret: Uint8Array;
}

/** What is absent stays; `policy: ""` removes the policy. */
export interface RingKeyChange {
  readonly state?: RingKeyRow["state"];
  readonly description?: string;
  readonly policy?: string;
}

/** All that the root key wraps, wrapped anew; `expected` is the wrapped root secret before. */
export interface RootReplacement {
  readonly expected: Uint8Array;
  readonly rootSecret: Uint8Array;
  readonly versions: readonly RingKeyVersionRow[];
}
