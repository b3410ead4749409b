import type { OutcomeClass } from "../core/error.ts";
import type { LastRead, Retirement, RetirementState } from "../core/retirement.ts";
import type { Strategy } from "../core/rotation.ts";
import { isUniqueViolation } from "./rotation-claims.ts";
import type { Sql } from "./sql.ts";
import { lockAccount } from "./target-accounts.ts";

/** An old credential that is to be ended from now on. */
export type NewRetirement = Pick<
  Retirement,
  "secretId" | "versionId" | "strategy" | "functionArn" | "dueAt" | "runAt" | "createdAt"
>;

/** Has a version's credential ended at its deadline. One that ran or was called off before begins anew. */
export async function insertRetirement(tx: Sql, added: NewRetirement): Promise<void> {
  await tx.query(
    `insert into retirements (secret_id, version_id, what, strategy, function_arn, state, due_at, run_at, attempt, fence, created_at)
     values ($1, $2, 'credential', $3, $4, 'waiting', $5, $6, 0, 0, $7)
     on conflict (secret_id, version_id, what) do update set strategy = excluded.strategy, function_arn = excluded.function_arn,
       state = 'waiting', due_at = excluded.due_at, run_at = excluded.run_at, attempt = 0, fence = retirements.fence + 1,
       claim_until = null, target_account = null, outcome = null, error = null, remedy = null, created_at = excluded.created_at,
       ended_at = null`,
    [added.secretId, added.versionId, added.strategy, added.functionArn, added.dueAt, added.runAt, added.createdAt],
  );
}

/**
 * Has what a rotation may have had made at the target, and no version holds, looked for and deleted. Of an earlier rotation
 * to the same version the intent that is not done stays: what was not there before it, was not there before this one either.
 */
export async function insertStrays(tx: Sql, rotationId: string, nowMs: number, runAt: number): Promise<void> {
  await tx.query(
    `insert into retirements (secret_id, version_id, what, strategy, function_arn, state, due_at, run_at, attempt, intent, fence, created_at)
     select secret_id, version_id, 'strays', 'issuer', function_arn, 'waiting', $3, $3, 0, intent, 0, $2
     from rotations where id = $1 and intent is not null
     on conflict (secret_id, version_id, what) do update set state = 'waiting', due_at = excluded.due_at, run_at = excluded.run_at,
       fence = retirements.fence + 1, claim_until = null, target_account = null,
       intent = case when retirements.ended_at is null then retirements.intent else excluded.intent end, ended_at = null`,
    [rotationId, nowMs, runAt],
  );
}

/** What an issuer made for a version that was given up before it was current is ended at once. */
export async function retireGivenUp(tx: Sql, secretId: string, versionId: string, nowMs: number): Promise<void> {
  const [issued] = await tx.query<{ function_arn: string; intent: string }>(
    `select function_arn, intent from rotations where secret_id = $1 and version_id = $2 and strategy = 'issuer'
       and intent is not null order by started_at desc limit 1`,
    [secretId, versionId],
  );
  if (!issued || JSON.parse(issued.intent).issuedId === undefined) return;
  const times = { dueAt: nowMs, runAt: nowMs, createdAt: nowMs };
  await insertRetirement(tx, { secretId, versionId, strategy: "issuer", functionArn: issued.function_arn, ...times });
}

/** Whether the target gave the version's rotation this very id. Of a rotation by another function it was another target. */
export async function wasIssued(
  sql: Sql,
  { secretId, versionId, functionArn }: Pick<Retirement, "secretId" | "versionId" | "functionArn">,
  id: string,
): Promise<boolean> {
  const rows = await sql.query<{ intent: string }>(
    `select intent from rotations where secret_id = $1 and version_id = $2 and function_arn = $3 and intent is not null
     order by started_at desc limit 100`,
    [secretId, versionId, functionArn],
  );
  return rows.some(({ intent }) => JSON.parse(intent).issuedId === id);
}

const open = "ended_at is null";

/** Calls off the end of a version's credential: it is in use again. True when there was one. */
export async function cancelRetirement(tx: Sql, secretId: string, versionId: string, nowMs: number): Promise<boolean> {
  const rows = await tx.query(
    `update retirements set state = 'canceled', ended_at = $3, fence = fence + 1, claim_until = null, target_account = null
     where secret_id = $1 and version_id = $2 and what = 'credential' and ${open} returning version_id`,
    [secretId, versionId, nowMs],
  );
  return rows.length > 0;
}

