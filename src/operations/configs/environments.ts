import { z } from "zod";
import { checkEnvironmentSlug, checkTitle, renamedBranch } from "../../core/config-names.ts";
import { ServiceError } from "../../core/error.ts";
import { lockConfigNames, raiseGenerations, raiseReferring } from "../../store/config-generations.ts";
import { type Config, findConfig, listConfigs, updateConfig } from "../../store/configs.ts";
import {
  deleteEnvironment,
  type Environment,
  findEnvironment,
  listEnvironments,
  updateEnvironment,
} from "../../store/environments.ts";
import { raiseIdentityVersion } from "../../store/identity.ts";
import { lockProject } from "../../store/projects.ts";
import type { Sql } from "../../store/sql.ts";
import { type Call, defineOperation, type Operation } from "../operation.ts";
import { hintConfigs, tell } from "./activity.ts";
import { environmentMember, exists, limits, projectMember, refused, requireNoNewSight } from "./config-input.ts";
import {
  type EnvironmentResource,
  environmentFound,
  environmentResource,
  existingEnvironment,
  existingProject,
  type ProjectResource,
  projectResource,
} from "./config-resource.ts";
import { addEnvironment } from "./new-configs.ts";
import { paging, readPage } from "./paging.ts";
import { removeConfigs } from "./remove-configs.ts";
import { shownEnvironment } from "./shown.ts";

const ofEnvironment = z.object({ ...projectMember, Environment: environmentMember });
type OfEnvironment = z.infer<typeof ofEnvironment>;
const title = z.string().max(100);
const slug = z.string().max(60);

const createInput = z.object({ ...projectMember, Name: title, Slug: slug });

/** Source: Doppler API reference, "Environments", Create. */
const createEnvironment = defineOperation<z.infer<typeof createInput>, EnvironmentResource>({
  name: "CreateEnvironment",
  action: "rekey:CreateEnvironment",
  noun: "environments",
  verb: "create",
  mode: "write",
  summary: "Makes an environment with its root config, which is named as its slug.",
  input: createInput,
  check({ Name, Slug }) {
    checkTitle("Environment name", Name);
    checkEnvironmentSlug(Slug);
  },
  resource: ({ Project, Slug }, call) => environmentResource({ Project, Environment: Slug }, call),
  async run({ Name, Slug }, found, call) {
    const { id } = existingProject(found);
    const about = { projectId: id, slug: Slug, name: Name, createdAt: call.startedAt };
    const made = await call.transaction(async (tx) => {
      await lockConfigNames(tx);
      if (!(await lockProject(tx, id))) throw gone(`project ${id}`);
      const added = await addEnvironment(tx, about);
      const place = { project: id, environment: Slug };
      await tell(tx, call, { ...place, type: "environment.created", resource: found.arn, text: `Created environment ${Slug}` });
      return added;
    });
    hintConfigs(call, made.raised);
    return { Environment: shownEnvironment({ ...about, position: made.position, initialFetchAt: undefined }) };
  },
});

/** Source: Doppler API reference, "Environments", Retrieve. */
const getEnvironment = defineOperation<OfEnvironment, EnvironmentResource>({
  name: "GetEnvironment",
  action: "rekey:GetEnvironment",
  noun: "environments",
  verb: "get",
  mode: "read",
  summary: "Shows an environment of a project.",
  input: ofEnvironment,
  resource: environmentResource,
  run: async (_input, found) => ({ Environment: shownEnvironment(existingEnvironment(found)) }),
});

const listInput = z.object({ ...projectMember, ...paging });

/** Source: Doppler API reference, "Environments", List. */
const listEnvironmentsOperation = defineOperation<z.infer<typeof listInput>, ProjectResource>({
  name: "ListEnvironments",
  action: "rekey:ListEnvironments",
  noun: "environments",
  verb: "list",
  mode: "read",
  summary: "Lists the environments of a project that the caller may see (rekey:GetEnvironment), in their order.",
  input: listInput,
  resource: projectResource,
  async run(request, found, call) {
    const { id } = existingProject(found);
    const all = await listEnvironments(call.sql, id, { limit: limits.environments });
    const seen = all.filter(
      (one) => call.may("rekey:GetEnvironment", environmentFound(call.services, id, one.slug)) === undefined,
    );
    const { rows, NextToken } = await readPage(request, {
      scope: `environments ${id}`,
      fetch: async ({ after = -1, skip, limit }) =>
        seen.filter(({ position }) => position > Number(after)).slice(skip, skip + limit),
      key: ({ position }) => String(position),
    });
    return { Environments: rows.map(shownEnvironment), NextToken };
  },
});

const updateInput = z.object({ ...projectMember, Environment: environmentMember, Name: title.optional(), Slug: slug.optional() });

