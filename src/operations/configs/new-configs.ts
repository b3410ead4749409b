import { randomUUID } from "node:crypto";
import { raiseReferring } from "../../store/config-generations.ts";
import { type Config, countConfigs, findConfig, insertConfig } from "../../store/configs.ts";
import { insertEnvironment, listEnvironments } from "../../store/environments.ts";
import type { Sql } from "../../store/sql.ts";
import { exists, limits, tooMany } from "./config-input.ts";

/** A config that is not kept yet. */
export function newConfig(of: Pick<Config, "projectId" | "environment" | "name" | "isRoot" | "createdAt">): Config {
  return {
    ...of,
    id: randomUUID(),
    locked: false,
    inheritable: false,
    version: 0,
    generation: 1,
    initialFetchAt: undefined,
    lastFetchAt: undefined,
    trustedIps: undefined,
  };
}

/**
 * Keeps a new config, whose project the transaction has locked, together with the names of configs.
 * @throws ServiceError ResourceExistsException, LimitExceededException
 */
export async function addConfig(tx: Sql, config: Config): Promise<{ raised: string[] }> {
  const { projectId, name } = config;
  if (await findConfig(tx, projectId, name)) throw exists(`Project ${projectId} has a config ${name} already.`);
  if ((await countConfigs(tx, projectId)) >= limits.configs) throw tooMany(`A project can have ${limits.configs} configs.`);
  await insertConfig(tx, config);
  return { raised: await raiseReferring(tx, config) };
}

/** Keeps a new environment with its root config; as `addConfig`. */
export async function addEnvironment(
  tx: Sql,
  environment: { readonly projectId: string; readonly slug: string; readonly name: string; readonly createdAt: number },
  root: Config = rootConfig(environment),
): Promise<{ position: number; raised: string[] }> {
  const { projectId, slug } = environment;
  const others = await listEnvironments(tx, projectId, { limit: limits.environments });
  if (others.some((other) => other.slug === slug)) throw exists(`Project ${projectId} has an environment ${slug} already.`);
  if (others.length >= limits.environments) throw tooMany(`A project can have ${limits.environments} environments.`);
  const position = 1 + (others.at(-1)?.position ?? -1);
  await insertEnvironment(tx, { ...environment, position });
  return { position, ...(await addConfig(tx, root)) };
}

export function rootConfig({ projectId, slug, createdAt }: { projectId: string; slug: string; createdAt: number }): Config {
  return newConfig({ projectId, environment: slug, name: slug, isRoot: true, createdAt });
}
