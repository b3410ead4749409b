import { randomBytes, randomUUID } from "node:crypto";
import { ServiceError } from "../../core/error.ts";
import { identityId, newSecretAccessKey, newTokenText, rootArn, type TokenKind } from "../../core/identity.ts";
import { Plaintext } from "../../core/plaintext.ts";
import { hashToken } from "../../store/credentials.ts";
import type { Services } from "../services.ts";

type Sealing = Pick<Services, "envelope" | "keys" | "region">;

/** A new access key id with its secret, in plain and sealed; nothing is stored yet. */
export async function newAccessKey({ envelope, keys, region }: Sealing) {
  const id = identityId("AKIA", randomBytes);
  const secretAccessKey = newSecretAccessKey(randomBytes);
  const ringKey = await keys.resolve(undefined, region);
  const secret = await envelope.seal(new Plaintext(secretAccessKey), { AccessKeyId: id }, ringKey.id);
  return { id, secretAccessKey, secret };
}

/** A new token and the hash that stands for it; nothing is stored yet. `config`: of a service token, its config's name. */
export function newToken(kind: TokenKind = "personal", config?: string) {
  const token = newTokenText(kind, randomBytes, config);
  return { id: randomUUID(), token, hash: hashToken(token) };
}

/** @throws ServiceError InvalidRequestException: whoever may act as root through the API must not be able to stay root. */
export function refuseRoot(arn: string, account: string): void {
  if (arn === rootArn(account)) {
    throw new ServiceError(
      "InvalidRequestException",
      "Credentials of root are made on the store itself: rekey access-key create --root.",
    );
  }
}
