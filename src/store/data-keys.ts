import { encryptionContext } from "../core/value-context.ts";
import type { Sql } from "./sql.ts";

/** Where sealed values are. */
export type SealedTable = "versions" | keyof typeof oneColumn;
export const sealedTables = (): readonly SealedTable[] => ["versions", ...(Object.keys(oneColumn) as (keyof typeof oneColumn)[])];

/** A wrapped data key and what it belongs to. */
export interface StoredDataKey {
  readonly table: SealedTable;
  /** Primary key of its row. */
  readonly row: readonly string[];
  readonly createdAt: number;
  readonly keyVersion: number;
  readonly wrappedDataKey: Uint8Array;
  /** What it was wrapped under. */
  readonly context: Record<string, string>;
}

export interface DataKeyQuery {
  readonly table: StoredDataKey["table"];
  /** Of the ring key. */
  readonly keyId: string;
  readonly belowVersion: number;
  /** The last one of the page before. */
  readonly after: StoredDataKey | undefined;
  /** At most 1,000. */
  readonly limit: number;
}

/** Data keys that earlier versions of a ring key wrap, a page at a time. */
export async function outdatedDataKeys(sql: Sql, query: DataKeyQuery): Promise<StoredDataKey[]> {
  return query.table === "versions" ? ofVersions(sql, query) : ofOneColumn(sql, query.table, query);
}

async function ofVersions(sql: Sql, { keyId, belowVersion, after, limit }: DataKeyQuery): Promise<StoredDataKey[]> {
  const rows = await sql.query<{
    secret_id: string;
    version_id: string;
    created_at: number;
    key_version: number;
    wrapped_data_key: Uint8Array;
    arn: string;
  }>(
    `select v.secret_id, v.version_id, v.created_at, v.key_version, v.wrapped_data_key, s.arn
     from versions v join secrets s on s.id = v.secret_id
     where v.key_id = $1 and v.key_version < $2 and (v.key_version, v.created_at, v.secret_id, v.version_id) > ($3, $4, $5, $6)
     order by v.key_version, v.created_at, v.secret_id, v.version_id limit $7`,
    [keyId, belowVersion, after?.keyVersion ?? 0, after?.createdAt ?? 0, after?.row[0] ?? "", after?.row[1] ?? "", limit],
  );
  return rows.map((row) => ({
    table: "versions",
    row: [row.secret_id, row.version_id],
    createdAt: row.created_at,
    keyVersion: row.key_version,
    wrappedDataKey: row.wrapped_data_key,
    context: encryptionContext(row.arn, row.version_id),
  }));
}

/** Tables whose primary key is one column, and what that is called in the encryption context. */
const oneColumn = {
  access_keys: { column: "id", named: "AccessKeyId" },
  functions: { column: "arn", named: "FunctionARN" },
  config_versions: { column: "id", named: "ConfigVersionId" },
  integration_versions: { column: "id", named: "IntegrationVersionId" },
  leases: { column: "id", named: "LeaseId" },
  managing_users: { column: "id", named: "ManagingUserId" },
  webhooks: { column: "id", named: "WebhookId" },
  signing_keys: { column: "kid", named: "SigningKeyId" },
} as const;

async function ofOneColumn(
  sql: Sql,
  table: keyof typeof oneColumn,
  { keyId, belowVersion, after, limit }: DataKeyQuery,
): Promise<StoredDataKey[]> {
  const { column, named } = oneColumn[table];
  const rows = await sql.query<{ id: string; created_at: number; key_version: number; wrapped_data_key: Uint8Array }>(
    `select ${column} as id, created_at, key_version, wrapped_data_key from ${table}
     where key_id = $1 and key_version < $2 and (key_version, ${column}) > ($3, $4) order by key_version, ${column} limit $5`,
    [keyId, belowVersion, after?.keyVersion ?? 0, after?.row[0] ?? "", limit],
  );
  return rows.map((row) => ({
    table,
    row: [row.id],
    createdAt: row.created_at,
    keyVersion: row.key_version,
    wrappedDataKey: row.wrapped_data_key,
    context: { [named]: row.id },
  }));
}

/** Puts a data key that was wrapped anew in the place of the old one, unless that is another one by now. */
export async function replaceDataKey(
  tx: Sql,
  { table, row, wrappedDataKey: before }: StoredDataKey,
  { wrappedDataKey, keyId, keyVersion }: { wrappedDataKey: Uint8Array; keyId: string; keyVersion: number },
): Promise<void> {
  const place = table === "versions" ? "secret_id = $5 and version_id = $6" : `${oneColumn[table].column} = $5`;
  await tx.query(
    `update ${table} set wrapped_data_key = $1, key_id = $2, key_version = $3 where wrapped_data_key = $4 and ${place}`,
    [wrappedDataKey, keyId, keyVersion, before, ...row],
  );
}
