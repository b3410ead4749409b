import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import { addEvent } from "../../store/events.ts";
import { listReplicas } from "../../store/replicas.ts";
import { cancelRotation } from "../../store/rotations.ts";
import { changeSecret, deleteSecretRow, loadSecret } from "../../store/secrets.ts";
import type { Sql } from "../../store/sql.ts";
import { secretId } from "../input.ts";
import { type Call, defineOperation } from "../operation.ts";
import { forgetReplica } from "./replication.ts";
import {
  existing,
  isReplica,
  nameArn,
  notFound,
  parameterContext,
  requireUnmanaged,
  requireUsable,
  type SecretResource,
  secretResource,
} from "./secret-resource.ts";

const dayMs = 86_400_000;
const defaultWindowDays = 30;

const deleteInput = z.object({
  SecretId: secretId,
  RecoveryWindowInDays: z.number().int().optional(),
  ForceDeleteWithoutRecovery: z.boolean().optional(),
});
type DeleteInput = z.infer<typeof deleteInput>;

/** Schedules a secret for deletion, or removes it at once. Source: AWS API reference, DeleteSecret. */
export const deleteSecret = defineOperation<DeleteInput, SecretResource>({
  name: "DeleteSecret",
  action: "secretsmanager:DeleteSecret",
  noun: "secrets",
  verb: "delete",
  mode: "write",
  summary: "Schedules a secret for deletion after a recovery window of 7 to 30 days, or removes it at once.",
  input: deleteInput,
  check({ RecoveryWindowInDays: days, ForceDeleteWithoutRecovery: force }) {
    if (force && days !== undefined)
      throw new ServiceError(
        "InvalidParameterException",
        "You can't use ForceDeleteWithoutRecovery in conjunction with RecoveryWindowInDays.",
      );
    if (days !== undefined && (days < 7 || days > 30))
      throw new ServiceError(
        "InvalidParameterException",
        "The RecoveryWindowInDays value must be between 7 and 30 days (inclusive).",
      );
  },
  resource: ({ SecretId, RecoveryWindowInDays, ForceDeleteWithoutRecovery }, call) =>
    secretResource({ SecretId }, call, parameterContext({ RecoveryWindowInDays, ForceDeleteWithoutRecovery })),
  async run(request, found, call) {
    if (!found.secret && request.ForceDeleteWithoutRecovery) return neverThere(request.SecretId, found.arn, call);
    const secret = existing(found);
    const atOnce = request.ForceDeleteWithoutRecovery || isReplica(secret);
    const days = request.RecoveryWindowInDays ?? defaultWindowDays;
    const deletionAt = atOnce ? call.startedAt : call.startedAt + days * dayMs;
    await call.transaction((tx) => (atOnce ? remove(tx, secret.id, call) : schedule(tx, secret.id, deletionAt, call)));
    return { ARN: secret.arn, Name: secret.name, DeletionDate: new Date(deletionAt) };
  },
});

async function remove(tx: Sql, id: string, call: Call): Promise<void> {
  const secret = await loadSecret(tx, id);
  if (!secret) return;
  requireUnmanaged(secret);
  await refuseWithReplicas(tx, id, secret.name);
  if (isReplica(secret)) await forgetReplica(tx, secret, call);
  await deleteSecretRow(tx, id);
  await addEvent(tx, {
    at: call.startedAt,
    type: "secret.removed",
    resource: secret.arn,
    generation: secret.generation,
    detail: {},
  });
}

async function schedule(tx: Sql, id: string, purgeAt: number, call: Call): Promise<void> {
  await refuseWithReplicas(tx, id, (await loadSecret(tx, id))?.name ?? "");
  const secret = await changeSecret(tx, id, (before) => {
    requireUsable(before);
    requireUnmanaged(before);
    return { ...before, deletedAt: call.startedAt, purgeAt, rotationDueAt: undefined };
  });
  if (!secret) throw notFound();
  await cancelRotation(tx, id, call.startedAt);
  await addEvent(tx, {
    at: call.startedAt,
    type: "secret.deleted",
    resource: secret.arn,
    generation: secret.generation,
    detail: { purgeAt },
  });
}

async function refuseWithReplicas(tx: Sql, id: string, name: string): Promise<void> {
  const regions = (await listReplicas(tx, id)).map(({ region }) => region);
  if (regions.length > 0)
    throw new ServiceError(
      "InvalidParameterException",
      `You can't delete secret ${name} that still has replica regions [${regions.join(", ")}]`,
    );
}

/** A forced deletion of what is not there succeeds: the caller wanted it gone. */
function neverThere(id: string, arn: string, call: Call): object {
  const full = id.startsWith("arn:") ? arn : nameArn(id, call, "000000");
  return {
    ARN: full,
    Name: id.startsWith("arn:") ? (arn.split(":secret:")[1] ?? id).replace(/-[A-Za-z0-9]{6}$/, "") : id,
    DeletionDate: new Date(call.startedAt),
  };
}

const restoreInput = z.object({ SecretId: secretId });

/** Takes back a scheduled deletion. Source: AWS API reference, RestoreSecret. */
export const restoreSecret = defineOperation<z.infer<typeof restoreInput>, SecretResource>({
  name: "RestoreSecret",
  action: "secretsmanager:RestoreSecret",
  noun: "secrets",
  verb: "restore",
  mode: "write",
  summary: "Takes back the scheduled deletion of a secret.",
  input: restoreInput,
  resource: (request, call) => secretResource(request, call),
  async run(_request, found, call) {
    const { id } = existing(found);
    const saved = await call.transaction(async (tx) => {
      const secret = await changeSecret(tx, id, (before) =>
        before.deletedAt === undefined
          ? before
          : call.services.reschedule({ ...before, deletedAt: undefined, purgeAt: undefined }, call.startedAt),
      );
      if (!secret) throw notFound();
      await addEvent(tx, {
        at: call.startedAt,
        type: "secret.restored",
        resource: secret.arn,
        generation: secret.generation,
        detail: {},
      });
      return secret;
    });
    return { ARN: saved.arn, Name: saved.name };
  },
});
