import { beginRevocations } from "./leases.ts";
import type { Sql } from "./sql.ts";

/** A recipe for making credentials. */
export interface DynamicSecret {
  /** UUID. */
  readonly id: string;
  readonly configId: string;
  /** The project's id. */
  readonly project: string;
  readonly config: string;
  readonly name: string;
  readonly integrationId: string;
  /** Where its leases are made; absent: where the integration's target is. */
  readonly network?: string | undefined;
  /** As its target kind has them: JSON. */
  readonly settings: string;
  readonly defaultTtlSeconds: number;
  readonly maxTtlSeconds: number;
  /** Live at once. */
  readonly maxLeases: number;
  /** Live at once of one principal's workload. */
  readonly maxLeasesPerPrincipal: number;
  /** 0: none is shared. */
  readonly shareSeconds: number;
  readonly createdAt: number;
  readonly updatedAt: number;
  readonly deletedAt?: number | undefined;
}

interface DynamicSecretRow {
  id: string;
  config_id: string;
  project: string;
  config: string;
  name: string;
  integration_id: string;
  network: string | null;
  settings: string;
  default_ttl_seconds: number;
  max_ttl_seconds: number;
  max_leases: number;
  max_leases_per_principal: number;
  share_seconds: number;
  created_at: number;
  updated_at: number;
  deleted_at: number | null;
}

/** False when the config has one of that name. */
export async function insertDynamicSecret(tx: Sql, added: DynamicSecret): Promise<boolean> {
  const rows = await tx.query(
    `insert into dynamic_secrets (id, config_id, project, config, name, integration_id, settings, default_ttl_seconds,
       max_ttl_seconds, max_leases, max_leases_per_principal, share_seconds, created_at, updated_at, network)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) on conflict do nothing returning id`,
    [
      added.id,
      added.configId,
      added.project,
      added.config,
      added.name,
      added.integrationId,
      added.settings,
      added.defaultTtlSeconds,
      added.maxTtlSeconds,
      added.maxLeases,
      added.maxLeasesPerPrincipal,
      added.shareSeconds,
      added.createdAt,
      added.updatedAt,
      added.network ?? null,
    ],
  );
  return rows.length > 0;
}

export async function findDynamicSecret(sql: Sql, configId: string, name: string): Promise<DynamicSecret | undefined> {
  const [row] = await sql.query<DynamicSecretRow>(
    "select * from dynamic_secrets where config_id = $1 and name = $2 and deleted_at is null",
    [configId, name],
  );
  return row && toDynamicSecret(row);
}

/** Also one that was deleted. */
export async function loadDynamicSecret(sql: Sql, id: string): Promise<DynamicSecret | undefined> {
  const [row] = await sql.query<DynamicSecretRow>("select * from dynamic_secrets where id = $1", [id]);
  return row && toDynamicSecret(row);
}

/** As it is, for a transaction that changes it or counts its leases; not one that was deleted. */
export async function lockDynamicSecret(tx: Sql, id: string): Promise<DynamicSecret | undefined> {
  const [row] = await tx.query<DynamicSecretRow>(
    `select * from dynamic_secrets where id = $1 and deleted_at is null ${tx.dialect === "postgres" ? "for update" : ""}`,
    [id],
  );
  return row && toDynamicSecret(row);
}

/** Of a config, by name; at most 1,000. */
export async function dynamicSecretsOf(sql: Sql, configId: string): Promise<DynamicSecret[]> {
  const rows = await sql.query<DynamicSecretRow>(
    "select * from dynamic_secrets where config_id = $1 and deleted_at is null order by name limit 1000",
    [configId],
  );
  return rows.map(toDynamicSecret);
}

/** That use an integration and were not deleted; at most 1,000. */
export async function dynamicSecretsWith(sql: Sql, integrationId: string): Promise<DynamicSecret[]> {
  const rows = await sql.query<DynamicSecretRow>(
    `select * from dynamic_secrets where integration_id = $1 and deleted_at is null order by project, config, name limit 1000`,
    [integrationId],
  );
  return rows.map(toDynamicSecret);
}

/** Names of the secrets that an integration rotates; at most 1,000. */
export async function rotatedSecretsWith(sql: Sql, integrationId: string): Promise<string[]> {
  const rows = await sql.query<{ name: string }>(
    "select name from rotated_secrets where integration_id = $1 order by name limit 1000",
    [integrationId],
  );
  return rows.map(({ name }) => name);
}

export async function saveDynamicSecret(tx: Sql, after: DynamicSecret): Promise<void> {
  await tx.query(
    `update dynamic_secrets set integration_id = $2, settings = $3, default_ttl_seconds = $4, max_ttl_seconds = $5,
       max_leases = $6, max_leases_per_principal = $7, share_seconds = $8, updated_at = $9,
       network = $10 where id = $1`,
    [
      after.id,
      after.integrationId,
      after.settings,
      after.defaultTtlSeconds,
      after.maxTtlSeconds,
      after.maxLeases,
      after.maxLeasesPerPrincipal,
      after.shareSeconds,
      after.updatedAt,
      after.network ?? null,
    ],
  );
}

/**
 * Nothing is made from it any more, and what was is ended: the first thousand leases from now on, the others as soon as the
 * engine comes to them, which removes it then.
 */
export async function markDynamicSecretDeleted(tx: Sql, id: string, nowMs: number): Promise<void> {
  await tx.query("update dynamic_secrets set deleted_at = $2 where id = $1 and deleted_at is null", [id, nowMs]);
  await beginRevocations(tx, { dynamicSecretId: id }, "deleted", nowMs);
}

function toDynamicSecret(row: DynamicSecretRow): DynamicSecret {
  return {
    id: row.id,
    configId: row.config_id,
    project: row.project,
    config: row.config,
    name: row.name,
    integrationId: row.integration_id,
    network: row.network ?? undefined,
    settings: row.settings,
    defaultTtlSeconds: row.default_ttl_seconds,
    maxTtlSeconds: row.max_ttl_seconds,
    maxLeases: row.max_leases,
    maxLeasesPerPrincipal: row.max_leases_per_principal,
    shareSeconds: row.share_seconds,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
    deletedAt: row.deleted_at ?? undefined,
  };
}
