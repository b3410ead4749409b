import { addEvent } from "./events.ts";
import type { Sql } from "./sql.ts";

/** `ended`: another one has taken its place. */
type SessionState = "current" | "ended";

interface SessionRow {
  session: string | null;
  ended_sessions: string;
  copied_at: number | null;
  arn: string;
  network: string;
  name: string;
}

const maxEnded = 20;
const copiedOnceMs = 60_000;

/**
 * Each run of an agent names a session of its own, and the newest one is the agent. One that ended has no business to come
 * again: two processes have the same keys then, as with a copy of the agent's folder, and that is told.
 */
export async function enterSession(sql: Sql, agentId: string, session: string, nowMs: number): Promise<SessionState> {
  const [known] = await sql.query<{ session: string | null }>("select session from agents where id = $1", [agentId]);
  if (known === undefined || known.session === session) return "current";
  return sql.transaction((tx) => switchSession(tx, agentId, session, nowMs));
}

async function switchSession(tx: Sql, agentId: string, session: string, nowMs: number): Promise<SessionState> {
  const [agent] = await tx.query<SessionRow>(
    `select session, ended_sessions, copied_at, arn, network, name from agents where id = $1
     ${tx.dialect === "postgres" ? "for update" : ""}`,
    [agentId],
  );
  if (agent === undefined || agent.session === session) return "current";
  const ended = agent.ended_sessions.split(" ").filter((one) => one !== "");
  if (ended.includes(session)) {
    if (nowMs - (agent.copied_at ?? 0) >= copiedOnceMs) await noteCopy(tx, agentId, agent, nowMs);
    return "ended";
  }
  const before = agent.session === null ? ended : [agent.session, ...ended].slice(0, maxEnded);
  await tx.query("update agents set session = $2, ended_sessions = $3 where id = $1", [agentId, session, before.join(" ")]);
  return "current";
}

async function noteCopy(tx: Sql, agentId: string, { arn, network, name }: SessionRow, nowMs: number): Promise<void> {
  await tx.query("update agents set copied_at = $2 where id = $1", [agentId, nowMs]);
  await addEvent(tx, { at: nowMs, type: "agent.copied", resource: arn, detail: { network, name } });
}
