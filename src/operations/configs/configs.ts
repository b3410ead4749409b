import { z } from "zod";
import { checkBranchName } from "../../core/config-names.ts";
import { ServiceError } from "../../core/error.ts";
import { lockConfigNames, raiseGenerations, raiseReferring } from "../../store/config-generations.ts";
import { type Config, findConfig, findRootConfig, listConfigs, lockConfig, updateConfig } from "../../store/configs.ts";
import { findEnvironment } from "../../store/environments.ts";
import { raiseIdentityVersion } from "../../store/identity.ts";
import { lockProject } from "../../store/projects.ts";
import type { Sql } from "../../store/sql.ts";
import { type Call, defineOperation, type Operation } from "../operation.ts";
import { hintConfigs, tell } from "./activity.ts";
import {
  arnOf,
  configMembers,
  environmentMember,
  exists,
  type OfConfig,
  ofConfig,
  projectMember,
  refused,
  requireNoNewSight,
} from "./config-input.ts";
import {
  type ConfigResource,
  configFound,
  configResource,
  existingConfig,
  existingProject,
  type ProjectResource,
  projectResource,
} from "./config-resource.ts";
import { addConfig, newConfig } from "./new-configs.ts";
import { paging, readPage } from "./paging.ts";
import { removeConfigs } from "./remove-configs.ts";
import { shownConfig, shownConfigs } from "./shown.ts";

const name = z.string().max(60);
const createInput = z.object({ ...projectMember, Environment: environmentMember, Name: name });

/** Source: Doppler API reference, "Configs", Create. */
const createConfig = defineOperation<z.infer<typeof createInput>, ConfigResource>({
  name: "CreateConfig",
  action: "rekey:CreateConfig",
  noun: "configs",
  verb: "create",
  mode: "write",
  summary: "Makes a branch config of an environment. It shows the values of the environment's root config until it has its own.",
  input: createInput,
  check: ({ Name, Environment }) => checkBranchName(Name, Environment),
  async resource({ Project, Name, Environment }, call) {
    const found = await configResource({ Project, Config: Name }, call);
    // What is not there yet is of the environment that it is made in.
    return { ...found, context: { "rekey:Environment": [Environment], ...found.context } };
  },
  async run({ Environment, Name }, found, call) {
    const { id: projectId } = existingProject(found);
    const at = { projectId, environment: Environment, name: Name, createdAt: call.startedAt };
    const config = newConfig({ ...at, isRoot: false });
    const raised = await call.transaction(async (tx) => {
      await lockConfigNames(tx);
      if (!(await lockProject(tx, projectId))) throw gone(`project ${projectId}`);
      const root = await rootOf(tx, projectId, Environment);
      requireNoNewSight(call, root, config); // it shows what the root has
      // What is shown to some addresses only, is shown to those only here too.
      const added = await addConfig(tx, { ...config, trustedIps: root.trustedIps });
      await tellOf(tx, call, config, { type: "config.created", text: `Created config ${Name}` });
      return added.raised;
    });
    hintConfigs(call, raised);
    return shownConfig(call.sql, config);
  },
});

/** Of an environment that is there. @throws ServiceError ResourceNotFoundException */
export async function rootOf(tx: Sql, projectId: string, environment: string): Promise<Config> {
  const there = await findEnvironment(tx, projectId, environment);
  const root = there && (await findRootConfig(tx, projectId, environment));
  if (!root) throw gone(`environment ${environment} of project ${projectId}`);
  return root;
}

/** Source: Doppler API reference, "Configs", Retrieve. */
const getConfig = defineOperation<OfConfig, ConfigResource>({
  name: "GetConfig",
  action: "rekey:GetConfig",
  noun: "configs",
  verb: "get",
  mode: "read",
  summary: "Shows a config, without its values.",
  input: ofConfig,
  resource: configResource,
  run: async (_input, found, { sql }) => shownConfig(sql, existingConfig(found)),
});

const listInput = z.object({ ...projectMember, Environment: environmentMember.optional(), ...paging });

/** Source: Doppler API reference, "Configs", List. */
const listConfigsOperation = defineOperation<z.infer<typeof listInput>, ProjectResource>({
  name: "ListConfigs",
  action: "rekey:ListConfigs",
  noun: "configs",
  verb: "list",
  mode: "read",
  summary: "Lists the configs of a project, or of one environment, that the caller may see (rekey:GetConfig), by name.",
  input: listInput,
  resource: projectResource,
  async run(request, found, call) {
    const { id: projectId } = existingProject(found);
    const environment = request.Environment;
    if (environment !== undefined && !(await findEnvironment(call.sql, projectId, environment)))
      throw gone(`environment ${environment} of project ${projectId}`);
    const { rows, NextToken } = await readPage(request, {
      scope: `configs ${projectId} ${environment ?? ""}`,
      fetch: (page) => listConfigs(call.sql, { projectId, environment }, page),
      key: (config) => config.name,
      visible: (config) =>
        call.may("rekey:GetConfig", configFound(call.services, projectId, config.name, config.environment)) === undefined,
    });
    return { Configs: await shownConfigs(call.sql, rows), NextToken };
  },
});

