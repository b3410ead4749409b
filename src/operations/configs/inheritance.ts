import { z } from "zod";
import { liveDynamicSecret } from "../../store/config-dependants.ts";
import { raiseGenerations } from "../../store/config-generations.ts";
import { childrenOf, parentIds, replaceParents } from "../../store/config-inherits.ts";
import { type Config, findRootConfig, loadConfig, lockConfig, updateConfig } from "../../store/configs.ts";
import type { Sql } from "../../store/sql.ts";
import { refuseUntrusted } from "../config-access/trusted-ips.ts";
import { type Call, defineOperation, type Operation } from "../operation.ts";
import { hintConfigs } from "./activity.ts";
import { configMembers, limits, refused, requireReading } from "./config-input.ts";
import { type ConfigResource, configResource, existingConfig } from "./config-resource.ts";
import { presentConfig, tellOf } from "./configs.ts";
import { shownConfig } from "./shown.ts";

const inheritableInput = z.object({ ...configMembers, Inheritable: z.boolean() });

/** Source: Doppler API reference, "Configs", Inheritable. */
const setConfigInheritable = defineOperation<z.infer<typeof inheritableInput>, ConfigResource>({
  name: "SetConfigInheritable",
  action: "rekey:SetConfigInheritable",
  noun: "configs",
  verb: "set-inheritable",
  mode: "write",
  summary: "Lets other configs inherit this one's values, or no longer. Not together with dynamic secrets.",
  input: inheritableInput,
  resource: configResource,
  async run({ Inheritable }, found, call) {
    const { id } = existingConfig(found);
    const after = await call.transaction(async (tx) => {
      const before = await presentConfig(tx, id);
      if (before.inheritable === Inheritable) return before;
      if (Inheritable) await requireNoLeases(tx, before);
      else await requireNoChildren(tx, before);
      const changed = { ...before, inheritable: Inheritable };
      await updateConfig(tx, changed);
      const text = `Made config ${before.name} ${Inheritable ? "inheritable" : "no longer inheritable"}`;
      await tellOf(tx, call, changed, { type: "config.inheritable", text });
      return changed;
    });
    return shownConfig(call.sql, after);
  },
});

const inheritsInput = z.object({
  ...configMembers,
  Inherits: z.array(z.object({ Project: configMembers.Project, Config: z.string().min(1).max(64) })).max(limits.parents),
});

/** Source: Doppler API reference, "Configs", Inherits. */
const setConfigInherits = defineOperation<z.infer<typeof inheritsInput>, ConfigResource>({
  name: "SetConfigInherits",
  action: "rekey:SetConfigInherits",
  noun: "configs",
  verb: "set-inherits",
  mode: "write",
  summary: "Sets which configs' values a config shows beside its own. Later ones go before earlier ones, its own before all.",
  input: inheritsInput,
  resource: configResource,
  async run({ Inherits, Project }, found, call) {
    const { id } = existingConfig(found);
    const parents: Config[] = [];
    for (const { Project: named, Config } of Inherits) {
      const parent = await configResource({ Project: named || Project || found.project?.id, Config }, call);
      const refusal = call.may("rekey:GetConfigSecrets", parent);
      if (refusal) throw refusal;
      refuseUntrusted(call, existingConfig(parent));
      parents.push(existingConfig(parent));
    }
    const done = await call.transaction((tx) => inherit(tx, call, id, parents));
    hintConfigs(call, done.raised);
    return shownConfig(call.sql, done.config);
  },
});

async function inherit(
  tx: Sql,
  call: Call,
  id: string,
  parents: readonly Config[],
): Promise<{ config: Config; raised: string[] }> {
  const ids = [...new Set(parents.map((parent) => parent.id))];
  for (const each of [...ids, id].toSorted()) await lockConfig(tx, each);
  const config = await presentConfig(tx, id);
  if (ids.length > 0) await requireNoLeases(tx, config);
  const names: string[] = [];
  for (const parentId of ids) {
    const parent = await presentConfig(tx, parentId);
    requireReading(call, parent); // it may have been renamed meanwhile
    const shownName = `${parent.projectId}.${parent.name}`;
    if (!parent.inheritable) throw refused(`Config ${shownName} is not inheritable: make it so first.`);
    if (await readsFrom(tx, parent, id))
      throw refused(`Config ${shownName} takes values from config ${config.name}: they can't inherit each other.`);
    names.push(shownName);
  }
  await replaceParents(tx, config, ids);
  const raised = await raiseGenerations(tx, [id]);
  const text = names.length > 0 ? `Config ${config.name} inherits ${names.join(", ")}` : `Config ${config.name} inherits nothing`;
  await tellOf(tx, call, config, { type: "config.inherits", text });
  return { config, raised };
}

/** Whether a config shows values of another one, through its root and what it inherits. */
async function readsFrom(tx: Sql, from: Config, wanted: string): Promise<boolean> {
  const seen = new Set<string>();
  let level = [from];
  while (level.length > 0) {
    const next: Config[] = [];
    for (const config of level) {
      if (config.id === wanted) return true;
      if (seen.has(config.id)) continue;
      seen.add(config.id);
      next.push(...(await sourcesOf(tx, config)));
    }
    level = next;
  }
  return false;
}

async function sourcesOf(tx: Sql, config: Config): Promise<Config[]> {
  const root = config.isRoot ? undefined : await findRootConfig(tx, config.projectId, config.environment);
  const parents: Config[] = [];
  for (const id of await parentIds(tx, config.id)) {
    const parent = await loadConfig(tx, id);
    if (parent) parents.push(parent);
  }
  return root ? [root, ...parents] : parents;
}

async function requireNoLeases(tx: Sql, { id, name }: Config): Promise<void> {
  const dynamic = await liveDynamicSecret(tx, id);
  if (dynamic !== undefined)
    throw refused(`Config ${name} has the dynamic secret ${dynamic}: dynamic secrets and inheritance do not go together.`);
}

async function requireNoChildren(tx: Sql, { id, name }: Config): Promise<void> {
  const child = (await childrenOf(tx, [id])).get(id)?.[0];
  if (child) throw refused(`Config ${name} is inherited by config ${child.config} of project ${child.project}: end that first.`);
}

export const inheritanceOperations: readonly Operation[] = [setConfigInheritable, setConfigInherits];
