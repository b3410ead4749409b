import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import type { Lease } from "../../core/lease.ts";
import { leaseArn } from "../../core/rekey-arn.ts";
import { loadDynamicSecret } from "../../store/dynamic-secrets.ts";
import { findLease } from "../../store/leases.ts";
import type { Call, Resource } from "../operation.ts";

export const leaseId = z.string().min(1).max(64);
export const byId = z.object({ LeaseId: leaseId });

/** A lease as authorization sees it, whether it exists or not. */
export interface LeaseResource extends Resource {
  readonly lease: Lease | undefined;
}

/** Below its config as that is called now, which a refusal does not tell. Condition keys: `rekey:LeasePrincipal`, who issued it, and `rekey:Workload`. */
export async function leaseResource({ LeaseId }: { LeaseId: string }, call: Call): Promise<LeaseResource> {
  const lease = await findLease(call.sql, LeaseId);
  if (!lease) {
    const arn = leaseArn(call.services, "-", "-", "-", LeaseId);
    return { arn, shown: LeaseId, context: {}, lease };
  }
  const secret = await loadDynamicSecret(call.sql, lease.dynamicSecretId);
  const { id, project, config, dynamicSecret, principal, workload } = lease;
  const arn = leaseArn(call.services, project, secret?.config ?? config, dynamicSecret, id);
  const context = { "rekey:LeasePrincipal": [principal], ...(workload === undefined ? {} : { "rekey:Workload": [workload] }) };
  return { arn, shown: LeaseId, context, lease };
}

/** @throws ServiceError ResourceNotFoundException */
export function existing({ lease }: LeaseResource): Lease {
  if (!lease) throw noLease();
  return lease;
}

export function noLease(): ServiceError {
  return new ServiceError("ResourceNotFoundException", "There is no such lease; ended ones are kept as long as other history.");
}
