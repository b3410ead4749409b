import type { KeyObject } from "node:crypto";
import type { Session, SessionTokens } from "../core/session.ts";
import { additionalData, aeadOverheadBytes, openBytes, sealBytes } from "../crypto/aead.ts";

/** First byte of every token; another layout gets another number. */
const version = 1;
const header = Uint8Array.of(version);
const additional = additionalData("session-token", { version: String(version) });
const maxTokenChars = 12_288;

/** Self-contained session tokens: base64url of `version (1) | nonce (12) | ciphertext | tag (16)`, AES-256-GCM under `key`. */
export function createSessionTokens(key: KeyObject): SessionTokens {
  return {
    seal(session) {
      return sealBytes(key, Buffer.from(JSON.stringify(session), "utf8"), additional, header).toString("base64url");
    },
    open(token) {
      if (token.length > maxTokenChars) return undefined;
      const bytes = Buffer.from(token, "base64url");
      if (bytes.length < header.length + aeadOverheadBytes || bytes[0] !== version) return undefined;
      // Decoding forgives what encoding never writes; one session has one token.
      if (bytes.toString("base64url") !== token) return undefined;
      const text = openBytes(key, bytes, additional, header.length);
      return text && (JSON.parse(text.toString("utf8")) as Session);
    },
  };
}