/** Two slots hold two credentials: those that a rotation overwrote have ended with it, all but `keptId`'s. Gives their versions. */
export async function endOverwritten(
  tx: Sql,
  { secretId, keptId, strategy }: { readonly secretId: string; readonly keptId: string; readonly strategy: Strategy },
  nowMs: number,
): Promise<string[]> {
  const rows = await tx.query<{ version_id: string }>(
    `update retirements set state = 'done', ended_at = $4, fence = fence + 1, claim_until = null, target_account = null
     where secret_id = $1 and version_id <> $2 and strategy = $3 and what = 'credential' and ${open} returning version_id`,
    [secretId, keptId, strategy, nowMs],
  );
  return rows.map(({ version_id }) => version_id);
}

/** Its deadline is now. True when there was one. */
export async function hastenRetirement(tx: Sql, secretId: string, versionId: string, nowMs: number): Promise<boolean> {
  const rows = await tx.query(
    `update retirements set due_at = $3, run_at = $3 where secret_id = $1 and version_id = $2 and ${open} returning version_id`,
    [secretId, versionId, nowMs],
  );
  return rows.length > 0;
}

/** A node's timed hold on a retirement. */
export interface RetirementClaim {
  readonly retirement: Retirement;
  readonly fence: number;
  readonly until: number;
}

interface RetirementRow {
  secret_id: string;
  version_id: string;
  what: Retirement["what"];
  strategy: Strategy;
  function_arn: string;
  state: RetirementState;
  due_at: number;
  run_at: number;
  attempt: number;
  intent: string | null;
  fence: number;
  outcome: OutcomeClass | null;
  error: string | null;
  remedy: string | null;
  created_at: number;
  last_try_at: number | null;
  ended_at: number | null;
}

const due = `${open} and run_at <= $1 and (claim_until is null or claim_until <= $1)`;

export async function anyRetirementDue(sql: Sql, nowMs: number): Promise<boolean> {
  return (await sql.query(`select 1 as due from retirements where ${due} limit 1`, [nowMs])).length > 0;
}

interface ClaimRequest {
  readonly node: string;
  readonly nowMs: number;
  readonly untilMs: number;
  readonly limit: number;
}

/** Takes those that have been due longest and that nobody holds, at most `limit`, until `untilMs`. */
export async function claimRetirements(tx: Sql, { node, nowMs, untilMs, limit }: ClaimRequest): Promise<RetirementClaim[]> {
  const rows = await tx.query<RetirementRow>(
    `select * from retirements where ${due} order by run_at limit $2 ${tx.dialect === "postgres" ? "for update skip locked" : ""}`,
    [nowMs, limit],
  );
  const text = `update retirements set fence = $4, claim_node = $5, claim_until = $6
    where secret_id = $1 and version_id = $2 and what = $3`;
  for (const row of rows) await tx.query(text, [row.secret_id, row.version_id, row.what, row.fence + 1, node, untilMs]);
  return rows.map((row) => ({ retirement: toRetirement(row), fence: row.fence + 1, until: untilMs }));
}

const mine = `secret_id = $1 and version_id = $2 and what = $3 and fence = $4 and ${open}`;
const keyOf = ({ retirement, fence }: RetirementClaim) => [retirement.secretId, retirement.versionId, retirement.what, fence];

/** Holds on for longer. False when another has taken over, or the retirement was called off. */
export async function renewRetirement(sql: Sql, claim: RetirementClaim, untilMs: number): Promise<boolean> {
  const text = `update retirements set claim_until = $5 where ${mine} returning version_id`;
  return (await sql.query(text, [...keyOf(claim), untilMs])).length > 0;
}

/** Writes what became of it and gives the claim back. False, and nothing written, when another has it or it was called off. */
export async function recordRetirement(tx: Sql, claim: RetirementClaim, after: Retirement): Promise<boolean> {
  const rows = await tx.query(
    `update retirements set state = $5, due_at = $6, run_at = $7, attempt = $8, outcome = $9, error = $10, remedy = $11,
       last_try_at = $12, ended_at = $13, claim_until = null, target_account = null
     where ${mine} returning version_id`,
    [
      ...keyOf(claim),
      after.state,
      after.dueAt,
      after.runAt,
      after.attempt,
      after.outcome ?? null,
      after.error ?? null,
      after.remedy ?? null,
      after.lastTryAt ?? null,
      after.endedAt ?? null,
    ],
  );
  return rows.length > 0;
}

/**
 * Begins work at the target: rotations, jobs and other retirements keep away from the account until it is recorded. For a
 * transaction that has locked the secret. False when one of them is under way there, or for the secret.
 */
export async function holdRetirementAccount(tx: Sql, claim: RetirementClaim, account: string): Promise<boolean> {
  await lockAccount(tx, account);
  try {
    const rows = await tx.query(
      `update retirements set target_account = $5, state = 'running' where ${mine}
         and not exists (select 1 from rotations r where r.state = 'running' and (r.target_account = $5 or r.secret_id = $1))
         and not exists (select 1 from target_jobs j where j.target_account = $5 and j.ended_at is null)
       returning version_id`,
      [...keyOf(claim), account],
    );
    return rows.length > 0;
  } catch (error) {
    if (isUniqueViolation(error)) return false;
    throw error;
  }
}

