import { randomUUID } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import type { JWK } from "jose";
import { z } from "zod";
import { RotatorError } from "../core/error.ts";
import type { CallFailure, CallResult } from "../core/function.ts";
import { parsedJson } from "../core/json-object.ts";
import type { SigningKey } from "../crypto/message-keys.ts";
import { type Receiver, writeBareRequest, writeRequest } from "../crypto/messages.ts";
import type { FarRoute } from "../targets/far.ts";
import { farRequest, refusalOf } from "./far-request.ts";
import type { LambdaFunction } from "./lambda.ts";
import { farRefusal, isRefusal, plain } from "./lambda-far-refusal.ts";
import { lambdaProtocol } from "./lambda-protocol.ts";

/** How a far function is spoken to. */
export interface LambdaFarParts {
  /** Calls it once; what it writes is not kept. */
  call(record: LambdaFunction, payload: string, signal: AbortSignal): Promise<CallResult>;
  readonly signingKeys: {
    current(nowMs: number): Promise<SigningKey>;
    /** All keys with their endorsements, oldest first. */
    chain(): Promise<readonly { readonly endorsement?: string | undefined }[]>;
  };
  /** Id of this installation. */
  issuer(): Promise<string>;
  /** Puts on record, without values, that a message or an answer was refused. */
  noteRefusal(record: LambdaFunction, parameters: object): Promise<void>;
  now(): number;
}

const answerShape = z.union([
  z.object({ body: z.string() }),
  z.object({ status: z.literal("ok"), body: z.record(z.string(), z.unknown()) }),
  z.object({
    status: z.literal("error"),
    metadata: z.object({
      name: z.string().max(200).optional(),
      message: z.string().max(10_000).optional(),
      reason: z.string().max(100).optional(),
    }),
  }),
]);
export type LambdaFarAnswer = z.infer<typeof answerShape>;

/** Without version or alias: what messages are addressed to. */
export const audienceOf = ({ lambda }: LambdaFunction): string => lambda.targetArn.split(":").slice(0, 7).join(":");

/** Hands a signed message to a function and reads what it answers. @throws RotatorError; `unreachable` when it certainly did not run */
export async function askLambda(
  parts: LambdaFarParts,
  record: LambdaFunction,
  text: string,
  deadlineAt: number,
): Promise<LambdaFarAnswer> {
  const ms = deadlineAt - parts.now();
  if (ms <= 0) throw new RotatorError("unreachable", `there was no time left to call function ${record.name}`);
  const signal = AbortSignal.timeout(Math.ceil(ms));
  const { payload, failure } = await parts.call(record, await eventOf(parts, record, text), signal);
  if (failure && signal.aborted)
    throw new RotatorError("timeout", `function ${record.name} did not answer in time; it may still be at work`);
  if (failure) throw failed(failure);
  const { data } = answerShape.safeParse(parsedJson(payload));
  if (data) return data;
  await parts.noteRefusal(record, { Reply: "shape" });
  const sentence = `function ${record.name} answered something else than a far side of Rekey or of Doppler does`;
  throw new RotatorError("unknown", `${sentence}: see that rekey function show ${record.name} names the right one.`);
}

/** With what leads from the keys that a function of ours was set up with to those of now. */
async function eventOf({ signingKeys }: LambdaFarParts, { lambda }: LambdaFunction, text: string): Promise<string> {
  if (lambda.protocol !== "rekey") return JSON.stringify({ body: text });
  const endorsements = (await signingKeys.chain()).flatMap(({ endorsement }) => endorsement ?? []);
  return JSON.stringify({ body: text, ...(endorsements.length > 0 && { endorsements: endorsements.slice(-maxEndorsements) }) });
}

/** As many as the far side takes. */
const maxEndorsements = 200;

