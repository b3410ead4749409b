import type {
  KeyAliasRow,
  NewRingKey,
  RingKeyChange,
  RingKeySnapshot,
  RingKeyVersionRow,
  RootReplacement,
} from "../core/ring-key.ts";

/**
 * Where ring keys are kept. Each change is one transaction that raises the revision. Changes that carry wrapped bytes name
 * the wrapped root secret they belong to and do nothing if the store has another by now: the root key was rotated elsewhere.
 */
export interface RingKeyStore {
  load(): Promise<RingKeySnapshot>;
  loadRevision(): Promise<number>;
  /** Keeps the first root secret that is ever given; later ones change nothing. */
  keepRootSecret(wrapped: Uint8Array): Promise<void>;
  insertKey(added: NewRingKey): Promise<"done" | "alias-taken" | "root-changed">;
  /** Adds the version after the current one and makes it current. */
  insertVersion(version: RingKeyVersionRow, rootSecret: Uint8Array): Promise<"done" | "root-changed" | "version-taken">;
  changeKey(keyId: string, change: RingKeyChange): Promise<void>;
  insertAlias(alias: KeyAliasRow): Promise<"done" | "alias-taken">;
  /** Everything that the root key wraps, at once. False, and nothing done, when the store holds other rows than `versions`. */
  replaceRoot(replacement: RootReplacement): Promise<boolean>;
}
