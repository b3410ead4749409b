import type { Sql } from "./sql.ts";

/** `queued` and `sent` are open; the others are how it ended. */
export type AgentJobState = "queued" | "sent" | "answered" | "refused" | "withdrawn" | "abandoned";

/** A message for an agent. What it says can be read by that agent alone. */
export interface AgentMessage {
  readonly id: string;
  readonly message: string;
}

interface NewAgentJob extends AgentMessage {
  readonly agentId: string;
  readonly createdAt: number;
  readonly expiresAt: number;
}

/** Kept after its deadline, so that an answer that comes late is known for what it is. */
const keptMs = 600_000;

/** For a transaction that holds the agent. */
export async function insertAgentJob(tx: Sql, { id, agentId, message, createdAt, expiresAt }: NewAgentJob): Promise<void> {
  await tx.query(
    "insert into agent_jobs (id, agent_id, state, message, created_at, expires_at) values ($1, $2, 'queued', $3, $4, $5)",
    [id, agentId, message, createdAt, expiresAt],
  );
}

export interface JobsWanted {
  readonly agentId: string;
  /** Of the agent's run: what another run was sent is not for this one, which cannot know what became of it. */
  readonly session: string;
  /** Ids of those that it has. */
  readonly holding: readonly string[];
  /** New ones at most; what it was sent and does not have comes beside. */
  readonly most: number;
  readonly nowMs: number;
}

/** Most messages in one answer: each may have 256 KiB. */
const maxAtOnce = 64;
const maxAnswerChars = 1_048_576;

/** Whether `takeAgentJobs` would find any: a look is cheaper than a transaction. */
export async function anyAgentJob(sql: Sql, wanted: JobsWanted): Promise<boolean> {
  return (await openJobs(sql, wanted)).length > 0;
}

async function openJobs(sql: Sql, { agentId, session, holding, most, nowMs }: JobsWanted): Promise<{ id: string }[]> {
  const rows = await sql.query<{ id: string; state: AgentJobState; session: string | null }>(
    `select id, state, session from agent_jobs where agent_id = $1 and state in ('queued', 'sent') and expires_at > $2
     order by created_at limit 1000`,
    [agentId, nowMs],
  );
  const held = new Set(holding);
  const again = rows.filter((row) => row.state === "sent" && row.session === session && !held.has(row.id));
  return [...again, ...rows.filter(({ state }) => state === "queued").slice(0, most)].slice(0, maxAtOnce);
}

/** Hands out an agent's jobs, in their order; first those that it was sent before and does not have. */
export async function takeAgentJobs(tx: Sql, wanted: JobsWanted): Promise<AgentMessage[]> {
  const taken: AgentMessage[] = [];
  let chars = 0;
  for (const { id } of await openJobs(tx, wanted)) {
    if (chars > maxAnswerChars) break;
    const [row] = await tx.query<{ message: string }>(
      "update agent_jobs set state = 'sent', session = $2 where id = $1 and state in ('queued', 'sent') returning message",
      [id, wanted.session],
    );
    if (row) taken.push({ id, message: row.message });
    chars += row?.message.length ?? 0;
  }
  return taken;
}

/** What came of an answer: `late` ones and what is `known` already are of no more use; `refused`: it is not that agent's. */
export type AnswerOutcome = "taken" | "known" | "late" | "refused";

interface AgentAnswer {
  readonly id: string;
  readonly agentId: string;
  readonly state: "answered" | "refused";
  /** The sealed reply, or why the message was refused. */
  readonly reply: string;
  readonly nowMs: number;
}

/** Keeps an agent's answer to a job that it was sent, once. */
export async function answerAgentJob(tx: Sql, { id, agentId, state, reply, nowMs }: AgentAnswer): Promise<AnswerOutcome> {
  const rows = await tx.query(
    `update agent_jobs set state = $3, reply = $4, message = null
     where id = $1 and agent_id = $2 and state = 'sent' and expires_at > $5 returning id`,
    [id, agentId, state, reply, nowMs],
  );
  if (rows.length > 0) return "taken";
  const [job] = await tx.query<{ agent_id: string; state: AgentJobState }>(
    "select agent_id, state from agent_jobs where id = $1",
    [id],
  );
  if (job?.agent_id !== agentId || job.state === "queued") return "refused";
  return job.state === "answered" || job.state === "refused" ? "known" : "late";
}

/** Where the job stands; its reply can be opened by whoever asked, and nobody else. */
export async function findAgentJob(
  sql: Sql,
  id: string,
): Promise<{ readonly state: AgentJobState; readonly reply: string | null } | undefined> {
  const [row] = await sql.query<{ state: AgentJobState; reply: string | null }>(
    "select state, reply from agent_jobs where id = $1",
    [id],
  );
  return row;
}

/** Takes a job back that nobody has so far. False: it was sent. */
export async function withdrawAgentJob(sql: Sql, id: string): Promise<boolean> {
  const text = "update agent_jobs set state = 'withdrawn', message = null where id = $1 and state = 'queued' returning id";
  return (await sql.query(text, [id])).length > 0;
}

/** Nobody waits for its answer any more. */
export async function dropAgentJob(sql: Sql, id: string): Promise<void> {
  await sql.query("update agent_jobs set state = 'abandoned', message = null where id = $1 and state in ('queued', 'sent')", [
    id,
  ]);
}

/** The reply was read: it is of no more use. Nobody waits for the disk: sealed as it is, nobody else can open it either. */
export async function clearAgentReply(sql: Sql, id: string): Promise<void> {
  const text = "update agent_jobs set reply = null where id = $1";
  await sql.transaction((tx) => tx.query(text, [id]), { durable: false });
}

/** All that is queued for an agent. How many. */
export async function withdrawJobs(tx: Sql, agentId: string): Promise<number> {
  const text = "update agent_jobs set state = 'withdrawn', message = null where agent_id = $1 and state = 'queued' returning id";
  return (await tx.query(text, [agentId])).length;
}

/** All that an agent has and will not answer. */
export async function abandonJobs(tx: Sql, agentId: string): Promise<void> {
  await tx.query(
    "update agent_jobs set state = 'abandoned', message = null where agent_id = $1 and state in ('queued', 'sent')",
    [agentId],
  );
}

/** For a store that one process writes: whoever asked for these is gone, and waits for no answer; none is handed out any more. */
export async function abandonAllJobs(sql: Sql): Promise<void> {
  const page = "select id from agent_jobs where state in ('queued', 'sent') limit 1000";
  const text = `update agent_jobs set state = 'abandoned', message = null where id in (${page}) returning id`;
  while ((await sql.query(text)).length === 1000);
}

/** Agents for which something is queued, at most `limit`. */
export async function agentsWithJobs(sql: Sql, limit: number): Promise<string[]> {
  const text = "select distinct agent_id as id from agent_jobs where state = 'queued' limit $1";
  return (await sql.query<{ id: string }>(text, [limit])).map(({ id }) => id);
}

/** Removes jobs some time after their deadlines, at most `limit`. How many. */
export async function purgeAgentJobs(sql: Sql, nowMs: number, limit: number): Promise<number> {
  const page = "select id from agent_jobs where expires_at <= $1 order by expires_at limit $2";
  const values = [nowMs - keptMs, limit];
  const [any] = await sql.query(page, [nowMs - keptMs, 1]);
  if (!any) return 0;
  const text = `delete from agent_jobs where id in (${page}) returning id`;
  return (await sql.transaction((tx) => tx.query(text, values), { durable: false })).length;
}
