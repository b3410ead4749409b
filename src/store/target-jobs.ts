import { randomUUID } from "node:crypto";
import type { Strategy } from "../core/rotation.ts";
import type { RotationPrincipal } from "../core/rotation-principal.ts";
import { isUniqueViolation } from "./rotation-claims.ts";
import type { Sql } from "./sql.ts";
import { lockAccount } from "./target-accounts.ts";

export type JobKind = "check" | "rollback" | "adopt" | "parity";
type JobState = "queued" | "running" | "done" | "failed";
/** What goes in and comes out: names, ids, settings and words, never values. */
export type JobData = Readonly<Record<string, unknown>>;

/** Work at a target that somebody asked for and the engine does. */
export interface TargetJob {
  readonly id: string;
  readonly secretId: string;
  readonly kind: JobKind;
  readonly input: JobData;
  /** Who asked: with these rights it is done. */
  readonly principal: RotationPrincipal;
  readonly state: JobState;
  readonly result?: JobData | undefined;
  /** Why it failed, in words. */
  readonly error?: string | undefined;
  /** What it keeps rotations away from, since it changes it. */
  readonly account?: string | undefined;
  readonly createdAt: number;
  readonly endedAt?: number | undefined;
  /** Not begun by then, it is not begun at all. */
  readonly expiresAt: number;
}

/** A node's timed hold on a job. */
export interface JobClaim {
  readonly job: TargetJob;
  readonly fence: number;
  readonly until: number;
  /** It was begun before: what came of that is not known. */
  readonly takenOver: boolean;
}

interface JobRow {
  id: string;
  secret_id: string;
  kind: JobKind;
  input: string;
  principal: string;
  state: JobState;
  result: string | null;
  error: string | null;
  target_account: string | null;
  fence: number;
  created_at: number;
  ended_at: number | null;
  expires_at: number;
}

export interface NewJob {
  readonly secretId: string;
  readonly kind: JobKind;
  readonly input: JobData;
  readonly principal: RotationPrincipal;
  readonly createdAt: number;
  readonly expiresAt: number;
}

/** Queues a job; its id, or `undefined` when a rollback of the secret is under way already. */
export async function insertJob(tx: Sql, added: NewJob): Promise<string | undefined> {
  const rows = await tx.query<{ id: string }>(
    `insert into target_jobs (id, secret_id, kind, input, principal, state, run_at, fence, created_at, expires_at)
     values ($1, $2, $3, $4, $5, 'queued', $6, 0, $6, $7)
     on conflict (secret_id) where kind = 'rollback' and ended_at is null do nothing returning id`,
    [
      randomUUID(),
      added.secretId,
      added.kind,
      JSON.stringify(added.input),
      JSON.stringify(added.principal),
      added.createdAt,
      added.expiresAt,
    ],
  );
  return rows[0]?.id;
}

export async function findJob(sql: Sql, id: string): Promise<TargetJob | undefined> {
  const [row] = await sql.query<JobRow>("select * from target_jobs where id = $1", [id]);
  return row && toJob(row);
}

/** How many of the secret's jobs wait or are being done. */
export async function countOpenJobs(tx: Sql, secretId: string, kind: JobKind): Promise<number> {
  const [row] = await tx.query<{ count: number }>(
    "select count(*) as count from target_jobs where secret_id = $1 and kind = $2 and ended_at is null",
    [secretId, kind],
  );
  return row?.count ?? 0;
}

const due = "ended_at is null and run_at <= $1 and (claim_until is null or claim_until <= $1)";

export async function anyJobDue(sql: Sql, nowMs: number): Promise<boolean> {
  return (await sql.query(`select 1 as due from target_jobs where ${due} limit 1`, [nowMs])).length > 0;
}

interface ClaimRequest {
  readonly node: string;
  readonly nowMs: number;
  readonly untilMs: number;
  readonly limit: number;
}

/** Takes the jobs that have waited longest, at most `limit`, until `untilMs`. */
export async function claimJobs(tx: Sql, { node, nowMs, untilMs, limit }: ClaimRequest): Promise<JobClaim[]> {
  const rows = await tx.query<JobRow>(
    `select * from target_jobs where ${due} order by run_at limit $2 ${tx.dialect === "postgres" ? "for update skip locked" : ""}`,
    [nowMs, limit],
  );
  const text = "update target_jobs set state = 'running', fence = $2, claim_node = $3, claim_until = $4 where id = $1";
  for (const { id, fence } of rows) await tx.query(text, [id, fence + 1, node, untilMs]);
  return rows.map((row) => ({
    job: toJob(row),
    fence: row.fence + 1,
    until: untilMs,
    takenOver: row.state === "running",
  }));
}

