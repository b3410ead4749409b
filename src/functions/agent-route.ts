import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { agentLimits } from "../core/agent.ts";
import type { Audit } from "../core/audit.ts";
import { RotatorError } from "../core/error.ts";
import type { SigningKey } from "../crypto/message-keys.ts";
import { type SentRequest, writeRequest } from "../crypto/messages.ts";
import { agentHint, agentJobHint } from "../store/agent-desk.ts";
import { clearAgentReply, dropAgentJob, findAgentJob, insertAgentJob, withdrawAgentJob } from "../store/agent-jobs.ts";
import { type Agent, chooseAgent, countAgents, findAgent, holdAgent } from "../store/agents.ts";
import type { Hints } from "../store/hints.ts";
import type { Sql } from "../store/sql.ts";
import type { FarCall, FarRoute } from "../targets/far.ts";
import { farRequest, refusalOf } from "./far-request.ts";

/** What became of a job for an agent, for metrics: `moved` to another one; `silent`: it was taken, and no answer came. */
export type AgentJobOutcome = "answered" | "forged" | "refused" | "moved" | "untaken" | "silent" | "no agent";

export interface AgentRouteParts {
  readonly sql: Sql;
  readonly hints: Hints;
  readonly audit: Pick<Audit<Sql>, "append">;
  readonly region: string;
  now(): number;
  /** Epoch ms, of this process. Agents come back to a server that was away; absent: they had the time. */
  readonly startedAt?: number;
  signingKey(nowMs: number): Promise<SigningKey>;
  /** Id of this installation. */
  issuer(): Promise<string>;
  count?(outcome: AgentJobOutcome): void;
}

/** Not taken by then, a job goes to another agent, if there is one. */
const takenWithinMs = 2_000;
/** Between looks for what another process wrote. */
const lookMs = 150;
/** So long after a start a call waits for an agent: longer than an agent pauses between tries to reach its server. */
const comeBackMs = 30_000;
/** What is left of a call's time when it gives up waiting for an agent. */
const leftToSayMs = 500;

/** The way into a network by the agents in it: a message sealed to one of them, in the store until that one fetches it. */
export function createAgentRoute(parts: AgentRouteParts, network: string): FarRoute {
  return { call: (call) => callAgents(parts, network, call) };
}

async function callAgents(parts: AgentRouteParts, network: string, call: FarCall): Promise<unknown> {
  const { sql, now } = parts;
  const tried: string[] = [];
  for (;;) {
    const wanted = { network, kind: call.kind, nowMs: now(), not: tried, maxOpen: agentLimits.open };
    const agent = now() < call.deadlineAt ? await sql.transaction((tx) => takeTurn(tx, wanted), { durable: false }) : undefined;
    if (!agent && tried.length === 0 && (await mayComeBack(parts, network, call))) continue;
    if (!agent) throw await noAgent(parts, network, call.kind, tried.length);
    const job = new Job(parts, agent, call, tried);
    if (await job.send()) {
      const ended = await job.end();
      if (ended) return ended.result;
      parts.count?.("moved");
    }
    tried.push(agent.id);
  }
}

/** Waits a moment when agents that are not seen yet may still come. */
async function mayComeBack({ sql, now, startedAt }: AgentRouteParts, network: string, { deadlineAt }: FarCall): Promise<boolean> {
  const nowMs = now();
  if (startedAt === undefined || nowMs - startedAt >= comeBackMs || nowMs >= deadlineAt - leftToSayMs) return false;
  const { all } = await countAgents(sql, network, nowMs);
  if (all === 0) return false;
  await sleep(lookMs);
  return true;
}

/** Chosen and written down at once, so that calls at the same time go to different agents. */
async function takeTurn(tx: Sql, wanted: Parameters<typeof chooseAgent>[1]): Promise<Agent | undefined> {
  const agent = await chooseAgent(tx, wanted);
  if (agent) await holdAgent(tx, agent.id, wanted.nowMs);
  return agent;
}

/** One message to one agent. */
class Job {
  readonly #parts: AgentRouteParts;
  readonly #agent: Agent;
  readonly #call: FarCall;
  readonly #tried: readonly string[];
  readonly #id = randomUUID();
  #sentAt = 0;
  #request: SentRequest | undefined;

  constructor(parts: AgentRouteParts, agent: Agent, call: FarCall, tried: readonly string[]) {
    this.#parts = parts;
    this.#agent = agent;
    this.#call = call;
    this.#tried = tried;
  }

