import { createHash } from "node:crypto";
import { ServiceError } from "../core/error.ts";
import { identityLimits, type TokenKind } from "../core/identity.ts";
import { raiseIdentityVersion } from "./identity.ts";
import type { Sql } from "./sql.ts";

export type CredentialState = "Active" | "Inactive";

/** A long-term access key without its secret. */
export interface AccessKey {
  readonly id: string;
  readonly principalArn: string;
  readonly state: CredentialState;
  readonly createdAt: number;
  readonly lastUsedAt: number | undefined;
}

/** The secret of an access key as kept: sealed under a ring key, encryption context `{AccessKeyId}`. */
export interface SealedSecret {
  readonly sealed: Uint8Array;
  readonly wrappedDataKey: Uint8Array;
  readonly keyId: string;
  readonly keyVersion: number;
}

/** A bearer token without itself: only its SHA-256 is kept. */
export interface Token {
  readonly id: string;
  readonly principalArn: string;
  readonly kind: TokenKind;
  readonly name: string;
  readonly state: CredentialState;
  readonly createdAt: number;
  readonly expiresAt: number | undefined;
  readonly lastUsedAt: number | undefined;
}

type Nullable<T, K extends keyof T> = Omit<T, K> & { readonly [P in K]: Exclude<T[P], undefined> | null };
type AccessKeyRow = Nullable<AccessKey, "lastUsedAt">;
type TokenRow = Nullable<Token, "lastUsedAt" | "expiresAt">;

const accessKeyColumns = `id, principal_arn as "principalArn", state, created_at as "createdAt", last_used_at as "lastUsedAt"`;
const tokenColumns = `id, principal_arn as "principalArn", kind, name, state, created_at as "createdAt",
  expires_at as "expiresAt", last_used_at as "lastUsedAt"`;

const toAccessKey = <R extends AccessKeyRow>(row: R) => ({ ...row, lastUsedAt: row.lastUsedAt ?? undefined });
const toToken = (row: TokenRow): Token => ({
  ...row,
  expiresAt: row.expiresAt ?? undefined,
  lastUsedAt: row.lastUsedAt ?? undefined,
});

/** @throws ServiceError LimitExceededException when the principal has two keys already. */
export async function createAccessKey(
  tx: Sql,
  key: { id: string; principalArn: string; createdAt: number; secret: SealedSecret },
): Promise<AccessKey> {
  await raiseIdentityVersion(tx);
  const existing = await listAccessKeys(tx, key.principalArn);
  if (existing.length >= identityLimits.accessKeysPerUser) {
    const limit = identityLimits.accessKeysPerUser;
    throw new ServiceError("LimitExceededException", `Cannot exceed quota for AccessKeysPerUser: ${limit}`);
  }
  const { sealed, wrappedDataKey, keyId, keyVersion } = key.secret;
  await tx.query(
    `insert into access_keys (id, principal_arn, sealed, wrapped_data_key, key_id, key_version, state, created_at)
       values ($1, $2, $3, $4, $5, $6, 'Active', $7)`,
    [key.id, key.principalArn, sealed, wrappedDataKey, keyId, keyVersion, key.createdAt],
  );
  return { id: key.id, principalArn: key.principalArn, state: "Active", createdAt: key.createdAt, lastUsedAt: undefined };
}

export async function findAccessKey(sql: Sql, id: string): Promise<(AccessKey & SealedSecret) | undefined> {
  const [row] = await sql.query<AccessKeyRow & SealedSecret>(
    `select ${accessKeyColumns}, sealed, wrapped_data_key as "wrappedDataKey", key_id as "keyId", key_version as "keyVersion"
       from access_keys where id = $1`,
    [id],
  );
  return row && toAccessKey(row);
}

export async function listAccessKeys(sql: Sql, principalArn: string): Promise<AccessKey[]> {
  const rows = await sql.query<AccessKeyRow>(
    `select ${accessKeyColumns} from access_keys where principal_arn = $1 order by created_at, id`,
    [principalArn],
  );
  return rows.map(toAccessKey);
}

