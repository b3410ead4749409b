import { z } from "zod";
import { checkProjectName, checkText } from "../../core/config-names.ts";
import { ServiceError } from "../../core/error.ts";
import { projectArn } from "../../core/rekey-arn.ts";
import { lockConfigNames } from "../../store/config-generations.ts";
import { listConfigs } from "../../store/configs.ts";
import { deleteEnvironment, listEnvironments } from "../../store/environments.ts";
import {
  countProjects,
  deleteProject,
  findProject,
  insertProject,
  listProjects,
  lockProject,
  type Project,
  updateProject,
} from "../../store/projects.ts";
import type { Sql } from "../../store/sql.ts";
import { clearDeliveriesOf } from "../../store/webhook-deliveries.ts";
import { type Call, defineOperation, type Operation, type Resource } from "../operation.ts";
import { hintConfigs, tell } from "./activity.ts";
import { exists, limits, projectMember, tooMany } from "./config-input.ts";
import { existingProject, type ProjectResource, projectResource } from "./config-resource.ts";
import { addEnvironment } from "./new-configs.ts";
import { paging, readPage } from "./paging.ts";
import { removeConfigs } from "./remove-configs.ts";
import { shownProject } from "./shown.ts";

const text = z.string().max(2000).optional();
const ofProject = z.object(projectMember);

const createInput = z.object({ Name: z.string().max(64), Description: text });

/** Source: Doppler API reference, "Projects", Create. */
const createProject = defineOperation<z.infer<typeof createInput>, Resource>({
  name: "CreateProject",
  action: "rekey:CreateProject",
  noun: "projects",
  verb: "create",
  mode: "write",
  summary: "Makes a project with the environments dev, stg and prd, and a root config in each.",
  input: createInput,
  check({ Name, Description }) {
    checkProjectName(Name);
    if (Description !== undefined) checkText("Description", Description);
  },
  resource: ({ Name }, { services }) => ({ arn: projectArn(services, Name), context: { "rekey:Project": [Name] } }),
  async run({ Name, Description }, _found, call) {
    const project = { id: Name, name: Name, description: Description || undefined, createdAt: call.startedAt };
    const raised = await call.transaction((tx) => addProject(tx, call, project));
    hintConfigs(call, raised);
    return { Project: shownProject(project) };
  },
});

export const usualEnvironments = [
  { slug: "dev", name: "Development" },
  { slug: "stg", name: "Staging" },
  { slug: "prd", name: "Production" },
];

/** Also of a template. @throws ServiceError ResourceExistsException, LimitExceededException */
export async function addProject(
  tx: Sql,
  call: Call,
  project: Project,
  environments: readonly { readonly slug: string; readonly name: string }[] = usualEnvironments,
): Promise<string[]> {
  const { id, createdAt } = project;
  await lockConfigNames(tx);
  await requireFreeName(tx, id);
  if ((await countProjects(tx)) >= limits.projects) throw tooMany(`There can be ${limits.projects} projects.`);
  await insertProject(tx, project);
  const raised: string[] = [];
  for (const { slug, name } of environments)
    raised.push(...(await addEnvironment(tx, { projectId: id, slug, name, createdAt })).raised);
  const resource = projectArn(call.services, id);
  await tell(tx, call, { type: "project.created", resource, text: `Created project ${id}`, project: id });
  return raised;
}

async function requireFreeName(tx: Sql, name: string): Promise<void> {
  if (await findProject(tx, name)) throw exists(`There is a project ${name} already.`);
}

/** Source: Doppler API reference, "Projects", Retrieve. */
const getProject = defineOperation<z.infer<typeof ofProject>, ProjectResource>({
  name: "GetProject",
  action: "rekey:GetProject",
  noun: "projects",
  verb: "get",
  mode: "read",
  summary: "Shows a project, by its id or name.",
  input: ofProject,
  resource: projectResource,
  run: async (_input, found) => ({ Project: shownProject(existingProject(found)) }),
});

const listInput = z.object(paging);

