import { randomUUID } from "node:crypto";
import { keyMoved } from "../core/network.ts";
import type { Place } from "../core/rekey-arn.ts";
import type { Integration, IntegrationVersion } from "./integrations.ts";
import { noteLease } from "./lease-events.ts";
import { type LeaseRow, leaseColumns, toLease } from "./leases.ts";
import type { Sql } from "./sql.ts";

/** A user at a target that bears our mark. */
interface MarkedUser {
  readonly name: string;
  readonly handle?: string | undefined;
  /** Epoch ms, where the target tells. */
  readonly createdAt?: number | undefined;
}

/** One that is younger may be known to another node's transaction alone. */
const leftAloneMs = 5 * 60_000;
const everyMs = 3_600_000;
const pageSize = 200;

/** Integrations whose targets are to be looked at for users without a lease: planned anew at once, so that no other node takes them. */
export async function takeOrphanLooks(
  tx: Sql,
  { nowMs, limit, seed }: { readonly nowMs: number; readonly limit: number; readonly seed: number },
): Promise<string[]> {
  const rows = await tx.query<{ id: string }>(
    `select id from integrations where orphans_due_at <= $1 order by orphans_due_at limit $2
     ${tx.dialect === "postgres" ? "for update skip locked" : ""}`,
    [nowMs, limit],
  );
  for (const { id } of rows) await planOrphanLook(tx, id, Math.ceil(nowMs + everyMs * (0.9 + 0.2 * seed)));
  return rows.map(({ id }) => id);
}

export async function anyOrphanLookDue(sql: Sql, nowMs: number): Promise<boolean> {
  return (await sql.query("select 1 as due from integrations where orphans_due_at <= $1 limit 1", [nowMs])).length > 0;
}

/** `undefined`: the target cannot say, so it is not asked. */
export async function planOrphanLook(sql: Sql, integrationId: string, at: number | undefined): Promise<void> {
  await sql.query("update integrations set orphans_due_at = $2 where id = $1 and deleted_at is null", [
    integrationId,
    at ?? null,
  ]);
}

/** What was done at the target is in doubt: somebody looks once all that is under way there is over. */
export async function hastenOrphanLook(sql: Sql, integrationId: string, nowMs: number): Promise<void> {
  await sql.query("update integrations set orphans_due_at = $2 where id = $1 and orphans_due_at > $2 and deleted_at is null", [
    integrationId,
    nowMs + leftAloneMs,
  ]);
}

/** Settings that leases of the integration were made with, the newest dynamic secret's. */
export async function anySettings(sql: Sql, integrationId: string): Promise<string | undefined> {
  const [row] = await sql.query<{ settings: string }>(
    "select settings from dynamic_secrets where integration_id = $1 order by updated_at desc limit 1",
    [integrationId],
  );
  return row?.settings;
}

/** Where an integration's leases are made: in its own network, and in those that its dynamic secrets name. */
export async function placesOfLeases(sql: Sql, version: IntegrationVersion): Promise<IntegrationVersion[]> {
  const rows = await sql.query<{ network: string }>(
    "select distinct network from dynamic_secrets where integration_id = $1 and network is not null limit 100",
    [version.integrationId],
  );
  const others = rows.map(({ network }) => network).filter((network) => network !== version.network);
  return [
    version,
    ...others.map((network) => ({ ...version, network, target: keyMoved(version.target, version.network, network) })),
  ];
}

export interface Marked {
  readonly integration: Integration;
  readonly version: IntegrationVersion;
  readonly users: readonly MarkedUser[];
  /** For those of which no lease is known any more; absent: somebody has to remove them by hand. */
  readonly settings: string | undefined;
}

/** Users without a lease, and what is done about them. */
export interface Orphans {
  readonly queued: readonly { readonly leaseId: string; readonly name: string }[];
  /** Nothing is known of how they were made. */
  readonly byHand: readonly string[];
  /** Too young to tell. */
  readonly young: number;
}

/** Has users without a live lease ended; looks at them a page at a time, each in a transaction of its own. */
export async function queueOrphans(sql: Sql, place: Place, marked: Marked, nowMs: number): Promise<Orphans> {
  const old = marked.users.filter(({ createdAt }) => createdAt === undefined || createdAt <= nowMs - leftAloneMs);
  const queued: { leaseId: string; name: string }[] = [];
  const byHand: string[] = [];
  for (let start = 0; start < old.length; start += pageSize) {
    const page = old.slice(start, start + pageSize);
    const places = page.map((_user, index) => `$${index + 1}`).join(", ");
    const live = await sql.query<{ name: string }>(
      `select name from leases where name in (${places}) and state <> 'ended'`,
      page.map(({ name }) => name),
    );
    const known = new Set(live.map(({ name }) => name));
    for (const user of page.filter(({ name }) => !known.has(name))) {
      const leaseId = await sql.transaction((tx) => queueOne(tx, place, { ...marked, user }, nowMs));
      if (leaseId === undefined) byHand.push(user.name);
      else if (leaseId !== "live") queued.push({ leaseId, name: user.name });
    }
  }
  return { queued, byHand, young: marked.users.length - old.length };
}

/** The lease that ends it: its own, which had ended, or a new one. What another integration leased is none of this one's. */
async function queueOne(
  tx: Sql,
  place: Place,
  { integration, version, settings, user }: Marked & { readonly user: MarkedUser },
  nowMs: number,
): Promise<string | undefined> {
  const rows = await tx.query<LeaseRow>(
    `select ${leaseColumns} from leases where name = $1 order by created_at desc limit 10 ${tx.dialect === "postgres" ? "for update" : ""}`,
    [user.name],
  );
  if (rows.some(({ state }) => state !== "ended")) return "live";
  const own = rows.find((row) => row.integration_id === integration.id && row.target === version.target);
  if (!own && settings === undefined) return undefined;
  const [row] = own
    ? await tx.query<LeaseRow>(
        `update leases set state = 'revoking', reason = 'orphan', due_at = $2, ended_at = null, attempt = 0, outcome = null, error = null,
           fence = fence + 1, handle = coalesce($3, handle) where id = $1 returning ${leaseColumns}`,
        [own.id, nowMs, user.handle ?? null],
      )
    : await tx.query<LeaseRow>(
        `insert into leases (id, dynamic_secret_id, dynamic_secret, project, config, type, integration_id, integration_version, settings,
           name, handle, target, principal, state, reason, created_at, expires_at, max_expires_at, shares, due_at, fence, attempt, network)
         values ($1, '-', '-', '-', '-', $2, $3, $4, $5, $6, $7, $8, '-', 'revoking', 'orphan', $9, $9, $9, 0, $9, 1, 0, $10)
         returning ${leaseColumns}`,
        [
          randomUUID(),
          integration.type,
          integration.id,
          version.id,
          settings ?? "{}",
          user.name,
          user.handle ?? null,
          version.target,
          nowMs,
          version.network ?? null,
        ],
      );
  if (!row) return undefined;
  await noteLease(tx, place, toLease(row), { event: "orphan_found", at: nowMs });
  return row.id;
}
