import { ServiceError } from "../core/error.ts";
import { abandonJobs, withdrawJobs } from "./agent-jobs.ts";
import { addEvent } from "./events.ts";
import { raiseIdentityVersion } from "./identity.ts";
import type { Sql } from "./sql.ts";

/** Nothing seen of it for so long, an agent gets no work. Longer than a poll with the time until it is written down. */
export const agentGoneMs = 90_000;
/** Most that one network can have, revoked ones apart. */
const maxPerNetwork = 1_000;

/** Rekey's hand inside of a private network. */
export interface Agent {
  readonly id: string;
  /** Stays as it was at enrolment: messages are addressed to it. */
  readonly arn: string;
  readonly network: string;
  readonly name: string;
  /** Public JWKs, as JSON. */
  readonly signingKey: string;
  readonly sealingKey: string;
  readonly version: string;
  /** Of targets that it works at. */
  readonly kinds: readonly string[];
  readonly enrolledBy: string;
  readonly enrolledAt: number;
  /** About: written in batches. */
  readonly seenAt: number;
  /** How far its clock is ahead of the server's. */
  readonly clockSkewMs: number | undefined;
  /** Its connection broke, or it said goodbye; it may be back at any time. */
  readonly awayAt: number | undefined;
  /** Nothing was seen of it for a while. */
  readonly goneAt: number | undefined;
  readonly revokedAt: number | undefined;
  /** Of the run of the agent that is it now. */
  readonly session: string | undefined;
  /** When two processes had its keys, last. */
  readonly copiedAt: number | undefined;
}

interface AgentRow {
  id: string;
  arn: string;
  network: string;
  name: string;
  signing_key: string;
  sealing_key: string;
  version: string;
  kinds: string;
  enrolled_by: string;
  enrolled_at: number;
  seen_at: number;
  clock_skew_ms: number | null;
  away_at: number | null;
  gone_at: number | null;
  revoked_at: number | null;
  session: string | null;
  copied_at: number | null;
}

type NewAgent = Omit<Agent, "seenAt" | "clockSkewMs" | "awayAt" | "goneAt" | "revokedAt" | "session" | "copiedAt"> & {
  readonly enrolmentId: string;
  readonly tokenHash: string;
};

/** With its token, under the agent's id. @throws ServiceError LimitExceededException */
export async function insertAgent(tx: Sql, agent: NewAgent): Promise<void> {
  await raiseIdentityVersion(tx); // lets such transactions pass one at a time
  const [row] = await tx.query<{ count: number }>(
    "select count(*) as count from agents where network = $1 and revoked_at is null",
    [agent.network],
  );
  if (Number(row?.count) >= maxPerNetwork)
    throw new ServiceError("LimitExceededException", `A network can have ${maxPerNetwork} agents; revoke those that are gone.`);
  await tx.query(
    `insert into agents (id, arn, network, name, signing_key, sealing_key, version, kinds, enrolment_id, enrolled_by, enrolled_at, seen_at)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11)`,
    [
      agent.id,
      agent.arn,
      agent.network,
      agent.name,
      agent.signingKey,
      agent.sealingKey,
      agent.version,
      kindsText(agent.kinds),
      agent.enrolmentId,
      agent.enrolledBy,
      agent.enrolledAt,
    ],
  );
  await tx.query(
    `insert into tokens (hash, id, principal_arn, kind, name, state, created_at) values ($1, $2, $3, 'agent', $4, 'Active', $5)`,
    [agent.tokenHash, agent.id, agent.arn, agent.name, agent.enrolledAt],
  );
}

/** Gives an agent that has not polled so far another token. */
export async function replaceAgentToken(tx: Sql, agentId: string, tokenHash: string): Promise<void> {
  await raiseIdentityVersion(tx);
  await tx.query("update tokens set hash = $2 where id = $1 and kind = 'agent'", [agentId, tokenHash]);
}

export async function findAgent(sql: Sql, id: string): Promise<Agent | undefined> {
  const [row] = await sql.query<AgentRow>("select * from agents where id = $1", [id]);
  return row && toAgent(row);
}

