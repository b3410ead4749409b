import type { OutcomeClass } from "../core/error.ts";
import type { Rotation, RotationState, Step, Strategy } from "../core/rotation.ts";
import type { Sql } from "./sql.ts";
import { lockAccount } from "./target-accounts.ts";

/** A node's timed hold on a rotation. What it writes counts only while its fence is the newest. */
export interface Claim {
  readonly rotation: Rotation;
  readonly fence: number;
  readonly until: number;
  /** An earlier claim ended without a word: what it did at the target is not known. */
  readonly takenOver: boolean;
}

export interface RotationRow {
  id: string;
  secret_id: string;
  version_id: string;
  generation: number;
  origin: Rotation["origin"];
  test_only: number;
  function_arn: string;
  principal: string;
  step: Step;
  state: RotationState;
  attempt: number;
  step_attempt: number;
  run_at: number;
  window_ends_at: number;
  claim_node: string | null;
  claim_until: number | null;
  fence: number;
  outcome: OutcomeClass | null;
  error: string | null;
  remedy: string | null;
  started_at: number;
  ended_at: number | null;
  last_step_at: number | null;
  strategy: Strategy | null;
  intent: string | null;
  failed_probes: number;
  tries: string | null;
  waits_for: string | null;
  follows: string | null;
  followed_by: string | null;
}

export interface ClaimRequest {
  readonly node: string;
  readonly nowMs: number;
  readonly untilMs: number;
  readonly limit: number;
}

/** Takes the rotations that have been due longest and that nobody holds, at most `limit`, until `untilMs`. */
export async function claimDue(tx: Sql, { node, nowMs, untilMs, limit }: ClaimRequest): Promise<Claim[]> {
  const rows = await tx.query<RotationRow>(
    `select * from rotations where state = 'running' and run_at <= $1 and (claim_until is null or claim_until <= $1)
     order by run_at limit $2 ${tx.dialect === "postgres" ? "for update skip locked" : ""}`,
    [nowMs, limit],
  );
  const text = "update rotations set fence = $2, claim_node = $3, claim_until = $4, working_at = null where id = $1";
  for (const { id, fence } of rows) await tx.query(text, [id, fence + 1, node, untilMs]);
  return rows.map((due) => ({
    rotation: toRotation(due),
    fence: due.fence + 1,
    until: untilMs,
    takenOver: due.claim_until !== null,
  }));
}

/** Holds on for longer. False when another has taken over, or the rotation was ended. */
export async function renewClaim(sql: Sql, { rotation, fence }: Claim, untilMs: number): Promise<boolean> {
  const rows = await sql.query(
    "update rotations set claim_until = $3 where id = $1 and fence = $2 and state = 'running' returning id",
    [rotation.id, fence, untilMs],
  );
  return rows.length > 0;
}

/**
 * Notes at which target the rotation works while it is claimed. False when as many as may do so on all nodes, or when another
 * has taken over.
 */
export async function enterTarget(
  tx: Sql,
  { rotation, fence }: Claim,
  { target, most, nowMs }: { readonly target: string; readonly most: number; readonly nowMs: number },
): Promise<boolean> {
  await lockAccount(tx, target);
  const rows = await tx.query(
    `update rotations set working_at = $3 where id = $1 and fence = $2 and state = 'running' and $5 >
       (select count(*) from rotations o where o.working_at = $3 and o.state = 'running' and o.claim_until > $4 and o.id <> $1)
       + (select count(*) from leases l where l.claim_until > $4 and l.target = $3)
     returning id`,
    [rotation.id, fence, target, nowMs, most],
  );
  return rows.length > 0;
}

/**
 * Writes what became of the rotation; `heldUntil` keeps the claim, else it is given back. False, and nothing written, when
 * another has taken over or the rotation was ended.
 */
export async function recordRotation(tx: Sql, after: Rotation, fence: number, heldUntil?: number): Promise<boolean> {
  const running = after.state === "running";
  const held = running ? (heldUntil ?? null) : null;
  const rows = await tx.query(
    `update rotations set step = $3, state = $4, attempt = $5, step_attempt = $6, run_at = $7, outcome = $8, error = $9,
       remedy = $10, ended_at = $11, last_step_at = $12, claim_until = $13,
       target_account = case when $14 = 1 then target_account else null end,
       strategy = $15, intent = $16, failed_probes = $17, tries = $18, waits_for = $19
     where id = $1 and fence = $2 and state = 'running' returning id`,
    [
      after.id,
      fence,
      after.step,
      after.state,
      after.attempt,
      after.stepAttempt,
      after.runAt,
      after.outcome ?? null,
      after.error ?? null,
      after.remedy ?? null,
      after.endedAt ?? null,
      after.lastStepAt ?? null,
      held,
      Number(running),
      after.strategy ?? null,
      after.intent ? JSON.stringify(after.intent) : null,
      after.failedProbes,
      after.tries.length > 0 ? JSON.stringify(after.tries) : null,
      running ? (after.waitsFor ?? null) : null,
    ],
  );
  return rows.length > 0;
}

