import type { JWK } from "jose";
import type { SigningKeyRecord } from "../core/signing-key.ts";
import type { Sql } from "./sql.ts";

/** The private half: a JWK, sealed. */
export interface SealedSigningKey {
  readonly sealed: Uint8Array;
  readonly wrappedDataKey: Uint8Array;
  readonly keyId: string;
  readonly keyVersion: number;
}

export const signingKeyContext = (kid: string): Record<string, string> => ({ SigningKeyId: kid });

interface Row {
  kid: string;
  sequence: number;
  public_key: string;
  created_at: number;
  signs_from_at: number;
  served_until_at: number | null;
  endorsement: string | null;
}

/** Oldest first, also those that ended; of more than a thousand the newest. */
export async function listSigningKeys(sql: Sql): Promise<SigningKeyRecord[]> {
  const rows = await sql.query<Row>(
    `select kid, sequence, public_key, created_at, signs_from_at, served_until_at, endorsement from signing_keys order by sequence desc limit 1000`,
  );
  return rows.reverse().map((row) => ({
    sequence: row.sequence,
    kid: row.kid,
    publicKey: JSON.parse(row.public_key) as JWK,
    createdAt: row.created_at,
    signsFromAt: row.signs_from_at,
    servedUntilAt: row.served_until_at ?? undefined,
    endorsement: row.endorsement ?? undefined,
  }));
}

/** False when there is one of this number already. */
export async function insertSigningKey(
  tx: Sql,
  key: SigningKeyRecord,
  { sealed, wrappedDataKey, keyId, keyVersion }: SealedSigningKey,
): Promise<boolean> {
  const rows = await tx.query(
    `insert into signing_keys (kid, sequence, public_key, sealed, wrapped_data_key, key_id, key_version, created_at, signs_from_at, endorsement)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) on conflict do nothing returning kid`,
    [
      key.kid,
      key.sequence,
      JSON.stringify(key.publicKey),
      sealed,
      wrappedDataKey,
      keyId,
      keyVersion,
      key.createdAt,
      key.signsFromAt,
      key.endorsement ?? null,
    ],
  );
  return rows.length > 0;
}

/** The private half of one; `undefined` when it ended, or was never there. */
export async function findSealedSigningKey(
  sql: Sql,
  kid: string,
): Promise<Pick<SealedSigningKey, "sealed" | "wrappedDataKey"> | undefined> {
  const [row] = await sql.query<{ sealed: Uint8Array; wrapped_data_key: Uint8Array }>(
    "select sealed, wrapped_data_key from signing_keys where kid = $1 and sealed is not null",
    [kid],
  );
  return row && { sealed: row.sealed, wrappedDataKey: row.wrapped_data_key };
}

/** How long one is served now that there is a next one. */
export async function endServing(tx: Sql, kid: string, servedUntilAt: number): Promise<void> {
  await tx.query("update signing_keys set served_until_at = $1 where kid = $2", [servedUntilAt, kid]);
}

/** Forgets the private halves of keys that nobody is to believe any more. */
export async function forgetEndedSigningKeys(tx: Sql, nowMs: number): Promise<void> {
  await tx.query(
    `update signing_keys set sealed = null, wrapped_data_key = null, key_id = null, key_version = null
     where served_until_at <= $1 and key_id is not null`,
    [nowMs],
  );
}
