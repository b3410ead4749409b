import { type CryptoKey, calculateJwkThumbprint, exportJWK, generateKeyPair, importJWK, type JWK } from "jose";
import { z } from "zod";

/** Signatures are ES512, as Doppler's agents want them; sealing has a curve that takes a thirtieth of the time. */
const numbersOf = { sig: numbers("P-521", 88), enc: numbers("P-256", 43) };
/** What a key set says of a key beside its numbers (`alg`, `use`, `kid`, …) is not asked for: a key's id follows from its numbers. */
const publicShape = { sig: z.object(numbersOf.sig.public), enc: z.object(numbersOf.enc.public) };
const privateShape = { sig: z.object(numbersOf.sig.private), enc: z.object(numbersOf.enc.private) };
const keySetShape = z.object({ keys: z.array(z.unknown()).max(100) });
const farKeysShape = z.object({ signing: z.unknown(), sealing: z.unknown() });

/** Private JWKs with `kid`. `signing`, of P-521, signs replies; `sealing`, of P-256, opens requests. */
export interface FarKeys {
  readonly signing: JWK;
  readonly sealing: JWK;
}

/** What Rekey signs with. */
export interface SigningKey {
  /** RFC 7638 thumbprint of the public half. */
  readonly kid: string;
  readonly key: CryptoKey;
}

/** Public keys without anything else, as they travel inside of messages. */
export const bareKey = { sig: z.strictObject(numbersOf.sig.public), enc: z.strictObject(numbersOf.enc.public) };

/** A new pair of pairs, for an agent or a function of AWS Lambda. */
export async function newFarKeys(): Promise<FarKeys> {
  return { signing: await newPrivateJwk("sig"), sealing: await newPrivateJwk("enc") };
}

/** A new private key for ES512 (`sig`) or ECDH-ES (`enc`). */
export async function newPrivateJwk(use: "sig" | "enc"): Promise<JWK> {
  const pair = await newPair(use);
  return described(await exportJWK(pair.privateKey), use);
}

/** `extractable`: whether the private half may leave the platform's keeping. */
export async function newPair(
  use: "sig" | "enc",
  { extractable = true } = {},
): Promise<{ publicKey: CryptoKey; privateKey: CryptoKey }> {
  return use === "sig" ? generateKeyPair("ES512", { extractable }) : generateKeyPair("ECDH-ES", { extractable, crv: "P-256" });
}

/** The halves that others may have. */
export function publicFarKeys({ signing, sealing }: FarKeys): FarKeys {
  return { signing: publicJwk(signing), sealing: publicJwk(sealing) };
}

/** Without the private number, and without anything that nobody asked for. */
export function publicJwk({ kty, crv, x, y, kid, use, alg }: JWK): JWK {
  return definedOnly({ kty, crv, x, y, kid, use, alg });
}

/**
 * Private keys of a far side as JSON; `undefined` when they are not two usable pairs of their curves. A `kid` that was written
 * down is not believed, but made anew.
 */
export async function readFarKeys(value: unknown): Promise<FarKeys | undefined> {
  const { data } = farKeysShape.safeParse(value);
  if (!data) return undefined;
  const [signing, sealing] = [await readPrivateJwk(data.signing, "sig"), await readPrivateJwk(data.sealing, "enc")];
  return signing && sealing ? { signing, sealing } : undefined;
}

/** A private key as JSON; `undefined` when it is none of its use's curve, or its halves do not belong together. */
export async function readPrivateJwk(value: unknown, use: "sig" | "enc"): Promise<JWK | undefined> {
  const { data } = privateShape[use].safeParse(value);
  return data && (await isUsable(data, use)) ? described(data, use) : undefined;
}

/** A public key as JSON, with the `kid` that follows from it; `undefined` when it is none of its use's curve. */
export async function readPublicJwk(value: unknown, use: "sig" | "enc"): Promise<JWK | undefined> {
  const { data } = publicShape[use].safeParse(value);
  return data && (await isUsable(data, use)) ? described(data, use) : undefined;
}

/**
 * The keys of a JSON Web Key Set that can verify ES512; others are passed over. `undefined`: it is no key set, or none of
 * its keys can. Source: RFC 7517 section 5.
 */
export async function readKeySet(value: unknown): Promise<JWK[] | undefined> {
  const { data } = keySetShape.safeParse(value);
  if (!data) return undefined;
  const keys: JWK[] = [];
  for (const each of data.keys) {
    const key = await readPublicJwk(each, "sig");
    if (key) keys.push(key);
  }
  return keys.length > 0 ? keys : undefined;
}

/** @throws TypeError when it is not a private P-521 key */
export async function importSigningKey(jwk: JWK): Promise<SigningKey> {
  if (!privateShape.sig.safeParse(jwk).success || !(await isUsable(jwk, "sig")))
    throw new TypeError("not a private key of P-521");
  return { kid: await calculateJwkThumbprint(jwk), key: await imported(jwk, "sig") };
}

async function described(jwk: JWK, use: "sig" | "enc"): Promise<JWK> {
  const { kty, crv, x, y, d } = jwk;
  return definedOnly({
    kty,
    crv,
    x,
    y,
    d,
    kid: await calculateJwkThumbprint(jwk),
    use,
    alg: use === "sig" ? "ES512" : "ECDH-ES",
  });
}

/** The platform refuses points that are not on the curve, and private numbers of another point. */
async function isUsable(jwk: JWK, use: "sig" | "enc"): Promise<boolean> {
  try {
    await imported(jwk, use);
    return true;
  } catch {
    return false;
  }
}

/** Checking that a private key's halves belong together takes as long as signing: each JWK is imported once. */
const importedKeys = { sig: new WeakMap<JWK, Promise<CryptoKey>>(), enc: new WeakMap<JWK, Promise<CryptoKey>>() };

/** The JWK must not be changed afterwards. */
export function imported(jwk: JWK, use: "sig" | "enc"): Promise<CryptoKey> {
  const known = importedKeys[use].get(jwk);
  if (known) return known;
  const key = importOne(jwk, use);
  importedKeys[use].set(jwk, key);
  return key;
}

async function importOne(jwk: JWK, use: "sig" | "enc"): Promise<CryptoKey> {
  const { kty, crv, x, y, d } = jwk;
  const key = await importJWK(definedOnly({ kty, crv, x, y, d }), use === "sig" ? "ES512" : "ECDH-ES");
  if (key instanceof Uint8Array) throw new TypeError("not an elliptic-curve key");
  return key;
}

function definedOnly(members: Record<string, unknown>): JWK {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined));
}

/** Of one curve; `chars`: of a coordinate or the private number, in base64url. */
function numbers<Curve extends string>(crv: Curve, chars: number) {
  const number = z.string().regex(new RegExp(`^[A-Za-z0-9_-]{${chars}}$`));
  const open = { kty: z.literal("EC"), crv: z.literal(crv), x: number, y: number };
  return { public: open, private: { ...open, d: number } };
}
