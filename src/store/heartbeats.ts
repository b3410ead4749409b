import type { OutcomeClass } from "../core/error.ts";
import { type Heartbeat, nextHeartbeatAt } from "../core/heartbeat.ts";
import type { RotationPolicy } from "../core/rotation-policy.ts";
import type { Sql } from "./sql.ts";

interface DueRow {
  id: string;
  rotation_policy: string | null;
  heartbeat_outcome: OutcomeClass | null;
  heartbeat_at: number | null;
  heartbeat_since: number | null;
}

export async function anyHeartbeatDue(sql: Sql, nowMs: number): Promise<boolean> {
  return (await sql.query("select 1 as due from secrets where heartbeat_due_at <= $1 limit 1", [nowMs])).length > 0;
}

/**
 * Takes secrets whose credential is to be tried, at most `limit`: their next try is planned at once, so that no other node
 * takes them, and a crash costs one try. Gives their row ids.
 */
export async function takeHeartbeats(tx: Sql, nowMs: number, limit: number, random: () => number): Promise<string[]> {
  const rows = await tx.query<DueRow>(
    `select id, rotation_policy, heartbeat_outcome, heartbeat_at, heartbeat_since from secrets where heartbeat_due_at <= $1
     order by heartbeat_due_at limit $2 ${tx.dialect === "postgres" ? "for update skip locked" : ""}`,
    [nowMs, limit],
  );
  for (const row of rows) {
    const policy: RotationPolicy | undefined = row.rotation_policy === null ? undefined : JSON.parse(row.rotation_policy);
    await planNext(tx, row.id, nextHeartbeatAt(policy, toHeartbeat(row), nowMs, random()));
  }
  return rows.map(({ id }) => id);
}

/** Of the row alone: readers' caches need not know of it. */
export async function planNext(sql: Sql, secretId: string, dueAt: number | undefined): Promise<void> {
  await sql.query("update secrets set heartbeat_due_at = $2 where id = $1", [secretId, dueAt ?? null]);
}

export async function readHeartbeat(sql: Sql, secretId: string): Promise<Heartbeat | undefined> {
  const text = "select id, rotation_policy, heartbeat_outcome, heartbeat_at, heartbeat_since from secrets where id = $1";
  const [row] = await sql.query<DueRow>(text, [secretId]);
  return row && toHeartbeat(row);
}

/** For a transaction that has locked the secret. */
export async function saveHeartbeat(tx: Sql, secretId: string, { outcome, at, since }: Heartbeat): Promise<void> {
  const text = "update secrets set heartbeat_outcome = $2, heartbeat_at = $3, heartbeat_since = $4 where id = $1";
  await tx.query(text, [secretId, outcome, at, since]);
}

function toHeartbeat({ heartbeat_outcome: outcome, heartbeat_at: at, heartbeat_since: since }: DueRow): Heartbeat | undefined {
  return outcome === null || at === null || since === null ? undefined : { outcome, at, since };
}

/** A secret's heartbeat as people see it. */
export interface ListedHeartbeat extends Heartbeat {
  readonly secretId: string;
  readonly secretArn: string;
  readonly secretName: string;
  readonly dueAt?: number | undefined;
}

export interface HeartbeatQuery {
  readonly region: string;
  /** ARN of a secret. */
  readonly secretArn?: string | undefined;
  /** Only those that did not end well. */
  readonly failing: boolean;
  readonly limit: number;
  /** Row id of the last one of the page before. */
  readonly after?: string | undefined;
}

/** Of those secrets that were tried at all, by row id. */
export async function listHeartbeats(sql: Sql, query: HeartbeatQuery): Promise<ListedHeartbeat[]> {
  const rows = await sql.query<DueRow & { arn: string; name: string; heartbeat_due_at: number | null }>(
    `select id, arn, name, rotation_policy, heartbeat_outcome, heartbeat_at, heartbeat_since, heartbeat_due_at from secrets
     where ${query.failing ? "heartbeat_outcome <> 'ok'" : "heartbeat_outcome is not null"} and region = $1
       and ($2 = '' or arn = $2) and id > $3 and deleted_at is null order by id limit $4`,
    [query.region, query.secretArn ?? "", query.after ?? "", query.limit],
  );
  return rows.flatMap((row) => {
    const heartbeat = toHeartbeat(row);
    const about = { secretId: row.id, secretArn: row.arn, secretName: row.name, dueAt: row.heartbeat_due_at ?? undefined };
    return heartbeat ? [{ ...heartbeat, ...about }] : [];
  });
}

/** How many secrets' credentials ended each way at their last try. */
export async function countHeartbeats(sql: Sql): Promise<Map<string, number>> {
  const rows = await sql.query<{ outcome: string; count: number }>(
    `select heartbeat_outcome as outcome, count(*) as count from secrets where heartbeat_outcome is not null
     group by heartbeat_outcome`,
  );
  return new Map(rows.map(({ outcome, count }) => [outcome, count]));
}
