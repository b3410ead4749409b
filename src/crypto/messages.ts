import { createHash } from "node:crypto";
import { exportJWK, type JWK } from "jose";
import { z } from "zod";
import { RotatorError } from "../core/error.ts";
import { bareKey, type FarKeys, imported, newPair, publicJwk, type SigningKey } from "./message-keys.ts";
import { MessageRefused } from "./message-refused.ts";
import { openReplyTo, type ReplyOutcome, writeReplyTo } from "./message-reply.ts";
import { openSealed, sealText } from "./sealed-text.ts";
import { maxMessageBytes, openSigned, writeSigned } from "./signed-text.ts";

/** As Doppler's agents expect it; nothing else that a signing key signs carries this type. */
const requestType = "JWT";
/** Both ways. Source: what Doppler's published agents accept. */
const messageWindowMs = 30_000;

/** What Rekey asks of an agent or a function of AWS Lambda. Times are epoch ms. */
export interface FarRequest {
  readonly type: string;
  /** JSON. */
  readonly body: object;
  /** ARN of the one that is asked. */
  readonly audience: string;
  /** UUID; a far side acts on it once. */
  readonly id: string;
  /** What it belongs to: a rotation, retirement, job, heartbeat or lease. */
  readonly subject: string;
  readonly step: string;
  readonly fence: number;
  readonly notBeforeAt: number;
  /** Nothing is begun after it. */
  readonly expiresAt: number;
}

/** Public keys of the one that is asked. */
export type Receiver = FarKeys;

interface WriteOptions {
  readonly key: SigningKey;
  /** Id of this installation. */
  readonly issuer: string;
  readonly nowMs: number;
}

export interface SentRequest {
  readonly text: string;
  /**
   * The far side's result, JSON. The key that opens replies is in this object only.
   * @throws RotatorError of the far side's class; `unknown` for what is not its reply to this very request
   */
  openReply(text: string, nowMs: number): Promise<unknown>;
}

const seconds = z.number().nonnegative();
const requestShape = z.strictObject({
  type: z.string().min(1).max(100),
  timestamp: z.iso.datetime(),
  body: z.record(z.string(), z.unknown()),
  iss: z.string(),
  aud: z.string(),
  jti: z.uuid(),
  nbf: seconds,
  exp: seconds,
  sub: z.string().max(2048),
  step: z.string().max(100),
  fence: z.int().nonnegative(),
  replyKey: bareKey.enc,
});
const bareShape = requestShape.omit({ replyKey: true });
type RequestPayload = z.infer<typeof bareShape>;

/**
 * Signs a request and seals it to its receiver.
 * @throws RotatorError `invalid` when it is larger than a message may be
 */
export async function writeRequest(
  request: FarRequest,
  options: WriteOptions & { readonly receiver: Receiver },
): Promise<SentRequest> {
  const { receiver, nowMs } = options;
  const pair = await newPair("enc", { extractable: false });
  const jws = await signRequest(request, options, publicJwk(await exportJWK(pair.publicKey)));
  const text = checked(await sealText(jws, receiver.sealing));
  const asked = { hash: hashOf(jws), id: request.id, sentAt: nowMs, replyKey: pair.privateKey, signing: receiver.signing };
  return { text, openReply: (reply, atMs) => openReplyTo(asked, reply, atMs) };
}

/**
 * Signed and not sealed, for Doppler's published agents, which know no more than `type`, `timestamp` and `body`.
 * @throws RotatorError `invalid` when it is larger than a message may be
 */
export async function writeBareRequest(request: FarRequest, options: WriteOptions): Promise<string> {
  return checked(await signRequest(request, options, undefined));
}

async function signRequest(
  request: FarRequest,
  { key, issuer, nowMs }: WriteOptions,
  replyKey: JWK | undefined,
): Promise<string> {
  const payload = {
    type: request.type,
    timestamp: new Date(nowMs).toISOString(),
    body: request.body,
    iss: issuer,
    aud: request.audience,
    jti: request.id,
    nbf: request.notBeforeAt / 1000,
    exp: request.expiresAt / 1000,
    sub: request.subject,
    step: request.step,
    fence: request.fence,
    ...(replyKey === undefined ? {} : { replyKey }),
  };
  return writeSigned(requestType, payload, key);
}