/** Source: Doppler API reference, "Environments", Rename. */
const updateEnvironmentOperation = defineOperation<z.infer<typeof updateInput>, EnvironmentResource>({
  name: "UpdateEnvironment",
  action: "rekey:UpdateEnvironment",
  noun: "environments",
  verb: "update",
  mode: "write",
  summary: "Renames an environment. Another slug renames its configs: what names them must follow.",
  input: updateInput,
  check({ Name, Slug }) {
    if (Name !== undefined) checkTitle("Environment name", Name);
    if (Slug !== undefined) checkEnvironmentSlug(Slug);
  },
  resource: environmentResource,
  async run({ Name, Slug }, found, call) {
    const { projectId, slug: before } = existingEnvironment(found);
    const done = await call.transaction(async (tx) => {
      await lockConfigNames(tx);
      await raiseIdentityVersion(tx); // tokens that are bound to its configs follow, and roles that were given for it
      await lockProject(tx, projectId);
      const environment = await findEnvironment(tx, projectId, before);
      if (!environment) throw gone(`environment ${before}`);
      const after = { ...environment, name: Name ?? environment.name, slug: Slug ?? before };
      const raised = after.slug === before ? [] : await renameConfigs(tx, call, before, after);
      await updateEnvironment(tx, before, after);
      const text = after.slug === before ? `Updated environment ${before}` : `Renamed environment ${before} to ${after.slug}`;
      const place = { project: projectId, environment: after.slug };
      await tell(tx, call, { ...place, type: "environment.changed", resource: found.arn, text });
      return { after, raised };
    });
    hintConfigs(call, done.raised);
    return { Environment: shownEnvironment(done.after) };
  },
});

async function renameConfigs(tx: Sql, call: Call, before: string, { projectId, slug: after }: Environment): Promise<string[]> {
  if (await findEnvironment(tx, projectId, after)) throw exists(`Project ${projectId} has an environment ${after} already.`);
  const configs = await listConfigs(tx, { projectId, environment: before }, { limit: limits.configs });
  const own = new Set(configs.map(({ name }) => name));
  const renamed = configs.map((config): [Config, Config] => {
    if (config.locked) throw refused(`Config ${config.name} is locked: unlock it first.`);
    const name = config.isRoot ? after : renamedBranch(config.name, before, after);
    const to = { ...config, environment: after, name };
    requireNoNewSight(call, config, to);
    return [config, to];
  });
  for (const [, { name }] of renamed)
    if (!own.has(name) && (await findConfig(tx, projectId, name)))
      throw exists(`Project ${projectId} has a config ${name} already.`);
  // Names that get longer begin with the longest one, others with the shortest: so none is taken by one that is yet to go.
  const grows = after.length > before.length;
  renamed.sort(([one], [other]) => (grows ? other.name.length - one.name.length : one.name.length - other.name.length));
  const raised = new Set(
    await raiseGenerations(
      tx,
      configs.map(({ id }) => id),
    ),
  );
  for (const [from, to] of renamed) {
    for (const id of await raiseReferring(tx, from)) raised.add(id);
    await updateConfig(tx, to);
    for (const id of await raiseReferring(tx, to)) raised.add(id);
  }
  return [...raised];
}

/** Source: Doppler API reference, "Environments", Delete. */
const deleteEnvironmentOperation = defineOperation<OfEnvironment, EnvironmentResource>({
  name: "DeleteEnvironment",
  action: "rekey:DeleteEnvironment",
  noun: "environments",
  verb: "delete",
  mode: "write",
  summary: "Deletes an environment with its configs and their values. Dynamic and rotated secrets are deleted before.",
  input: ofEnvironment,
  resource: environmentResource,
  async run(_input, found, call) {
    const { projectId, slug: environment } = existingEnvironment(found);
    const raised = await call.transaction(async (tx) => {
      await lockConfigNames(tx);
      await raiseIdentityVersion(tx); // roles that were given for it end with it
      if (!(await lockProject(tx, projectId))) throw gone(`project ${projectId}`);
      const configs = await listConfigs(tx, { projectId, environment }, { limit: limits.configs });
      const removed = await removeConfigs(tx, configs);
      await deleteEnvironment(tx, projectId, environment);
      const place = { project: projectId, environment };
      await tell(tx, call, {
        ...place,
        type: "environment.deleted",
        resource: found.arn,
        text: `Deleted environment ${environment}`,
      });
      return [...removed.raised, ...configs.map(({ id }) => id)];
    });
    hintConfigs(call, raised);
    return {};
  },
});

function gone(what: string): ServiceError {
  return new ServiceError("ResourceNotFoundException", `Could not find ${what}.`);
}

export const environmentOperations: readonly Operation[] = [
  createEnvironment,
  getEnvironment,
  listEnvironmentsOperation,
  updateEnvironmentOperation,
  deleteEnvironmentOperation,
];
