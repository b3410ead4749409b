import { ServiceError } from "../core/error.ts";
import { Plaintext } from "../core/plaintext.ts";
import {
  additionalData,
  aeadOverheadBytes,
  type EncryptionContext,
  keyBytes,
  keyFrom,
  newKey,
  openBytes,
  sealBytes,
} from "./aead.ts";
import { DataKeyCache } from "./data-key-cache.ts";
import { decryptionFailureText, encryptionFailureText } from "./failure-texts.ts";
import type { KeyRing } from "./key-ring.ts";

/** Sealed value: format (1) | nonce (12) | ciphertext | tag (16), under a data key that no other value shares. */
const valueFormat = Buffer.of(1);
/** Wrapped data key: format (1) | id of the ring key (16) | its version (4, big-endian) | nonce (12) | ciphertext (32) | tag (16). */
const dataKeyFormat = 1;
const dataKeyHeaderBytes = 21;
const wrappedDataKeyBytes = dataKeyHeaderBytes + keyBytes + aeadOverheadBytes;

/** What is stored of a value. `keyId` and `keyVersion` repeat what `wrappedDataKey` says, for queries. */
export interface SealedBytes {
  readonly sealed: Uint8Array;
  readonly wrappedDataKey: Uint8Array;
}

export interface WrappedDataKey {
  readonly wrappedDataKey: Buffer;
  readonly keyId: string;
  readonly keyVersion: number;
}

interface RingKeyVersion {
  readonly keyId: string;
  readonly version: number;
}

/** Seals and opens values. Ring keys stay in the ring, data keys in a bounded cache; values are never kept. */
export class Envelope {
  readonly #ring: KeyRing;
  readonly #dataKeys: DataKeyCache;

