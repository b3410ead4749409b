import { auditOperations } from "./audit/index.ts";
import { identityOperations } from "./identity/index.ts";
import { keyOperations } from "./keys/index.ts";
import type { Operation } from "./operation.ts";
import { awsOperations } from "./secrets/index.ts";
import { listRotationsOperation } from "./secrets/list-rotations.ts";
import { rotationPolicyOperations } from "./secrets/rotation-policy.ts";

/** Everything that callers may ask for, on one screen for all doors. */
export const operations: readonly Operation[] = [
  ...awsOperations,
  listRotationsOperation,
  ...rotationPolicyOperations,
  ...keyOperations,
  ...identityOperations,
  ...auditOperations,
];
