import type { JWK } from "jose";
import { z } from "zod";
import { bareKey, publicJwk, readPublicJwk, type SigningKey } from "./message-keys.ts";
import { MessageRefused } from "./message-refused.ts";
import { openSigned, writeSigned } from "./signed-text.ts";

const endorsementType = "rekey-endorsement+jwt";
/** A rotation a day for longer than anybody keeps an agent. */
const maxEndorsements = 10_000;

const seconds = z.number().nonnegative();
const endorsementShape = z.strictObject({ key: bareKey.sig, iat: seconds, nbf: seconds, previousUntil: seconds });

interface Endorsed {
  readonly publicKey: JWK;
  readonly signsFromAt: number;
  /** When the endorsing key ends. */
  readonly previousUntilAt: number;
}

/** What a signing key says of the one that comes after it, so that who trusts the old one can trust the new one. */
export async function endorse(
  { publicKey, signsFromAt, previousUntilAt }: Endorsed,
  by: SigningKey,
  nowMs: number,
): Promise<string> {
  const { kty, crv, x, y } = publicJwk(publicKey);
  const payload = { key: { kty, crv, x, y }, iat: nowMs / 1000, nbf: signsFromAt / 1000, previousUntil: previousUntilAt / 1000 };
  return writeSigned(endorsementType, payload, by);
}

/**
 * The keys that one who trusts `pinned` is to trust now: those and what they endorse, each by the next, without those that
 * their successor's endorsement says have ended. Endorsements in any order; those of nobody that is trusted are passed over.
 * Whoever keeps the answer instead of `pinned` is safe from old keys that somebody stole later.
 */
export async function followKeys(pinned: readonly JWK[], endorsements: readonly string[], nowMs: number): Promise<JWK[]> {
  const trusted = new Map<string, { readonly key: JWK; untilAt: number }>();
  const trust = async (jwk: unknown): Promise<void> => {
    const key = await readPublicJwk(jwk, "sig");
    if (key?.kid !== undefined && !trusted.has(key.kid)) trusted.set(key.kid, { key, untilAt: Number.POSITIVE_INFINITY });
  };
  for (const key of pinned) await trust(key);
  let unread = endorsements.slice(-maxEndorsements);
  for (let before = -1; before !== unread.length; ) {
    before = unread.length;
    const left: string[] = [];
    for (const text of unread) {
      const read = await readEndorsement(
        text,
        [...trusted.values()].map(({ key }) => key),
      );
      if (read === "unknown") left.push(text);
      const signer = typeof read === "object" ? trusted.get(read.by) : undefined;
      if (typeof read !== "object" || !signer) continue;
      signer.untilAt = Math.min(signer.untilAt, read.previousUntilAt);
      await trust(read.key);
    }
    unread = left;
  }
  return [...trusted.values()].filter(({ untilAt }) => untilAt > nowMs).map(({ key }) => key);
}

/** `unknown`: of a key that is not trusted, or not yet; `false`: of no use. */
async function readEndorsement(text: string, keys: readonly JWK[]) {
  try {
    const { payload, kid } = await openSigned(endorsementType, text, keys);
    const { data } = endorsementShape.safeParse(payload);
    return data ? { by: kid, key: data.key, previousUntilAt: data.previousUntil * 1000 } : false;
  } catch (error) {
    if (!(error instanceof MessageRefused)) throw error;
    return error.reason === "unknown-key" ? "unknown" : false;
  }
}
