import { randomUUID } from "node:crypto";
import type { JWK } from "jose";
import type { AuditRecord } from "../../src/core/audit.ts";
import {
  type FarKeys,
  importSigningKey,
  newFarKeys,
  newPrivateJwk,
  publicFarKeys,
  publicJwk,
} from "../../src/crypto/message-keys.ts";
import type { ReplyOutcome } from "../../src/crypto/message-reply.ts";
import { type OpenedRequest, openRequest } from "../../src/crypto/messages.ts";
import { type AgentJobOutcome, createAgentRoute } from "../../src/functions/agent-route.ts";
import { agentHint, agentJobHint } from "../../src/store/agent-desk.ts";
import { insertEnrolment, useEnrolment } from "../../src/store/agent-enrolments.ts";
import { type AgentMessage, type AnswerOutcome, answerAgentJob, takeAgentJobs } from "../../src/store/agent-jobs.ts";
import { insertAgent, saveSightings } from "../../src/store/agents.ts";
import { Hints } from "../../src/store/hints.ts";
import type { Sql } from "../../src/store/sql.ts";
import type { FarCall } from "../../src/targets/far.ts";

export const network = "plant";
const account = "000000000000";

/** An agent that works on the store itself, without a server between. */
export interface StoredAgent {
  readonly id: string;
  readonly arn: string;
  readonly keys: FarKeys;
}

/** Enrols an agent that has been seen; `kinds` default postgres. */
export async function newAgent(
  sql: Sql,
  nowMs: number,
  { name = "one", kinds = ["postgres"], of = network }: { name?: string; kinds?: string[]; of?: string } = {},
): Promise<StoredAgent> {
  const [id, enrolmentId] = [randomUUID(), randomUUID()];
  const keys = await newFarKeys();
  const { signing, sealing } = publicFarKeys(keys);
  const arn = `arn:aws:rekey:us-east-1:${account}:agent/${id}`;
  const createdBy = `arn:aws:iam::${account}:root`;
  await sql.transaction(async (tx) => {
    const times = { createdAt: nowMs, expiresAt: nowMs + 3_600_000 };
    await insertEnrolment(tx, { id: enrolmentId, network: of, createdBy, ...times, arn: "enrolment", tokenHash: randomUUID() });
    await useEnrolment(tx, enrolmentId, nowMs);
    await insertAgent(tx, {
      id,
      arn,
      network: of,
      name,
      signingKey: JSON.stringify(signing),
      sealingKey: JSON.stringify(sealing),
      version: "1.0.0",
      kinds,
      enrolmentId,
      enrolledBy: createdBy,
      enrolledAt: nowMs - 1,
      tokenHash: randomUUID(),
    });
    await saveSightings(tx, [{ agentId: id, atMs: nowMs, version: "1.0.0", kinds, clockSkewMs: undefined }]);
  });
  return { id, arn, keys };
}

/** A server's end: routes with a signing key, and the agents' way to their jobs. `now` may be moved on. */
export async function agentWorld(sql: Sql) {
  const key = await newPrivateJwk("sig");
  const keySet: JWK[] = [publicJwk(key)];
  const records: AuditRecord[] = [];
  const outcomes: AgentJobOutcome[] = [];
  const clock = { aheadMs: 0 };
  const now = () => Date.now() + clock.aheadMs;
  /** Several nodes have hints of their own. */
  const node = (hints: Hints, startedAt?: number) => ({
    hints,
    route: (of = network) =>
      createAgentRoute(
        {
          sql,
          hints,
          audit: { append: async (record) => void records.push(record) },
          region: "us-east-1",
          now,
          ...(startedAt !== undefined && { startedAt }),
          signingKey: () => importSigningKey(key),
          issuer: async () => "install1",
          count: (outcome) => outcomes.push(outcome),
        },
        of,
      ),
  });
  const own = node(new Hints());
  const take = async (agent: StoredAgent, most = 10, holding: readonly string[] = [], session = "one"): Promise<AgentMessage[]> =>
    sql.transaction((tx) => takeAgentJobs(tx, { agentId: agent.id, session, most, holding, nowMs: now() }));
  return {
    ...own,
    node,
    key,
    keySet,
    records,
    outcomes,
    clock,
    now,
    take,
    /** The next jobs of an agent, waiting for one. */
    async next(agent: StoredAgent, holding: readonly string[] = []): Promise<AgentMessage> {
      for (const giveUpAt = Date.now() + 120_000; Date.now() < giveUpAt; ) {
        const [job] = await take(agent, 1, holding);
        if (job) return job;
        await own.hints.wait(agentHint(agent.id), 20);
      }
      throw new Error("no job came");
    },
    open: (agent: StoredAgent, { message }: AgentMessage): Promise<OpenedRequest> =>
      openRequest(message, { keys: agent.keys, keySet, audience: agent.arn, issuer: "install1", nowMs: now() }),
    async reply(
      agent: StoredAgent,
      id: string,
      reply: string,
      state: "answered" | "refused" = "answered",
    ): Promise<AnswerOutcome> {
      const outcome = await sql.transaction((tx) => answerAgentJob(tx, { id, agentId: agent.id, state, reply, nowMs: now() }));
      own.hints.give(agentJobHint(id));
      return outcome;
    },
    /** Takes one job, and answers it. */
    async work(agent: StoredAgent, outcome: ReplyOutcome): Promise<OpenedRequest> {
      const job = await this.next(agent);
      const opened = await this.open(agent, job);
      await this.reply(agent, job.id, await opened.writeReply(outcome));
      return opened;
    },
    call: (more: Partial<FarCall> = {}): FarCall => ({
      kind: "postgres",
      verb: "rotator.set",
      subject: randomUUID(),
      fence: 7,
      input: { password: "s3cret-in-a-message" },
      deadlineAt: now() + 10_000,
      repeatable: true,
      ...more,
    }),
  };
}
