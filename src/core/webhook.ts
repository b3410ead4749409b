import { ServiceError } from "./error.ts";
import { isObject } from "./json-object.ts";

/** How a request to a webhook shows who sends it. */
export type WebhookAuthentication =
  | { readonly type: "None" }
  | { readonly type: "Bearer"; readonly token: string }
  | { readonly type: "Basic"; readonly username: string; readonly password: string };

/** What of a webhook is kept sealed. */
export interface WebhookSecrets {
  /** Key of the signature. */
  readonly secret?: string;
  readonly authentication?: WebhookAuthentication;
}

/** Names of secrets that a change added, removed, or gave other values. */
export interface NamesDiff {
  readonly added: readonly string[];
  readonly removed: readonly string[];
  readonly updated: readonly string[];
}

const firstPauseMs = 1_000;
const longestPauseMs = 3_600_000;
/** A delivery is tried again for so long. */
export const deliveryWindowMs = 24 * 3_600_000;

/** When a delivery that failed `attempt` times is tried again: after a random part of a pause that doubles up to an hour. */
export function nextTryAt(attempt: number, nowMs: number, random: number): number {
  const pause = Math.min(firstPauseMs * 2 ** Math.min(attempt - 1, 30), longestPauseMs);
  return nowMs + Math.ceil(pause * random);
}

/** `Authorization` of a delivery; undefined when there is none. */
export function authorizationHeader({ authentication }: WebhookSecrets): string | undefined {
  if (authentication?.type === "Bearer") return `Bearer ${authentication.token}`;
  if (authentication?.type !== "Basic") return undefined;
  const { username, password } = authentication;
  return `Basic ${Buffer.from(`${username}:${password}`, "utf8").toString("base64")}`;
}

/** @throws ServiceError ValidationException: a payload of one's own is a JSON object, sent as it is. */
export function checkPayload(payload: string): void {
  let parsed: unknown;
  try {
    parsed = JSON.parse(payload);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  if (!isObject(parsed)) throw new ServiceError("ValidationException", "Payload must be a JSON object; it is sent as it is.");
}
