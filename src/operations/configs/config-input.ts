import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import { configArn } from "../../core/rekey-arn.ts";
import type { Config } from "../../store/configs.ts";
import type { Call } from "../operation.ts";
import { configFound } from "./config-resource.ts";

/** What may stand in an ARN: no wildcards, no separators. */
const nameText = z
  .string()
  .max(64)
  .regex(/^[A-Za-z0-9._-]*$/);

/** Blank is absent. */
export const projectMember = { Project: nameText.optional() };
export const environmentMember = nameText.min(1);
export const configMembers = { ...projectMember, Config: nameText.optional() };
export const ofConfig = z.object(configMembers);
export type OfConfig = z.infer<typeof ofConfig>;

export const limits = { projects: 5000, environments: 100, configs: 1000, parents: 20 } as const;

export function exists(message: string): ServiceError {
  return new ServiceError("ResourceExistsException", message);
}

export function refused(message: string): ServiceError {
  return new ServiceError("InvalidRequestException", message);
}

export function tooMany(message: string): ServiceError {
  return new ServiceError("LimitExceededException", message);
}

/** @throws ServiceError AccessDeniedException unless the caller may read the values of what has this name, whether it is there or not. */
export function requireReading(
  call: Call,
  place: { readonly projectId: string; readonly name: string; readonly environment?: string },
): void {
  const refusal = call.may("rekey:GetConfigSecrets", configFound(call.services, place.projectId, place.name, place.environment));
  if (refusal) throw refusal;
}

/**
 * What is shown under another name is read by those who may read that name: nobody gives it to themselves so.
 * @throws ServiceError AccessDeniedException
 */
export function requireNoNewSight(
  call: Call,
  from: Pick<Config, "projectId" | "name" | "environment">,
  to: Pick<Config, "projectId" | "name" | "environment">,
): void {
  if (call.may("rekey:GetConfigSecrets", configFound(call.services, to.projectId, to.name, to.environment)) === undefined)
    requireReading(call, from);
}

export const arnOf = (call: Call, { projectId, name }: Pick<Config, "projectId" | "name">): string =>
  configArn(call.services, projectId, name);