/** The one that used this enrolment and has not polled so far. */
export async function findNewAgent(sql: Sql, enrolmentId: string): Promise<Agent | undefined> {
  const [row] = await sql.query<AgentRow>("select * from agents where enrolment_id = $1 and revoked_at is null", [enrolmentId]);
  return row && toAgent(row);
}

interface AgentsPage {
  readonly network?: string | undefined;
  /** Id of the last one of the page before. */
  readonly after: string;
  readonly limit: number;
}

/** Those that were not revoked, by id. */
export async function listAgents(sql: Sql, { network, after, limit }: AgentsPage): Promise<Agent[]> {
  const rows =
    network === undefined
      ? await sql.query<AgentRow>("select * from agents where revoked_at is null and id > $1 order by id limit $2", [
          after,
          limit,
        ])
      : await sql.query<AgentRow>(
          "select * from agents where network = $3 and revoked_at is null and id > $1 order by id limit $2",
          [after, limit, network],
        );
  return rows.map(toAgent);
}

interface Wanted {
  readonly network: string;
  readonly kind: string;
  readonly nowMs: number;
  /** Ids of those that did not take the call. */
  readonly not: readonly string[];
  /** An agent with so many open jobs gets no more. */
  readonly maxOpen: number;
}

/** Of those seen lately, those that are away last: the agent of the network with the fewest open jobs that works at this kind of target; among equals the one whose turn it is. */
export async function chooseAgent(sql: Sql, { network, kind, nowMs, not, maxOpen }: Wanted): Promise<Agent | undefined> {
  const rows = await sql.query<AgentRow & { busy: number }>(
    `select a.*, (select count(*) from agent_jobs j where j.agent_id = a.id and j.state in ('queued', 'sent') and j.expires_at > $2) as busy
     from agents a where a.network = $1 and a.revoked_at is null and a.seen_at > $3 and a.kinds like $4
     order by case when a.away_at is null then 0 else 1 end, busy, coalesce(a.last_job_at, 0), a.id limit $5`,
    [network, nowMs, nowMs - agentGoneMs, `% ${likeText(kind)} %`, not.length + 1],
  );
  const row = rows.find(({ id, busy }) => !not.includes(id) && Number(busy) < maxOpen);
  return row && toAgent(row);
}

export interface NetworkAgents {
  /** Not gone, not revoked. */
  readonly live: number;
  readonly all: number;
}

/** For what is said when none can take a call. */
export async function countAgents(sql: Sql, network: string, nowMs: number): Promise<NetworkAgents> {
  const [row] = await sql.query<{ live: number | null; total: number }>(
    `select count(*) as total, sum(case when away_at is null and seen_at > $2 then 1 else 0 end) as live
     from agents where network = $1 and revoked_at is null`,
    [network, nowMs - agentGoneMs],
  );
  return { live: Number(row?.live ?? 0), all: Number(row?.total ?? 0) };
}

/** Of all networks, by what is known of where they are, for metrics. */
export async function countAgentStates(sql: Sql, nowMs: number): Promise<ReadonlyMap<string, number>> {
  const rows = await sql.query<{ state: string; count: number }>(
    `select case when seen_at <= $1 then 'gone' when away_at is null then 'live' else 'away' end as state, count(*) as count
     from agents where revoked_at is null group by 1`,
    [nowMs - agentGoneMs],
  );
  return new Map(rows.map(({ state, count }) => [state, Number(count)]));
}

/** Writes that the agent is worked with now; what it waits for is locked. False when it was revoked. */
export async function holdAgent(tx: Sql, id: string, nowMs: number): Promise<boolean> {
  const rows = await tx.query("update agents set last_job_at = $2 where id = $1 and revoked_at is null returning id", [
    id,
    nowMs,
  ]);
  return rows.length > 0;
}

/** What is told of the agent at a poll. */
export interface Sighting {
  readonly agentId: string;
  readonly atMs: number;
  readonly version: string;
  readonly kinds: readonly string[];
  readonly clockSkewMs: number | undefined;
}

