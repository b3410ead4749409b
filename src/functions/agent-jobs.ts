import { randomInt } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { JWK } from "jose";
import { RotatorError } from "../core/error.ts";
import { generatePassword, rotationPasswordOptions } from "../core/password.ts";
import type { FarKeys } from "../crypto/message-keys.ts";
import { MessageRefused } from "../crypto/message-refused.ts";
import type { ReplyOutcome } from "../crypto/message-reply.ts";
import { type OpenedRequest, openRequest } from "../crypto/messages.ts";
import { type AllowRule, isAllowed } from "../targets/addresses.ts";
import { farBody, runFarVerb } from "../targets/far-verbs.ts";
import { findRotator } from "../targets/index.ts";
import { findLeaseTarget } from "../targets/lease-targets.ts";
import type { Begun, Journal } from "./agent-journal.ts";
import { farCallType } from "./far-request.ts";

/** Lines of an agent's log. Names and ids only. */
export interface AgentLog {
  info(fields: object, text: string): void;
  warn(fields: object, text: string): void;
  error(fields: object, text: string): void;
}

/** A message as the server handed it out. */
export interface AgentJob {
  readonly id: string;
  readonly message: string;
  /** Epoch ms, by the server's clock. */
  readonly handedOutAt: number;
  /** Epoch ms, by our clock. */
  readonly receivedAt: number;
}

/** What the server is told of a job: a sealed reply, or why its message was not acted on. */
export type AgentAnswer = { readonly id: string } & ({ readonly reply: string } | { readonly refused: string });

export interface JobParts {
  readonly keys: FarKeys;
  /** Public keys of the server that are trusted now; empty: none is, and every message is refused. */
  keySet(): readonly JWK[];
  /** The agent's own ARN. */
  readonly audience: string;
  readonly issuer: string;
  readonly journal: Journal;
  readonly allow: readonly AllowRule[];
  readonly log: AgentLog;
  readonly now: () => number;
}

const update = "Update the agent.";
const graceMs = 2_000;

/**
 * Acts on one message: checks it, writes it into the journal, runs its verb and gives the reply. `decline`: why nothing is
 * begun any more. `undefined`: it is being worked on already.
 */
export async function workOn(job: AgentJob, parts: JobParts, decline?: string): Promise<AgentAnswer | undefined> {
  const { log, now, keys, audience, issuer } = parts;
  const opened = await open(job, parts);
  if ("refused" in opened) {
    log.error({ job: job.id, reason: opened.refused }, `a job was refused: ${opened.says}`);
    return { id: job.id, refused: opened.refused };
  }
  const request = opened;
  const names = { job: request.id, subject: request.subject, step: request.step, kind: kindOf(request) };
  const ended = failed("unknown", "The agent was ended while it worked on this.");
  const begun = begin(request, await request.writeReply(decline === undefined ? ended : declined(decline)), parts);
  if (begun.state === "running") return undefined;
  if (begun.state === "done") {
    log.info(names, "a job came again: its reply is given again");
    return { id: job.id, reply: begun.reply };
  }
  if (begun.state !== "begun") return refuse(request, begun.state, names, parts);
  if (decline !== undefined) return answer(request, declined(decline), parts);
  const startedAt = now();
  const outcome = await perform(request, job, parts);
  const result = outcome.status === "error" ? outcome.error.class : outcome.status;
  log.info({ ...names, outcome: result, ms: now() - startedAt }, "a job is done");
  return answer(request, outcome, parts);

  async function open({ id, message }: AgentJob, { keySet }: JobParts) {
    try {
      const request = await openRequest(message, { keys, keySet: keySet(), audience, issuer, nowMs: now() });
      if (request.id !== id) return { refused: "other-job", says: "its message is that of another job" };
      return request;
    } catch (error) {
      if (!(error instanceof MessageRefused)) throw error;
      return { refused: error.reason, says: error.message };
    }
  }
}

/** Durable, or the job is not run. */
function begin(request: OpenedRequest, replyIfEnded: string, { journal, log, now }: JobParts): Begun | { state: "unwritten" } {
  const { id, subject, fence, expiresAt } = request;
  try {
    return journal.begin({ id, subject, fence, expiresAt, replyIfEnded }, now());
  } catch (error) {
    log.error({ job: id, err: nameOf(error) }, "the journal cannot be written, so nothing is run: is its disk full?");
    return { state: "unwritten" };
  }
}