export interface OpenOptions {
  /** The receiver's own, private. */
  readonly keys: FarKeys;
  /** Rekey's signing keys that the receiver trusts, with `kid`. */
  readonly keySet: readonly JWK[];
  /** The receiver's own ARN. */
  readonly audience: string;
  /** Id of the installation that the receiver belongs to, where it knows it. */
  readonly issuer?: string;
  readonly nowMs: number;
}

/** A request to act on, unless the journal has seen its `id`, or a newer fence of its `subject`. */
export interface OpenedRequest extends FarRequest {
  readonly issuer: string;
  /** Base64url SHA-256 of the request's JWS. */
  readonly hash: string;
  /** When it was signed, by Rekey's clock. */
  readonly sentAt: number;
  /** Signed by the receiver, sealed to the one that asked. */
  writeReply(outcome: ReplyOutcome): Promise<string>;
}

/**
 * Opens and checks a sealed request; a bare one is refused. Whether it was seen before is the caller's to know.
 * @throws MessageRefused for everything that is not a request of this Rekey, to this receiver, of now
 */
export async function openRequest(text: string, options: OpenOptions): Promise<OpenedRequest> {
  const { keys, keySet } = options;
  const jws = await openSealed(text, await imported(keys.sealing, "enc"), keys.sealing.kid);
  const { payload } = await openSigned(requestType, jws, keySet);
  const { data } = requestShape.safeParse(payload);
  if (!data) throw new MessageRefused("shape");
  checkAddress(data, options);
  checkTimes(data, options.nowMs);
  const answered = { hash: hashOf(jws), id: data.jti };
  return {
    ...requestOf(data),
    hash: answered.hash,
    writeReply: (outcome) => writeReplyTo(answered, outcome, { keys, replyKey: data.replyKey }, options.nowMs),
  };
}

/**
 * Opens and checks what `writeBareRequest` wrote, for what may be asked before the two sides know each other. It cannot be
 * answered. @throws MessageRefused
 */
export async function openBareRequest(
  text: string,
  options: Omit<OpenOptions, "keys">,
): Promise<Omit<OpenedRequest, "hash" | "writeReply">> {
  const { payload } = await openSigned(requestType, text, options.keySet);
  const { data } = bareShape.safeParse(payload);
  if (!data) throw new MessageRefused("shape");
  checkAddress(data, options);
  checkTimes(data, options.nowMs);
  return requestOf(data);
}

function requestOf(data: RequestPayload): Omit<OpenedRequest, "hash" | "writeReply"> {
  return {
    type: data.type,
    body: data.body,
    audience: data.aud,
    id: data.jti,
    subject: data.sub,
    step: data.step,
    fence: data.fence,
    notBeforeAt: Math.round(data.nbf * 1000),
    expiresAt: Math.round(data.exp * 1000),
    issuer: data.iss,
    sentAt: Date.parse(data.timestamp),
  };
}

function checkAddress({ iss, aud }: RequestPayload, { audience, issuer }: Pick<OpenOptions, "audience" | "issuer">): void {
  if (issuer !== undefined && iss !== issuer) throw new MessageRefused("issuer");
  if (aud !== audience) throw new MessageRefused("audience");
}

/** `exp` knows no grace: what came too late is not begun. */
function checkTimes({ timestamp, nbf, exp }: RequestPayload, nowMs: number): void {
  const sentAt = Date.parse(timestamp);
  if (nowMs - sentAt > messageWindowMs) throw new MessageRefused("too-old");
  if (sentAt - nowMs > messageWindowMs || nbf * 1000 - nowMs > messageWindowMs) throw new MessageRefused("too-early");
  if (exp * 1000 <= nowMs) throw new MessageRefused("expired");
}

function checked(text: string): string {
  if (text.length > maxMessageBytes)
    throw new RotatorError("invalid", `The request is larger than the ${maxMessageBytes / 1024} KiB that a message may have.`);
  return text;
}

const hashOf = (jws: string): string => createHash("sha256").update(jws).digest("base64url");
