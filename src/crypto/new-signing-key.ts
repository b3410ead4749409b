import type { JWK } from "jose";
import { Plaintext } from "../core/plaintext.ts";
import type { Envelope, SealedBytes, WrappedDataKey } from "./envelope.ts";
import { importSigningKey, newPrivateJwk, publicJwk, type SigningKey } from "./message-keys.ts";

/** A new signing key, with its private half sealed in the context that `contextOf` gives for its id. */
export async function newSigningKey(
  envelope: Envelope,
  keyId: string,
  contextOf: (kid: string) => Record<string, string>,
): Promise<{ readonly kid: string; readonly publicKey: JWK; readonly secret: SealedBytes & WrappedDataKey }> {
  const jwk = await newPrivateJwk("sig");
  const publicKey = publicJwk(jwk);
  const kid = publicKey.kid ?? "";
  return { kid, publicKey, secret: await envelope.seal(new Plaintext(JSON.stringify(jwk)), contextOf(kid), keyId) };
}

/** Opens the private half again. @throws ServiceError DecryptionFailure */
export async function openSigningKey(
  envelope: Envelope,
  secret: SealedBytes,
  context: Record<string, string>,
): Promise<SigningKey> {
  const plaintext = await envelope.open(secret, context);
  return importSigningKey(JSON.parse(plaintext.revealText()));
}
