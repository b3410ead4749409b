import type { Sql } from "./sql.ts";

/** Who manages the users of a rotated secret: sealed JSON of how that one logs in. */
export interface ManagingUser {
  /** The rotated secret's. */
  readonly id: string;
  readonly sealed: Uint8Array;
  readonly wrappedDataKey: Uint8Array;
  readonly keyId: string;
  readonly keyVersion: number;
}

/** What one is sealed under. */
export const managingUserContext = (id: string): Record<string, string> => ({ ManagingUserId: id });

/** It goes with its rotated secret. */
export async function insertManagingUser(tx: Sql, added: ManagingUser, at: number): Promise<void> {
  await tx.query(
    `insert into managing_users (id, sealed, wrapped_data_key, key_id, key_version, created_at) values ($1, $2, $3, $4, $5, $6)`,
    [added.id, added.sealed, added.wrappedDataKey, added.keyId, added.keyVersion, at],
  );
}

/** That of the rotated secret which shows a secret, with the kind of its integration. */
export async function managingUserOf(
  sql: Sql,
  secretId: string,
): Promise<{ readonly user: ManagingUser; readonly type: string } | undefined> {
  const [row] = await sql.query<{
    id: string;
    type: string;
    sealed: Uint8Array;
    wrapped_data_key: Uint8Array;
    key_id: string;
    key_version: number;
  }>(
    `select m.*, i.type from managing_users m join rotated_secrets r on r.id = m.id
       join integrations i on i.id = r.integration_id where r.secret_id = $1`,
    [secretId],
  );
  if (!row) return undefined;
  const { id, type, sealed, wrapped_data_key: wrappedDataKey, key_id: keyId, key_version: keyVersion } = row;
  return { user: { id, sealed, wrappedDataKey, keyId, keyVersion }, type };
}
