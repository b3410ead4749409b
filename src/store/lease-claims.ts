import type { OutcomeClass } from "../core/error.ts";
import type { Lease, LeaseReason, LeaseState } from "../core/lease.ts";
import { type LeaseRow, leaseColumns, revoking, toLease } from "./leases.ts";
import type { Sql } from "./sql.ts";
import { lockAccount } from "./target-accounts.ts";

/** A node's timed hold on a lease. */
export interface LeaseClaim {
  readonly lease: Lease;
  readonly fence: number;
  readonly until: number;
  /** An earlier claim ended without a word: what it did at the target is not known. */
  readonly takenOver: boolean;
  /** Somebody held it before. */
  readonly begun: boolean;
}

/** A lease that is due. */
export interface DueLease {
  readonly id: string;
  readonly target: string;
  readonly type: string;
  readonly state: LeaseState;
}

const free = "(claim_until is null or claim_until <= $1)";
const wanted = "(state = 'creating' or renew_to is not null)";

/** Those that somebody waits for, to be made or renewed: longest due first. */
export function wantedLeases(sql: Sql, nowMs: number, limit: number): Promise<DueLease[]> {
  return sql.query<DueLease>(
    `select id, target, type, state from leases where ${wanted} and due_at <= $1 and ${free} order by due_at limit $2`,
    [nowMs, limit],
  );
}

/** When the first lease is due, be it claimed or not. */
export async function firstLeaseDueAt(sql: Sql): Promise<number | undefined> {
  const [row] = await sql.query<{ at: number | null }>("select min(due_at) as at from leases where due_at is not null");
  return row?.at ?? undefined;
}

/** Each target that has leases, with the moment when its first one is due: one look in the index for each target. */
export function dueTargets(sql: Sql): Promise<{ target: string; dueAt: number }[]> {
  return sql
    .query<{ target: string; due_at: number }>(
      `with recursive each_target (target) as (
         select min(target) from leases where due_at is not null
         union all
         select (select min(l.target) from leases l where l.due_at is not null and l.target > e.target)
         from each_target e where e.target is not null)
       select target, (select min(l.due_at) from leases l where l.due_at is not null and l.target = e.target) as due_at
       from each_target e where target is not null`,
    )
    .then((rows) => rows.map(({ target, due_at: dueAt }) => ({ target, dueAt })));
}

/** Of one target, what is due by itself: longest due first; with `begunOnly`, only those whose end has begun. */
export function dueLeasesOf(
  sql: Sql,
  target: string,
  { nowMs, limit, begunOnly }: { readonly nowMs: number; readonly limit: number; readonly begunOnly: boolean },
): Promise<DueLease[]> {
  return sql.query<DueLease>(
    `select id, target, type, state from leases where target = $2 and due_at <= $1 and ${free} and not ${wanted}
       ${begunOnly ? "and state = 'revoking'" : ""} order by due_at limit $3`,
    [nowMs, target, limit],
  );
}

interface ClaimRequest {
  readonly id: string;
  readonly node: string;
  readonly nowMs: number;
  readonly untilMs: number;
  /** As many as may be worked on at the target on all nodes; absent: no other node is there. */
  readonly most?: number | undefined;
}

/** `undefined` when it is not due any more or somebody else holds it; `full` when enough is done at its target now. */
export async function claimLease(
  tx: Sql,
  { id, node, nowMs, untilMs, most }: ClaimRequest,
): Promise<LeaseClaim | "full" | undefined> {
  const [row] = await tx.query<LeaseRow>(
    `select ${leaseColumns} from leases where id = $2 and due_at <= $1 and ${free} ${tx.dialect === "postgres" ? "for update skip locked" : ""}`,
    [nowMs, id],
  );
  if (!row) return undefined;
  if (most !== undefined && (await countAt(tx, row.target, nowMs)) >= most) return "full";
  const fence = row.fence + 1;
  await tx.query("update leases set fence = $2, claim_node = $3, claim_until = $4 where id = $1", [id, fence, node, untilMs]);
  return { lease: toLease(row), fence, until: untilMs, takenOver: row.claim_until !== null, begun: row.fence > 0 };
}

/** What is worked on at the target on all nodes, by leases and rotations; nobody else begins there before the transaction ends. */
async function countAt(tx: Sql, target: string, nowMs: number): Promise<number> {
  await lockAccount(tx, target);
  const [row] = await tx.query<{ count: number }>(
    `select (select count(*) from leases where claim_until > $2 and target = $1)
       + (select count(*) from rotations where working_at = $1 and state = 'running' and claim_until > $2) as count`,
    [target, nowMs],
  );
  return row?.count ?? 0;
}

const mine = "id = $1 and fence = $2";
const keyOf = ({ lease, fence }: LeaseClaim) => [lease.id, fence];

/** Holds on for longer. False when another has taken over. */
export async function renewLeaseClaim(sql: Sql, claim: LeaseClaim, untilMs: number): Promise<boolean> {
  const text = `update leases set claim_until = $3 where ${mine} and state <> 'ended' returning id`;
  return (await sql.query(text, [...keyOf(claim), untilMs])).length > 0;
}

/** Gives it back as it is: due at `dueAt`, if given. */
export async function releaseLease(tx: Sql, claim: LeaseClaim, dueAt?: number): Promise<void> {
  await tx.query(
    `update leases set claim_until = null, due_at = case when due_at is null or cast($3 as bigint) < 0 then due_at else cast($3 as bigint) end where ${mine}`,
    [...keyOf(claim), dueAt ?? -1],
  );
}

