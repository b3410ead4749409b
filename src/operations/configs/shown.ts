import { type ConfigNames, childrenOf, parentsOf } from "../../store/config-inherits.ts";
import type { Config } from "../../store/configs.ts";
import type { Environment } from "../../store/environments.ts";
import type { Project } from "../../store/projects.ts";
import type { Sql } from "../../store/sql.ts";

export function shownProject({ id, name, description, createdAt }: Project) {
  return { Id: id, Name: name, Description: description, CreatedAt: new Date(createdAt) };
}

export function shownEnvironment({ slug, name, projectId, createdAt, initialFetchAt }: Environment) {
  return {
    Slug: slug,
    Name: name,
    Project: projectId,
    CreatedAt: new Date(createdAt),
    InitialFetchAt: initialFetchAt === undefined ? undefined : new Date(initialFetchAt),
  };
}

/** What callers see of configs, without any value. */
export async function shownConfigs(sql: Sql, configs: readonly Config[]) {
  const ids = configs.map(({ id }) => id);
  const parents = await parentsOf(sql, ids);
  const children = await childrenOf(sql, ids);
  return configs.map((config) => ({
    Id: config.id,
    Name: config.name,
    Root: config.isRoot,
    Locked: config.locked,
    Environment: config.environment,
    Project: config.projectId,
    CreatedAt: new Date(config.createdAt),
    InitialFetchAt: config.initialFetchAt === undefined ? undefined : new Date(config.initialFetchAt),
    LastFetchAt: config.lastFetchAt === undefined ? undefined : new Date(config.lastFetchAt),
    Inheritable: config.inheritable,
    Inheriting: parents.has(config.id),
    Inherits: (parents.get(config.id) ?? []).map(named),
    InheritedBy: (children.get(config.id) ?? []).map(named),
    Version: config.version,
    Generation: config.generation,
  }));
}

export async function shownConfig(sql: Sql, config: Config) {
  const [shown] = await shownConfigs(sql, [config]);
  return { Config: shown };
}

const named = ({ project, config }: ConfigNames) => ({ Project: project, Config: config });