/** Notes which account at a target the rotation changes. False when another running rotation, a rollback or a retirement has it. */
export async function holdAccount(tx: Sql, { id }: Rotation, account: string): Promise<boolean> {
  await lockAccount(tx, account);
  try {
    const rows = await tx.query(
      `update rotations set target_account = $2 where id = $1
         and not exists (select 1 from rotations o where o.target_account = $2 and o.state = 'running' and o.id <> $1)
         and not exists (select 1 from target_jobs j where j.target_account = $2 and j.ended_at is null)
         and not exists (select 1 from retirements t where t.target_account = $2) returning id`,
      [id, account],
    );
    return rows.length > 0;
  } catch (error) {
    if (isUniqueViolation(error)) return false;
    throw error;
  }
}

/** Whether something else than the rotation works at the account now. A look alone: `holdAccount` decides. */
export async function isAccountTaken(sql: Sql, { id }: Rotation, account: string): Promise<boolean> {
  const rows = await sql.query(
    `select 1 as one from rotations where target_account = $2 and state = 'running' and id <> $1
     union all select 1 as one from target_jobs where target_account = $2 and ended_at is null
     union all select 1 as one from retirements where target_account = $2 limit 1`,
    [id, account],
  );
  return rows.length > 0;
}

/** Source: PostgreSQL documentation, appendix A. */
const uniqueViolation = "23505";

/** PostgreSQL: another node has taken it in a transaction that this one could not see; ours can only be rolled back. */
export function isUniqueViolation(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === uniqueViolation;
}

/**
 * Ends all claims at once, for a store that one process writes: whoever held them is gone. They count as taken over.
 */
export async function releaseAllClaims(sql: Sql): Promise<void> {
  await sql.query("update rotations set claim_until = 0 where state = 'running' and claim_until is not null");
}

/** What this node holds stays its own until then, whatever clocks have said meanwhile. */
export async function keepClaims(sql: Sql, node: string, untilMs: number): Promise<void> {
  const held = "set claim_until = $2 where claim_node = $1 and claim_until is not null and claim_until < $2";
  await sql.query(`update rotations ${held} and state = 'running'`, [node, untilMs]);
  for (const table of ["retirements", "target_jobs", "leases"])
    await sql.query(`update ${table} ${held} and ended_at is null`, [node, untilMs]);
}

/** Rotations that wait for a later try are tried now, at most 1,000: of moments noted by another clock nothing is known. */
export async function hastenAll(sql: Sql, nowMs: number): Promise<void> {
  await sql.query(
    `update rotations set run_at = $1 where id in (select id from rotations
       where state = 'running' and run_at > $1 and claim_until is null limit 1000)`,
    [nowMs],
  );
}

export function toRotation(row: RotationRow): Rotation {
  return {
    id: row.id,
    secretId: row.secret_id,
    versionId: row.version_id,
    generation: row.generation,
    origin: row.origin,
    testOnly: row.test_only === 1,
    functionArn: row.function_arn,
    principal: row.principal,
    step: row.step,
    state: row.state,
    attempt: row.attempt,
    stepAttempt: row.step_attempt,
    runAt: row.run_at,
    windowEndsAt: row.window_ends_at,
    startedAt: row.started_at,
    endedAt: row.ended_at ?? undefined,
    lastStepAt: row.last_step_at ?? undefined,
    outcome: row.outcome ?? undefined,
    error: row.error ?? undefined,
    remedy: row.remedy ?? undefined,
    strategy: row.strategy ?? undefined,
    intent: row.intent === null ? undefined : JSON.parse(row.intent),
    failedProbes: row.failed_probes,
    tries: row.tries === null ? [] : JSON.parse(row.tries),
    waitsFor: row.waits_for ?? undefined,
    follows: row.follows ?? undefined,
    followedBy: row.followed_by ?? undefined,
  };
}
