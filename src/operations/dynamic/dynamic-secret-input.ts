import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import { leaseLimits } from "../../core/lease.ts";
import { dynamicSecretArn } from "../../core/rekey-arn.ts";
import { type DynamicSecret, findDynamicSecret } from "../../store/dynamic-secrets.ts";
import {
  type ConfigInput,
  type ConfigResource,
  configResource,
  existingConfig,
  ofSameConfig,
} from "../configs/config-resource.ts";
import type { Call } from "../operation.ts";

/** Blank is absent, as everywhere that a config is named. */
export const configMembers = { Project: z.string().max(200).optional(), Config: z.string().max(200).optional() };
/** Of what has fields: they are named `NAME_FIELD` and become environment variables. */
export const nameOfFields = (most: number) =>
  z
    .string()
    .min(1)
    .max(most)
    .regex(/^[A-Z_][A-Z0-9_]*$/, "Member must have upper-case letters, digits and _ only, and not begin with a digit");
export const dynamicSecretName = nameOfFields(200);
export const named = z.object({ ...configMembers, Name: dynamicSecretName });

const { ttl, maxLeases, maxLeasesPerPrincipal, shareSeconds } = leaseLimits;
export const ttlSeconds = z.int().min(ttl.least).max(ttl.most);
export const workload = z.string().min(1).max(200);

/** What may be set of a dynamic secret, all optional. */
export const limitMembers = {
  DefaultTtlSeconds: ttlSeconds.optional(),
  MaxTtlSeconds: ttlSeconds.optional(),
  MaxLeases: z.int().min(1).max(maxLeases.most).optional(),
  MaxLeasesPerPrincipal: z.int().min(1).max(maxLeasesPerPrincipal.most).optional(),
  ShareSeconds: z.int().min(0).max(shareSeconds.most).optional(),
};

/** A dynamic secret as authorization sees it, whether it exists or not. */
export interface DynamicSecretResource extends ConfigResource {
  readonly secret: DynamicSecret | undefined;
  readonly name: string;
}

/** @throws ServiceError ValidationException as `configResource` */
export async function dynamicSecretResource(
  input: ConfigInput & { readonly Name: string },
  call: Call,
): Promise<DynamicSecretResource> {
  const found = await configResource(input, call);
  const named = ofSameConfig(found, (project, config) => dynamicSecretArn(call.services, project, config, input.Name));
  const secret = found.config && (await findDynamicSecret(call.sql, found.config.id, input.Name));
  return { ...found, ...named, secret, name: input.Name };
}

/** @throws ServiceError ResourceNotFoundException */
export function existing(found: DynamicSecretResource): DynamicSecret {
  const config = existingConfig(found);
  if (!found.secret)
    throw new ServiceError("ResourceNotFoundException", `Could not find dynamic secret ${found.name} of config ${config.name}.`);
  return found.secret;
}

/** @throws ServiceError ValidationException when the defaults of it do not go together. */
export function checkLimits(
  { defaultTtlSeconds, maxTtlSeconds }: DynamicSecret,
  mostTtlSeconds = Number.POSITIVE_INFINITY,
): void {
  if (maxTtlSeconds > mostTtlSeconds)
    throw new ServiceError("ValidationException", `MaxTtlSeconds may be ${mostTtlSeconds} at this kind of target.`);
  if (defaultTtlSeconds > maxTtlSeconds)
    throw new ServiceError(
      "ValidationException",
      `DefaultTtlSeconds (${defaultTtlSeconds}) may not be above MaxTtlSeconds (${maxTtlSeconds}).`,
    );
}

export function shown(
  secret: DynamicSecret,
  more: { readonly integration?: object | undefined; readonly fields?: readonly string[] } = {},
) {
  return {
    Id: secret.id,
    Name: secret.name,
    Project: secret.project,
    Config: secret.config,
    Integration: more.integration ?? { Id: secret.integrationId },
    Network: secret.network,
    Settings: JSON.parse(secret.settings),
    FieldNames: more.fields?.map((field) => `${secret.name}_${field}`),
    DefaultTtlSeconds: secret.defaultTtlSeconds,
    MaxTtlSeconds: secret.maxTtlSeconds,
    MaxLeases: secret.maxLeases,
    MaxLeasesPerPrincipal: secret.maxLeasesPerPrincipal,
    ShareSeconds: secret.shareSeconds,
    CreatedAt: new Date(secret.createdAt),
    UpdatedAt: new Date(secret.updatedAt),
  };
}
