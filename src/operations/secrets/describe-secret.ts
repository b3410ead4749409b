import { z } from "zod";
import type { Secret } from "../../core/secret.ts";
import { listReplicas, type Replica } from "../../store/replicas.ts";
import { findSecret } from "../../store/secrets.ts";
import { secretId } from "../input.ts";
import { type Call, defineOperation } from "../operation.ts";
import { replicationStatus } from "./replication.ts";
import { existing, isReplica, type SecretResource, secretResource } from "./secret-resource.ts";

const input = z.object({ SecretId: secretId });

/** Everything about a secret but its value. Source: AWS API reference, DescribeSecret. */
export const describeSecret = defineOperation<z.infer<typeof input>, SecretResource>({
  name: "DescribeSecret",
  action: "secretsmanager:DescribeSecret",
  noun: "secrets",
  verb: "describe",
  mode: "read",
  summary: "Shows everything about a secret but its value.",
  input,
  resource: (request, call) => secretResource(request, call),
  async run(_request, found, call) {
    const secret = existing(found);
    const replicas = secret.primaryRegion !== undefined && !isReplica(secret) ? await listReplicas(call.sql, secret.id) : [];
    const statuses = await Promise.all(replicas.map((replica) => shownReplica(replica, secret, call)));
    return {
      ...shownSecret(secret),
      VersionIdsToStages: labelledVersions(secret),
      ReplicationStatus: statuses.length > 0 ? statuses : undefined,
    };
  },
});

async function shownReplica(replica: Replica, { name }: Secret, { sql }: Call): Promise<object> {
  const copy = await findSecret(sql, replica.region, name);
  const lastAccessedAt = copy && isReplica(copy) ? copy.lastAccessedAt : undefined;
  return { ...replicationStatus(replica), LastAccessedDate: date(lastAccessedAt) };
}

/** The members that DescribeSecret and ListSecrets share. */
export function shownSecret(secret: Secret) {
  return {
    ARN: secret.arn,
    Name: secret.name,
    Type: secret.type,
    Description: secret.description,
    KmsKeyId: secret.kmsKeyId,
    RotationEnabled: secret.rotationEnabled,
    RotationLambdaARN: secret.rotationFunctionArn,
    RotationRules: shownRules(secret),
    ExternalSecretRotationMetadata: secret.externalRotation?.metadata,
    ExternalSecretRotationRoleArn: secret.externalRotation?.roleArn,
    LastRotatedDate: date(secret.lastRotatedAt),
    LastChangedDate: new Date(secret.lastChangedAt),
    LastAccessedDate: date(secret.lastAccessedAt),
    DeletedDate: date(secret.deletedAt),
    NextRotationDate: secret.rotationEnabled ? date(secret.nextRotationAt) : undefined,
    Tags: secret.tags && Object.entries(secret.tags).map(([Key, Value]) => ({ Key, Value })),
    OwningService: secret.owningService,
    CreatedDate: new Date(secret.createdAt),
    PrimaryRegion: secret.primaryRegion,
  };
}

/** Versions with labels; absent when there is none. */
export function labelledVersions(secret: Secret): Record<string, readonly string[]> | undefined {
  const labelled = secret.versions.filter((version) => version.stages.length > 0);
  return labelled.length > 0 ? Object.fromEntries(labelled.map((version) => [version.id, version.stages])) : undefined;
}

function shownRules({ rotationRules }: Secret) {
  if (!rotationRules) return undefined;
  const { automaticallyAfterDays, duration, scheduleExpression } = rotationRules;
  return { AutomaticallyAfterDays: automaticallyAfterDays, Duration: duration, ScheduleExpression: scheduleExpression };
}

function date(atMs: number | undefined): Date | undefined {
  return atMs === undefined ? undefined : new Date(atMs);
}
