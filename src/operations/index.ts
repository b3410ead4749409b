import { agentOperations } from "./agents/index.ts";
import { auditOperations } from "./audit/index.ts";
import { configAccessOperations } from "./config-access/index.ts";
import { configsOperations } from "./configs/index.ts";
import { dynamicOperations } from "./dynamic/index.ts";
import { listEventsOperation } from "./events/list-events.ts";
import { functionOperations } from "./functions/index.ts";
import { identityOperations } from "./identity/index.ts";
import { keyOperations } from "./keys/index.ts";
import { networkOperations } from "./networks/index.ts";
import type { Operation } from "./operation.ts";
import { quarantineOperations } from "./quarantine/index.ts";
import { rotatedOperations } from "./rotated/rotated-secrets.ts";
import { adoptOperations } from "./rotations/adopt.ts";
import { listHeartbeatsOperation } from "./rotations/heartbeats.ts";
import { jobOperations } from "./rotations/jobs.ts";
import { retirementOperations } from "./rotations/retirements.ts";
import { getSecretCandidates } from "./secrets/get-secret-candidates.ts";
import { awsOperations } from "./secrets/index.ts";
import { listRotationsOperation } from "./secrets/list-rotations.ts";
import { rotationPolicyOperations } from "./secrets/rotation-policy.ts";
import { signingKeyOperations } from "./signing-keys/index.ts";
import { webhookOperations } from "./webhooks/index.ts";

/** Everything that callers may ask for, on one screen for all doors. */
export const operations: readonly Operation[] = [
  ...awsOperations,
  getSecretCandidates,
  listRotationsOperation,
  ...rotationPolicyOperations,
  ...quarantineOperations,
  ...jobOperations,
  ...adoptOperations,
  listHeartbeatsOperation,
  ...retirementOperations,
  ...functionOperations,
  ...networkOperations,
  ...agentOperations,
  ...keyOperations,
  ...signingKeyOperations,
  ...identityOperations,
  ...configAccessOperations,
  ...webhookOperations,
  ...configsOperations,
  ...dynamicOperations,
  ...rotatedOperations,
  ...auditOperations,
  listEventsOperation,
];