  /** False when the agent was revoked meanwhile. */
  async send(): Promise<boolean> {
    const { sql, hints, now, signingKey, issuer } = this.#parts;
    const { id: agentId, arn, signingKey: signing, sealingKey: sealing } = this.#agent;
    const nowMs = now();
    this.#sentAt = nowMs;
    const key = await signingKey(nowMs);
    const receiver = { signing: JSON.parse(signing), sealing: JSON.parse(sealing) };
    const request = farRequest(this.#call, { audience: arn, id: this.#id, nowMs });
    const sent = await writeRequest(request, { key, issuer: await issuer(), nowMs, receiver });
    this.#request = sent;
    const job = { id: this.#id, agentId, message: sent.text, createdAt: nowMs, expiresAt: this.#call.deadlineAt };
    const insert = async (tx: Sql) => {
      const held = await holdAgent(tx, agentId, nowMs);
      if (held) await insertAgentJob(tx, job);
      return held;
    };
    const queued = await sql.transaction(insert, { durable: false });
    if (queued) hints.give(agentHint(agentId));
    return queued;
  }

  /** Waits for the end of it. `undefined`: it did not run, and may go to another agent. @throws RotatorError */
  async end(): Promise<{ readonly result: unknown } | undefined> {
    const { sql, hints, now } = this.#parts;
    for (let lookedAt = this.#sentAt; ; lookedAt = now()) {
      const job = await findAgentJob(sql, this.#id);
      switch (job?.state) {
        case "answered":
          return { result: await this.#open(job.reply ?? "") };
        case "refused":
          return this.#refused(job.reply ?? "");
        case "withdrawn":
          return undefined;
        case "queued":
          if (await this.#isToMove(lookedAt)) return undefined;
          break;
        case "sent":
          if (lookedAt >= this.#call.deadlineAt) throw await this.#silent();
          break;
        default:
          throw this.#unknown("was revoked while it had the call, or the call was given up");
      }
      const leftMs = Math.max(this.#call.deadlineAt - now(), 1);
      await hints.wait(agentJobHint(this.#id), Math.min(lookMs, leftMs));
    }
  }

  /** Whether a job that nobody took so far was taken back, to be given to another agent. @throws RotatorError at the deadline */
  async #isToMove(nowMs: number): Promise<boolean> {
    const { sql } = this.#parts;
    const isOver = nowMs >= this.#call.deadlineAt;
    if (!isOver && nowMs - this.#sentAt < takenWithinMs) return false;
    if (!isOver && !(await this.#hasBetter(nowMs))) return false;
    if (!(await withdrawAgentJob(sql, this.#id))) return false; // taken at this very moment
    if (!isOver) return true;
    this.#parts.count?.("untaken");
    const { name, network } = this.#agent;
    throw new RotatorError(
      "unreachable",
      `Agent ${name} of network ${network} did not fetch the call in time; nothing was done.`,
    );
  }

  /** Another agent, or none at all to wait for. */
  async #hasBetter(nowMs: number): Promise<boolean> {
    const { sql } = this.#parts;
    const { id, network } = this.#agent;
    const not = [...this.#tried, id];
    if (await chooseAgent(sql, { network, kind: this.#call.kind, nowMs, not, maxOpen: agentLimits.open })) return true;
    const itself = await findAgent(sql, id);
    return itself === undefined || itself.awayAt !== undefined || itself.revokedAt !== undefined;
  }

  /** @throws RotatorError of the far side, or `unknown` for what is not its reply */
  async #open(reply: string): Promise<unknown> {
    const { sql, now, count } = this.#parts;
    await clearAgentReply(sql, this.#id);
    try {
      const result = await this.#request?.openReply(reply, now());
      count?.("answered");
      return result;
    } catch (error) {
      const refusal = refusalOf(error);
      if (refusal) await this.#note(refusal);
      if (!refusal) count?.("answered");
      else count?.("Reply" in refusal ? "forged" : "refused");
      throw error;
    }
  }

  /** The agent's word alone, which is no proof that nothing was done. */
  async #refused(reason: string): Promise<undefined> {
    this.#parts.count?.("refused");
    await this.#note({ Refused: reason });
    if (this.#call.repeatable) return undefined;
    throw this.#unknown(`says that it refused the call (${reason}); ${refusalRemedy}`);
  }

  async #silent(): Promise<RotatorError> {
    await dropAgentJob(this.#parts.sql, this.#id);
    this.#parts.count?.("silent");
    const { name, network } = this.#agent;
    return new RotatorError("timeout", `Agent ${name} of network ${network} has the call and did not answer in time.`);
  }

  #unknown(why: string): RotatorError {
    const { name, network } = this.#agent;
    return new RotatorError("unknown", `Agent ${name} of network ${network} ${why}.`);
  }

  #note(parameters: object): Promise<void> {
    const { audit, region, now } = this.#parts;
    const { id, arn } = this.#agent;
    return audit.append({
      requestId: this.#id,
      at: now(),
      principal: arn,
      accessKeyId: id,
      action: "rekey:AnswerAgentJobs",
      resource: arn,
      region,
      sourceIp: "agent",
      parameters: { Job: this.#id, Subject: this.#call.subject, ...parameters },
      outcome: "AccessDeniedException",
    });
  }
}

const refusalRemedy = "look at its log and at both clocks";

async function noAgent(
  { sql, now, count }: AgentRouteParts,
  network: string,
  kind: string,
  tried: number,
): Promise<RotatorError> {
  count?.("no agent");
  const { live, all } = await countAgents(sql, network, now());
  return new RotatorError("unreachable", `${whyNoAgent({ live, all, tried, kind, network })} Nothing was done.`);
}

function whyNoAgent({
  live,
  all,
  tried,
  kind,
  network,
}: {
  live: number;
  all: number;
  tried: number;
  kind: string;
  network: string;
}) {
  if (all === 0) return `Network ${network} has no agent: make one with rekey agent enroll-token --network ${network}.`;
  if (tried > 0) return `No agent of network ${network} took the call.`;
  if (live === 0)
    return `No agent of network ${network} is connected; ${all === 1 ? "the one" : `all ${all}`} it has cannot be seen. Start it, or look at its log.`;
  return `No agent of network ${network} that is connected works at ${kind}, or all have too much to do; look at rekey agent list.`;
}