/** In the order of ids, so that two nodes do not wait for each other. */
export async function saveSightings(tx: Sql, sightings: readonly Sighting[]): Promise<void> {
  const ordered = [...sightings].sort((one, other) => (one.agentId < other.agentId ? -1 : 1));
  for (const { agentId, atMs, version, kinds, clockSkewMs } of ordered) {
    await tx.query(
      `update agents set seen_at = $2, away_at = null, gone_at = null, enrolment_id = null, version = $3, kinds = $4, clock_skew_ms = $5,
       back_at = case when coalesce(away_at, gone_at) is not null or enrolment_id is not null or seen_at <= $2 - $6 then $2 else back_at end
       where id = $1 and revoked_at is null and seen_at < $2`,
      [agentId, atMs, version, kindsText(kinds), clockSkewMs ?? null, agentGoneMs],
    );
  }
}

/** Agents that were seen for the first time, or for the first time again, after a moment; in their order, at most `limit`. */
export async function agentsBackSince(sql: Sql, afterMs: number, limit: number): Promise<{ network: string; backAt: number }[]> {
  const text = `select network, back_at as "backAt" from agents where back_at > $1 order by back_at limit $2`;
  return sql.query(text, [afterMs, limit]);
}

/** Its connection broke, or it says goodbye: what is queued for it moves on. Of no effect when it was seen since. */
export async function noteAgentAway(tx: Sql, id: string, sinceMs: number): Promise<void> {
  const text = "update agents set away_at = $2 where id = $1 and revoked_at is null and seen_at <= $2 returning id";
  if ((await tx.query(text, [id, sinceMs])).length > 0) await withdrawJobs(tx, id);
}

/** Ends the agent and its token; what is queued for it moves on. How many jobs do; `undefined` when it is not there any more. */
export async function revokeAgent(tx: Sql, id: string, nowMs: number): Promise<{ readonly moved: number } | undefined> {
  await raiseIdentityVersion(tx);
  const [agent] = await tx.query<{ arn: string; network: string; name: string }>(
    "update agents set revoked_at = $2, enrolment_id = null where id = $1 and revoked_at is null returning arn, network, name",
    [id, nowMs],
  );
  if (!agent) return undefined;
  await tx.query("delete from tokens where id = $1 and kind = 'agent'", [id]);
  const moved = await withdrawJobs(tx, id);
  await abandonJobs(tx, id);
  const { network, name } = agent;
  await addEvent(tx, { at: nowMs, type: "agent.revoked", resource: agent.arn, detail: { network, name } });
  return { moved };
}

/** Writes down which agents are gone, at most `limit` of them, and tells of it. How many. */
export async function noteGoneAgents(sql: Sql, nowMs: number, limit: number): Promise<number> {
  const bound = nowMs - agentGoneMs;
  const where = "revoked_at is null and gone_at is null and seen_at <= $1";
  const [any] = await sql.query(`select 1 as one from agents where ${where} limit 1`, [bound]);
  if (!any) return 0;
  return sql.transaction(async (tx) => {
    const gone = await tx.query<{ arn: string; network: string; name: string; seen_at: number }>(
      `update agents set gone_at = $2 where id in (select id from agents where ${where} order by seen_at limit $3) and ${where}
       returning arn, network, name, seen_at`,
      [bound, nowMs, limit],
    );
    for (const { arn, network, name, seen_at: seenAt } of gone)
      await addEvent(tx, { at: nowMs, type: "agent.gone", resource: arn, detail: { network, name, seenAt } });
    return gone.length;
  });
}

const kindsText = (kinds: readonly string[]): string => ` ${kinds.join(" ")} `;
/** Kinds have no such characters; nothing else is to be found by them. */
const likeText = (kind: string): string => kind.replace(/[%_\s\\]/g, "?");

function toAgent(row: AgentRow): Agent {
  return {
    id: row.id,
    arn: row.arn,
    network: row.network,
    name: row.name,
    signingKey: row.signing_key,
    sealingKey: row.sealing_key,
    version: row.version,
    kinds: row.kinds.split(" ").filter((kind) => kind !== ""),
    enrolledBy: row.enrolled_by,
    enrolledAt: row.enrolled_at,
    seenAt: row.seen_at,
    clockSkewMs: row.clock_skew_ms ?? undefined,
    awayAt: row.away_at ?? undefined,
    goneAt: row.gone_at ?? undefined,
    revokedAt: row.revoked_at ?? undefined,
    session: row.session ?? undefined,
    copiedAt: row.copied_at ?? undefined,
  };
}
