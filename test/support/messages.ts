import { randomUUID } from "node:crypto";
import type { JWK } from "jose";
import {
  type FarKeys,
  importSigningKey,
  newFarKeys,
  newPrivateJwk,
  publicFarKeys,
  publicJwk,
  type SigningKey,
} from "../../src/crypto/message-keys.ts";
import { type FarRequest, type OpenedRequest, openRequest, type SentRequest, writeRequest } from "../../src/crypto/messages.ts";

export const audience = "arn:aws:rekey:us-east-1:123456789012:agent/a1";
export const issuer = "abcd1234";
export const nowMs = Date.parse("2026-03-01T12:00:00Z");

export function newRequest(changed: Partial<FarRequest> = {}): FarRequest {
  return {
    type: "rekey.call",
    body: { kind: "postgres", input: { password: "hunter2 é" } },
    audience,
    id: randomUUID(),
    subject: "rotation-1",
    step: "rotator.set",
    fence: 3,
    notBeforeAt: nowMs,
    expiresAt: nowMs + 20_000,
    ...changed,
  };
}

/** Rekey with one signing key, and one far side. */
export interface MessageWorld {
  readonly jwk: JWK;
  readonly key: SigningKey;
  readonly keySet: JWK[];
  readonly far: FarKeys;
  write(changed?: Partial<FarRequest>, atMs?: number): Promise<SentRequest>;
  open(text: string, atMs?: number): Promise<OpenedRequest>;
}

export async function messageWorld(): Promise<MessageWorld> {
  const jwk = await newPrivateJwk("sig");
  const [key, far, keySet] = [await importSigningKey(jwk), await newFarKeys(), [publicJwk(jwk)]];
  return {
    jwk,
    key,
    keySet,
    far,
    write: (changed, atMs = nowMs) =>
      writeRequest(newRequest(changed), { key, issuer, nowMs: atMs, receiver: publicFarKeys(far) }),
    open: (text, atMs = nowMs) => openRequest(text, { keys: far, keySet, audience, issuer, nowMs: atMs }),
  };
}
