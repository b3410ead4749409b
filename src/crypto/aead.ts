import { createCipheriv, createDecipheriv, createSecretKey, type KeyObject, randomBytes, randomFillSync } from "node:crypto";

/** Names and values that must be the same again when the bytes are opened; as of AWS KMS. */
export type EncryptionContext = Readonly<Record<string, string>>;

export const keyBytes = 32;
const nonceBytes = 12;
const tagBytes = 16;
/** What `sealBytes` adds to a plaintext. */
export const aeadOverheadBytes = nonceBytes + tagBytes;

/**
 * A new AES-256 or HMAC key. Keys are held as KeyObjects: their bytes lie outside the JavaScript heap and are overwritten
 * when the object is freed, and `node:crypto` takes them several times faster than raw bytes.
 */
export function newKey(): { key: KeyObject; bytes: Buffer } {
  const bytes = randomBytes(keyBytes);
  return { key: createSecretKey(bytes), bytes };
}

/** Takes over raw key bytes and overwrites them. */
export function keyFrom(bytes: Buffer): KeyObject {
  const key = createSecretKey(bytes);
  bytes.fill(0);
  return key;
}

/** Additional data of the authenticated encryption: one text per (purpose, context), whatever the order of its names. */
export function additionalData(purpose: string, context: EncryptionContext): Buffer {
  const parts = [purpose];
  for (const name of Object.keys(context).sort()) parts.push(name, context[name] ?? "");
  return Buffer.from(JSON.stringify(parts), "utf8");
}

/** Random bytes for the nonces to come: one request for many takes as long as one for each. */
const nonces = Buffer.alloc(256 * nonceBytes);
let noncesAt = nonces.length;

/** Valid until the next one is asked for. */
function newNonce(): Uint8Array {
  if (noncesAt === nonces.length) {
    randomFillSync(nonces);
    noncesAt = 0;
  }
  noncesAt += nonceBytes;
  return nonces.subarray(noncesAt - nonceBytes, noncesAt);
}

/** AES-256-GCM. The result is `header | nonce (12) | ciphertext | tag (16)`; the header is not authenticated by itself. */
export function sealBytes(key: KeyObject, plaintext: Uint8Array, additional: Uint8Array, header: Uint8Array): Buffer {
  const nonce = newNonce();
  const cipher = createCipheriv("aes-256-gcm", key, nonce);
  cipher.setAAD(additional);
  return Buffer.concat([header, nonce, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
}

/** What `sealBytes` sealed; `undefined` when the bytes, the additional data or the key are not the ones of then. */
export function openBytes(key: KeyObject, bytes: Uint8Array, additional: Uint8Array, headerBytes: number): Buffer | undefined {
  const tagAt = bytes.length - tagBytes;
  const textAt = headerBytes + nonceBytes;
  if (tagAt < textAt) return undefined;
  const decipher = createDecipheriv("aes-256-gcm", key, bytes.subarray(headerBytes, textAt));
  decipher.setAAD(additional);
  decipher.setAuthTag(bytes.subarray(tagAt));
  const plaintext = decipher.update(bytes.subarray(textAt, tagAt));
  try {
    decipher.final();
    return plaintext;
  } catch {
    // In GCM `final` has one way to fail: the tag does not fit.
    plaintext.fill(0);
    return undefined;
  }
}
