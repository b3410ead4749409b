import { randomUUID } from "node:crypto";
import type { SealedValue, Secret, SecretVersion, ValueKind } from "../core/secret.ts";
import { cancelRetirement, retireGivenUp } from "./retirements.ts";
import type { Row, Sql, SqlValue } from "./sql.ts";

type SecretFields = Omit<Secret, "versions">;

/** Column of each field; JSON text and 0/1 columns are named below. */
const columnOf = {
  id: "id",
  region: "region",
  name: "name",
  arn: "arn",
  description: "description",
  kmsKeyId: "kms_key_id",
  policy: "policy",
  tags: "tags",
  type: "type",
  owningService: "owning_service",
  createdAt: "created_at",
  lastChangedAt: "last_changed_at",
  lastAccessedAt: "last_accessed_at",
  deletedAt: "deleted_at",
  purgeAt: "purge_at",
  primaryRegion: "primary_region",
  generation: "generation",
  rowVersion: "row_version",
  switchingUntil: "switching_until",
  switchedTo: "switched_to",
  rotationEnabled: "rotation_enabled",
  rotationFunctionArn: "rotation_function_arn",
  rotationRules: "rotation_rules",
  rotationPolicy: "rotation_policy",
  rotationPrincipal: "rotation_principal",
  externalRotation: "external_rotation",
  lastRotatedAt: "last_rotated_at",
  nextRotationAt: "next_rotation_at",
  rotationDueAt: "rotation_due_at",
  heartbeatDueAt: "heartbeat_due_at",
} as const satisfies Record<keyof SecretFields, string>;
const fields = Object.entries(columnOf) as [keyof SecretFields, string][];
const jsonFields: ReadonlySet<string> = new Set([
  "tags",
  "rotationRules",
  "rotationPolicy",
  "rotationPrincipal",
  "externalRotation",
]);

/** A secret keeps these for ever. */
const fixed: ReadonlySet<string> = new Set(["id", "region", "name", "arn", "createdAt"]);
const changing = fields.filter(([field]) => !fixed.has(field));
const insertText = `insert into secrets (${fields.map(([, column]) => column).join(", ")})
  values (${fields.map((_, index) => `$${index + 1}`).join(", ")})`;
const lockText = {
  sqlite: "select row_version from secrets where id = $1",
  postgres: "select row_version from secrets where id = $1 for update",
} as const;

interface VersionRow {
  secret_id: string;
  version_id: string;
  created_at: number;
  last_accessed_at: number | null;
  kind: ValueKind | null;
  key_id: string | null;
  digest: Uint8Array | null;
  stages: string | null;
}

/** Never part of a label (see the input schema). */
const separator = "\u001f";
const versionColumns = `v.secret_id, v.version_id, v.created_at, v.last_accessed_at, v.kind, v.key_id, v.digest,
  (select string_agg(l.label, '${separator}') from labels l where l.secret_id = v.secret_id and l.version_id = v.version_id) as stages`;

/** The secret that a SecretId names in this region: a name, a full ARN, or an ARN without its suffix. */
export async function findSecret(sql: Sql, region: string, secretId: string): Promise<Secret | undefined> {
  const id = await findSecretId(sql, region, secretId);
  return id === undefined ? undefined : loadSecret(sql, id);
}

async function findSecretId(sql: Sql, region: string, secretId: string): Promise<string | undefined> {
  if (!secretId.startsWith("arn:")) return idByName(sql, region, secretId);
  const [, , service, arnRegion, , type, ...rest] = secretId.split(":");
  if (service !== "secretsmanager" || type !== "secret" || arnRegion !== region) return undefined;
  const [exact] = await sql.query<{ id: string }>("select id from secrets where arn = $1", [secretId]);
  if (exact) return exact.id;
  const name = rest.join(":");
  // An ARN that ends like a full one is read as a full one. Source: user guide, troubleshooting, "partial ARN".
  if (/-[A-Za-z0-9]{6}$/.test(name)) return undefined;
  const id = await idByName(sql, region, name);
  if (id === undefined) return undefined;
  const [row] = await sql.query<{ arn: string }>("select arn from secrets where id = $1", [id]);
  return row?.arn.startsWith(`${secretId}-`) ? id : undefined;
}

async function idByName(sql: Sql, region: string, name: string): Promise<string | undefined> {
  const [row] = await sql.query<{ id: string }>("select id from secrets where region = $1 and name = $2", [region, name]);
  return row?.id;
}

export async function loadSecret(sql: Sql, id: string): Promise<Secret | undefined> {
  const [row] = await sql.query("select * from secrets where id = $1", [id]);
  if (!row) return undefined;
  const versions = await sql.query<VersionRow>(
    `select ${versionColumns} from versions v where v.secret_id = $1 order by v.created_at, v.version_id`,
    [id],
  );
  return toSecret(row, versions);
}

