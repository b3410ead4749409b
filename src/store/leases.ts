import type { OutcomeClass } from "../core/error.ts";
import type { Lease, LeaseReason, LeaseState } from "../core/lease.ts";
import type { Sql, SqlValue } from "./sql.ts";

export interface LeaseRow {
  id: string;
  dynamic_secret_id: string;
  dynamic_secret: string;
  project: string;
  config: string;
  type: string;
  integration_id: string;
  integration_version: string;
  settings: string;
  name: string;
  handle: string | null;
  network: string | null;
  target: string;
  principal: string;
  workload: string | null;
  state: LeaseState;
  reason: LeaseReason | null;
  created_at: number;
  expires_at: number;
  max_expires_at: number;
  renew_to: number | null;
  answered_at: number | null;
  shares: number;
  share_until: number | null;
  due_at: number | null;
  claim_until: number | null;
  fence: number;
  attempt: number;
  outcome: OutcomeClass | null;
  error: string | null;
  last_try_at: number | null;
  ended_at: number | null;
}

/** All of a lease but its value. */
export const leaseColumns = `id, dynamic_secret_id, dynamic_secret, project, config, type, integration_id, integration_version,
  settings, name, handle, network, target, principal, workload, state, reason, created_at, expires_at, max_expires_at, renew_to, answered_at,
  shares, share_until, due_at, claim_until, fence, attempt, outcome, error, last_try_at, ended_at`;

/** Clocks of nodes may differ so much: what is asked for now is due at once for all of them. */
const skewMs = 120_000;
const dueAtOnce = (nowMs: number): number => nowMs - skewMs;

export const leaseContext = (id: string): Record<string, string> => ({ LeaseId: id });

/** What a lease begins with. */
export type NewLease = Pick<
  Lease,
  | "id"
  | "dynamicSecretId"
  | "dynamicSecret"
  | "project"
  | "config"
  | "type"
  | "integrationId"
  | "integrationVersion"
  | "settings"
  | "name"
  | "network"
  | "target"
  | "principal"
  | "workload"
  | "createdAt"
  | "expiresAt"
  | "maxExpiresAt"
  | "shareUntil"
> & { readonly requestHash?: string | undefined };

/** Puts it on record, due at once: before anything is done at the target. */
export async function insertLease(tx: Sql, added: NewLease): Promise<Lease> {
  const [row] = await tx.query<LeaseRow>(
    `insert into leases (id, dynamic_secret_id, dynamic_secret, project, config, type, integration_id, integration_version, settings,
       name, target, principal, workload, request_hash, state, created_at, expires_at, max_expires_at, shares, share_until, due_at,
       fence, attempt, network)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, 'creating', $15, $16, $17, 1, $18, $19, 0, 0, $20)
     returning ${leaseColumns}`,
    [
      added.id,
      added.dynamicSecretId,
      added.dynamicSecret,
      added.project,
      added.config,
      added.type,
      added.integrationId,
      added.integrationVersion,
      added.settings,
      added.name,
      added.target,
      added.principal,
      added.workload ?? null,
      added.requestHash ?? null,
      added.createdAt,
      added.expiresAt,
      added.maxExpiresAt,
      added.shareUntil ?? null,
      dueAtOnce(added.createdAt),
      added.network ?? null,
    ],
  );
  if (!row) throw new Error("a lease was not inserted");
  return toLease(row);
}

export async function findLease(sql: Sql, id: string): Promise<Lease | undefined> {
  const [row] = await sql.query<LeaseRow>(`select ${leaseColumns} from leases where id = $1`, [id]);
  return row && toLease(row);
}

/** The live lease of a request that was made before. */
export async function leaseOfRequest(sql: Sql, requestHash: string): Promise<Lease | undefined> {
  const [row] = await sql.query<LeaseRow>(`select ${leaseColumns} from leases where request_hash = $1`, [requestHash]);
  return row && toLease(row);
}

/** The sealed fields of an active lease. */
export async function leaseValue(
  sql: Sql,
  id: string,
): Promise<{ readonly sealed: Uint8Array; readonly wrappedDataKey: Uint8Array } | undefined> {
  const [row] = await sql.query<{ sealed: Uint8Array | null; wrapped_data_key: Uint8Array | null }>(
    "select sealed, wrapped_data_key from leases where id = $1 and state = 'active'",
    [id],
  );
  return row?.sealed && row.wrapped_data_key ? { sealed: row.sealed, wrappedDataKey: row.wrapped_data_key } : undefined;
}

/** Somebody's lease that another of the same workload may have too; the one that lives longest. */
export async function leaseToShare(
  tx: Sql,
  of: { readonly dynamicSecretId: string; readonly principal: string; readonly workload: string | undefined },
  { nowMs, expiresFrom }: { readonly nowMs: number; readonly expiresFrom: number },
): Promise<Lease | undefined> {
  const [row] = await tx.query<LeaseRow>(
    `select ${leaseColumns} from leases where dynamic_secret_id = $1 and workload = $2 and share_until > $4 and principal = $3
       and state in ('creating', 'active') and expires_at >= $5 order by expires_at desc limit 1`,
    [of.dynamicSecretId, of.workload ?? "", of.principal, nowMs, expiresFrom],
  );
  return row && toLease(row);
}

