import { z } from "zod";
import { formatArn, parseArn } from "../../core/arn.ts";
import { ServiceError } from "../../core/error.ts";
import { isRegion } from "../../core/region.ts";
import type { Secret } from "../../core/secret.ts";
import { defaultAlias } from "../../crypto/key-names.ts";
import { addEvent } from "../../store/events.ts";
import { listReplicas, putReplica, type Replica, removeReplica } from "../../store/replicas.ts";
import { changeSecret, deleteSecretRow, findSecret } from "../../store/secrets.ts";
import type { Sql } from "../../store/sql.ts";
import { kmsKeyId, maxListed, region, secretId } from "../input.ts";
import { type Call, defineOperation } from "../operation.ts";
import {
  isReplica,
  notFound,
  parameterContext,
  requirePrimary,
  requireUnmanaged,
  requireUsable,
  type SecretResource,
  secretResource,
  usable,
} from "./secret-resource.ts";
import { requireKeyAccess } from "./value.ts";

export const replicaRegions = z
  .array(z.object({ Region: region, KmsKeyId: kmsKeyId }))
  .min(1)
  .max(maxListed);
type ReplicaRegion = z.infer<typeof replicaRegions>[number];

const replicateInput = z.object({
  SecretId: secretId,
  AddReplicaRegions: replicaRegions,
  ForceOverwriteReplicaSecret: z.boolean().optional(),
});

/** Copies a secret to further regions and keeps the copies up to date. Source: AWS API reference, ReplicateSecretToRegions. */
export const replicateSecretToRegions = defineOperation<z.infer<typeof replicateInput>, SecretResource>({
  name: "ReplicateSecretToRegions",
  action: "secretsmanager:ReplicateSecretToRegions",
  noun: "secrets",
  verb: "replicate",
  mode: "write",
  summary: "Copies a secret to further regions and keeps the copies up to date.",
  input: replicateInput,
  resource: (request, call) => {
    const regions = request.AddReplicaRegions.map(({ Region }) => Region);
    const { ForceOverwriteReplicaSecret } = request;
    return secretResource(request, call, parameterContext({ AddReplicaRegions: regions, ForceOverwriteReplicaSecret }));
  },
  async run({ AddReplicaRegions, ForceOverwriteReplicaSecret = false }, found, call) {
    const primary = usable(found);
    requirePrimary(primary);
    checkReplicaRegions(AddReplicaRegions, call.region);
    await requireReplicaKeys(primary, AddReplicaRegions, call);
    const { id } = primary;
    const { secret, replicas } = await call.transaction(async (tx) => {
      const changed = await changePrimary(tx, id, call, (before) => ({ ...before, primaryRegion: call.region }));
      return {
        secret: changed,
        replicas: await insertReplicas(tx, changed, AddReplicaRegions, ForceOverwriteReplicaSecret, call.startedAt),
      };
    });
    call.services.wakeEngine();
    return { ARN: secret.arn, ReplicationStatus: replicas.map(replicationStatus) };
  },
});

const removeInput = z.object({ SecretId: secretId, RemoveReplicaRegions: z.array(region).min(1).max(maxListed) });

/** Deletes replicas at once. Source: AWS API reference, RemoveRegionsFromReplication. */
export const removeRegionsFromReplication = defineOperation<z.infer<typeof removeInput>, SecretResource>({
  name: "RemoveRegionsFromReplication",
  action: "secretsmanager:RemoveRegionsFromReplication",
  noun: "secrets",
  verb: "remove-replicas",
  mode: "write",
  summary: "Deletes a secret's replicas in the regions named.",
  input: removeInput,
  resource: (request, call) => secretResource(request, call),
  async run({ RemoveReplicaRegions }, found, call) {
    const primary = usable(found);
    requirePrimary(primary);
    const { id } = primary;
    const { secret, replicas } = await call.transaction(async (tx) => {
      const known = new Set((await listReplicas(tx, id)).map((replica) => replica.region));
      for (const name of RemoveReplicaRegions) {
        if (!known.has(name)) throw new ServiceError("InvalidParameterException", `The secret has no replica in region ${name}.`);
        const copy = await findSecret(tx, name, primary.name);
        if (copy && isReplica(copy) && copy.primaryRegion === call.region) await deleteSecretRow(tx, copy.id);
        await removeReplica(tx, id, name);
      }
      const left = await listReplicas(tx, id);
      const changed = await changePrimary(tx, id, call, (before) => ({
        ...before,
        primaryRegion: left.length > 0 ? before.primaryRegion : undefined,
      }));
      return { secret: changed, replicas: left };
    });
    return { ARN: secret.arn, ReplicationStatus: replicas.map(replicationStatus) };
  },
});

