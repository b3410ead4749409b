import { createHash, createPrivateKey, createPublicKey, generateKeyPair, type KeyObject } from "node:crypto";
import { promisify } from "node:util";
import { z } from "zod";
import { RotatorError } from "../core/error.ts";
import { outcomeOf } from "./database-secret.ts";
import { readSshPrivateKey, sshFingerprint, sshPrivateKey, sshPublicKey } from "./openssh.ts";
import type { Rotator } from "./target.ts";

const types = ["ed25519", "rsa", "ssh-ed25519", "ssh-rsa"] as const;

/** Keys that are not named here pass through untouched. */
export interface KeyPair {
  [key: string]: unknown;
  readonly type: (typeof types)[number];
  /** Of an RSA key: 2048 to 4096. */
  readonly bits?: number | undefined;
  /** Behind an SSH key. */
  readonly comment?: string | undefined;
  /** PEM (PKCS#8), or OpenSSH's format. */
  readonly privateKey?: string | undefined;
  /** PEM (SPKI), or a line of authorized_keys. */
  readonly publicKey?: string | undefined;
  /** The thumbprint of RFC 7638, or the fingerprint that `ssh-keygen -l` shows. */
  readonly keyId?: string | undefined;
}

const defaultBits = 3072;
/** Printable, so that it makes no second line in authorized_keys. */
const oneLine = /^[^\p{Cc}\p{Zl}\p{Zp}]*$/u;

const credential: z.ZodType<KeyPair> = z
  .looseObject({
    type: z.enum(types),
    bits: z.int().min(2048).max(4096).multipleOf(8).optional(),
    comment: z.string().max(256).regex(oneLine, "must be one line").optional(),
    privateKey: z.string().max(16_384).optional(),
    publicKey: z.string().max(16_384).optional(),
    keyId: z.string().max(256).optional(),
  })
  .refine(({ type, bits }) => bits === undefined || isRsa(type), { path: ["bits"], message: "is of RSA keys only" });

/** A key pair that no target knows: of a signer, a deploying machine, a host. */
export const keyPair: Rotator<KeyPair> = {
  kind: "key-pair",
  strategies: ["generator"],
  credential,
  account: () => undefined,

  async create(current, _strategy, { deadlineAt }) {
    const late = AbortSignal.timeout(Math.max(0, deadlineAt - Date.now()));
    const key = await Promise.race([newKey(current), aborted(late)]);
    return { ...current, ...written(key, current) };
  },

  set: async () => undefined,

  async test(pending) {
    const key = readPrivateKey(pending);
    const { publicKey, keyId } = written(key, pending);
    const same = isSsh(pending.type)
      ? sshKeyOf(publicKey) === sshKeyOf(pending.publicKey)
      : publicKey.trim() === pending.publicKey?.trim();
    if (!same) throw new RotatorError("invalid", "publicKey is not the one of privateKey");
    if (pending.keyId !== keyId) throw new RotatorError("invalid", "keyId is not the one of publicKey");
  },

  probe: (candidate, tools) => outcomeOf(keyPair.test(candidate, tools)),
};

const isRsa = (type: KeyPair["type"]): boolean => type.endsWith("rsa");
const isSsh = (type: KeyPair["type"]): boolean => type.startsWith("ssh-");
/** Without the comment. */
const sshKeyOf = (line = ""): string => line.trim().split(" ").slice(0, 2).join(" ");

/** Made beside the event loop. */
async function newKey({ type, bits = defaultBits }: KeyPair): Promise<KeyObject> {
  const generate = promisify(generateKeyPair);
  const made = isRsa(type) ? await generate("rsa", { modulusLength: bits }) : await generate("ed25519");
  return made.privateKey;
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener("abort", () => reject(new RotatorError("timeout", "the key was not made in time")), { once: true });
  });
}

function written(key: KeyObject, { type, comment = "" }: KeyPair) {
  if (isSsh(type)) {
    return { privateKey: sshPrivateKey(key, comment), publicKey: sshPublicKey(key, comment), keyId: sshFingerprint(key) };
  }
  const publicKey = createPublicKey(key);
  return {
    privateKey: key.export({ type: "pkcs8", format: "pem" }).toString(),
    publicKey: publicKey.export({ type: "spki", format: "pem" }).toString(),
    keyId: thumbprint(publicKey),
  };
}

/** Of a public key, 43 characters. Source: RFC 7638, section 3: the members that a key needs, in the order of their names. */
export function thumbprint(publicKey: KeyObject): string {
  const { kty, crv, x, e, n } = publicKey.export({ format: "jwk" });
  const members = kty === "RSA" ? { e, kty, n } : { crv, kty, x };
  return createHash("sha256").update(JSON.stringify(members)).digest("base64url");
}

/** @throws RotatorError `invalid` */
function readPrivateKey({ type, privateKey }: KeyPair): KeyObject {
  if (!privateKey) throw new RotatorError("invalid", "the secret has no privateKey yet");
  const refusal = new RotatorError("invalid", `privateKey is not a private key of type ${type} without passphrase`);
  try {
    const key = isSsh(type) ? readSshPrivateKey(privateKey) : createPrivateKey(privateKey);
    if (key.asymmetricKeyType === (isRsa(type) ? "rsa" : "ed25519")) return key;
  } catch {
    // What the parser says may quote the key.
  }
  throw refusal;
}
