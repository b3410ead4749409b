import { z } from "zod";
import { agentLimits } from "../../core/agent.ts";
import { ServiceError } from "../../core/error.ts";
import { agentArn } from "../../core/rekey-arn.ts";
import { agentJobHint } from "../../store/agent-desk.ts";
import {
  type AgentMessage,
  type AnswerOutcome,
  answerAgentJob,
  anyAgentJob,
  type JobsWanted,
  takeAgentJobs,
} from "../../store/agent-jobs.ts";
import { enterSession } from "../../store/agent-sessions.ts";
import { findAgent, noteAgentAway } from "../../store/agents.ts";
import { type Call, defineOperation, type Resource } from "../operation.ts";
import { callingAgent, kinds, ownAgent, shownKey, version } from "./agent-input.ts";

const jobId = z.string().min(1).max(64);
const pollInput = z.object({
  Version: version,
  Kinds: kinds,
  Most: z.number().int().min(0).max(agentLimits.jobsAtOnce),
  WaitSeconds: z.number().int().min(0).max(agentLimits.waitSeconds),
  ClockSkewMs: z.number().int().min(-1e15).max(1e15).optional(),
  KnownKeys: z.array(z.string().max(64)).max(50).default([]),
  Holding: z.array(jobId).max(agentLimits.held).default([]),
  Leaving: z.boolean().default(false),
  /** Of this run of the agent. */
  Session: z
    .string()
    .regex(/^[\w-]{1,64}$/)
    .default("none"),
});
type PollInput = z.infer<typeof pollInput>;

interface PollOutput {
  readonly Jobs: readonly object[];
  readonly ServerTime: Date;
  readonly Keys: readonly object[];
}

export const pollAgentJobs = defineOperation<PollInput, Resource>({
  name: "PollAgentJobs",
  action: "rekey:PollAgentJobs",
  noun: "agents",
  verb: "poll",
  mode: "write",
  summary: "Hands an agent its jobs, waiting for some; a later poll of the same agent ends an earlier one.",
  input: pollInput,
  sensitive: ["KnownKeys", "Kinds"],
  isIdle: (output) => (output as PollOutput).Jobs.length === 0,
  resource: ownAgent,
  async run(input, _found, call) {
    const { id } = callingAgent(call);
    const { agents, signingKeys, now } = call.services;
    if ((await enterSession(call.services.sql, id, input.Session, now())) === "ended") throw replaced();
    const jobs = input.Leaving ? await leave(id, call) : await poll(id, input, call);
    const chain = await signingKeys.chain();
    const keys = chain.slice(chain.findLastIndex(({ kid }) => input.KnownKeys.includes(kid)) + 1);
    if (input.Leaving) agents.forget(id);
    else if (!call.signal?.aborted) note(id, input, call);
    return {
      Jobs: jobs.map(({ id: job, message }) => ({ Id: job, Message: message })),
      ServerTime: new Date(now()),
      Keys: keys.map(shownKey),
    } satisfies PollOutput;
  },
});

const replaced = () =>
  new ServiceError(
    "PreconditionNotMetException",
    "Another process with the keys of this agent has taken its place: two of them run, as with a copy of its folder.",
  );

function note(agentId: string, { Version, Kinds, ClockSkewMs }: PollInput, { services }: Call): boolean {
  return services.agents.note({ agentId, atMs: services.now(), version: Version, kinds: Kinds, clockSkewMs: ClockSkewMs });
}

async function leave(agentId: string, call: Call): Promise<readonly AgentMessage[]> {
  const nowMs = call.services.now();
  call.services.agents.begin(agentId, undefined)[Symbol.dispose]();
  await call.services.sql.transaction((tx) => noteAgentAway(tx, agentId, nowMs));
  return [];
}

async function poll(agentId: string, input: PollInput, call: Call): Promise<readonly AgentMessage[]> {
  const { agents, now } = call.services;
  const startedAt = now();
  if (agents.isFlooding(agentId, startedAt))
    throw new ServiceError("ThrottlingException", "Too many polls that found nothing; wait longer before the next one.");
  if (note(agentId, input, call)) {
    await agents.save();
    call.services.wakeEngine();
  }
  const jobs = await waitForJobs(agentId, input, call);
  if (jobs.length > 0) return jobs;
  agents.countEmpty(agentId, now() - startedAt, now());
  if (call.signal?.aborted && !agents.isHere(agentId)) await lost(agentId, call);
  return [];
}

