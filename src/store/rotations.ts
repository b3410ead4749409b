import type { Rotation } from "../core/rotation.ts";
import { addEvent } from "./events.ts";
import { insertStrays } from "./retirements.ts";
import { type RotationRow, toRotation } from "./rotation-claims.ts";
import type { Sql } from "./sql.ts";

/** A rotation that begins now. */
export type NewRotation = Pick<
  Rotation,
  | "id"
  | "secretId"
  | "versionId"
  | "generation"
  | "origin"
  | "testOnly"
  | "functionArn"
  | "principal"
  | "runAt"
  | "windowEndsAt"
  | "startedAt"
  | "follows"
>;

/** Queues a rotation; false, and nothing done, when one is running for the secret. */
export async function insertRotation(tx: Sql, added: NewRotation): Promise<boolean> {
  const before = added.origin === "retry" ? await lastTo(tx, added) : undefined;
  const rows = await tx.query(
    `insert into rotations (id, secret_id, version_id, generation, origin, test_only, function_arn, principal, step, state,
       attempt, step_attempt, run_at, window_ends_at, fence, started_at, strategy, intent, follows)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'running', 0, 0, $10, $11, 0, $12, $13, $14, $15)
     on conflict (secret_id) where state = 'running' do nothing returning id`,
    [
      added.id,
      added.secretId,
      added.versionId,
      added.generation,
      added.origin,
      Number(added.testOnly),
      added.functionArn,
      added.principal,
      added.testOnly ? "testSecret" : "createSecret",
      added.runAt,
      added.windowEndsAt,
      added.startedAt,
      before?.strategy ?? null,
      before?.intent ?? null,
      added.follows ?? null,
    ],
  );
  return rows.length > 0;
}

/** Notes which version is made in place of the one that the rotation gave up. */
export async function noteFollower(tx: Sql, rotationId: string, versionId: string): Promise<void> {
  await tx.query("update rotations set followed_by = $2 where id = $1", [rotationId, versionId]);
}

/** How the last rotation to the same version was done: one that goes on with it does it so. */
async function lastTo(
  tx: Sql,
  { secretId, versionId }: NewRotation,
): Promise<Pick<RotationRow, "strategy" | "intent"> | undefined> {
  const [row] = await tx.query<Pick<RotationRow, "strategy" | "intent">>(
    "select strategy, intent from rotations where secret_id = $1 and version_id = $2 and state <> 'running' order by started_at desc limit 1",
    [secretId, versionId],
  );
  return row;
}

/** Rotations of the secret that were given up within the window that ends then. */
export async function countAbandoned(sql: Sql, secretId: string, windowEndsAt: number): Promise<number> {
  const rows = await sql.query(
    "select 1 as one from rotations where secret_id = $1 and state = 'abandoned' and window_ends_at = $2 limit 100",
    [secretId, windowEndsAt],
  );
  return rows.length;
}

/** The running rotation is tried again at once, whatever pause its last failure asked for. */
export async function hastenRotation(tx: Sql, secretId: string, nowMs: number): Promise<void> {
  // Not one whose claim ended without a word: a function that it called may be at work until then.
  await tx.query(
    "update rotations set run_at = $2 where secret_id = $1 and state = 'running' and run_at > $2 and claim_until is null",
    [secretId, nowMs],
  );
}

/**
 * Ends the running rotation because a new current value was put by hand, and tells so; whoever works on it is fenced out. For a
 * transaction that has locked the secret. `ownVersionId`: not the rotation that makes this very version: its function put it.
 */
export async function abandonRotation(tx: Sql, secretId: string, nowMs: number, ownVersionId = ""): Promise<void> {
  // Mostly none is running, and to look costs half of an update in vain. The secret is locked: none begins meanwhile.
  const [running] = await tx.query(
    "select 1 as one from rotations where secret_id = $1 and state = 'running' and version_id <> $2",
    [secretId, ownVersionId],
  );
  if (running) await endRunning(tx, secretId, "abandoned", nowMs);
}

/** Longer than any call at a target. */
const outwaitMs = 30_000;

/** The rotation that was stopped. */
interface StoppedRotation {
  readonly versionId: string;
  readonly testOnly: boolean;
}

/** Ends the running rotation on request, and tells so; `undefined` when there was none. */
export async function cancelRotation(tx: Sql, secretId: string, nowMs: number): Promise<StoppedRotation | undefined> {
  return endRunning(tx, secretId, "canceled", nowMs);
}

