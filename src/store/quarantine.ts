import type { RotationState, Step } from "../core/rotation.ts";
import type { Sql } from "./sql.ts";

/** Since when, and why, nothing may be done at targets. */
export interface Quarantine {
  readonly sinceAt: number;
  readonly reason: string;
}

/** Rows of `meta`; `restored_at` is also what restoring a backup writes. */
const [sinceKey, reasonKey, epochKey] = ["restored_at", "restored_how", "epoch"];
const put = "insert into meta (key, value) values ($1, $2) on conflict (key) do update set value = excluded.value";

/** `undefined`: the store is no older than what has been done with it. */
export async function findQuarantine(sql: Sql): Promise<Quarantine | undefined> {
  const rows = await sql.query<{ key: string; value: string }>("select key, value from meta where key in ($1, $2)", [
    sinceKey,
    reasonKey,
  ]);
  const read = new Map(rows.map(({ key, value }) => [key, value]));
  const since = read.get(sinceKey);
  return since === undefined
    ? undefined
    : { sinceAt: Number(since), reason: read.get(reasonKey) ?? "a backup was restored into this store" };
}

/** `epoch`: a higher one than any that is known. */
export async function startQuarantine(tx: Sql, { sinceAt, reason }: Quarantine, epoch: number): Promise<void> {
  await tx.query(put, [sinceKey, String(sinceAt)]);
  await tx.query(put, [reasonKey, reason]);
  await tx.query(put, [epochKey, String(epoch)]);
}

/** Tells a store from others: when it was made; with the epoch that it has come to. */
export interface StoreAge {
  readonly store: string;
  readonly epoch: number;
}

export async function readAge(sql: Sql): Promise<StoreAge> {
  const rows = await sql.query<{ key: string; value: string }>(
    "select key, value from meta where key in ($1, 'initialised_at')",
    [epochKey],
  );
  const read = new Map(rows.map(({ key, value }) => [key, value]));
  return { store: read.get("initialised_at") ?? "", epoch: Number(read.get(epochKey) ?? 0) };
}

/** The next epoch. */
export async function raiseEpoch(sql: Sql): Promise<number> {
  const [row] = await sql.query<{ value: string }>(
    `insert into meta (key, value) values ($1, '1')
       on conflict (key) do update set value = cast(cast(meta.value as bigint) + 1 as text) returning value`,
    [epochKey],
  );
  return Number(row?.value ?? 0);
}

/** Grows with everything that is done. */
export async function lastEventId(sql: Sql): Promise<number> {
  const [row] = await sql.query<{ id: number | null }>("select max(id) as id from events");
  return row?.id ?? 0;
}

/** What waits to be done, by secret. At most `limit` of each kind, those due longest first. */
export interface Waiting {
  readonly rotations: readonly { name: string; step: Step; state: RotationState; dueAt: number; hasIntent: boolean }[];
  readonly retirements: readonly { name: string; versionId: string; dueAt: number }[];
  readonly schedules: readonly { name: string; dueAt: number }[];
  readonly purges: readonly { name: string; dueAt: number }[];
  readonly leases: readonly { name: string; user: string; target: string; dueAt: number }[];
}

export async function findWaiting(sql: Sql, nowMs: number, limit: number): Promise<Waiting> {
  const rotations = await sql.query<{ name: string; step: Step; state: RotationState; due_at: number; intent: string | null }>(
    `select s.name, r.step, r.state, r.run_at as due_at, r.intent from rotations r join secrets s on s.id = r.secret_id
       where r.state = 'running' order by r.run_at limit $1`,
    [limit],
  );
  const retirements = await sql.query<{ name: string; version_id: string; due_at: number }>(
    `select s.name, r.version_id, r.due_at from retirements r join secrets s on s.id = r.secret_id
       where r.ended_at is null order by r.run_at limit $1`,
    [limit],
  );
  const dueBy = (column: "rotation_due_at" | "purge_at") =>
    sql.query<{ name: string; due_at: number }>(
      `select name, ${column} as due_at from secrets where ${column} <= $1 order by ${column} limit $2`,
      [nowMs, limit],
    );
  const leases = await sql.query<{ name: string; user: string; target: string; due_at: number }>(
    `select dynamic_secret as name, name as "user", target, due_at from leases
       where due_at <= $1 or (due_at is not null and state in ('creating', 'revoking')) order by due_at limit $2`,
    [nowMs, limit],
  );
  const named = ({ name, due_at: dueAt }: { name: string; due_at: number }) => ({ name, dueAt });
  return {
    rotations: rotations.map((row) => ({ ...named(row), step: row.step, state: row.state, hasIntent: row.intent !== null })),
    retirements: retirements.map((row) => ({ ...named(row), versionId: row.version_id })),
    schedules: (await dueBy("rotation_due_at")).map(named),
    purges: (await dueBy("purge_at")).map(named),
    leases: leases.map((row) => ({ ...named(row), user: row.user, target: row.target })),
  };
}

/** Ends the quarantine. */
export async function endQuarantine(tx: Sql): Promise<void> {
  await tx.query("delete from meta where key in ($1, $2)", [sinceKey, reasonKey]);
}

/** Of a secret, what was called off or given up. */
export interface CalledOff {
  readonly secretId: string;
  readonly versionId: string;
}

/** Calls off the end of old credentials, at most `limit` at once. */
export async function callOffRetirements(tx: Sql, nowMs: number, limit: number): Promise<CalledOff[]> {
  const rows = await tx.query<{ secret_id: string; version_id: string }>(
    `update retirements set state = 'canceled', ended_at = $1, fence = fence + 1, claim_until = null, target_account = null
       where (secret_id, version_id, what) in (
         select secret_id, version_id, what from retirements where ended_at is null order by run_at limit $2)
       returning secret_id, version_id`,
    [nowMs, limit],
  );
  return rows.map((row) => ({ secretId: row.secret_id, versionId: row.version_id }));
}

/** Gives up rotations that may have had a credential made at a target, at most `limit` at once. */
export async function giveUpIssuing(tx: Sql, nowMs: number, limit: number): Promise<CalledOff[]> {
  const rows = await tx.query<{ secret_id: string; version_id: string }>(
    `update rotations set state = 'abandoned', ended_at = $1, fence = fence + 1, target_account = null, waits_for = null
       where id in (select id from rotations where state = 'running' and intent is not null order by run_at limit $2)
       returning secret_id, version_id`,
    [nowMs, limit],
  );
  return rows.map((row) => ({ secretId: row.secret_id, versionId: row.version_id }));
}
