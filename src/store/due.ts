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

/** Removes old history, at most `limit` of each kind: rotations and retirements that ended (blocked ones stay, for somebody to see) and events. */
export async function removeHistory(sql: Sql, beforeMs: number, limit: number): Promise<number> {
  const old = "ended_at <= $1 and state <> 'blocked'";
  const [rotation] = await sql.query(`select 1 as due from rotations where ${old} limit 1`, [beforeMs]);
  const [oldest] = await sql.query<{ id: number; at: number }>(
    "select id, at from events where id = (select min(id) from events)",
  );
  const [first, at] = [oldest?.id ?? 0, oldest?.at ?? Number.POSITIVE_INFINITY];
  const [retirement] = await sql.query("select 1 as due from retirements where ended_at <= $1 limit 1", [beforeMs]);
  const [job] = await sql.query("select 1 as due from target_jobs where ended_at <= $1 limit 1", [beforeMs]);
  if (!rotation && !retirement && !job && at > beforeMs) return 0;
  return sql.transaction(async (tx) => {
    const ended = `select id from rotations where ${old} order by ended_at limit $2`;
    const rotations = await tx.query(`delete from rotations where id in (${ended}) returning id`, [beforeMs, limit]);
    const events = await tx.query("delete from events where id >= $1 and id < $2 and at <= $3 returning id", [
      first,
      first + limit, // they come in the order of time
      beforeMs,
    ]);
    const retirements = await tx.query(
      `delete from retirements where (secret_id, version_id, what) in (select secret_id, version_id, what from retirements
         where ended_at <= $1 order by ended_at limit $2) returning version_id`,
      [beforeMs, limit],
    );
    const jobs = await tx.query(
      "delete from target_jobs where id in (select id from target_jobs where ended_at <= $1 order by ended_at limit $2) returning id",
      [beforeMs, limit],
    );
    return Math.max(rotations.length, events.length, retirements.length, jobs.length);
  });
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
       union all select min(purge_at) from secrets where purge_at is not null
       union all select min(due_at) from replicas where due_at is not null) as due`,
  );
  return row?.at ?? undefined;
}
