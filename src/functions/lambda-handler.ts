import { createHash, randomInt } from "node:crypto";
import { readFileSync } from "node:fs";
import { z } from "zod";
import { RotatorError } from "../core/error.ts";
import { generatePassword, rotationPasswordOptions } from "../core/password.ts";
import { publicFarKeys } from "../crypto/message-keys.ts";
import { MessageRefused } from "../crypto/message-refused.ts";
import type { ReplyOutcome } from "../crypto/message-reply.ts";
import { type OpenedRequest, openBareRequest, openRequest } from "../crypto/messages.ts";
import { followKeys } from "../crypto/signing-key-chain.ts";
import { type AllowRule, isAllowed, parseAllowRule } from "../targets/addresses.ts";
import type { FarRotator } from "../targets/far-rotator-verbs.ts";
import { runFarVerb } from "../targets/far-verbs.ts";
import type { LeaseTarget } from "../targets/lease-target.ts";
import { farCallType } from "./far-request.ts";
import { LambdaJournal } from "./lambda-journal.ts";
import { createLambdaKeys, type LambdaKeys } from "./lambda-key-set.ts";
import { lambdaProtocol } from "./lambda-protocol.ts";
import { SetUpProblem } from "./lambda-set-up-problem.ts";

/** What one function of ours is made of. */
export interface LambdaProgram {
  readonly kind: string;
  readonly version: string;
  /** Path of the program itself. */
  readonly file: string;
  /** @throws ServiceError for a declaration that is not valid */
  rotatorOf(declaration?: unknown): unknown;
  readonly lease?: unknown;
  /** JSON Web Key Set that it trusts when its environment names none. */
  readonly pinnedKeySet?: unknown;
}

/** What AWS Lambda tells of a call. Source: AWS Lambda Developer Guide, "Using the Lambda context object". */
export interface LambdaContext {
  readonly invokedFunctionArn: string;
  getRemainingTimeInMillis(): number;
}

/** `body`: a sealed reply. The others say nothing that a caller may not know, as Doppler's agents write them. */
export type LambdaAnswer =
  | { readonly body: string }
  | { readonly status: "ok"; readonly body: object }
  | {
      readonly status: "error";
      readonly metadata: { readonly name: string; readonly message: string; readonly reason?: string };
    };

type Environment = Readonly<Record<string, string | undefined>>;

/** Kept back from what is left of the function's time, or a third of it, so that the answer still gets out of a small function. */
const mostMarginMs = 1_000;
/** A change of Rekey's signing key every month for sixteen years. */
const maxEndorsements = 200;

/**
 * The handler of a function of AWS Lambda that acts on Rekey's messages `{ body, endorsements? }` and on nothing else. It never throws:
 * what it refuses is answered with a name and a sentence. Only a signed `status` may come unsealed.
 */
export function createLambdaHandler(
  program: LambdaProgram,
  env: Environment = process.env,
): (event: unknown, context: LambdaContext) => Promise<LambdaAnswer> {
  const far = new LambdaFarSide(program, env);
  return async (event, context) => {
    try {
      return await far.answer(event, context);
    } catch (error) {
      return refusal(error);
    }
  };
}

class LambdaFarSide {
  readonly #program: LambdaProgram;
  readonly #env: Environment;
  readonly #keys: LambdaKeys;
  readonly #journal = new LambdaJournal();
  readonly #build: string;

  constructor(program: LambdaProgram, env: Environment) {
    this.#program = program;
    this.#env = env;
    this.#keys = createLambdaKeys(env, program.pinnedKeySet);
    this.#build = createHash("sha256").update(readFileSync(program.file)).digest("base64url");
  }

