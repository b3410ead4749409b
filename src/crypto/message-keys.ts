import { type CryptoKey, calculateJwkThumbprint, exportJWK, generateKeyPair, importJWK, type JWK } from "jose";
import { z } from "zod";

/**
 * What a key is for. `sig`: Rekey's signatures, ES512, as Doppler's agents want them. `reply`: those of far sides, ES256, and
 * `enc`: sealing, of a curve that takes a thirtieth of the time.
 */
type KeyUse = "sig" | "reply" | "enc";

/** Of JOSE. Source: RFC 7518 sections 3.1 and 4.1. */
export const algorithmOf = { sig: "ES512", reply: "ES256", enc: "ECDH-ES" } as const;
const p256 = numbers("P-256", 43);
const numbersOf = { sig: numbers("P-521", 88), reply: p256, enc: p256 };
/** What a key set says of a key beside its numbers (`alg`, `use`, `kid`, …) is not asked for: a key's id follows from its numbers. */
const shapes = forEach((use) => ({ public: z.object(numbersOf[use].public), private: z.object(numbersOf[use].private) }));
const keySetShape = z.object({ keys: z.array(z.unknown()).max(100) });
const farKeysShape = z.object({ signing: z.unknown(), sealing: z.unknown() });

/** Private JWKs of P-256 with `kid`: `signing` signs replies, `sealing` opens requests. */
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
  return { signing: await newPrivateJwk("reply"), sealing: await newPrivateJwk("enc") };
}

/** A new private key. */
export async function newPrivateJwk(use: KeyUse): Promise<JWK> {
  const pair = await newPair(use);
  return described(await exportJWK(pair.privateKey), use);
}

/** `extractable`: whether the private half may leave the platform's keeping. */
export async function newPair(
  use: KeyUse,
  { extractable = true } = {},
): Promise<{ publicKey: CryptoKey; privateKey: CryptoKey }> {
  return generateKeyPair(algorithmOf[use], { extractable, ...(use === "enc" && { crv: "P-256" }) });
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
 * Private keys of a far side as JSON; `undefined` when they are not two usable pairs, or twice the same one. A `kid` that was
 * written down is not believed, but made anew.
 */
export async function readFarKeys(value: unknown): Promise<FarKeys | undefined> {
  const { data } = farKeysShape.safeParse(value);
  if (!data) return undefined;
  const [signing, sealing] = [await readPrivateJwk(data.signing, "reply"), await readPrivateJwk(data.sealing, "enc")];
  return signing && sealing && signing.kid !== sealing.kid ? { signing, sealing } : undefined;
}

/** A private key as JSON; `undefined` when it is none of its use's curve, or its halves do not belong together. */
export async function readPrivateJwk(value: unknown, use: KeyUse): Promise<JWK | undefined> {
  const { data } = shapes[use].private.safeParse(value);
  return data && (await isUsable(data, use)) ? described(data, use) : undefined;
}

/** A public key as JSON, with the `kid` that follows from it; `undefined` when it is none of its use's curve. */
export async function readPublicJwk(value: unknown, use: KeyUse): Promise<JWK | undefined> {
  const { data } = shapes[use].public.safeParse(value);
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
  if (!shapes.sig.private.safeParse(jwk).success || !(await isUsable(jwk, "sig")))
    throw new TypeError("not a private key of P-521");
  return { kid: await calculateJwkThumbprint(jwk), key: await imported(jwk, "sig") };
}

async function described(jwk: JWK, use: KeyUse): Promise<JWK> {
  const { kty, crv, x, y, d } = jwk;
  return definedOnly({
    kty,
    crv,
    x,
    y,
    d,
    kid: await calculateJwkThumbprint(jwk),
    use: use === "enc" ? "enc" : "sig",
    alg: algorithmOf[use],
  });
}

/** The platform refuses points that are not on the curve, and private numbers of another point. */
async function isUsable(jwk: JWK, use: KeyUse): Promise<boolean> {
  try {
    await imported(jwk, use);
    return true;
  } catch {
    return false;
  }
}

/** Checking that a private key's halves belong together takes as long as signing: each JWK is imported once. */
const importedKeys = forEach(() => new WeakMap<JWK, Promise<CryptoKey>>());

/** The JWK must not be changed afterwards. */
export function imported(jwk: JWK, use: KeyUse): Promise<CryptoKey> {
  const known = importedKeys[use].get(jwk);
  if (known) return known;
  const key = importOne(jwk, use);
  importedKeys[use].set(jwk, key);
  return key;
}

async function importOne(jwk: JWK, use: KeyUse): Promise<CryptoKey> {
  const { kty, crv, x, y, d } = jwk;
  const key = await importJWK(definedOnly({ kty, crv, x, y, d }), algorithmOf[use]);
  if (key instanceof Uint8Array) throw new TypeError("not an elliptic-curve key");
  return key;
}

function definedOnly(members: Record<string, unknown>): JWK {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined));
}

function forEach<Made>(make: (use: KeyUse) => Made): Readonly<Record<KeyUse, Made>> {
  return { sig: make("sig"), reply: make("reply"), enc: make("enc") };
}

/** Of one curve; `chars`: of a coordinate or the private number, in base64url. */
function numbers<Curve extends string>(crv: Curve, chars: number) {
  const number = z.string().regex(new RegExp(`^[A-Za-z0-9_-]{${chars}}$`));
  const open = { kty: z.literal("EC"), crv: z.literal(crv), x: number, y: number };
  return { public: open, private: { ...open, d: number } };
}
