import { z } from "zod";
import { diffDocuments } from "../../core/config-document.ts";
import { checkBranchName, checkEnvironmentSlug, checkProjectName, checkText, checkTitle } from "../../core/config-names.ts";
import { type ProjectTemplate, parseTemplate } from "../../core/config-template.ts";
import { applySecrets } from "../../core/config-values.ts";
import { ServiceError } from "../../core/error.ts";
import { projectArn, workplaceArn } from "../../core/rekey-arn.ts";
import { lockConfigNames } from "../../store/config-generations.ts";
import { type Config, listConfigs } from "../../store/configs.ts";
import { listEnvironments } from "../../store/environments.ts";
import { findProject, lockProject, type Project } from "../../store/projects.ts";
import type { Sql } from "../../store/sql.ts";
import { refuseUntrusted } from "../config-access/trusted-ips.ts";
import { type Call, defineOperation, type Operation, type Resource } from "../operation.ts";
import { hintConfigs } from "./activity.ts";
import { type Edit, prepareEdit, type SealedEdit, saveEdits } from "./change-values.ts";
import { limits, requireNoNewSight } from "./config-input.ts";
import { configFound, environmentFound } from "./config-resource.ts";
import { ConfigReader } from "./config-values.ts";
import { tellOf } from "./configs.ts";
import { addConfig, addEnvironment, newConfig, rootConfig } from "./new-configs.ts";
import { addProject, usualEnvironments } from "./projects.ts";
import { shownProject } from "./shown.ts";

const input = z.object({ Template: z.string().max(2_000_000) });

/** Source: Doppler API reference, "Workplace", Import template. */
const importTemplate = defineOperation<z.infer<typeof input>, Resource>({
  name: "ImportTemplate",
  action: "rekey:ImportTemplate",
  noun: "templates",
  verb: "import",
  mode: "write",
  summary:
    "Makes the projects, environments, configs and secrets of a YAML template that are not there yet; what is there stays.",
  input,
  sensitive: ["Template"],
  resource: (_input, { services }) => ({ arn: workplaceArn(services), context: {} }),
  async run({ Template }, _found, call) {
    const projects = parseTemplate(Template);
    for (const project of projects) checkNames(project);
    const made: Project[] = [];
    for (const project of projects) made.push(await importProject(call, project));
    return { Projects: made.map(shownProject) };
  },
});

function checkNames({ name, description, environments }: ProjectTemplate): void {
  checkProjectName(name);
  if (description) checkText("Description", description);
  for (const { name: title, slug, configs } of environments ?? []) {
    checkTitle("Environment name", title);
    checkEnvironmentSlug(slug);
    for (const config of configs ?? []) if (config.slug !== slug) checkBranchName(config.slug, slug);
  }
}

interface Plan {
  readonly project: Project;
  readonly isNew: boolean;
  /** Each with the root config that it gets. */
  readonly environments: readonly { readonly slug: string; readonly name: string; readonly root: Config }[];
  readonly branches: readonly Config[];
  readonly edits: readonly Edit[];
}

/** All of a project in one transaction, or nothing. */
async function importProject(call: Call, template: ProjectTemplate): Promise<Project> {
  const plan = await planOf(call, template);
  const { project, isNew, environments, branches } = plan;
  const nothing = !isNew && environments.length + branches.length + plan.edits.length === 0;
  if (nothing) return project;
  const sealed: SealedEdit[] = [];
  for (const edit of plan.edits) sealed.push(await prepareEdit(call, edit));
  const raised = await call.transaction((tx) => carryOut(tx, call, plan, sealed));
  hintConfigs(call, raised);
  return project;
}

async function carryOut(tx: Sql, call: Call, plan: Plan, edits: readonly SealedEdit[]): Promise<Set<string>> {
  const { project, isNew, environments, branches } = plan;
  const raised = new Set<string>();
  const add = ({ raised: more }: { raised: Iterable<string> }) => {
    for (const id of more) raised.add(id);
  };
  await lockConfigNames(tx);
  if (isNew) add({ raised: await addProject(tx, call, project, []) });
  else if (!(await lockProject(tx, project.id)))
    throw new ServiceError("ResourceNotFoundException", `Could not find project ${project.id}.`);
  const createdAt = call.startedAt;
  for (const { slug, name, root } of environments) {
    add(await addEnvironment(tx, { projectId: project.id, slug, name, createdAt }, root));
    await tellOf(tx, call, root, { type: "environment.created", text: `Created environment ${slug}` });
  }
  for (const branch of branches) {
    add(await addConfig(tx, branch));
    await tellOf(tx, call, branch, { type: "config.created", text: `Created config ${branch.name}` });
  }
  add(await saveEdits(tx, call, edits, {}));
  return raised;
}