export interface MadeLease {
  readonly handle: string | undefined;
  readonly dueAt: number;
  readonly sealed: Uint8Array;
  readonly wrappedDataKey: Uint8Array;
  readonly keyId: string;
  readonly keyVersion: number;
}

/** It is at the target, and its value is kept. False when it is to be ended already, or another has taken over. */
export async function recordMade(tx: Sql, claim: LeaseClaim, made: MadeLease): Promise<boolean> {
  const rows = await tx.query(
    `update leases set state = 'active', handle = $3, due_at = $4, sealed = $5, wrapped_data_key = $6, key_id = $7, key_version = $8,
       claim_until = null where ${mine} and state = 'creating' returning id`,
    [...keyOf(claim), made.handle ?? null, made.dueAt, made.sealed, made.wrappedDataKey, made.keyId, made.keyVersion],
  );
  return rows.length > 0;
}

/** What the target calls it, of a lease that is to be ended as soon as it was made. */
export async function recordHandle(tx: Sql, claim: LeaseClaim, handle: string): Promise<void> {
  await tx.query(`update leases set handle = $3 where ${mine}`, [...keyOf(claim), handle]);
}

/** The target knows of the later end. False when it is to be ended already, or another has taken over. */
export async function recordRenewed(tx: Sql, claim: LeaseClaim, to: number, nowMs: number): Promise<boolean> {
  const rows = await tx.query(
    `update leases set expires_at = case when expires_at > $3 then expires_at else $3 end,
       due_at = case when renew_to > $3 then $4 when expires_at > $3 then expires_at else $3 end,
       renew_to = case when renew_to > $3 then renew_to else null end, outcome = 'ok', error = null, claim_until = null
     where ${mine} and state = 'active' returning id`,
    [...keyOf(claim), to, nowMs],
  );
  return rows.length > 0;
}

/** It stays as it was. */
export async function recordNotRenewed(tx: Sql, claim: LeaseClaim, { outcome, error }: Failure): Promise<void> {
  await tx.query(
    `update leases set renew_to = null, due_at = expires_at, outcome = $3, error = $4, claim_until = null
     where ${mine} and state = 'active'`,
    [...keyOf(claim), outcome, error],
  );
}

export interface Failure {
  readonly outcome: OutcomeClass;
  /** In words, without values. */
  readonly error: string;
}

/** Begins to end it; the claim stays while `keep` is set. False when that was begun before, or another has taken over. */
export async function recordRevoking(
  tx: Sql,
  { lease, fence }: LeaseClaim,
  { reason, nowMs, failure, keep }: { reason: LeaseReason; nowMs: number; failure?: Failure; keep: boolean },
): Promise<boolean> {
  const rows = await tx.query(
    `update leases set ${revoking}, outcome = $3, error = $4, claim_until = case when $5 = 1 then claim_until else null end
     where id = $6 and fence = $7 and state in ('creating', 'active') returning id`,
    [reason, nowMs, failure?.outcome ?? null, failure?.error ?? null, Number(keep), lease.id, fence],
  );
  return rows.length > 0;
}

/** Nothing of it is left, at the target and of its value. False when another has taken over. */
export async function recordEnded(
  tx: Sql,
  claim: LeaseClaim,
  { reason, nowMs, failure }: { reason: LeaseReason; nowMs: number; failure?: Failure },
): Promise<boolean> {
  const rows = await tx.query(
    `update leases set state = 'ended', reason = $3, ended_at = $4, due_at = null, renew_to = null, request_hash = null,
       share_until = null, claim_node = null, claim_until = null, sealed = null, wrapped_data_key = null, key_id = null, key_version = null,
       outcome = case when $5 <> '' then $5 when reason = 'failed' then outcome else 'ok' end,
       error = case when $6 <> '' then $6 when reason = 'failed' then error else null end
     where ${mine} and state <> 'ended' returning id`,
    [...keyOf(claim), reason, nowMs, failure?.outcome ?? "", failure?.error ?? ""],
  );
  return rows.length > 0;
}

/** A try to end it that failed; the next one is at `runAt`. False when another has taken over. */
export async function recordNotRevoked(
  tx: Sql,
  claim: LeaseClaim,
  { outcome, error }: Failure,
  { nowMs, runAt }: { readonly nowMs: number; readonly runAt: number },
): Promise<boolean> {
  const rows = await tx.query(
    `update leases set attempt = attempt + 1, outcome = $3, error = $4, last_try_at = $5, due_at = $6, claim_until = null
     where ${mine} and state = 'revoking' returning id`,
    [...keyOf(claim), outcome, error, nowMs, runAt],
  );
  return rows.length > 0;
}

/** Ends all claims at once, for a store that one process writes: whoever held them is gone, and what they did is not known. */
export async function releaseLeaseClaims(sql: Sql): Promise<void> {
  await sql.query("update leases set claim_until = 0 where claim_until > 0");
}

/** The target answers: what waits to be ended there is tried at once, so many at a time. */
export async function hastenRevocations(sql: Sql, target: string, nowMs: number): Promise<void> {
  for (;;) {
    const rows = await sql.query(
      `update leases set due_at = $2 where id in (select id from leases
         where target = $1 and due_at > $2 and state = 'revoking' and claim_until is null limit 1000) returning id`,
      [target, nowMs],
    );
    if (rows.length < 1_000) return;
  }
}

/** After a clock went back: moments that were noted by it say nothing; what waits to be ended is tried at once, at most 1,000. */
export async function hastenAllRevocations(sql: Sql, nowMs: number): Promise<void> {
  await sql.query(
    `update leases set due_at = $1 where id in (select id from leases
       where due_at > $1 and state = 'revoking' and claim_until is null order by due_at limit 1000)`,
    [nowMs],
  );
}