/** Ends all claims at once, for a store that one process writes: whoever held them is gone. */
export async function releaseRetirementClaims(sql: Sql): Promise<void> {
  await sql.query(`update retirements set claim_until = null where ${open} and claim_until is not null`);
}

/** All of a secret that have not ended, those due first first; at most 1,000. */
export async function openRetirements(sql: Sql, secretId: string): Promise<Retirement[]> {
  const rows = await sql.query<RetirementRow>(
    `select * from retirements where secret_id = $1 and ${open} order by due_at limit 1000`,
    [secretId],
  );
  return rows.map(toRetirement);
}

/** Whether the end of a version's credential waits or has come; one that was called off does not count. */
export async function hasRetirement(sql: Sql, secretId: string, versionId: string): Promise<boolean> {
  const rows = await sql.query(
    "select 1 as found from retirements where secret_id = $1 and version_id = $2 and what = 'credential' and state <> 'canceled'",
    [secretId, versionId],
  );
  return rows.length > 0;
}

/** Which of these are rotations of the secret. */
export async function ownRotations(sql: Sql, secretId: string, ids: readonly string[]): Promise<string[]> {
  const own: string[] = [];
  for (const id of new Set(ids)) {
    const rows = await sql.query("select 1 as found from rotations where id = $1 and secret_id = $2", [id, secretId]);
    if (rows.length > 0) own.push(id);
  }
  return own;
}

/** Who read these two versions last when. */
export async function readsOf(sql: Sql, secretId: string, versionIds: readonly [string, string]): Promise<LastRead[]> {
  const rows = await sql.query<{ principal: string; version_id: string; last_read_at: number }>(
    `select principal, version_id, last_read_at from last_reads where secret_id = $1 and version_id in ($2, $3)
     order by last_read_at desc limit 1000`,
    [secretId, ...versionIds],
  );
  return rows.map((row) => ({ principal: row.principal, versionId: row.version_id, at: row.last_read_at }));
}

/** A retirement as people see it. */
export interface ListedRetirement extends Retirement {
  readonly secretArn: string;
  readonly secretName: string;
}

export interface RetirementQuery {
  /** ARN of a secret. */
  readonly secretArn?: string | undefined;
  readonly state?: RetirementState | undefined;
  /** 1 to 1,001. */
  readonly limit: number;
  /** The last one of the page before. */
  readonly after?:
    | { readonly createdAt: number; readonly secretId: string; readonly versionId: string; readonly what: string }
    | undefined;
}

/** `$1` is the ARN, or empty: by index where it is given. */
const ofSecret = (arn: string | undefined) => (arn ? "r.secret_id = (select id from secrets where arn = $1)" : "$1 = ''");

/** Newest first. */
export async function listRetirements(
  sql: Sql,
  { secretArn, state, limit, after }: RetirementQuery,
): Promise<ListedRetirement[]> {
  const rows = await sql.query<RetirementRow & { secret_arn: string; secret_name: string }>(
    `select r.*, s.arn as secret_arn, s.name as secret_name from retirements r join secrets s on s.id = r.secret_id
     where ${ofSecret(secretArn)} and ($2 = '' or r.state = $2)
       and (r.created_at < $3 or (r.created_at = $3 and (r.secret_id, r.version_id, r.what) > ($4, $5, $6)))
     order by r.created_at desc, r.secret_id, r.version_id, r.what limit $7`,
    [
      secretArn ?? "",
      state ?? "",
      after?.createdAt ?? Number.MAX_SAFE_INTEGER,
      after?.secretId ?? "",
      after?.versionId ?? "",
      after?.what ?? "",
      limit,
    ],
  );
  return rows.map((row) => ({ ...toRetirement(row), secretArn: row.secret_arn, secretName: row.secret_name }));
}

function toRetirement(row: RetirementRow): Retirement {
  return {
    secretId: row.secret_id,
    versionId: row.version_id,
    what: row.what,
    strategy: row.strategy,
    functionArn: row.function_arn,
    state: row.state,
    dueAt: row.due_at,
    runAt: row.run_at,
    attempt: row.attempt,
    intent: row.intent === null ? undefined : JSON.parse(row.intent),
    createdAt: row.created_at,
    lastTryAt: row.last_try_at ?? undefined,
    endedAt: row.ended_at ?? undefined,
    outcome: row.outcome ?? undefined,
    error: row.error ?? undefined,
    remedy: row.remedy ?? undefined,
  };
}