async function waitForJobs(
  agentId: string,
  { Holding, Most, WaitSeconds, Session: session }: PollInput,
  call: Call,
): Promise<readonly AgentMessage[]> {
  const { agents, now } = call.services;
  const until = now() + WaitSeconds * 1000;
  using turn = agents.begin(agentId, call.signal);
  while (!turn.signal.aborted) {
    const taken = await take({ agentId, session, holding: Holding, most: Most, nowMs: now() }, call);
    const leftMs = until - now();
    if (taken.length > 0 || leftMs <= 0) return taken;
    await agents.wait(agentId, leftMs, turn.signal);
    if (!(await isStillThere(agentId, session, call))) return [];
  }
  return [];
}

/** A look before a transaction: mostly there is nothing. */
async function take(wanted: JobsWanted, call: Call): Promise<readonly AgentMessage[]> {
  if (!(await anyAgentJob(call.sql, wanted))) return [];
  return call.transaction(async (tx) => {
    const taken = await takeAgentJobs(tx, wanted);
    call.describe({ Jobs: taken.map(({ id }) => id) });
    return taken;
  });
}

/** A revocation ends the polls that wait, too, as does a newer run of the agent. @throws ServiceError UnrecognizedClientException */
async function isStillThere(agentId: string, session: string, { sql }: Call): Promise<boolean> {
  const agent = await findAgent(sql, agentId);
  if (agent?.revokedAt === undefined && agent !== undefined) return agent.session === session;
  throw new ServiceError("UnrecognizedClientException", "This agent was revoked.");
}

/** A poll's connection ended, and there is no other: the agent may have died, and others are asked first until it is back. */
async function lost(agentId: string, { services }: Call): Promise<void> {
  const { agents, sql, now } = services;
  agents.forget(agentId);
  await sql.transaction((tx) => noteAgentAway(tx, agentId, now()), { durable: false });
}

const answer = z.object({
  Id: jobId,
  Reply: z.string().min(1).max(agentLimits.replyChars).optional(),
  Refused: z
    .string()
    .regex(/^[a-z][a-z-]{0,39}$/)
    .optional(),
});
const answerInput = z.object({ Answers: z.array(answer).min(1).max(agentLimits.answersAtOnce) });

export const answerAgentJobs = defineOperation<z.infer<typeof answerInput>, Resource>({
  name: "AnswerAgentJobs",
  action: "rekey:AnswerAgentJobs",
  noun: "agents",
  verb: "answer",
  mode: "write",
  summary:
    "Takes an agent's answers to its jobs: sealed replies, or why it refused a message. What was answered before is of no effect.",
  input: answerInput,
  sensitive: ["Answers"],
  check({ Answers }) {
    if (Answers.some(({ Reply, Refused }) => (Reply === undefined) === (Refused === undefined)))
      throw new ServiceError("ValidationException", "Each answer has either reply or refused.");
  },
  resource: ownAgent,
  async run({ Answers }, _found, call) {
    const { id: agentId } = callingAgent(call);
    const results = await call.transaction(async (tx) => {
      const outcomes: { Id: string; Outcome: AnswerOutcome; Refused?: string }[] = [];
      for (const { Id, Reply, Refused } of Answers) {
        const state = Reply === undefined ? "refused" : "answered";
        const reply = Reply ?? Refused ?? "";
        const outcome = await answerAgentJob(tx, { id: Id, agentId, state, reply, nowMs: call.services.now() });
        outcomes.push({ Id, Outcome: outcome, ...(Refused === undefined ? {} : { Refused }) });
      }
      call.describe({ Answers: outcomes });
      return outcomes;
    });
    for (const { Id, Outcome } of results) {
      if (Outcome === "taken") call.services.hints.give(agentJobHint(Id));
      if (Outcome === "refused")
        call.note("rekey:AnswerAgentJobs", agentArn(call.services, agentId), "AccessDeniedException", { Job: Id });
    }
    return { Results: results.map(({ Id, Outcome }) => ({ Id, Outcome })) };
  },
});
