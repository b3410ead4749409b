import { z } from "zod";
import { dynamicSecretArn } from "../../core/rekey-arn.ts";
import type { Config } from "../../store/configs.ts";
import { type DynamicSecret, dynamicSecretsOf } from "../../store/dynamic-secrets.ts";
import { ttlSeconds, workload } from "../dynamic/dynamic-secret-input.ts";
import { issueLeases } from "../dynamic/issue.ts";
import type { Call } from "../operation.ts";

/** Inputs of what may issue leases along with values. */
export const leaseMembers = {
  IncludeDynamicSecrets: z.boolean().default(false),
  DynamicSecretsTtlSeconds: ttlSeconds.optional(),
  Workload: workload.optional(),
};

export interface LeaseRequest {
  readonly IncludeDynamicSecrets: boolean;
  readonly DynamicSecretsTtlSeconds?: number | undefined;
  readonly Workload?: string | undefined;
  readonly Names?: readonly string[] | undefined;
}

/**
 * The dynamic secrets that a request wants leases of: all of the config, or those of which it names a field. Empty: none.
 * @throws ServiceError AccessDeniedException when the caller may not have one
 */
export async function askedDynamicSecrets(call: Call, config: Config, request: LeaseRequest): Promise<DynamicSecret[]> {
  if (!request.IncludeDynamicSecrets) return [];
  const all = await dynamicSecretsOf(call.sql, config.id);
  const { Names } = request;
  const asked = Names ? all.filter(({ name }) => Names.some((each) => each.startsWith(`${name}_`))) : all;
  for (const { name } of asked) {
    const arn = dynamicSecretArn(call.services, config.projectId, config.name, name);
    const refusal = call.may("rekey:IssueLease", { arn, shown: arn, context: {} });
    if (refusal) throw refusal;
  }
  return asked;
}

/** Issues a lease of each; `NAME_FIELD` → value. They are the caller's when this resolves: an answer must follow. */
export async function leasedFields(
  call: Call,
  dynamicSecrets: readonly DynamicSecret[],
  { DynamicSecretsTtlSeconds, Workload }: LeaseRequest,
): Promise<ReadonlyMap<string, string>> {
  const { fields, finish } = await issueLeases(call, dynamicSecrets, {
    ttlSeconds: DynamicSecretsTtlSeconds,
    workload: Workload,
  });
  await call.transaction(finish);
  return new Map(Object.entries(fields));
}