  constructor(ring: KeyRing, options: { readonly maxDataKeys: number }) {
    this.#ring = ring;
    this.#dataKeys = new DataKeyCache(options.maxDataKeys);
    ring.onRetired((keyId) => this.#dataKeys.dropUnder(keyId));
  }

  /** Data keys in memory. */
  get cachedDataKeys(): number {
    return this.#dataKeys.size;
  }

  /**
   * Encrypts a value under a new data key, wrapped by the current version of a ring key.
   * @throws ServiceError EncryptionFailure when that key is disabled or cannot be used.
   */
  async seal(plaintext: Plaintext, context: EncryptionContext, keyId: string): Promise<SealedBytes & WrappedDataKey> {
    const { key, bytes } = newKey();
    try {
      const sealed = sealBytes(key, plaintext.reveal(), valueData(context), valueFormat);
      const wrapped = await this.#wrap(bytes, context, keyId);
      this.#dataKeys.put(wrapped.wrappedDataKey, { key, ringKeyId: keyId });
      return { sealed, ...wrapped };
    } finally {
      bytes.fill(0);
    }
  }

  /** @throws ServiceError DecryptionFailure when the bytes or the context were changed, or the key is disabled or cannot be used. */
  async open(value: SealedBytes, context: EncryptionContext): Promise<Plaintext> {
    const ready = this.openCached(value, context);
    if (ready) return ready;
    await this.#unlock(readHeader(value.wrappedDataKey));
    const opened = this.openCached(value, context);
    if (!opened) throw decryptionFailure("the ring key was locked again while a value was opened");
    return opened;
  }

  /** As `open`, at once; `undefined` when a ring key must be unwrapped first, which `open` does. */
  openCached(value: SealedBytes, context: EncryptionContext): Plaintext | undefined {
    const key = this.#dataKey(value.wrappedDataKey, context);
    if (!key) return undefined;
    const bytes =
      value.sealed[0] === valueFormat[0] ? openBytes(key, value.sealed, valueData(context), valueFormat.length) : undefined;
    if (!bytes) throw decryptionFailure("a sealed value is damaged, or not the one of this secret and version");
    const plaintext = new Plaintext(bytes);
    bytes.fill(0);
    return plaintext;
  }

  /**
   * Wraps a data key anew under the current version of its ring key, or of another one; the sealed value stays as it is.
   * `undefined` when it is there already.
   * @throws ServiceError DecryptionFailure or EncryptionFailure when a key is disabled or cannot be used.
   */
  async rewrap(wrappedDataKey: Uint8Array, context: EncryptionContext, keyId?: string): Promise<WrappedDataKey | undefined> {
    const from = readHeader(wrappedDataKey);
    const to = keyId ?? from.keyId;
    if (to === from.keyId && this.#ring.find(to)?.currentVersion === from.version) return undefined;
    await this.#unlock(from);
    const bytes = this.#unwrap(wrappedDataKey, from, context);
    if (!bytes) throw decryptionFailure("the ring key was locked again while a data key was wrapped anew");
    try {
      return await this.#wrap(bytes, context, to);
    } finally {
      bytes.fill(0);
    }
  }

  async #wrap(dataKey: Buffer, context: EncryptionContext, keyId: string): Promise<WrappedDataKey> {
    if (!this.#ring.find(keyId)) await this.#ring.refresh();
    const version = this.#ring.find(keyId)?.currentVersion ?? 1;
    const refusal = this.#ring.material(keyId, version) ? undefined : await this.#ring.unlock(keyId, version);
    const ringKey = this.#ring.material(keyId, version);
    if (!ringKey) {
      const cause = refusal ?? new Error("the ring key was locked again while a value was sealed");
      throw new ServiceError("EncryptionFailure", encryptionFailureText, { cause });
    }
    const header = writeHeader({ keyId, version });
    return { wrappedDataKey: sealBytes(ringKey, dataKey, dataKeyData(header, context), header), keyId, keyVersion: version };
  }

  #dataKey(wrapped: Uint8Array, context: EncryptionContext) {
    const cached = this.#dataKeys.get(wrapped);
    if (cached) {
      // Also the moment between another process's disabling and the listener: the ring is asked each time.
      if (this.#ring.find(cached.ringKeyId)?.state === "enabled") return cached.key;
      throw decryptionFailure(`ring key ${cached.ringKeyId} is disabled`);
    }
    const header = readHeader(wrapped);
    const bytes = this.#unwrap(wrapped, header, context);
    if (!bytes) return undefined;
    const key = keyFrom(bytes);
    this.#dataKeys.put(wrapped, { key, ringKeyId: header.keyId });
    return key;
  }

  #unwrap(wrapped: Uint8Array, { keyId, version }: RingKeyVersion, context: EncryptionContext): Buffer | undefined {
    const ringKey = this.#ring.material(keyId, version);
    if (!ringKey) return undefined;
    const data = dataKeyData(wrapped.subarray(0, dataKeyHeaderBytes), context);
    const bytes = openBytes(ringKey, wrapped, data, dataKeyHeaderBytes);
    if (!bytes) throw decryptionFailure("a wrapped data key is damaged, or not the one of this secret and version");
    return bytes;
  }

  async #unlock({ keyId, version }: RingKeyVersion): Promise<void> {
    const refusal = await this.#ring.unlock(keyId, version);
    if (refusal) throw decryptionFailure(refusal);
  }
}

function valueData(context: EncryptionContext): Buffer {
  return additionalData("rekey value 1", context);
}

/** The header is part of it: a data key moved to another ring key or version does not open. */
function dataKeyData(header: Uint8Array, context: EncryptionContext): Buffer {
  return additionalData(`rekey data key ${Buffer.from(header).toString("hex")}`, context);
}

function writeHeader({ keyId, version }: RingKeyVersion): Buffer {
  const header = Buffer.alloc(dataKeyHeaderBytes);
  header[0] = dataKeyFormat;
  header.write(keyId.replaceAll("-", ""), 1, "hex");
  header.writeUInt32BE(version, 17);
  return header;
}

function readHeader(wrapped: Uint8Array): RingKeyVersion {
  if (wrapped.length !== wrappedDataKeyBytes || wrapped[0] !== dataKeyFormat)
    throw decryptionFailure("a wrapped data key is damaged, or of a later format than this program knows");
  const bytes = Buffer.from(wrapped.buffer, wrapped.byteOffset, dataKeyHeaderBytes);
  const hex = bytes.toString("hex", 1, 17);
  const keyId = [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
  return { keyId, version: bytes.readUInt32BE(17) };
}

function decryptionFailure(why: string | Error): ServiceError {
  const cause = why instanceof Error ? why : new Error(why);
  return new ServiceError("DecryptionFailure", decryptionFailureText, { cause });
}
