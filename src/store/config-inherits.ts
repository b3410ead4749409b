import type { Config } from "./configs.ts";
import { listed } from "./json-list.ts";
import type { Sql } from "./sql.ts";

/** A config by its names. */
export interface ConfigNames {
  readonly configId: string;
  /** The project's id. */
  readonly project: string;
  readonly config: string;
}

interface Pair extends ConfigNames {
  readonly of: string;
}

/** Ids of what a config inherits, in order: later ones go before earlier ones. */
export async function parentIds(sql: Sql, configId: string): Promise<string[]> {
  const rows = await sql.query<{ id: string }>(
    "select parent_id as id from config_inherits where config_id = $1 order by position",
    [configId],
  );
  return rows.map(({ id }) => id);
}

export async function hasParents(sql: Sql, configId: string): Promise<boolean> {
  return (await sql.query("select 1 as found from config_inherits where config_id = $1 limit 1", [configId])).length > 0;
}

/** What each of these configs (at most 1,000) inherits, in order. */
export async function parentsOf(sql: Sql, configIds: readonly string[]): Promise<Map<string, ConfigNames[]>> {
  const pairs = await sql.query<Pair>(
    `select i.config_id as "of", c.id as "configId", c.project_id as project, c.name as config
     from config_inherits i join configs c on c.id = i.parent_id
     where i.config_id in ${listed(sql.dialect, 1)} order by i.config_id, i.position`,
    [JSON.stringify(configIds)],
  );
  return Map.groupBy(pairs, ({ of }) => of);
}

/** Who inherits each of these configs, the first hundred of each by id. */
export async function childrenOf(sql: Sql, configIds: readonly string[]): Promise<Map<string, ConfigNames[]>> {
  const found = new Map<string, ConfigNames[]>();
  const inherited = await sql.query<{ id: string }>(
    `select distinct parent_id as id from config_inherits where parent_id in ${listed(sql.dialect, 1)}`,
    [JSON.stringify(configIds)],
  );
  for (const { id } of inherited) {
    const children = await sql.query<ConfigNames>(
      `select c.id as "configId", c.project_id as project, c.name as config from config_inherits i join configs c on c.id = i.config_id
       where i.parent_id = $1 order by i.config_id limit 100`,
      [id],
    );
    found.set(id, children);
  }
  return found;
}

/** The first that inherits this config and is none of `others`. */
export async function firstChildBeside(sql: Sql, configId: string, others: readonly string[]): Promise<ConfigNames | undefined> {
  const [child] = await sql.query<ConfigNames>(
    `select c.id as "configId", c.project_id as project, c.name as config from config_inherits i join configs c on c.id = i.config_id
     where i.parent_id = $1 and i.config_id not in ${listed(sql.dialect, 2)} limit 1`,
    [configId, JSON.stringify(others)],
  );
  return child;
}

export async function replaceParents(tx: Sql, { id }: Pick<Config, "id">, parents: readonly string[]): Promise<void> {
  await tx.query("delete from config_inherits where config_id = $1", [id]);
  for (const [position, parent] of parents.entries())
    await tx.query("insert into config_inherits (config_id, position, parent_id) values ($1, $2, $3)", [id, position, parent]);
}
