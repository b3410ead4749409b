import { listed } from "./json-list.ts";
import type { ListPage } from "./projects.ts";
import type { Sql } from "./sql.ts";

/** Its values are in its versions; see `config-versions`. */
export interface Config {
  readonly id: string;
  /** The project's id. */
  readonly projectId: string;
  /** Slug. */
  readonly environment: string;
  readonly name: string;
  /** The environment's own: the others of it, its branches, read through to it. */
  readonly isRoot: boolean;
  readonly locked: boolean;
  readonly inheritable: boolean;
  /** Number of its newest version; 0: none yet, and no values. */
  readonly version: number;
  /** Rises with every cause of another download, own or not. */
  readonly generation: number;
  readonly createdAt: number;
  readonly initialFetchAt: number | undefined;
  readonly lastFetchAt: number | undefined;
  /** JSON list; absent: from anywhere. */
  readonly trustedIps: string | undefined;
}

interface ConfigRow {
  id: string;
  project_id: string;
  environment: string;
  name: string;
  is_root: number;
  locked: number;
  inheritable: number;
  version: number;
  generation: number;
  created_at: number;
  initial_fetch_at: number | null;
  last_fetch_at: number | null;
  trusted_ips: string | null;
}

function toConfig(row: ConfigRow): Config {
  return {
    id: row.id,
    projectId: row.project_id,
    environment: row.environment,
    name: row.name,
    isRoot: row.is_root === 1,
    locked: row.locked === 1,
    inheritable: row.inheritable === 1,
    version: row.version,
    generation: row.generation,
    createdAt: row.created_at,
    initialFetchAt: row.initial_fetch_at ?? undefined,
    lastFetchAt: row.last_fetch_at ?? undefined,
    trustedIps: row.trusted_ips ?? undefined,
  };
}

export async function findConfig(sql: Sql, projectId: string, name: string): Promise<Config | undefined> {
  const [row] = await sql.query<ConfigRow>("select * from configs where project_id = $1 and name = $2", [projectId, name]);
  return row && toConfig(row);
}

export async function loadConfig(sql: Sql, id: string): Promise<Config | undefined> {
  const [row] = await sql.query<ConfigRow>("select * from configs where id = $1", [id]);
  return row && toConfig(row);
}

/** Several, at most 1,000, by id. */
export async function loadConfigs(sql: Sql, ids: readonly string[]): Promise<Map<string, Config>> {
  if (ids.length === 0) return new Map();
  const rows = await sql.query<ConfigRow>(`select * from configs where id in ${listed(sql.dialect, 1)}`, [JSON.stringify(ids)]);
  return new Map(rows.map((row) => [row.id, toConfig(row)]));
}

/** The config as it stands now; nobody else changes or deletes it until the transaction ends. */
export async function lockConfig(tx: Sql, id: string): Promise<Config | undefined> {
  const lock = tx.dialect === "postgres" ? " for update" : "";
  const [row] = await tx.query<ConfigRow>(`select * from configs where id = $1${lock}`, [id]);
  return row && toConfig(row);
}

/** The config that the others of an environment read through to. */
export async function findRootConfig(sql: Sql, projectId: string, environment: string): Promise<Config | undefined> {
  const [row] = await sql.query<ConfigRow>("select * from configs where project_id = $1 and environment = $2 and is_root = 1", [
    projectId,
    environment,
  ]);
  return row && toConfig(row);
}

/** Of a project or one of its environments, in the order of names. */
export async function listConfigs(
  sql: Sql,
  { projectId, environment }: { readonly projectId: string; readonly environment?: string | undefined },
  { after = "", skip = 0, limit }: ListPage,
): Promise<Config[]> {
  const of = environment === undefined ? "" : "and environment = $5";
  const rows = await sql.query<ConfigRow>(
    `select * from configs where project_id = $1 and name > $2 ${of} order by name limit $3 offset $4`,
    [projectId, after, limit, skip, ...(environment === undefined ? [] : [environment])],
  );
  return rows.map(toConfig);
}

export async function countConfigs(sql: Sql, projectId: string): Promise<number> {
  const [row] = await sql.query<{ count: number }>("select count(*) as count from configs where project_id = $1", [projectId]);
  return Number(row?.count ?? 0);
}

export async function insertConfig(tx: Sql, config: Omit<Config, "initialFetchAt" | "lastFetchAt">): Promise<void> {
  await tx.query(
    `insert into configs (id, project_id, environment, name, is_root, locked, inheritable, version, generation, created_at,
       trusted_ips) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
    [
      config.id,
      config.projectId,
      config.environment,
      config.name,
      Number(config.isRoot),
      Number(config.locked),
      Number(config.inheritable),
      config.version,
      config.generation,
      config.createdAt,
      config.trustedIps ?? null,
    ],
  );
}

/** What people change of a config beside its values. Its dynamic secrets go by its name. */
export async function updateConfig(
  tx: Sql,
  { id, environment, name, locked, inheritable }: Pick<Config, "id" | "environment" | "name" | "locked" | "inheritable">,
): Promise<void> {
  await tx.query("update configs set environment = $2, name = $3, locked = $4, inheritable = $5 where id = $1", [
    id,
    environment,
    name,
    Number(locked),
    Number(inheritable),
  ]);
  await tx.query("update dynamic_secrets set config = $2 where config_id = $1 and deleted_at is null and config <> $2", [
    id,
    name,
  ]);
}

export async function deleteConfig(tx: Sql, id: string): Promise<void> {
  await tx.query("delete from configs where id = $1", [id]);
}