const stopInput = z.object({ SecretId: secretId });

/** Makes a replica a secret of its own; called in the replica's region. Source: AWS API reference, StopReplicationToReplica. */
export const stopReplicationToReplica = defineOperation<z.infer<typeof stopInput>, SecretResource>({
  name: "StopReplicationToReplica",
  action: "secretsmanager:StopReplicationToReplica",
  noun: "secrets",
  verb: "promote-replica",
  mode: "write",
  summary: "Makes a replica an independent secret; called in the replica's region.",
  input: stopInput,
  resource: (request, call) => secretResource(request, call),
  async run(_request, found, call) {
    const replica = usable(found);
    if (!isReplica(replica))
      throw new ServiceError("InvalidParameterException", "The secret is not a replica. Call in the replica's region.");
    const saved = await call.transaction(async (tx) => {
      await forgetReplica(tx, replica, call);
      const secret = await changeSecret(tx, replica.id, (before) => ({
        ...before,
        primaryRegion: undefined,
        lastChangedAt: call.startedAt,
      }));
      if (!secret) throw notFound();
      await addEvent(tx, {
        at: call.startedAt,
        type: "secret.promoted",
        resource: secret.arn,
        generation: secret.generation,
        detail: {},
      });
      return secret;
    });
    return { ARN: saved.arn };
  },
});

/** The primary does not copy to this replica's region any more. */
export async function forgetReplica(tx: Sql, replica: Secret, call: Call): Promise<void> {
  const primary = await findSecret(tx, replica.primaryRegion ?? "", replica.name);
  if (!primary) return;
  await removeReplica(tx, primary.id, replica.region);
  if ((await listReplicas(tx, primary.id)).length > 0) return;
  await changeSecret(tx, primary.id, (before) => ({ ...before, primaryRegion: undefined, lastChangedAt: call.startedAt }));
}

async function changePrimary(tx: Sql, id: string, call: Call, decide: (before: Secret) => Secret): Promise<Secret> {
  const secret = await changeSecret(tx, id, (before) => {
    requireUsable(before);
    requirePrimary(before);
    requireUnmanaged(before);
    return { ...decide(before), lastChangedAt: call.startedAt };
  });
  if (!secret) throw notFound();
  return secret;
}

/** @throws ServiceError InvalidParameterException for the own region, an unknown one, or one named twice */
export function checkReplicaRegions(regions: readonly ReplicaRegion[], own: string): void {
  const names = regions.map(({ Region }) => Region);
  if (names.some((name) => name === own || !isRegion(name)) || new Set(names).size < names.length)
    throw new ServiceError("InvalidParameterException", "Invalid replica region.");
}

/**
 * The copies are made later by the engine, which may use every key: whoever asks for them must be allowed to open the original
 * and to seal under the keys named. @throws ServiceError AccessDeniedException; InvalidParameterException for an unknown key
 */
export async function requireReplicaKeys(secret: Secret, regions: readonly ReplicaRegion[], call: Call): Promise<void> {
  const { keys } = call.services;
  await keys.refresh(); // the right to open is asked of each key, also of one that another process made just now
  const labelled = secret.versions.filter(({ stages }) => stages.length > 0);
  for (const id of new Set(labelled.map(({ keyId }) => keyId ?? ""))) {
    const key = regions.length > 0 ? keys.find(id) : undefined;
    if (key) requireKeyAccess(call, key, "kms:Decrypt", secret.arn);
  }
  for (const { Region, KmsKeyId } of regions) {
    const parts = parseArn(secret.arn);
    const arn = parts ? formatArn({ ...parts, region: Region }) : secret.arn;
    const key = KmsKeyId ? await keys.resolve(KmsKeyId, Region) : undefined;
    for (const action of ["kms:GenerateDataKey", "kms:Encrypt"]) if (key) requireKeyAccess(call, key, action, arn);
  }
}

export async function insertReplicas(
  tx: Sql,
  secret: Secret,
  regions: readonly ReplicaRegion[],
  forceOverwrite: boolean,
  nowMs: number,
): Promise<Replica[]> {
  for (const { Region, KmsKeyId } of regions)
    await putReplica(tx, { secretId: secret.id, region: Region, kmsKeyId: KmsKeyId || undefined, forceOverwrite }, nowMs);
  return regions.length > 0 ? listReplicas(tx, secret.id) : [];
}

export function replicationStatus({ region: name, kmsKeyId: key, status, statusMessage }: Replica) {
  return { Region: name, KmsKeyId: key ?? defaultAlias, Status: status, StatusMessage: statusMessage };
}
