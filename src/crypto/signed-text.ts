import { CompactSign, compactVerify, type JWK } from "jose";
import { z } from "zod";
import { algorithmOf, imported, type SigningKey } from "./message-keys.ts";
import { MessageRefused } from "./message-refused.ts";

/** Of every text that is taken from elsewhere, before anything in it is looked at. */
export const maxMessageBytes = 256 * 1024;

const thumbprint = /^[A-Za-z0-9_-]{43}$/;
/** Whose signatures: Rekey's, or a far side's. */
type Signer = "sig" | "reply";
const headerOf = { sig: headerWith(algorithmOf.sig), reply: headerWith(algorithmOf.reply) };

/** Compact JWS, of the signer's one algorithm. `typ` keeps apart what is signed by the same key for different ends. Source: RFC 7515 section 7.1. */
export async function writeSigned(
  typ: string,
  payload: object,
  { kid, key }: SigningKey,
  signer: Signer = "sig",
): Promise<string> {
  const bytes = new TextEncoder().encode(JSON.stringify(payload));
  return new CompactSign(bytes).setProtectedHeader({ alg: algorithmOf[signer], kid, typ }).sign(key);
}

/**
 * The payload of a text that `writeSigned` wrote (`undefined`: no JSON), with the id of the key that signed it.
 * @throws MessageRefused too-large, unreadable, algorithm, unknown-key or signature
 */
export async function openSigned(
  typ: string,
  text: string,
  keySet: readonly JWK[],
  signer: Signer = "sig",
): Promise<{ payload: unknown; kid: string }> {
  const [header, payload = ""] = compactParts(text, 3);
  const { data } = headerOf[signer].safeParse(readJson(header));
  if (data?.typ !== typ) throw new MessageRefused("algorithm");
  const key = keySet.find(({ kid }) => kid === data.kid);
  if (!key) throw new MessageRefused("unknown-key");
  try {
    await compactVerify(text, await imported(key, signer), { algorithms: [algorithmOf[signer]] });
  } catch (error) {
    throw new MessageRefused("signature", { cause: error });
  }
  return { payload: readJson(payload), kid: data.kid };
}

/**
 * The parts of a compact serialization, each in the one way that base64url can be written: no two texts say the same.
 * @throws MessageRefused too-large or unreadable
 */
export function compactParts(text: string, count: 3 | 5): [string, ...string[]] {
  if (text.length > maxMessageBytes) throw new MessageRefused("too-large");
  const [first, ...rest] = text.split(".", count + 1);
  if (first === undefined || rest.length !== count - 1 || ![first, ...rest].every(isCanonical))
    throw new MessageRefused("unreadable");
  return [first, ...rest];
}

/** JSON in base64url; `undefined` when it is none. */
export function readJson(part: string): unknown {
  try {
    return JSON.parse(Buffer.from(part, "base64url").toString("utf8"));
  } catch {
    return undefined;
  }
}

const isCanonical = (part: string): boolean => Buffer.from(part, "base64url").toString("base64url") === part;

function headerWith<Algorithm extends string>(alg: Algorithm) {
  return z.strictObject({ alg: z.literal(alg), kid: z.string().regex(thumbprint), typ: z.string() });
}
