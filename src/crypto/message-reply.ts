import type { CryptoKey, JWK } from "jose";
import { z } from "zod";
import { failureClasses, type OutcomeClass, RotatorError } from "../core/error.ts";
import { type FarKeys, imported } from "./message-keys.ts";
import { MessageRefused } from "./message-refused.ts";
import { openSealed, sealText } from "./sealed-text.ts";
import { maxMessageBytes, openSigned, writeSigned } from "./signed-text.ts";

const replyType = "rekey-reply+jwt";
const clockSkewMs = 30_000;
const maxSentence = 1_000;

const bound = { requestHash: z.string(), jti: z.string(), iat: z.number() };
const replyShape = z.discriminatedUnion("status", [
  z.strictObject({ ...bound, status: z.literal("ok"), result: z.unknown() }),
  z.strictObject({
    ...bound,
    status: z.literal("error"),
    error: z.strictObject({
      class: z.enum(failureClasses),
      message: z.string().max(maxSentence),
      remedy: z.string().max(maxSentence).optional(),
    }),
  }),
  z.strictObject({ ...bound, status: z.literal("stale") }),
]);

/** What came of a request at the far side. Messages hold names, never values. */
export type ReplyOutcome =
  | { readonly status: "ok"; readonly result: unknown }
  | {
      readonly status: "error";
      readonly error: { readonly class: Exclude<OutcomeClass, "ok">; readonly message: string; readonly remedy?: string };
    }
  /** Not acted on: a younger claim on the same work was seen. */
  | { readonly status: "stale" };

/** What a reply answers. */
export interface Answered {
  /** Base64url SHA-256 of the request's JWS. */
  readonly hash: string;
  readonly id: string;
}

interface ReplyKeys {
  /** Of the one that replies. */
  readonly keys: FarKeys;
  readonly replyKey: JWK;
}

/** Signed by the far side and sealed to the request's reply key. `nowMs`: when the request was opened. */
export async function writeReplyTo(
  answered: Answered,
  outcome: ReplyOutcome,
  { keys, replyKey }: ReplyKeys,
  nowMs: number,
): Promise<string> {
  const key = { kid: keys.signing.kid ?? "", key: await imported(keys.signing, "reply") };
  const payload = { requestHash: answered.hash, jti: answered.id, iat: nowMs / 1000, ...bounded(outcome) };
  const text = await sealText(await writeSigned(replyType, payload, key, "reply"), replyKey);
  if (text.length <= maxMessageBytes) return text;
  const tooLarge = { class: "unknown", message: "It was done, but its result is larger than a message may be." } as const;
  return writeReplyTo(answered, { status: "error", error: tooLarge }, { keys, replyKey }, nowMs);
}

interface ReplyCheck extends Answered {
  readonly sentAt: number;
  /** Private half of the request's reply key. */
  readonly replyKey: CryptoKey;
  /** Of the one that was asked. */
  readonly signing: JWK;
}

/**
 * The far side's result.
 * @throws RotatorError of the far side's class, `denied` with a MessageRefused as its cause when that
 *   did not act on a stale request; `unknown` with such a cause when the reply is not one to this very request by the one that was
 *   asked: the request may have been acted on all the same.
 */
export async function openReplyTo(request: ReplyCheck, text: string, nowMs: number): Promise<unknown> {
  const reply = await readReply(request, text, nowMs);
  if (reply.status === "ok") return reply.result;
  if (reply.status === "stale") {
    const cause = new MessageRefused("stale");
    throw new RotatorError("denied", cause.message, { cause });
  }
  const { class: outcome, message, remedy } = reply.error;
  throw new RotatorError(outcome, remedy === undefined ? message : `${message} ${remedy}`);
}

async function readReply(request: ReplyCheck, text: string, nowMs: number): Promise<z.infer<typeof replyShape>> {
  try {
    const { payload } = await openSigned(replyType, await openSealed(text, request.replyKey), [request.signing], "reply");
    const { data } = replyShape.safeParse(payload);
    if (!data) throw new MessageRefused("shape");
    if (data.requestHash !== request.hash || data.jti !== request.id) throw new MessageRefused("audience");
    if (data.iat * 1000 > nowMs + clockSkewMs) throw new MessageRefused("too-early");
    if (data.iat * 1000 < request.sentAt - clockSkewMs) throw new MessageRefused("too-old");
    return data;
  } catch (error) {
    if (!(error instanceof MessageRefused)) throw error;
    throw new RotatorError(
      "unknown",
      `A reply came that cannot be believed (${error.reason}), so nothing is known of what was done.`,
      {
        cause: error,
      },
    );
  }
}

function bounded(outcome: ReplyOutcome): ReplyOutcome {
  if (outcome.status === "ok") return { status: "ok", result: outcome.result ?? null };
  if (outcome.status === "stale") return outcome;
  const { class: failure, message, remedy } = outcome.error;
  const error = { class: failure, message: message.slice(0, maxSentence) };
  return { status: "error", error: remedy === undefined ? error : { ...error, remedy: remedy.slice(0, maxSentence) } };
}
