import { liveDynamicSecret, liveRotatedSecret } from "../../store/config-dependants.ts";
import { lockConfigNames, raiseReferring } from "../../store/config-generations.ts";
import { firstChildBeside, replaceParents } from "../../store/config-inherits.ts";
import { type Config, deleteConfig, lockConfig } from "../../store/configs.ts";
import { raiseIdentityVersion } from "../../store/identity.ts";
import { deleteServiceTokensOf } from "../../store/service-tokens.ts";
import type { Sql } from "../../store/sql.ts";
import { refused } from "./config-input.ts";

/**
 * Removes configs, at most 1,000, with their versions and tokens. What still needs one of them keeps all of them. `raised`:
 * those that referred to them.
 * @throws ServiceError InvalidRequestException saying what must be done before
 */
export async function removeConfigs(tx: Sql, configs: readonly Config[]): Promise<{ raised: string[] }> {
  await lockConfigNames(tx);
  await raiseIdentityVersion(tx);
  const ids = configs.map(({ id }) => id);
  const locked: Config[] = [];
  for (const id of ids.toSorted()) {
    const config = await lockConfig(tx, id);
    if (config) locked.push(config);
  }
  for (const config of locked) await requireUnneeded(tx, config, ids);
  const raised = new Set<string>();
  for (const config of locked) {
    for (const id of await raiseReferring(tx, config)) raised.add(id);
    await replaceParents(tx, config, []);
  }
  for (const { id } of locked) {
    await deleteServiceTokensOf(tx, id);
    await deleteConfig(tx, id);
  }
  return { raised: [...raised].filter((id) => !ids.includes(id)) };
}

async function requireUnneeded(tx: Sql, config: Config, others: readonly string[]): Promise<void> {
  const { id, name } = config;
  if (config.locked) throw refused(`Config ${name} is locked: unlock it first.`);
  const child = await firstChildBeside(tx, id, others);
  if (child) throw refused(`Config ${name} is inherited by config ${child.config} of project ${child.project}: end that first.`);
  const dynamic = await liveDynamicSecret(tx, id);
  if (dynamic !== undefined)
    throw refused(`Config ${name} has the dynamic secret ${dynamic}: delete that first, which ends its leases.`);
  const rotated = await liveRotatedSecret(tx, id);
  if (rotated !== undefined) throw refused(`Config ${name} has the rotated secret ${rotated}: delete that first.`);
}