const updateInput = z.object({ ...configMembers, Name: name });

/** Source: Doppler API reference, "Configs", Update. */
const updateConfigOperation = defineOperation<z.infer<typeof updateInput>, ConfigResource>({
  name: "UpdateConfig",
  action: "rekey:UpdateConfig",
  noun: "configs",
  verb: "update",
  mode: "write",
  summary: "Renames a branch config. A root config is renamed with its environment.",
  input: updateInput,
  resource: configResource,
  async run({ Name }, found, call) {
    const { id, projectId } = existingConfig(found);
    const done = await call.transaction(async (tx) => {
      await lockConfigNames(tx);
      await raiseIdentityVersion(tx); // tokens that are bound to it follow
      const before = await unlocked(tx, id);
      const after = { ...before, name: Name };
      if (Name === before.name) return { after, raised: [] };
      if (before.isRoot) throw refused(`Config ${before.name} is a root config: rename its environment.`);
      checkBranchName(Name, before.environment);
      requireNoNewSight(call, before, after);
      if (await findConfig(tx, projectId, Name)) throw exists(`Project ${projectId} has a config ${Name} already.`);
      const raised = [...(await raiseGenerations(tx, [id])), ...(await raiseReferring(tx, before))];
      await updateConfig(tx, after);
      raised.push(...(await raiseReferring(tx, after)));
      await tellOf(tx, call, after, { type: "config.renamed", text: `Renamed config ${before.name} to ${Name}` });
      return { after, raised };
    });
    hintConfigs(call, done.raised);
    return shownConfig(call.sql, done.after);
  },
});

/** Source: Doppler API reference, "Configs", Delete. */
const deleteConfigOperation = defineOperation<OfConfig, ConfigResource>({
  name: "DeleteConfig",
  action: "rekey:DeleteConfig",
  noun: "configs",
  verb: "delete",
  mode: "write",
  summary:
    "Deletes a branch config with its values. Dynamic and rotated secrets are deleted before; a root goes with its environment.",
  input: ofConfig,
  resource: configResource,
  async run(_input, found, call) {
    const config = existingConfig(found);
    if (config.isRoot) throw refused(`Config ${config.name} is a root config: delete its environment.`);
    const raised = await call.transaction(async (tx) => {
      const removed = await removeConfigs(tx, [config]);
      await tellOf(tx, call, config, { type: "config.deleted", text: `Deleted config ${config.name}` });
      return [...removed.raised, config.id];
    });
    hintConfigs(call, raised);
    return {};
  },
});

/** A locked config is not renamed, deleted or rolled back; its values can be changed. */
const lockOperation = (isLock: boolean) =>
  defineOperation<OfConfig, ConfigResource>({
    name: isLock ? "LockConfig" : "UnlockConfig",
    action: isLock ? "rekey:LockConfig" : "rekey:UnlockConfig",
    noun: "configs",
    verb: isLock ? "lock" : "unlock",
    mode: "write",
    summary: isLock
      ? "Keeps a config from being renamed, deleted or rolled back; its values can still be changed."
      : "Lets a config be renamed, deleted and rolled back again.",
    input: ofConfig,
    resource: configResource,
    async run(_input, found, call) {
      const { id } = existingConfig(found);
      const after = await call.transaction(async (tx) => {
        const before = await presentConfig(tx, id);
        if (before.locked === isLock) return before;
        const changed = { ...before, locked: isLock };
        await updateConfig(tx, changed);
        const told = isLock
          ? { type: "config.locked", text: `Locked config ${before.name}` }
          : { type: "config.unlocked", text: `Unlocked config ${before.name}` };
        await tellOf(tx, call, changed, told);
        return changed;
      });
      return shownConfig(call.sql, after);
    },
  });

/** The config, kept from others until the transaction ends. @throws ServiceError ResourceNotFoundException */
export async function presentConfig(tx: Sql, id: string): Promise<Config> {
  const config = await lockConfig(tx, id);
  if (!config) throw gone("the config: it was deleted meanwhile");
  return config;
}

async function unlocked(tx: Sql, id: string): Promise<Config> {
  const config = await presentConfig(tx, id);
  if (config.locked) throw refused(`Config ${config.name} is locked: unlock it first.`);
  return config;
}

/** Tells of something done to a config. */
export function tellOf(tx: Sql, call: Call, config: Config, { type, text }: { type: string; text: string }): Promise<string> {
  const { projectId: project, environment, name: shownName, id: configId } = config;
  return tell(tx, call, { type, text, resource: arnOf(call, config), project, environment, config: shownName, configId });
}

function gone(what: string): ServiceError {
  return new ServiceError("ResourceNotFoundException", `Could not find ${what}.`);
}

export const configOperations: readonly Operation[] = [
  createConfig,
  getConfig,
  listConfigsOperation,
  updateConfigOperation,
  deleteConfigOperation,
  lockOperation(true),
  lockOperation(false),
];
