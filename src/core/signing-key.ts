import type { JWK } from "jose";
import { ServiceError } from "./error.ts";

/** A key that Rekey signs requests to agents and functions with, as others may know it. Times are epoch ms. */
export interface SigningKeyRecord {
  /** 1 for the first one; each next one is endorsed by the one before. */
  readonly sequence: number;
  /** RFC 7638 thumbprint. */
  readonly kid: string;
  readonly publicKey: JWK;
  readonly createdAt: number;
  readonly signsFromAt: number;
  /** Set once there is a next one. */
  readonly servedUntilAt?: number | undefined;
  /** Compact JWS of the one before; see `endorse`. */
  readonly endorsement?: string | undefined;
}

/** Longer than a key set is kept by functions (5 minutes) and by what lies in between (4 minutes). */
export const publishedBeforeSeconds = 600;
const servedAfterMs = 24 * 3_600_000;

/** The one that signs now: the newest whose time has come, or else the first. `keys` in the order of their numbers. */
export function signingAt(keys: readonly SigningKeyRecord[], nowMs: number): SigningKeyRecord | undefined {
  return keys.findLast(({ signsFromAt }) => signsFromAt <= nowMs) ?? keys[0];
}

/** Those that signatures are to be verified with now. */
export function servedAt(keys: readonly SigningKeyRecord[], nowMs: number): SigningKeyRecord[] {
  return keys.filter(({ servedUntilAt = Number.POSITIVE_INFINITY }) => servedUntilAt > nowMs);
}

/**
 * When a key that is made now may sign, and how long the one before it is served: a day longer than it signs.
 * @throws ServiceError InvalidRequestException while the newest does not sign yet
 */
export function nextSigningKey(
  keys: readonly SigningKeyRecord[],
  nowMs: number,
  signsInSeconds = publishedBeforeSeconds,
): {
  readonly sequence: number;
  readonly signsFromAt: number;
  readonly previous: SigningKeyRecord;
  readonly previousUntilAt: number;
} {
  const previous = keys.at(-1);
  if (!previous) throw new ServiceError("InvalidRequestException", "There is no signing key yet: start the server once.");
  if (signingAt(keys, nowMs) !== previous) {
    const at = new Date(previous.signsFromAt).toISOString();
    const text = `The signing key ${previous.kid} is published and signs from ${at} on; rotate again after that.`;
    throw new ServiceError("InvalidRequestException", text);
  }
  const signsFromAt = nowMs + signsInSeconds * 1000;
  return { sequence: previous.sequence + 1, signsFromAt, previous, previousUntilAt: signsFromAt + servedAfterMs };
}

export type SigningKeyState = "published" | "signing" | "served" | "ended";

/** `published`: not signing yet; `served`: not signing any more, but its signatures are to be believed. */
export function signingKeyState(key: SigningKeyRecord, keys: readonly SigningKeyRecord[], nowMs: number): SigningKeyState {
  const signing = signingAt(keys, nowMs);
  if (key === signing) return "signing";
  if (signing && key.sequence > signing.sequence) return "published";
  return servedAt([key], nowMs).length > 0 ? "served" : "ended";
}
