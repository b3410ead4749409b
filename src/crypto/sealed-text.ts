import { CompactEncrypt, type CryptoKey, compactDecrypt, type JWK } from "jose";
import { z } from "zod";
import { bareKey, imported } from "./message-keys.ts";
import { MessageRefused } from "./message-refused.ts";
import { compactParts, readJson } from "./signed-text.ts";

const sealHeader = z.strictObject({
  alg: z.literal("ECDH-ES"),
  enc: z.literal("A256GCM"),
  cty: z.literal("JWT"),
  kid: z.string().optional(),
  epk: bareKey.enc,
});

/** Compact JWE around a signed text, to one key. Source: RFC 7516 section 7.1, RFC 7518 section 4.6. */
export async function sealText(text: string, receiver: JWK): Promise<string> {
  const { kid } = receiver;
  return new CompactEncrypt(new TextEncoder().encode(text))
    .setProtectedHeader({ alg: "ECDH-ES", enc: "A256GCM", cty: "JWT", ...(kid === undefined ? {} : { kid }) })
    .encrypt(await imported(receiver, "enc"));
}

/**
 * Opens with a private key; `kid` as the seal must name it, if it names one.
 * @throws MessageRefused too-large, unreadable, algorithm or other-receiver
 */
export async function openSealed(text: string, key: CryptoKey, kid?: string): Promise<string> {
  const [header] = compactParts(text, 5);
  const { data } = sealHeader.safeParse(readJson(header));
  if (!data) throw new MessageRefused("algorithm");
  if (data.kid !== undefined && data.kid !== kid) throw new MessageRefused("other-receiver");
  try {
    const { plaintext } = await compactDecrypt(text, key, {
      keyManagementAlgorithms: ["ECDH-ES"],
      contentEncryptionAlgorithms: ["A256GCM"],
      maxDecompressedLength: 0,
    });
    return new TextDecoder().decode(plaintext);
  } catch (error) {
    throw new MessageRefused("unreadable", { cause: error });
  }
}
