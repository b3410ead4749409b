import type { Operation } from "../operation.ts";
import { dynamicSecretOperations } from "./dynamic-secrets.ts";
import { integrationOperations } from "./integrations.ts";
import { issueLease } from "./issue.ts";
import { leaseOperations } from "./leases.ts";
import { findOrphans } from "./orphans.ts";
import { revokeLeases } from "./revoke-leases.ts";

/** Integrations, dynamic secrets and their leases. */
export const dynamicOperations: readonly Operation[] = [
  ...integrationOperations,
  ...dynamicSecretOperations,
  issueLease,
  ...leaseOperations,
  revokeLeases,
  findOrphans,
];
