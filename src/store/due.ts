import type { Sql } from "./sql.ts";

/** Ids of secrets whose scheduled rotation is due, those due longest first. */
export async function secretsDueForRotation(sql: Sql, nowMs: number, limit: number): Promise<string[]> {
  const rows = await sql.query<{ id: string }>(
    "select id from secrets where rotation_due_at <= $1 order by rotation_due_at limit $2",
    [nowMs, limit],
  );
  return rows.map(({ id }) => id);
}

const zoneRulesKey = "zone_rules";

/** Version of the time zones' rules by which moments in the store were computed. */
export async function usedZoneRules(sql: Sql): Promise<string | undefined> {
  const [row] = await sql.query<{ value: string }>("select value from meta where key = $1", [zoneRulesKey]);
  return row?.value;
}

export async function writeZoneRules(sql: Sql, version: string): Promise<void> {
  await sql.query("insert into meta (key, value) values ($1, $2) on conflict (key) do update set value = excluded.value", [
    zoneRulesKey,
    version,
  ]);
}

/** Secrets with a policy, which may name a zone, after one of them. */
export async function secretsInZones(sql: Sql, after: string, limit: number): Promise<string[]> {
  const rows = await sql.query<{ id: string }>(
    "select id from secrets where rotation_policy is not null and id > $1 order by id limit $2",
    [after, limit],
  );
  return rows.map(({ id }) => id);
}

export interface Purged {
  readonly id: string;
  readonly arn: string;
  readonly generation: number;
}

/** Removes secrets whose recovery window is over, at most `limit`. */
export async function purgeDueSecrets(tx: Sql, nowMs: number, limit: number): Promise<Purged[]> {
  const due = await tx.query<{ id: string; arn: string; generation: number }>(
    `select id, arn, generation from secrets where purge_at <= $1 order by purge_at limit $2
     ${tx.dialect === "postgres" ? "for update skip locked" : ""}`,
    [nowMs, limit],
  );
  for (const { id } of due) await tx.query("delete from secrets where id = $1", [id]);
  return due;
}

/** What is removed when it is old, by the index that its order names; of rotations blocked ones stay, for somebody to see. */
const history = [
  { table: "rotations", key: "id", old: "ended_at <= $1 and state <> 'blocked'", order: "ended_at" },
  { table: "retirements", key: "secret_id, version_id, what", old: "ended_at <= $1", order: "ended_at" },
  { table: "target_jobs", key: "id", old: "ended_at <= $1", order: "ended_at" },
  { table: "webhook_deliveries", key: "id", old: "ended_at <= $1", order: "ended_at" },
  { table: "leases", key: "id", old: "ended_at <= $1", order: "ended_at" },
  { table: "function_logs", key: "id", old: "at <= $1", order: "at" },
  { table: "config_versions", key: "id", old: "replaced_at <= $1", order: "replaced_at" },
  { table: "activity_logs", key: "id", old: "at <= $1", order: "at" },
  { table: "agents", key: "id", old: "revoked_at <= $1", order: "revoked_at" },
] as const;

/** Removes old history, at most `limit` of each kind: work that ended, what functions wrote, and events. The most of one kind. */
export async function removeHistory(sql: Sql, beforeMs: number, limit: number): Promise<number> {
  let most = await removeEvents(sql, beforeMs, limit);
  for (const { table, key, old, order } of history) {
    const [due] = await sql.query(`select 1 as due from ${table} where ${old} limit 1`, [beforeMs]);
    if (!due) continue; // mostly: a look is cheaper than a transaction
    const page = `select ${key} from ${table} where ${old} order by ${order} limit $2`;
    const text = `delete from ${table} where (${key}) in (${page}) returning 1 as removed`;
    const removed = await sql.transaction((tx) => tx.query(text, [beforeMs, limit]));
    most = Math.max(most, removed.length);
  }
  return most;
}

async function removeEvents(sql: Sql, beforeMs: number, limit: number): Promise<number> {
  const [oldest] = await sql.query<{ id: number; at: number }>(
    "select id, at from events where id = (select min(id) from events)",
  );
  if (!oldest || oldest.at > beforeMs) return 0;
  // They come in the order of time.
  const text = "delete from events where id >= $1 and id < $2 and at <= $3 returning id";
  const removed = await sql.transaction((tx) => tx.query(text, [oldest.id, oldest.id + limit, beforeMs]));
  return removed.length;
}

/** Whether a transaction that claims or purges would find anything: reads are cheaper. */
export async function anyDue(sql: Sql, what: "rotations" | "purges", nowMs: number): Promise<boolean> {
  const text =
    what === "rotations"
      ? "select 1 as due from rotations where state = 'running' and run_at <= $1 and (claim_until is null or claim_until <= $1) limit 1"
      : "select 1 as due from secrets where purge_at <= $1 limit 1";
  return (await sql.query(text, [nowMs])).length > 0;
}

/** When the next work of any kind is due; `undefined` when there is none. A claimed rotation is due when its claim ends. */
export async function nextDueAt(sql: Sql): Promise<number | undefined> {
  const [row] = await sql.query<{ at: number | null }>(
    `select min(at) as at from (
       select min(run_at) as at from rotations where state = 'running' and claim_until is null
       union all select min(case when claim_until > run_at then claim_until else run_at end) from rotations where state = 'running' and claim_until is not null
       union all select min(run_at) from retirements where ended_at is null and claim_until is null
       union all select min(claim_until) from retirements where ended_at is null and claim_until is not null
       union all select min(rotation_due_at) from secrets where rotation_due_at is not null
       union all select min(run_at) from target_jobs where ended_at is null and claim_until is null
       union all select min(heartbeat_due_at) from secrets where heartbeat_due_at is not null
       union all select min(run_at) from webhook_deliveries where ended_at is null
       union all select min(purge_at) from secrets where purge_at is not null
       union all select min(due_at) from replicas where due_at is not null) as due`,
  );
  return row?.at ?? undefined;
}