/** How many live, those that are being ended included: of a dynamic secret, and of one principal's workload. */
export async function countLive(
  tx: Sql,
  { dynamicSecretId, principal, workload }: { dynamicSecretId: string; principal: string; workload: string | undefined },
): Promise<{ readonly all: number; readonly own: number }> {
  const [row] = await tx.query<{ every: number; own: number }>(
    `select (select count(*) from leases where dynamic_secret_id = $1 and state <> 'ended') as every,
       (select count(*) from leases where dynamic_secret_id = $1 and principal = $2 and state <> 'ended'
          and workload ${workload === undefined ? "is null" : "= $3"}) as own`,
    workload === undefined ? [dynamicSecretId, principal] : [dynamicSecretId, principal, workload],
  );
  return { all: row?.every ?? 0, own: row?.own ?? 0 };
}

/** How many of a dynamic secret live. */
export async function countLiveOf(sql: Sql, dynamicSecretId: string): Promise<number> {
  const [row] = await sql.query<{ count: number }>(
    "select count(*) as count from leases where dynamic_secret_id = $1 and state <> 'ended'",
    [dynamicSecretId],
  );
  return row?.count ?? 0;
}

/** Its value is handed out now. `undefined` when it is not there to be had any more. */
export async function answerLease(tx: Sql, id: string, nowMs: number): Promise<Lease | undefined> {
  const [row] = await tx.query<LeaseRow>(
    `update leases set answered_at = coalesce(answered_at, $2), due_at = case when renew_to is null then expires_at else due_at end
     where id = $1 and state = 'active' and expires_at > $2 returning ${leaseColumns}`,
    [id, nowMs],
  );
  return row && toLease(row);
}

/** One holder more. */
export async function addShare(tx: Sql, id: string): Promise<void> {
  await tx.query("update leases set shares = shares + 1 where id = $1", [id]);
}

/** Has the target told of a later end. `undefined` when it is not active any more. */
export async function askRenewal(tx: Sql, id: string, renewTo: number, nowMs: number): Promise<Lease | undefined> {
  const [row] = await tx.query<LeaseRow>(
    `update leases set renew_to = case when renew_to > $2 then renew_to else $2 end, due_at = $4, outcome = null, error = null
     where id = $1 and state = 'active' and expires_at > $3 and answered_at is not null returning ${leaseColumns}`,
    [id, renewTo, nowMs, dueAtOnce(nowMs)],
  );
  return row && toLease(row);
}

/** Renewed at once, where the target knows of no end. `undefined` when it is not active any more. */
export async function extendLease(tx: Sql, id: string, expiresAt: number, nowMs: number): Promise<Lease | undefined> {
  const [row] = await tx.query<LeaseRow>(
    `update leases set expires_at = case when expires_at > $2 then expires_at else $2 end,
       due_at = case when renew_to is not null then due_at when expires_at > $2 then expires_at else $2 end
     where id = $1 and state = 'active' and expires_at > $3 and answered_at is not null returning ${leaseColumns}`,
    [id, expiresAt, nowMs],
  );
  return row && toLease(row);
}

/** One holder less. What is left of them; `undefined` when it is being ended already. */
export async function dropShare(tx: Sql, id: string): Promise<number | undefined> {
  const [row] = await tx.query<{ shares: number }>(
    "update leases set shares = case when shares > 0 then shares - 1 else 0 end where id = $1 and state in ('creating', 'active') returning shares",
    [id],
  );
  return row?.shares;
}

/** Which leases. */
export interface LeaseScope {
  readonly dynamicSecretId?: string | undefined;
  readonly principal?: string | undefined;
  readonly integrationId?: string | undefined;
}

const scoped = (
  { dynamicSecretId, principal, integrationId }: LeaseScope,
  from: number,
): { text: string; values: SqlValue[] } => {
  const parts = Object.entries({ dynamic_secret_id: dynamicSecretId, principal, integration_id: integrationId }).flatMap(
    ([column, value]) => (value === undefined ? [] : [{ column, value }]),
  );
  return {
    text: parts.map(({ column }, index) => `${column} = $${from + index}`).join(" and "),
    values: parts.map(({ value }) => value),
  };
};

/**
 * Begins to end live leases, at most 1,000 at once; their values are gone with this. Whoever works on one now is done before
 * it is ended. How many there were.
 */
export async function beginRevocations(tx: Sql, scope: LeaseScope, reason: LeaseReason, nowMs: number): Promise<number> {
  const { text, values } = scoped(scope, 3);
  const rows = await tx.query(
    `update leases set ${revoking} where id in (
       select id from leases where ${text} and state <> 'ended' and state <> 'revoking' limit 1000) returning id`,
    [reason, dueAtOnce(nowMs), ...values],
  );
  return rows.length;
}

