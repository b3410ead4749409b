import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import { integrationArn } from "../../core/rekey-arn.ts";
import { findIntegration, type Integration, newestVersion } from "../../store/integrations.ts";
import { isPlainHost } from "../../targets/http-api-address.ts";
import type { Call, Permission, Resource } from "../operation.ts";
import { kindNamed } from "./integration-kind.ts";

export const integrationName = z
  .string()
  .min(1)
  .max(128)
  .regex(
    /^[A-Za-z0-9][A-Za-z0-9 ._-]*$/,
    "Member must begin with a letter or digit and have letters, digits, blanks, -, _ and . only",
  );
/** Id or name. */
export const integrationId = z.string().min(1).max(200);
export const named = z.object({ Integration: integrationId });

/** An integration as authorization sees it, whether it exists or not. */
export interface IntegrationResource extends Resource {
  readonly integration: Integration | undefined;
  readonly asked: string;
}

export async function integrationResource(
  { Integration: asked }: { Integration: string },
  call: Call,
): Promise<IntegrationResource> {
  const integration = await findIntegration(call.sql, asked);
  const arn = integrationArn(call.services, integration?.id ?? asked);
  return { arn, shown: asked, context: typeContext(integration?.type), integration, asked };
}

/** Condition key `rekey:IntegrationType`. */
export const typeContext = (type: string | undefined): Resource["context"] =>
  type === undefined ? {} : { "rekey:IntegrationType": [kindNamed(type)] };

/** As of functions: what listens on the server's own machine, or tells it who it is, trusts the machine. */
export function askSpecialAddresses(
  data: Readonly<Record<string, unknown>> | undefined,
  resource: Resource,
): readonly Permission[] {
  const { origin, endpoint, stsEndpoint, allowAddresses = [] } = data ?? {};
  const isOwnMachine = [origin, endpoint, stsEndpoint]
    .map(String)
    .some((url) => URL.canParse(url) && isPlainHost(new URL(url).hostname));
  const isSpecial = isOwnMachine || !Array.isArray(allowAddresses) || allowAddresses.length > 0;
  return isSpecial ? [{ action: "rekey:AllowFunctionAddresses", resource }] : [];
}

/** @throws ServiceError ResourceNotFoundException */
export function existing({ integration, asked }: IntegrationResource): Integration {
  if (!integration) throw new ServiceError("ResourceNotFoundException", `Could not find integration ${asked}.`);
  return integration;
}

/** What callers see of it: never its secret members. */
export async function shown(integration: Integration, { sql }: Pick<Call, "sql">) {
  const version = await newestVersion(sql, integration);
  return {
    Id: integration.id,
    Name: integration.name,
    Type: integration.type,
    Network: version?.network,
    Target: version?.target,
    Data: version && JSON.parse(version.settings),
    Outcome: integration.outcome,
    Reason: integration.error,
    VerifiedAt: integration.verifiedAt === undefined ? undefined : new Date(integration.verifiedAt),
    CreatedAt: new Date(integration.createdAt),
    UpdatedAt: new Date(integration.updatedAt),
  };
}