/** False when the principal has no such key. */
export async function setAccessKeyState(tx: Sql, principalArn: string, id: string, state: CredentialState): Promise<boolean> {
  await raiseIdentityVersion(tx);
  const rows = await tx.query("update access_keys set state = $3 where id = $2 and principal_arn = $1 returning id", [
    principalArn,
    id,
    state,
  ]);
  return rows.length > 0;
}

/** False when the principal has no such key. */
export async function deleteAccessKey(tx: Sql, principalArn: string, id: string): Promise<boolean> {
  await raiseIdentityVersion(tx);
  const rows = await tx.query("delete from access_keys where id = $2 and principal_arn = $1 returning id", [principalArn, id]);
  return rows.length > 0;
}

/** How a token is kept: it is random enough that a plain hash cannot be searched. */
export const hashToken = (token: string): string => createHash("sha256").update(token).digest("hex");

/** @throws ServiceError LimitExceededException. */
export async function createToken(
  tx: Sql,
  token: {
    hash: string;
    id: string;
    principalArn: string;
    kind?: TokenKind;
    name: string;
    createdAt: number;
    expiresAt: number | undefined;
  },
): Promise<Token> {
  await raiseIdentityVersion(tx);
  const { kind = "personal" } = token;
  const existing = await listTokens(tx, token.principalArn);
  if (existing.length >= identityLimits.tokensPerPrincipal) {
    const limit = identityLimits.tokensPerPrincipal;
    throw new ServiceError("LimitExceededException", `Cannot exceed quota for TokensPerPrincipal: ${limit}`);
  }
  await tx.query(
    `insert into tokens (hash, id, principal_arn, kind, name, state, created_at, expires_at)
       values ($1, $2, $3, $4, $5, 'Active', $6, $7)`,
    [token.hash, token.id, token.principalArn, kind, token.name, token.createdAt, token.expiresAt ?? null],
  );
  const { hash: _, ...rest } = token;
  return { ...rest, kind, state: "Active", lastUsedAt: undefined };
}

export async function findToken(sql: Sql, hash: string): Promise<Token | undefined> {
  const [row] = await sql.query<TokenRow>(`select ${tokenColumns} from tokens where hash = $1`, [hash]);
  return row && toToken(row);
}

export async function findTokenById(sql: Sql, id: string): Promise<Token | undefined> {
  const [row] = await sql.query<TokenRow>(`select ${tokenColumns} from tokens where id = $1`, [id]);
  return row && toToken(row);
}

/** Gives a token another text; the old one is refused from the next request on. False when it is gone. */
export async function replaceToken(tx: Sql, id: string, before: string, hash: string): Promise<boolean> {
  await raiseIdentityVersion(tx);
  const rows = await tx.query("update tokens set hash = $3 where id = $1 and hash = $2 returning id", [id, before, hash]);
  return rows.length > 0;
}

/** Those that somebody made; short-lived ones that an issuer's tokens were exchanged for come and go by themselves. */
export async function listTokens(sql: Sql, principalArn: string): Promise<Token[]> {
  const rows = await sql.query<TokenRow>(
    `select ${tokenColumns} from tokens where principal_arn = $1 and kind <> 'service_account_identity' order by created_at, id`,
    [principalArn],
  );
  return rows.map(toToken);
}

/** False when the principal has no such token. */
export async function deleteToken(tx: Sql, principalArn: string, id: string): Promise<boolean> {
  await raiseIdentityVersion(tx);
  const rows = await tx.query("delete from tokens where id = $2 and principal_arn = $1 returning id", [principalArn, id]);
  return rows.length > 0;
}

/** When each credential was last used. Not a change of identity: caches stay. */
export async function saveLastUses(
  tx: Sql,
  uses: { accessKeys: ReadonlyMap<string, number>; tokens: ReadonlyMap<string, number> },
): Promise<void> {
  for (const [id, at] of uses.accessKeys)
    await tx.query("update access_keys set last_used_at = $2 where id = $1 and coalesce(last_used_at, 0) < $2", [id, at]);
  for (const [id, at] of uses.tokens)
    await tx.query("update tokens set last_used_at = $2 where id = $1 and coalesce(last_used_at, 0) < $2", [id, at]);
}
