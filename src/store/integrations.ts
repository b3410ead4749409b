import type { OutcomeClass } from "../core/error.ts";
import type { Sql } from "./sql.ts";

/** A stored connection that dynamic and rotated secrets use. */
export interface Integration {
  /** UUID. */
  readonly id: string;
  readonly name: string;
  /** Kind of target, e.g. `postgres`. */
  readonly type: string;
  /** The newest one's number. */
  readonly version: number;
  readonly createdAt: number;
  readonly updatedAt: number;
  /** When it last worked, and what came of the last try. */
  readonly verifiedAt?: number | undefined;
  readonly outcome?: OutcomeClass | undefined;
  readonly error?: string | undefined;
  readonly deletedAt?: number | undefined;
}

/** How an integration gets to its target, as it was or is. */
export interface IntegrationVersion {
  /** `<integration>/<number>`; the context that it is sealed under names it. */
  readonly id: string;
  readonly integrationId: string;
  readonly number: number;
  /** Members that are not secret: JSON. */
  readonly settings: string;
  /** Where its target is; absent: reached from here. */
  readonly network?: string | undefined;
  readonly target: string;
  /** JSON of the members that are secret. */
  readonly sealed: Uint8Array;
  readonly wrappedDataKey: Uint8Array;
  readonly keyId: string;
  readonly keyVersion: number;
}

export const integrationVersionContext = (id: string): Record<string, string> => ({ IntegrationVersionId: id });

interface IntegrationRow {
  id: string;
  name: string;
  type: string;
  version: number;
  created_at: number;
  updated_at: number;
  verified_at: number | null;
  outcome: OutcomeClass | null;
  error: string | null;
  deleted_at: number | null;
}

interface VersionRow {
  id: string;
  integration_id: string;
  number: number;
  settings: string;
  network: string | null;
  target: string;
  sealed: Uint8Array;
  wrapped_data_key: Uint8Array;
  key_id: string;
  key_version: number;
}

const firstOrphanLookMs = 3_600_000;

/** False when the name is taken. `leases`: whether users of ours may be at its target without a lease, which somebody then looks for. */
export async function insertIntegration(
  tx: Sql,
  added: Integration,
  version: IntegrationVersion,
  leases = true,
): Promise<boolean> {
  const rows = await tx.query(
    `insert into integrations (id, name, type, version, created_at, updated_at, verified_at, outcome, orphans_due_at)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9) on conflict do nothing returning id`,
    [
      added.id,
      added.name,
      added.type,
      added.version,
      added.createdAt,
      added.updatedAt,
      added.verifiedAt ?? null,
      added.outcome ?? null,
      leases ? added.createdAt + firstOrphanLookMs : null,
    ],
  );
  if (rows.length === 0) return false;
  await insertIntegrationVersion(tx, version, added.createdAt);
  return true;
}