/** So many secrets' versions, of which each has some hundred at most, are read by one statement. */
const secretsAtOnce = 10;

/** Loads several, at most 1,000. Order is that of `ids`; absent ones are left out. */
export async function loadSecrets(sql: Sql, ids: readonly string[]): Promise<Secret[]> {
  if (ids.length === 0) return [];
  const source = sql.dialect === "sqlite" ? "(select value from json_each($1))" : "(select json_array_elements_text($1::json))";
  const rows = await sql.query(`select * from secrets where id in ${source}`, [JSON.stringify(ids)]);
  const versions: VersionRow[] = [];
  const distinct = [...new Set(ids)];
  for (let done = 0; done < distinct.length; done += secretsAtOnce) {
    const page = await sql.query<VersionRow>(
      `select ${versionColumns} from versions v where v.secret_id in ${source} order by v.created_at, v.version_id`,
      [JSON.stringify(distinct.slice(done, done + secretsAtOnce))],
    );
    versions.push(...page);
  }
  const versionsOf = Map.groupBy(versions, (version) => version.secret_id);
  const byId = new Map(rows.map((row) => [row.id, toSecret(row, versionsOf.get(String(row.id)) ?? [])]));
  return ids.flatMap((id) => byId.get(id) ?? []);
}

/** The stored value of a version; absent when the version is, or has no value yet. */
export async function loadValue(sql: Sql, secretId: string, versionId: string): Promise<SealedValue | undefined> {
  const [row] = await sql.query<{
    kind: ValueKind | null;
    sealed: Uint8Array;
    wrapped_data_key: Uint8Array;
    key_id: string;
    key_version: number;
    digest: Uint8Array;
  }>(
    "select kind, sealed, wrapped_data_key, key_id, key_version, digest from versions where secret_id = $1 and version_id = $2",
    [secretId, versionId],
  );
  if (!row?.kind) return undefined;
  return {
    kind: row.kind,
    sealed: row.sealed,
    wrappedDataKey: row.wrapped_data_key,
    keyId: row.key_id,
    keyVersion: row.key_version,
    digest: row.digest,
  };
}

/**
 * Locks the secret, lets `decide` (pure) say what it becomes, saves. Returns what was saved; `undefined` when it is gone.
 * `known`: the secret as read before; while its row version is still the same, it is not loaded again.
 */
export async function changeSecret(
  tx: Sql,
  id: string,
  decide: (before: Secret) => Secret,
  known?: Secret,
): Promise<Secret | undefined> {
  const [row] = await tx.query(lockText[tx.dialect], [id]);
  const before = known && row?.row_version === known.rowVersion ? known : await loadSecret(tx, id);
  if (!before) return undefined;
  const after = decide(before);
  return after === before ? before : saveSecret(tx, before, after);
}

/** Writes a new secret. A name that is taken makes the database refuse: look before, in the same transaction. */
export async function insertSecret(tx: Sql, secret: Secret): Promise<Secret> {
  await tx.query(
    insertText,
    fields.map(([field]) => toColumn(field, secret[field])),
  );
  await saveVersions(tx, { ...secret, versions: [] }, secret);
  return secret;
}

/** Removes a secret with its versions, labels, rotations and replica rows at once. */
export async function deleteSecretRow(tx: Sql, id: string): Promise<void> {
  await tx.query("delete from secrets where id = $1", [id]);
}

export const newSecretId = (): string => randomUUID();

async function saveSecret(tx: Sql, before: Secret, changed: Secret): Promise<Secret> {
  const after = { ...changed, rowVersion: before.rowVersion + 1 };
  // Only what is another value: a column that is set, though to the same, has all its indexes written.
  const changes = changing.filter(([field]) => after[field] !== before[field]);
  await tx.query(
    `update secrets set ${changes.map(([, column], index) => `${column} = $${index + 2}`).join(", ")} where id = $1`,
    [before.id, ...changes.map(([field]) => toColumn(field, after[field]))],
  );
  await saveVersions(tx, before, after);
  // Of a primary with replicas: every change is to be copied, so each copy is due at once.
  if (after.primaryRegion === after.region)
    await tx.query("update replicas set due_at = 0 where secret_id = $1 and due_at is null", [after.id]);
  return { ...after, versions: after.versions.map(asLoaded).sort(byAge) };
}

/** A version as it would be read again. */
function asLoaded(version: SecretVersion): SecretVersion {
  if (!version.newValue && version.stages.length < 2) return version;
  const { newValue, stages, ...rest } = version;
  return { ...rest, stages: stages.toSorted() };
}

function byAge(one: SecretVersion, other: SecretVersion): number {
  if (one.createdAt !== other.createdAt) return one.createdAt - other.createdAt;
  return one.id < other.id ? -1 : 1;
}