async function refuse(
  request: OpenedRequest,
  state: "stale" | "forgotten" | "full" | "unwritten",
  names: object,
  { log }: JobParts,
): Promise<AgentAnswer> {
  log.warn({ ...names, reason: state }, "a job was refused");
  if (state === "forgotten") return { id: request.id, refused: "replayed" };
  const outcome =
    state === "stale"
      ? ({ status: "stale" } as const)
      : failed("unreachable", "The agent cannot write its journal, so it runs nothing.", "See to the disk of its data folder.");
  return { id: request.id, reply: await request.writeReply(outcome) };
}

/** In the journal before it is told. */
async function answer(request: OpenedRequest, outcome: ReplyOutcome, { journal, log }: JobParts): Promise<AgentAnswer> {
  const reply = await request.writeReply(outcome);
  try {
    journal.done(request.id, reply);
  } catch (error) {
    log.error({ job: request.id, err: nameOf(error) }, "the journal cannot be written: is its disk full?");
  }
  return { id: request.id, reply };
}

/** By our clock, and never later than what was left when the server handed it out: a clock that is behind gives no more time. */
const deadlineOf = ({ expiresAt }: OpenedRequest, { handedOutAt, receivedAt }: AgentJob): number =>
  Math.min(expiresAt, receivedAt + expiresAt - handedOutAt);

async function perform(request: OpenedRequest, job: AgentJob, parts: JobParts): Promise<ReplyOutcome> {
  if (request.type !== farCallType)
    return failed("invalid", `The agent does not know requests of type ${JSON.stringify(request.type)}.`, update);
  if (!farBody.safeParse(request.body).success)
    return failed("invalid", "The agent does not know all that the request holds.", update);
  const deadlineAt = deadlineOf(request, job);
  if (deadlineAt <= parts.now()) return failed("unreachable", "The request came too late to the agent, which has not begun it.");
  const stop = new AbortController();
  const late = sleep(deadlineAt - parts.now() + graceMs, "late" as const, { signal: stop.signal }).catch(() => "late" as const);
  const ran = await Promise.race([run(request, deadlineAt, parts), late]);
  stop.abort();
  if (ran !== "late") return ran;
  parts.log.error({ job: request.id, step: request.step }, "a job did not end by its deadline, and is left to itself");
  return failed("unknown", "The verb did not end by its deadline; it may still have its effect.");
}

async function run(request: OpenedRequest, deadlineAt: number, { allow, log }: JobParts): Promise<ReplyOutcome> {
  try {
    const result = await runFarVerb(request.body, {
      verb: request.step,
      subject: request.subject,
      deadlineAt,
      generatePassword: (asked) => generatePassword(rotationPasswordOptions(asked), randomInt),
      findRotator,
      findLeaseTarget,
      allow: (address) => isAllowed(allow, address),
    });
    return { status: "ok", result };
  } catch (error) {
    if (error instanceof RotatorError && error.outcome !== "unknown") return failed(error.outcome, error.message);
    log.error({ job: request.id, err: nameOf(error) }, "a job ended in an unknown state");
    return failed("unknown", error instanceof RotatorError ? error.message : "The agent met an error of its own.");
  }
}

const kindOf = ({ body }: OpenedRequest): string | undefined => farBody.safeParse(body).data?.kind;

function failed(outcome: RotatorError["outcome"], message: string, remedy?: string): ReplyOutcome {
  return { status: "error", error: { class: outcome, message, ...(remedy === undefined ? {} : { remedy }) } };
}

const declined = (why: string): ReplyOutcome => failed("unreachable", why);

/** Where it happened, and nothing of what was said: a driver's texts may quote what was sent. */
export function nameOf(error: unknown): object {
  if (!(error instanceof Error)) return { name: "something that is not an error" };
  const places = (error.stack ?? "").split("\n").filter((line) => /^\s+at /.test(line));
  const code = "code" in error && typeof error.code === "string" ? { code: error.code } : {};
  const cause = error.cause === undefined ? {} : { cause: nameOf(error.cause) };
  return { name: error.name, ...code, places: places.slice(0, 10).map((line) => line.trim()), ...cause };
}