export async function insertIntegrationVersion(tx: Sql, version: IntegrationVersion, at: number): Promise<void> {
  await tx.query(
    `insert into integration_versions (id, integration_id, number, settings, target, sealed, wrapped_data_key, key_id, key_version, created_at, network)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
    [
      version.id,
      version.integrationId,
      version.number,
      version.settings,
      version.target,
      version.sealed,
      version.wrappedDataKey,
      version.keyId,
      version.keyVersion,
      at,
      version.network ?? null,
    ],
  );
}

/** By id, else by name; not those that were deleted. */
export async function findIntegration(sql: Sql, idOrName: string): Promise<Integration | undefined> {
  const rows = await sql.query<IntegrationRow>(
    "select * from integrations where (id = $1 or name = $1) and deleted_at is null limit 2",
    [idOrName],
  );
  const row = rows.find(({ id }) => id === idOrName) ?? rows[0];
  return row && toIntegration(row);
}

/** Also one that was deleted. */
export async function loadIntegration(sql: Sql, id: string): Promise<Integration | undefined> {
  const [row] = await sql.query<IntegrationRow>("select * from integrations where id = $1", [id]);
  return row && toIntegration(row);
}

/** As it is, for a transaction that changes it or rests on it; not one that was deleted. */
export async function lockIntegration(tx: Sql, id: string): Promise<Integration | undefined> {
  const [row] = await tx.query<IntegrationRow>(
    `select * from integrations where id = $1 and deleted_at is null ${tx.dialect === "postgres" ? "for update" : ""}`,
    [id],
  );
  return row && toIntegration(row);
}

/** By name. */
export async function listIntegrations(
  sql: Sql,
  { type, after, limit }: { readonly type?: string | undefined; readonly after: string; readonly limit: number },
): Promise<Integration[]> {
  const rows = await sql.query<IntegrationRow>(
    `select * from integrations where deleted_at is null and name > $1 and ($2 = '' or type = $2) order by name limit $3`,
    [after, type ?? "", limit],
  );
  return rows.map(toIntegration);
}

/** Name, newest version and what verifying it came to. False when the name is taken. */
export async function saveIntegration(tx: Sql, after: Integration): Promise<boolean> {
  const [other] = await tx.query("select 1 as found from integrations where name = $1 and id <> $2 and deleted_at is null", [
    after.name,
    after.id,
  ]);
  if (other) return false;
  await tx.query(
    `update integrations set name = $2, version = $3, updated_at = $4, verified_at = $5, outcome = $6, error = $7 where id = $1`,
    [after.id, after.name, after.version, after.updatedAt, after.verifiedAt ?? null, after.outcome ?? null, after.error ?? null],
  );
  return true;
}

/** Nobody finds it by its name any more; what it made can still be ended. */
export async function markIntegrationDeleted(tx: Sql, id: string, nowMs: number): Promise<void> {
  await tx.query("update integrations set deleted_at = $2, orphans_due_at = null where id = $1 and deleted_at is null", [
    id,
    nowMs,
  ]);
}

export async function newestVersion(sql: Sql, { id, version }: Integration): Promise<IntegrationVersion | undefined> {
  return findVersion(sql, `${id}/${version}`);
}

export async function findVersion(sql: Sql, id: string): Promise<IntegrationVersion | undefined> {
  const [row] = await sql.query<VersionRow>("select * from integration_versions where id = $1", [id]);
  return row && toVersion(row);
}

/** The newest version that leads to the target. */
export async function newestVersionTo(sql: Sql, integrationId: string, target: string): Promise<IntegrationVersion | undefined> {
  const [row] = await sql.query<VersionRow>(
    "select * from integration_versions where integration_id = $1 and target = $2 order by number desc limit 1",
    [integrationId, target],
  );
  return row && toVersion(row);
}

/** Keeps an external id that was made here for a principal, for one integration. */
export async function insertExternalId(tx: Sql, externalId: string, principal: string, nowMs: number): Promise<void> {
  await tx.query("insert into external_ids (external_id, principal, created_at) values ($1, $2, $3)", [
    externalId,
    principal,
    nowMs,
  ]);
}

/** The newest that were made for a principal, the newest first. */
export async function externalIdsOf(sql: Sql, principal: string, limit: number): Promise<string[]> {
  const rows = await sql.query<{ external_id: string }>(
    "select external_id from external_ids where principal = $1 order by created_at desc limit $2",
    [principal, limit],
  );
  return rows.map((row) => row.external_id);
}

/** Gives an external id to an integration. False when it was not made here, or is another's. */
export async function takeExternalId(tx: Sql, externalId: string, integrationId: string): Promise<boolean> {
  const rows = await tx.query(
    `update external_ids set integration_id = $2 where external_id = $1 and (integration_id is null or integration_id = $2)
     returning external_id`,
    [externalId, integrationId],
  );
  return rows.length > 0;
}

/** Whether it was made here. */
export async function isExternalId(sql: Sql, externalId: string): Promise<boolean> {
  return (await sql.query("select 1 as found from external_ids where external_id = $1", [externalId])).length > 0;
}

function toIntegration(row: IntegrationRow): Integration {
  return {
    id: row.id,
    name: row.name,
    type: row.type,
    version: row.version,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
    verifiedAt: row.verified_at ?? undefined,
    outcome: row.outcome ?? undefined,
    error: row.error ?? undefined,
    deletedAt: row.deleted_at ?? undefined,
  };
}

function toVersion(row: VersionRow): IntegrationVersion {
  return {
    id: row.id,
    integrationId: row.integration_id,
    number: row.number,
    settings: row.settings,
    network: row.network ?? undefined,
    target: row.target,
    sealed: row.sealed,
    wrappedDataKey: row.wrapped_data_key,
    keyId: row.key_id,
    keyVersion: row.key_version,
  };
}