/** Source: Doppler API reference, "Projects", List. */
const listProjectsOperation = defineOperation<z.infer<typeof listInput>, Resource>({
  name: "ListProjects",
  action: "rekey:ListProjects",
  noun: "projects",
  verb: "list",
  mode: "read",
  summary: "Lists the projects that the caller may see (rekey:GetProject), by id.",
  input: listInput,
  resource: (_input, { services, principal }) => ({
    arn: projectArn(services, principal.boundConfig?.project ?? "*"),
    context: {},
  }),
  async run(request, _found, call) {
    const { rows, NextToken } = await readPage(request, {
      scope: "projects",
      fetch: (page) => listProjects(call.sql, page),
      key: ({ id }) => id,
      visible: ({ id }) => maySee(call, id),
    });
    return { Projects: rows.map(shownProject), NextToken };
  },
});

function maySee(call: Call, id: string): boolean {
  const resource = { arn: projectArn(call.services, id), context: { "rekey:Project": [id] } };
  return call.may("rekey:GetProject", resource) === undefined;
}

const updateInput = z.object({ ...projectMember, Name: z.string().max(64).optional(), Description: text });

/** Source: Doppler API reference, "Projects", Update. */
const updateProjectOperation = defineOperation<z.infer<typeof updateInput>, ProjectResource>({
  name: "UpdateProject",
  action: "rekey:UpdateProject",
  noun: "projects",
  verb: "update",
  mode: "write",
  summary: "Changes a project's name or description. Its id stays: references, tokens and policies go by that.",
  input: updateInput,
  check({ Name, Description }) {
    if (Name !== undefined) checkProjectName(Name);
    if (Description !== undefined) checkText("Description", Description);
  },
  resource: projectResource,
  async run({ Name, Description }, found, call) {
    const { id } = existingProject(found);
    const changed = await call.transaction(async (tx) => {
      await lockConfigNames(tx);
      const before = await lockProject(tx, id);
      if (!before) throw gone(id);
      const name = Name ?? before.name;
      // The name that it was made with is its own for ever.
      if (name !== before.name && name !== id) await requireFreeName(tx, name);
      const after = { ...before, name, description: Description === undefined ? before.description : Description || undefined };
      await updateProject(tx, after);
      const told = name === before.name ? `Updated project ${id}` : `Renamed project ${id} from ${before.name} to ${name}`;
      await tell(tx, call, { type: "project.changed", resource: found.arn, text: told, project: id });
      return after;
    });
    return { Project: shownProject(changed) };
  },
});

/** Source: Doppler API reference, "Projects", Delete. */
const deleteProjectOperation = defineOperation<z.infer<typeof ofProject>, ProjectResource>({
  name: "DeleteProject",
  action: "rekey:DeleteProject",
  noun: "projects",
  verb: "delete",
  mode: "write",
  summary: "Deletes a project with all its environments, configs and values. Dynamic and rotated secrets are deleted before.",
  input: ofProject,
  resource: projectResource,
  async run(_input, found, call) {
    const { id } = existingProject(found);
    await clearDeliveriesOf(call.sql, id);
    const raised = await call.transaction(async (tx) => {
      await lockConfigNames(tx);
      if (!(await lockProject(tx, id))) throw gone(id);
      const configs = await listConfigs(tx, { projectId: id }, { limit: limits.configs });
      const removed = await removeConfigs(tx, configs);
      for (const { slug } of await listEnvironments(tx, id, { limit: limits.environments }))
        await deleteEnvironment(tx, id, slug);
      await deleteProject(tx, id);
      await tell(tx, call, { type: "project.deleted", resource: found.arn, text: `Deleted project ${id}`, project: id });
      return [...removed.raised, ...configs.map((config) => config.id)];
    });
    hintConfigs(call, raised);
    return {};
  },
});

/** Between the look at it and the change of it. */
function gone(id: string): ServiceError {
  return new ServiceError("ResourceNotFoundException", `Could not find project ${id}.`);
}

export const projectOperations: readonly Operation[] = [
  createProject,
  getProject,
  listProjectsOperation,
  updateProjectOperation,
  deleteProjectOperation,
];
