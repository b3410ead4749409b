import { formatArn, parseArn } from "../core/arn.ts";
import { ServiceError } from "../core/error.ts";
import { pauseMs } from "../core/rotation.ts";
import type { Secret, SecretVersion } from "../core/secret.ts";
import { addEvent } from "../store/events.ts";
import { dueReplicas, holdReplica, type Replica, type ReplicaOutcome, recordReplica } from "../store/replicas.ts";
import { changeSecret, deleteSecretRow, findSecret, insertSecret, loadSecret, newSecretId } from "../store/secrets.ts";
import type { Sql } from "../store/sql.ts";
import type { EngineParts } from "./parts.ts";
import { openVersion, sealVersion } from "./values.ts";

const pageSize = 20;

/** Brings replicas that are due up to their primary. True when there may be more. */
export async function copyDueReplicas(parts: EngineParts): Promise<boolean> {
  const due = await dueReplicas(parts.sql, parts.now(), pageSize);
  for (const replica of due) await copyOne(parts, replica);
  return due.length === pageSize;
}

async function copyOne(parts: EngineParts, replica: Replica): Promise<void> {
  const primary = await loadSecret(parts.sql, replica.secretId);
  if (!primary) return; // its replica rows went with it
  try {
    await copy(parts, primary, replica);
  } catch (error) {
    if (!(error instanceof ServiceError))
      parts.log.error({ err: error, replicaOf: primary.arn, region: replica.region }, "a replica was not copied");
    const message = error instanceof ServiceError ? error.message : "Internal error. The copy is tried again.";
    const retryAt = parts.now() + 1_000 + pauseMs(20, parts.random());
    await record(parts, replica, { status: "Failed", message, rowVersion: primary.rowVersion, retryAt });
  }
}

async function record({ sql, now }: EngineParts, replica: Replica, outcome: ReplicaOutcome): Promise<void> {
  await sql.transaction((tx) => recordReplica(tx, replica, outcome, now()));
}

/** Values are sealed anew for the replica's ARN and region's key before the transaction that writes them. */
async function copy(parts: EngineParts, primary: Secret, replica: Replica): Promise<void> {
  const existing = await findSecret(parts.sql, replica.region, primary.name);
  if (existing && existing.primaryRegion !== primary.region && !replica.forceOverwrite) {
    // Nothing to try again before somebody asks for it: the name is another secret's. Source: AWS API reference, ReplicationStatusType.
    const message = "Secret with this name already exists in this region";
    return record(parts, replica, { status: "Failed", message, rowVersion: primary.rowVersion });
  }
  const ours = existing?.primaryRegion === primary.region ? existing : undefined;
  const next = await copied(parts, primary, replica, ours);
  await parts.sql.transaction(async (tx) => {
    if (!(await holdReplica(tx, replica))) return;
    const now = await findSecret(tx, replica.region, primary.name);
    if (now?.id !== existing?.id || now?.rowVersion !== existing?.rowVersion) return; // stays due, for another look
    await writeCopy(tx, next, { ours, foreign: ours ? undefined : existing });
    await recordReplica(tx, replica, { status: "InSync", rowVersion: primary.rowVersion }, parts.now());
    if (!ours) {
      await addEvent(tx, {
        at: parts.now(),
        type: "secret.created",
        resource: next.arn,
        generation: next.generation,
        detail: { replicaOf: primary.arn },
      });
    }
  });
}

async function writeCopy(
  tx: Sql,
  next: Secret,
  { ours, foreign }: { ours: Secret | undefined; foreign: Secret | undefined },
): Promise<void> {
  if (foreign) await deleteSecretRow(tx, foreign.id);
  if (!ours) await insertSecret(tx, next);
  else await changeSecret(tx, ours.id, ({ rowVersion, lastAccessedAt }) => ({ ...next, rowVersion, lastAccessedAt }));
}

/** What the replica becomes: the primary's values, labels, tags and policy; its own key, id and dates of reading. */
async function copied(parts: EngineParts, primary: Secret, replica: Replica, ours: Secret | undefined): Promise<Secret> {
  const { name, description, policy, tags, type, owningService, createdAt, lastChangedAt, generation } = primary;
  const place = { region: replica.region, arn: arnIn(primary.arn, replica.region), kmsKeyId: replica.kmsKeyId };
  const about = { name, description, policy, tags, type, owningService, createdAt, lastChangedAt, generation };
  const shell: Secret = {
    id: ours?.id ?? newSecretId(),
    rowVersion: 1,
    primaryRegion: primary.region,
    ...about,
    ...place,
    versions: [],
  };
  const versions: SecretVersion[] = [];
  for (const version of primary.versions) {
    if (version.stages.length > 0) versions.push(await copiedVersion(parts, { primary, shell, ours }, version));
  }
  return { ...shell, versions };
}

interface Between {
  readonly primary: Secret;
  readonly shell: Secret;
  readonly ours: Secret | undefined;
}

async function copiedVersion(
  parts: EngineParts,
  { primary, shell, ours }: Between,
  version: SecretVersion,
): Promise<SecretVersion> {
  const known = ours?.versions.find(({ id }) => id === version.id);
  const sameKey = ours?.kmsKeyId === shell.kmsKeyId;
  if (known?.kind && sameKey) return { ...known, stages: version.stages }; // a version's value never changes
  const value = await openVersion(parts, primary, version.id);
  const { id, createdAt, stages } = version;
  if (!value) return { id, createdAt, stages };
  const newValue = await sealVersion(parts, shell, id, value);
  return { id, createdAt, stages, kind: newValue.kind, keyId: newValue.keyId, digest: newValue.digest, newValue };
}

function arnIn(arn: string, region: string): string {
  const parts = parseArn(arn);
  return parts ? formatArn({ ...parts, region }) : arn;
}