/** As `beginRevocations`, of one. False when it had begun or ended before. */
export async function beginRevocation(tx: Sql, id: string, reason: LeaseReason, nowMs: number): Promise<boolean> {
  const rows = await tx.query(`update leases set ${revoking} where id = $3 and state in ('creating', 'active') returning id`, [
    reason,
    nowMs,
    id,
  ]);
  return rows.length > 0;
}

/** `$1` is the reason, `$2` when it is due. */
export const revoking = `state = 'revoking', reason = $1, due_at = $2, renew_to = null, request_hash = null, share_until = null,
  sealed = null, wrapped_data_key = null, key_id = null, key_version = null`;

export interface LeaseQuery {
  /** Project id. */
  readonly project?: string | undefined;
  readonly config?: string | undefined;
  readonly dynamicSecret?: string | undefined;
  readonly principal?: string | undefined;
  readonly state?: LeaseState | undefined;
  readonly reason?: LeaseReason | undefined;
  /** The user's name at the target. */
  readonly user?: string | undefined;
  /** 1 to 1,000. */
  readonly limit: number;
  /** The last one that was looked at for the page before. */
  readonly after?: LeasePosition | undefined;
}

export interface LeasePosition {
  readonly createdAt: number;
  readonly id: string;
}

const lookedAtOnce = 5_000;
const firstPosition: LeasePosition = { createdAt: Number.MAX_SAFE_INTEGER, id: "" };

/** Newest first. A page may have few, or none, and yet others follow: so many leases are looked at for one, and no more. */
export async function listLeases(
  sql: Sql,
  query: LeaseQuery,
): Promise<{ readonly leases: Lease[]; readonly next: LeasePosition | undefined }> {
  const { limit, after = firstPosition, ...wanted } = query;
  // By an index of its own.
  if (wanted.user !== undefined) return { leases: await ofUser(sql, { ...query, user: wanted.user }), next: undefined };
  const values: SqlValue[] = [after.createdAt, after.id];
  const conditions = conditionsOf(wanted, values);
  const from = "from leases where created_at < $1 or (created_at = $1 and id > $2) order by created_at desc, id";
  const rows = await sql.query<LeaseRow>(
    `select ${leaseColumns} from (select * ${from} limit ${lookedAtOnce}) as looked where ${conditions} order by created_at desc, id
     limit ${limit + 1}`,
    values,
  );
  const leases = rows.slice(0, limit).map(toLease);
  const last = leases.at(-1);
  if (rows.length > limit && last) return { leases, next: last };
  const [end] = await sql.query<{ created_at: number; id: string }>(
    `select created_at, id ${from} limit 1 offset ${lookedAtOnce - 1}`,
    [after.createdAt, after.id],
  );
  return { leases, next: end && { createdAt: end.created_at, id: end.id } };
}

async function ofUser(
  sql: Sql,
  { user, limit, after: _after, ...wanted }: LeaseQuery & { readonly user: string },
): Promise<Lease[]> {
  const values: SqlValue[] = [user];
  const conditions = conditionsOf({ ...wanted, user: undefined }, values);
  const rows = await sql.query<LeaseRow>(
    `select ${leaseColumns} from leases where name = $1 and ${conditions} order by created_at desc, id limit ${limit}`,
    values,
  );
  return rows.map(toLease);
}

/** Adds what it compares with to `values`. */
function conditionsOf(
  { project, config, dynamicSecret, principal, state, reason }: Omit<LeaseQuery, "limit" | "after">,
  values: SqlValue[],
): string {
  const compared = { project, config, dynamic_secret: dynamicSecret, principal, state, reason };
  const conditions = Object.entries(compared).flatMap(([column, value]) =>
    value === undefined ? [] : [`${column} = $${values.push(value)}`],
  );
  return ["1 = 1", ...conditions].join(" and ");
}

export function toLease(row: LeaseRow): Lease {
  return {
    id: row.id,
    dynamicSecretId: row.dynamic_secret_id,
    dynamicSecret: row.dynamic_secret,
    project: row.project,
    config: row.config,
    type: row.type,
    integrationId: row.integration_id,
    integrationVersion: row.integration_version,
    settings: row.settings,
    name: row.name,
    handle: row.handle ?? undefined,
    network: row.network ?? undefined,
    target: row.target,
    principal: row.principal,
    workload: row.workload ?? undefined,
    state: row.state,
    reason: row.reason ?? undefined,
    createdAt: row.created_at,
    expiresAt: row.expires_at,
    maxExpiresAt: row.max_expires_at,
    renewTo: row.renew_to ?? undefined,
    answeredAt: row.answered_at ?? undefined,
    shares: row.shares,
    shareUntil: row.share_until ?? undefined,
    dueAt: row.due_at ?? undefined,
    attempt: row.attempt,
    outcome: row.outcome ?? undefined,
    error: row.error ?? undefined,
    lastTryAt: row.last_try_at ?? undefined,
    endedAt: row.ended_at ?? undefined,
  };
}