  async answer(event: unknown, context: LambdaContext): Promise<LambdaAnswer> {
    const { text, endorsements } = readEvent(event);
    const arn = context.invokedFunctionArn.split(":");
    // A version or an alias is the same function.
    const audience = arn.slice(0, 7).join(":");
    const nowMs = Date.now();
    const keySet = await followKeys(await this.#keys.keySet(arn[4] ?? "", nowMs), endorsements, nowMs);
    const keys = await this.#keys.own();
    if (text.split(".", 4).length === 3) {
      const request = await openBareRequest(text, { keySet, audience, nowMs });
      if (request.type !== "status") throw new MessageRefused("unreadable");
      this.#begin(request, nowMs);
      return { status: "ok", body: await this.#status() };
    }
    const request = await openRequest(text, { keys, keySet, audience, nowMs });
    const begun = this.#begin(request, nowMs);
    if (begun === "stale") logRefusal("stale");
    const outcome = begun === "begun" ? await this.#outcome(request, context) : { status: "stale" as const };
    return { body: await request.writeReply(outcome) };
  }

  /** @throws Replayed */
  #begin(request: { readonly id: string; readonly subject: string; readonly fence: number }, nowMs: number): "begun" | "stale" {
    const begun = this.#journal.begin(request, nowMs);
    if (begun === "begun" || begun === "stale") return begun;
    throw new Replayed(begun);
  }

  async #outcome(request: OpenedRequest, context: LambdaContext): Promise<ReplyOutcome> {
    if (request.type === "status") return { status: "ok", result: await this.#status() };
    if (request.type !== farCallType)
      return failed("invalid", `The function does not know requests of type ${request.type}.`, update);
    const leftMs = context.getRemainingTimeInMillis();
    const marginMs = Math.min(mostMarginMs, leftMs / 3);
    const ownEndAt = Date.now() + leftMs - marginMs;
    const deadlineAt = Math.min(request.expiresAt, ownEndAt);
    try {
      return { status: "ok", result: await this.#run(request, deadlineAt) };
    } catch (error) {
      if (!(error instanceof RotatorError)) throw error;
      if (error.outcome === "unknown") logCause(error.cause);
      const ranOut = ownEndAt < request.expiresAt && Date.now() >= deadlineAt - marginMs;
      return failed(error.outcome, error.message, ranOut ? longer : undefined);
    }
  }

  async #run({ body, step, subject }: OpenedRequest, deadlineAt: number): Promise<unknown> {
    const { kind: own, rotatorOf, lease } = this.#program;
    const rules = this.#rules();
    return runFarVerb(body, {
      verb: step,
      subject,
      deadlineAt,
      generatePassword: (asked) => generatePassword(rotationPasswordOptions(asked), randomInt),
      findRotator: async (kind, declaration) => (kind === own ? (rotatorOf(declaration) as FarRotator) : undefined),
      findLeaseTarget: async (kind) => (kind === own ? (lease as LeaseTarget | undefined) : undefined),
      ...(rules && { allow: (address) => isAllowed(rules, address) }),
    });
  }

  /** `undefined`: the function's network and security groups are the only bounds. */
  #rules(): readonly AllowRule[] | undefined {
    const text = this.#env.REKEY_ALLOW?.trim();
    if (!text) return undefined;
    try {
      return text.split(/[\s,]+/).map(parseAllowRule);
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : "";
      throw new RotatorError("invalid", `The function's variable REKEY_ALLOW cannot be read: ${why}`, { cause });
    }
  }

  async #status(): Promise<object> {
    const { kind, version } = this.#program;
    return {
      version,
      build: this.#build,
      kinds: [kind],
      runtime: process.version,
      protocol: lambdaProtocol,
      keys: publicFarKeys(await this.#keys.own()),
    };
  }
}

const eventShape = z.object({
  body: z.string(),
  endorsements: z.array(z.string().max(4_096)).max(maxEndorsements).default([]),
});

const update = "Update the function's code, or Rekey.";
const longer = "The function's time was up: give it a longer timeout at AWS; where that does not help, its way to the target.";

/** A message that was acted on before, or more of them than can be told apart. */
class Replayed extends Error {
  override readonly name = "MessageRefused";
  readonly reason: "replayed" | "full";

  constructor(reason: "replayed" | "full") {
    super(
      reason === "replayed"
        ? "The message has been here before: it is acted on once."
        : "More messages came than can be told apart.",
    );
    this.reason = reason;
  }
}

function failed(outcome: Exclude<RotatorError["outcome"], "ok">, message: string, remedy?: string): ReplyOutcome {
  return { status: "error", error: { class: outcome, message, ...(remedy !== undefined && { remedy }) } };
}

/** `endorsements`: what leads from the keys that the function was given to those that Rekey has now. @throws MessageRefused */
function readEvent(event: unknown): { text: string; endorsements: readonly string[] } {
  const { data } = eventShape.safeParse(event);
  if (!data) throw new MessageRefused("unreadable");
  return { text: data.body, endorsements: data.endorsements };
}

function refusal(error: unknown): LambdaAnswer {
  if (error instanceof SetUpProblem) return { status: "error", metadata: { name: error.name, message: error.message } };
  if (error instanceof MessageRefused || error instanceof Replayed) {
    logRefusal(error.reason);
    return { status: "error", metadata: { name: "MessageRefused", message: error.message, reason: error.reason } };
  }
  logCause(error);
  return {
    status: "error",
    metadata: { name: "InternalError", message: "The function met an error of its own; its log says where." },
  };
}

/** Where the function's owner sees that somebody tries. `reason`: one of a few words, none of the message. */
function logRefusal(reason: string): void {
  console.warn(`a message was refused: ${reason}`);
}

/** Where it happened, and nothing of what was said: a driver's texts may quote what was sent. */
function logCause(error: unknown): void {
  if (!(error instanceof Error)) return;
  const places = (error.stack ?? "").split("\n").filter((line) => /^\s+at /.test(line));
  console.error([error.name, ...places.slice(0, 10)].join("\n"));
}
