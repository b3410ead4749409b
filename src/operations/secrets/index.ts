import { batchGetSecretValue } from "./batch-get-secret-value.ts";
import { createSecret } from "./create-secret.ts";
import { deleteSecret, restoreSecret } from "./delete-secret.ts";
import { describeSecret } from "./describe-secret.ts";
import { getRandomPassword } from "./get-random-password.ts";
import { getSecretValue } from "./get-secret-value.ts";
import { listSecretVersionIds } from "./list-secret-version-ids.ts";
import { listSecrets } from "./list-secrets.ts";
import { putSecretValue } from "./put-secret-value.ts";
import { removeRegionsFromReplication, replicateSecretToRegions, stopReplicationToReplica } from "./replication.ts";
import { deleteResourcePolicy, getResourcePolicy, putResourcePolicy, validateResourcePolicy } from "./resource-policy.ts";
import { cancelRotateSecret, rotateSecret } from "./rotate-secret.ts";
import { tagResource, untagResource } from "./tagging.ts";
import { updateSecret } from "./update-secret.ts";
import { updateSecretVersionStage } from "./update-secret-version-stage.ts";

/** The 23 operations of AWS Secrets Manager, by name. */
export const awsOperations = [
  batchGetSecretValue,
  cancelRotateSecret,
  createSecret,
  deleteResourcePolicy,
  deleteSecret,
  describeSecret,
  getRandomPassword,
  getResourcePolicy,
  getSecretValue,
  listSecrets,
  listSecretVersionIds,
  putResourcePolicy,
  putSecretValue,
  removeRegionsFromReplication,
  replicateSecretToRegions,
  restoreSecret,
  rotateSecret,
  stopReplicationToReplica,
  tagResource,
  untagResource,
  updateSecret,
  updateSecretVersionStage,
  validateResourcePolicy,
];