/** Every verb becomes one sealed message to a function that runs Rekey's own code. */
export function createLambdaRoute(parts: LambdaFarParts, record: LambdaFunction): FarRoute {
  return {
    async call(call) {
      const { receiver } = record.lambda;
      if (!receiver) throw new RotatorError("invalid", `function ${record.name} has no public keys: give --far-key`);
      const request = farRequest(call, { audience: audienceOf(record), id: randomUUID(), nowMs: parts.now() });
      const signing = await signed(parts);
      const sent = await writeRequest(request, { ...signing, receiver: receiver as Receiver });
      const answer = await askLambda(parts, record, sent.text, call.deadlineAt);
      const note = (parameters: object): Promise<void> =>
        parts.noteRefusal(record, { Message: request.id, Subject: call.subject, ...parameters });
      if ("metadata" in answer) {
        if (isRefusal(answer.metadata)) await note({ Refused: plain(answer.metadata.reason ?? "") });
        throw farRefusal(record, answer.metadata);
      }
      if ("body" in answer && typeof answer.body === "string") {
        return sent.openReply(answer.body, parts.now()).catch(async (error: unknown) => {
          const refusal = refusalOf(error);
          if (refusal) await note(refusal);
          throw error;
        });
      }
      await note({ Reply: "other-receiver" });
      throw new RotatorError("unknown", `function ${record.name} answered without sealing, so nothing is known of what was done`);
    },
  };
}

/** What a bare request is signed with, and when. */
export async function signed(parts: LambdaFarParts): Promise<{ key: SigningKey; issuer: string; nowMs: number }> {
  const nowMs = parts.now();
  return { key: await parts.signingKeys.current(nowMs), issuer: await parts.issuer(), nowMs };
}

const probeMs = 20_000;
const statusShape = z.object({
  version: z.string().max(100),
  build: z.string().max(100),
  kinds: z.array(z.string().max(100)).max(100),
  protocol: z.number(),
  keys: z.object({ signing: z.looseObject({ kid: z.string() }), sealing: z.looseObject({ kid: z.string() }) }),
});

/** What a far function says of itself. */
export interface FarStatus {
  readonly version?: string | undefined;
  /** Of its code, as a manifest names it. */
  readonly build?: string | undefined;
  readonly kinds?: readonly string[] | undefined;
}

/** Whether a function answers, takes what this Rekey signs, and has the keys that are known of it. @throws RotatorError: why not, and what would help */
export async function probeLambda(parts: LambdaFarParts, record: LambdaFunction): Promise<FarStatus> {
  const signing = await signed(parts);
  const expiresAt = signing.nowMs + probeMs;
  const request = {
    type: "status",
    body: {},
    audience: audienceOf(record),
    id: randomUUID(),
    subject: record.arn,
    step: "status",
    fence: 0,
    notBeforeAt: signing.nowMs,
    expiresAt,
  };
  const answer = await askLambda(parts, record, await writeBareRequest(request, signing), expiresAt);
  if ("metadata" in answer) throw farRefusal(record, answer.metadata);
  if (!("status" in answer)) throw new RotatorError("unknown", `function ${record.name} answered its status sealed`);
  if (record.lambda.protocol === "rekey") return ownStatus(record, answer.body);
  if (!statusShape.safeParse(answer.body).success) return {};
  throw new RotatorError(
    "invalid",
    `function ${record.name} runs Rekey's own code: register it with its public keys, rekey function create … --protocol rekey --far-key FILE.pub.`,
  );
}

function ownStatus({ name, lambda }: LambdaFunction, body: unknown): FarStatus {
  const { data } = statusShape.safeParse(body);
  if (!data)
    throw new RotatorError(
      "invalid",
      `function ${name} runs something else than Rekey's code: for one of Doppler's published agents give --protocol doppler.`,
    );
  if (data.protocol !== lambdaProtocol)
    throw new RotatorError(
      "invalid",
      `function ${name} speaks protocol ${data.protocol}, this server ${lambdaProtocol}: update one.`,
    );
  const kids = (keys: { signing: object; sealing: object }) => [kidOf(keys.signing), kidOf(keys.sealing)];
  if (!lambda.receiver || !isDeepStrictEqual(kids(data.keys), kids(lambda.receiver)))
    throw new RotatorError(
      "invalid",
      `function ${name} has other keys than those given: its REKEY_FAR_KEYS and --far-key must be of one rekey aws keys.`,
    );
  return { version: data.version, build: data.build, kinds: data.kinds };
}

const kidOf = (key: JWK | object): unknown => ("kid" in key ? key.kid : undefined);

function failed({ outcome, message, remedy }: CallFailure): RotatorError {
  return new RotatorError(outcome, remedy === undefined ? message : `${message}. ${remedy}`);
}