async function endRunning(
  tx: Sql,
  secretId: string,
  state: "abandoned" | "canceled",
  nowMs: number,
): Promise<StoppedRotation | undefined> {
  const [row] = await tx.query<{ id: string; version_id: string; test_only: number; intent: string | null }>(
    `update rotations set state = $2, ended_at = $3, fence = fence + 1, target_account = null
     where secret_id = $1 and state = 'running' returning id, version_id, test_only, intent`,
    [secretId, state, nowMs],
  );
  // A call may be under way that nobody will hear the answer of.
  if (row?.intent) await insertStrays(tx, row.id, nowMs, nowMs + outwaitMs);
  if (row) await tellOfEnd(tx, { ...row, secretId, state, nowMs });
  return row && { versionId: row.version_id, testOnly: row.test_only === 1 };
}

async function tellOfEnd(
  tx: Sql,
  ended: { id: string; version_id: string; secretId: string; state: "abandoned" | "canceled"; nowMs: number },
): Promise<void> {
  const [secret] = await tx.query<{ arn: string; generation: number }>("select arn, generation from secrets where id = $1", [
    ended.secretId,
  ]);
  if (!secret) return;
  const { arn: resource, generation } = secret;
  const detail = { rotationId: ended.id, versionId: ended.version_id };
  await addEvent(tx, { at: ended.nowMs, type: `rotation.${ended.state}`, resource, generation, detail });
}

/** Keeps of a rotation that finishes what made its version: as long as that lives, and longer than the rotation is on record. */
export async function noteRotatedTo(tx: Sql, { secretId, versionId, functionArn }: Rotation): Promise<void> {
  await tx.query("update versions set rotated_by = $3 where secret_id = $1 and version_id = $2", [
    secretId,
    versionId,
    functionArn,
  ]);
}

/**
 * The ARN of the function whose rotation made this version and finished: by its rules the value has logged in. `undefined`
 * when no rotation made it.
 */
export async function functionThatRotatedTo(sql: Sql, secretId: string, versionId: string): Promise<string | undefined> {
  const [row] = await sql.query<{ rotated_by: string | null }>(
    "select rotated_by from versions where secret_id = $1 and version_id = $2",
    [secretId, versionId],
  );
  return row?.rotated_by ?? undefined;
}

/** Of the newest rotation that did not finish, but for those to `exceptId`. */
export async function lastUnfinishedVersion(sql: Sql, secretId: string, exceptId: string): Promise<string | undefined> {
  const [row] = await sql.query<{ version_id: string }>(
    `select version_id from rotations where secret_id = $1 and version_id <> $2 and test_only = 0
       and state in ('abandoned', 'canceled', 'failed', 'blocked') order by started_at desc limit 1`,
    [secretId, exceptId],
  );
  return row?.version_id;
}

/** A rotation as people see it, with the secret that it is of. */
export interface ListedRotation extends Rotation {
  readonly secretArn: string;
  readonly secretName: string;
  /** Node that works on it now. */
  readonly claimedBy?: string | undefined;
  /** Nobody else goes on with it before. */
  readonly claimedUntil?: number | undefined;
}

export interface RotationQuery {
  /** ARN of a secret. */
  readonly secretArn?: string | undefined;
  readonly state?: Rotation["state"] | undefined;
  /** 1 to 1,000. */
  readonly limit: number;
  /** The last one of the page before. */
  readonly after?: { readonly startedAt: number; readonly id: string } | undefined;
}

/** `$1` is the ARN, or empty: by index where it is given. */
const ofSecret = (arn: string | undefined) => (arn ? "r.secret_id = (select id from secrets where arn = $1)" : "$1 = ''");

/** Newest first. */
export async function listRotations(sql: Sql, { secretArn, state, limit, after }: RotationQuery): Promise<ListedRotation[]> {
  const rows = await sql.query<RotationRow & { secret_arn: string; secret_name: string }>(
    `select r.*, s.arn as secret_arn, s.name as secret_name from rotations r join secrets s on s.id = r.secret_id
     where ${ofSecret(secretArn)} and ($2 = '' or r.state = $2)
       and (r.started_at < $3 or (r.started_at = $3 and r.id > $4)) order by r.started_at desc, r.id limit $5`,
    [secretArn ?? "", state ?? "", after?.startedAt ?? Number.MAX_SAFE_INTEGER, after?.id ?? "", limit],
  );
  return rows.map((row) => ({
    ...toRotation(row),
    secretArn: row.secret_arn,
    secretName: row.secret_name,
    claimedBy: row.claim_until === null ? undefined : (row.claim_node ?? undefined),
    claimedUntil: row.claim_until || undefined,
  }));
}

/** How many rotations are on record in each state. */
export async function countRotations(sql: Sql): Promise<Map<string, number>> {
  const rows = await sql.query<{ state: string; count: number }>("select state, count(*) as count from rotations group by state");
  return new Map(rows.map(({ state, count }) => [state, count]));
}