/** Holds on for longer. False when another has taken over. */
export async function renewJob(sql: Sql, { job, fence }: JobClaim, untilMs: number): Promise<boolean> {
  const text = "update target_jobs set claim_until = $3 where id = $1 and fence = $2 and ended_at is null returning id";
  return (await sql.query(text, [job.id, fence, untilMs])).length > 0;
}

/** Gives the job back, to be taken up again at `runAt`; what it keeps it keeps. False when another has taken over. */
export async function postponeJob(sql: Sql, { job, fence }: JobClaim, runAt: number): Promise<boolean> {
  const rows = await sql.query(
    `update target_jobs set run_at = $3, claim_until = null
     where id = $1 and fence = $2 and ended_at is null returning id`,
    [job.id, fence, runAt],
  );
  return rows.length > 0;
}

interface Ended {
  readonly state: "done" | "failed";
  readonly result?: JobData | undefined;
  readonly error?: string | undefined;
  readonly endedAt: number;
}

/** Writes what came of the job. False, and nothing written, when another has taken over. */
export async function endJob(tx: Sql, { job, fence }: JobClaim, { state, result, error, endedAt }: Ended): Promise<boolean> {
  const rows = await tx.query(
    `update target_jobs set state = $3, result = $4, error = $5, ended_at = $6, claim_until = null, target_account = null
     where id = $1 and fence = $2 and ended_at is null returning id`,
    [job.id, fence, state, result ? JSON.stringify(result) : null, error ?? null, endedAt],
  );
  return rows.length > 0;
}

/**
 * Keeps rotations, of this secret and of others, away from an account until the job ends. For a transaction that has locked
 * the secret. False when a rotation or another job has it, or another node has taken the job over.
 */
export async function holdJobAccount(tx: Sql, { job, fence }: JobClaim, account: string): Promise<boolean> {
  await lockAccount(tx, account);
  try {
    const rows = await tx.query(
      `update target_jobs set target_account = $3 where id = $1 and fence = $2 and ended_at is null
         and not exists (select 1 from rotations r where r.state = 'running' and (r.target_account = $3 or r.secret_id = $4))
         and not exists (select 1 from retirements t where t.target_account = $3)
         and not exists (select 1 from target_jobs o where o.target_account = $3 and o.ended_at is null and o.id <> $1)
       returning id`,
      [job.id, fence, account, job.secretId],
    );
    return rows.length > 0;
  } catch (error) {
    if (isUniqueViolation(error)) return false;
    throw error;
  }
}

/** Ends all claims at once, for a store that one process writes: whoever held them is gone. */
export async function releaseJobClaims(sql: Sql): Promise<void> {
  await sql.query("update target_jobs set claim_until = 0 where ended_at is null and claim_until is not null");
}

function toJob(row: JobRow): TargetJob {
  return {
    id: row.id,
    secretId: row.secret_id,
    kind: row.kind,
    input: JSON.parse(row.input),
    principal: JSON.parse(row.principal),
    state: row.state,
    result: row.result === null ? undefined : JSON.parse(row.result),
    error: row.error ?? undefined,
    account: row.target_account ?? undefined,
    createdAt: row.created_at,
    endedAt: row.ended_at ?? undefined,
    expiresAt: row.expires_at,
  };
}

/** Who works at an account. */
export type Busy = "own rotation" | "other rotation" | "job" | "retirement";

/** Who is changing an account, or rotates the secret, now, the caller's own job apart, its own rotation last; `undefined` when nobody is. */
export async function busyAccount(
  sql: Sql,
  account: string,
  { jobId, secretId }: { readonly jobId: string; readonly secretId: string },
): Promise<Busy | undefined> {
  const [row] = await sql.query<{ who: Busy }>(
    `select who from (select case when secret_id = $3 then 'own rotation' else 'other rotation' end as who from rotations
       where state = 'running' and (target_account = $1 or secret_id = $3)
     union all select 'job' from target_jobs where target_account = $1 and ended_at is null and id <> $2
     union all select 'retirement' from retirements where target_account = $1) as busy order by who = 'own rotation' limit 1`,
    [account, jobId, secretId],
  );
  return row?.who;
}

/** Whether a rotation of the secret is running. */
export async function isRotating(sql: Sql, secretId: string): Promise<boolean> {
  return (await sql.query("select 1 as one from rotations where secret_id = $1 and state = 'running'", [secretId])).length > 0;
}

/** How the secret's last rotation was done; `undefined` when there was none. */
export async function lastStrategy(sql: Sql, secretId: string): Promise<Strategy | undefined> {
  const [row] = await sql.query<{ strategy: Strategy | null }>(
    `select strategy from rotations where secret_id = $1 and state = 'succeeded' and test_only = 0
     order by started_at desc limit 1`,
    [secretId],
  );
  return row?.strategy ?? undefined;
}