async function planOf(call: Call, { name, description, environments, secrets }: ProjectTemplate): Promise<Plan> {
  const there = await findProject(call.sql, name);
  // First, and by the name that was given: whether a project is there is not told to those who may not see it.
  const seen = { arn: projectArn(call.services, there?.id ?? name), shown: projectArn(call.services, name) };
  requireMay(call, "rekey:GetProject", { ...seen, context: { "rekey:Project": [there?.id ?? name] } });
  const project = there ?? { id: name, name, description: description ?? undefined, createdAt: call.startedAt };
  if (!there)
    requireMay(call, "rekey:CreateProject", { arn: projectArn(call.services, name), context: { "rekey:Project": [name] } });
  const configs = new Map<string, Config>();
  for (const config of await listConfigs(call.sql, { projectId: project.id }, { limit: limits.configs }))
    configs.set(config.name, config);
  const listed = environments ?? (there ? [] : usualEnvironments);
  const roots = await newEnvironments(call, project.id, listed);
  for (const { root } of roots) configs.set(root.name, root);
  const branches = newBranches(call, project.id, environments ?? [], configs);
  return { project, isNew: !there, environments: roots, branches, edits: await editsOf(call, configs, secrets ?? {}) };
}

async function newEnvironments(
  call: Call,
  projectId: string,
  listed: readonly { readonly slug: string; readonly name: string }[],
): Promise<Plan["environments"]> {
  const known = new Set((await listEnvironments(call.sql, projectId, { limit: limits.environments })).map(({ slug }) => slug));
  return listed.flatMap(({ slug, name }) => {
    if (known.has(slug)) return [];
    requireMay(call, "rekey:CreateEnvironment", environmentFound(call.services, projectId, slug));
    return [{ slug, name, root: rootConfig({ projectId, slug, createdAt: call.startedAt }) }];
  });
}

/** Those that are not among `configs` yet; then they are. */
function newBranches(
  call: Call,
  projectId: string,
  environments: NonNullable<ProjectTemplate["environments"]>,
  configs: Map<string, Config>,
): Config[] {
  const listed = environments.flatMap(({ slug, configs: branches }) =>
    (branches ?? []).map((branch) => ({ slug, name: branch.slug })),
  );
  return listed.flatMap(({ slug, name }) => {
    if (configs.has(name)) return [];
    const config = newBranch(call, { projectId, environment: slug, name }, configs.get(slug));
    configs.set(name, config);
    return [config];
  });
}

function newBranch(call: Call, at: Pick<Config, "projectId" | "environment" | "name">, root: Config | undefined): Config {
  requireMay(call, "rekey:CreateConfig", configFound(call.services, at.projectId, at.name, at.environment));
  const config = { ...newConfig({ ...at, isRoot: false, createdAt: call.startedAt }), trustedIps: root?.trustedIps };
  if (root) requireNoNewSight(call, root, config);
  return config;
}

async function editsOf(
  call: Call,
  configs: ReadonlyMap<string, Config>,
  secrets: NonNullable<ProjectTemplate["secrets"]>,
): Promise<Edit[]> {
  const edits: Edit[] = [];
  for (const [name, values] of Object.entries(secrets)) {
    const config = configs.get(name);
    if (!config)
      throw new ServiceError(
        "ValidationException",
        `Template: it has secrets for config ${name.slice(0, 64)}, which is none of its configs.`,
      );
    requireMay(call, "rekey:SetConfigSecrets", configFound(call.services, config.projectId, config.name, config.environment));
    refuseUntrusted(call, config);
    const before = await new ConfigReader(call.services).own(config);
    const missing = Object.entries(values ?? {}).filter(([each]) => !before.has(each));
    const next = applySecrets({ own: before, beneath: new Map() }, new Map(missing));
    const changes = diffDocuments(before, next);
    if (changes.length > 0) edits.push({ config, before, next, changes });
  }
  return edits;
}

function requireMay(call: Call, action: string, resource: Resource): void {
  const refusal = call.may(action, resource);
  if (refusal) throw refusal;
}

export const templateOperations: readonly Operation[] = [importTemplate];