async function saveVersions(tx: Sql, before: Secret, after: Secret): Promise<void> {
  const kept = new Map(after.versions.map((version) => [version.id, version]));
  const known = new Map(before.versions.map((version) => [version.id, version]));
  for (const version of before.versions) if (!kept.has(version.id)) await deleteVersion(tx, before.id, version.id);
  for (const version of after.versions) if (version.newValue || !known.has(version.id)) await saveVersion(tx, after.id, version);
  await saveLabels(tx, before, after);
  await saveRetirements(tx, before, after);
}

/** Not before the end of its retirement: until then its credential lives at the target, and may be needed to end it. */
async function deleteVersion(tx: Sql, secretId: string, versionId: string): Promise<void> {
  const gone = await tx.query(
    `delete from versions where secret_id = $1 and version_id = $2 and not exists (select 1 from retirements r
       where r.secret_id = $1 and r.version_id = $2 and r.ended_at is null) returning version_id`,
    [secretId, versionId],
  );
  if (gone.length > 0) await tx.query("delete from last_reads where secret_id = $1 and version_id = $2", [secretId, versionId]);
}

async function saveVersion(tx: Sql, secretId: string, { id, createdAt, newValue }: SecretVersion): Promise<void> {
  await tx.query(
    `insert into versions (secret_id, version_id, created_at, kind, sealed, wrapped_data_key, key_id, key_version, digest)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
     on conflict (secret_id, version_id) do update set kind = excluded.kind, sealed = excluded.sealed,
       wrapped_data_key = excluded.wrapped_data_key, key_id = excluded.key_id, key_version = excluded.key_version, digest = excluded.digest`,
    [
      secretId,
      id,
      createdAt,
      newValue?.kind ?? null,
      newValue?.sealed ?? null,
      newValue?.wrappedDataKey ?? null,
      newValue?.keyId ?? null,
      newValue?.keyVersion ?? null,
      newValue?.digest ?? null,
    ],
  );
}

async function saveLabels(tx: Sql, before: Secret, after: Secret): Promise<void> {
  const [old, now] = [labelsOf(before), labelsOf(after)];
  for (const label of old.keys())
    if (!now.has(label)) await tx.query("delete from labels where secret_id = $1 and label = $2", [before.id, label]);
  const moved = [...now].filter(([label, versionId]) => old.get(label) !== versionId);
  if (moved.length === 0) return;
  await tx.query(
    `insert into labels (secret_id, label, version_id)
     values ${moved.map((_, index) => `($1, $${2 * index + 2}, $${2 * index + 3})`).join(", ")}
     on conflict (secret_id, label) do update set version_id = excluded.version_id`,
    [after.id, ...moved.flat()],
  );
}

/** What is in use again is not ended; what was made and given up before it was in use is. */
async function saveRetirements(tx: Sql, before: Secret, after: Secret): Promise<void> {
  for (const { id, stages, kind } of before.versions) {
    const now = after.versions.find((version) => version.id === id)?.stages;
    if (!now || kind === undefined) continue;
    const isCurrent = now.includes("AWSCURRENT");
    if (isCurrent && !stages.includes("AWSCURRENT")) await cancelRetirement(tx, after.id, id, after.lastChangedAt);
    if (!isCurrent && stages.includes("AWSPENDING") && !now.includes("AWSPENDING"))
      await retireGivenUp(tx, after.id, id, after.lastChangedAt);
  }
}

function labelsOf(secret: Secret): Map<string, string> {
  return new Map(secret.versions.flatMap((version) => version.stages.map((label) => [label, version.id] as const)));
}

function toSecret(row: Row, versions: readonly VersionRow[]): Secret {
  const read: Partial<Record<keyof SecretFields, unknown>> = {};
  for (const [field, column] of fields) read[field] = fromColumn(field, row[column] ?? null);
  return { ...(read as SecretFields), versions: versions.map(toVersion) };
}

function fromColumn(field: keyof SecretFields, value: SqlValue): unknown {
  if (value === null) return undefined;
  if (jsonFields.has(field)) return JSON.parse(String(value));
  return field === "rotationEnabled" ? value === 1 : value;
}

function toVersion(row: VersionRow): SecretVersion {
  return {
    id: row.version_id,
    createdAt: row.created_at,
    lastAccessedAt: row.last_accessed_at ?? undefined,
    stages: row.stages ? row.stages.split(separator).sort() : [],
    kind: row.kind ?? undefined,
    keyId: row.key_id ?? undefined,
    digest: row.digest ?? undefined,
  };
}

function toColumn(field: keyof SecretFields, value: SecretFields[keyof SecretFields]): SqlValue {
  if (value === undefined) return null;
  if (jsonFields.has(field)) return JSON.stringify(value);
  return typeof value === "boolean" ? Number(value) : (value as SqlValue);
}
