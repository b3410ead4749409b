import { ServiceError } from "../../core/error.ts";
import { configArn, environmentArn, type Place, projectArn } from "../../core/rekey-arn.ts";
import { type Config, findConfig } from "../../store/configs.ts";
import { type Environment, findEnvironment } from "../../store/environments.ts";
import { findProject, type Project } from "../../store/projects.ts";
import type { Call, Resource } from "../operation.ts";

/** Blank is absent, and what is absent a service token fills in. */
export interface ProjectInput {
  readonly Project?: string | undefined;
}

export interface ConfigInput extends ProjectInput {
  readonly Config?: string | undefined;
}

export interface EnvironmentInput extends ProjectInput {
  readonly Environment: string;
}

/** A project as authorization sees it, whether it exists or not. */
export interface ProjectResource extends Resource {
  readonly project: Project | undefined;
}

export interface EnvironmentResource extends ProjectResource {
  readonly environment: Environment | undefined;
}

export interface ConfigResource extends ProjectResource {
  readonly config: Config | undefined;
}

/** @throws ServiceError ValidationException when the project is neither given nor known from a service token */
export async function projectResource(input: ProjectInput, call: Call): Promise<ProjectResource> {
  const asked = askedProject(input, call);
  const project = await findProject(call.sql, asked);
  const found = resource(projectArn(call.services, project?.id ?? asked), { project: project?.id ?? asked });
  return { ...found, shown: projectArn(call.services, asked), project };
}

/** @throws ServiceError ValidationException as `projectResource` */
export async function environmentResource(input: EnvironmentInput, call: Call): Promise<EnvironmentResource> {
  const asked = askedProject(input, call);
  const project = await findProject(call.sql, asked);
  const environment = project && (await findEnvironment(call.sql, project.id, input.Environment));
  const found = environmentFound(call.services, project?.id ?? asked, input.Environment);
  return { ...found, shown: environmentArn(call.services, asked, input.Environment), project, environment };
}

/** @throws ServiceError ValidationException naming what to give, when project or config are neither given nor known from a service token */
export async function configResource(input: ConfigInput, call: Call): Promise<ConfigResource> {
  const bound = call.principal.boundConfig;
  const asked = input.Config || bound?.config;
  const askedIn = askedProject(input, call);
  if (!asked) throw missing("Config");
  const project = await findProject(call.sql, askedIn);
  const config = project && (await findConfig(call.sql, project.id, asked));
  const found = configFound(call.services, project?.id ?? askedIn, asked, config?.environment);
  return { ...found, shown: configArn(call.services, askedIn, asked), project, config };
}

/** What belongs to a config, or to its project: its ARN, and that of the names that the caller gave, which tells nothing of what is there. */
export function ofSameConfig(
  { arn, shown = arn }: ConfigResource,
  name: (project: string, config: string) => string,
): { readonly arn: string; readonly shown: string } {
  const named = (text: string) => name(nameIn(text, 1), nameIn(text, 2));
  return { arn: named(arn), shown: named(shown) };
}

/** A config that is there, or would be, as authorization sees it. `projectId` is its project's id if that is there. */
export function configFound(place: Place, projectId: string, name: string, environment?: string): Resource {
  const facts = { project: projectId, config: name, ...(environment === undefined ? {} : { environment }) };
  return resource(configArn(place, projectId, name), facts);
}

export function environmentFound(place: Place, projectId: string, environment: string): Resource {
  return resource(environmentArn(place, projectId, environment), { project: projectId, environment });
}

/** @throws ServiceError ResourceNotFoundException */
export function existingProject({ project, arn }: ProjectResource): Project {
  if (!project) throw new ServiceError("ResourceNotFoundException", `Could not find project ${nameIn(arn, 1)}.`);
  return project;
}

/** @throws ServiceError ResourceNotFoundException */
export function existingEnvironment(found: EnvironmentResource): Environment & { readonly project: Project } {
  const project = found.project;
  if (!project) throw new ServiceError("ResourceNotFoundException", `Could not find project ${nameIn(found.arn, 1)}.`);
  if (!found.environment)
    throw new ServiceError(
      "ResourceNotFoundException",
      `Could not find environment ${nameIn(found.arn, 2)} of project ${project.id}.`,
    );
  return { ...found.environment, project };
}

/** @throws ServiceError ResourceNotFoundException */
export function existingConfig({ project, config, arn }: ConfigResource): Config {
  if (!project) throw new ServiceError("ResourceNotFoundException", `Could not find project ${nameIn(arn, 1)}.`);
  if (!config)
    throw new ServiceError("ResourceNotFoundException", `Could not find config ${nameIn(arn, 2)} of project ${project.id}.`);
  return config;
}

function askedProject({ Project: given }: ProjectInput, { principal }: Call): string {
  const asked = given || principal.boundConfig?.project;
  if (!asked) throw missing("Project");
  return asked;
}

/** Condition keys: `rekey:Project`, `rekey:Environment`, `rekey:Config`. */
function resource(arn: string, facts: { project: string; environment?: string; config?: string }): Resource {
  const keys = { "rekey:Project": facts.project, "rekey:Environment": facts.environment, "rekey:Config": facts.config };
  const present = Object.entries(keys).flatMap(([key, value]) => (value === undefined ? [] : [[key, [value]] as const]));
  return { arn, shown: arn, context: Object.fromEntries(present) };
}

function missing(member: "Project" | "Config"): ServiceError {
  const name = member.toLowerCase();
  return new ServiceError("ValidationException", `You must specify a ${name}: this token is not bound to one config.`);
}

/** A part of `…:kind/project/config`. */
function nameIn(arn: string, part: number): string {
  return (arn.split(":")[5] ?? "").split("/")[part] ?? "";
}
