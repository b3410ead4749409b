import { ServiceError } from "../core/error.ts";
import { raiseIdentityVersion } from "./identity.ts";
import type { Sql } from "./sql.ts";

/** Whose tokens of an issuer stand for a service account. Audiences and subjects may hold `*`. */
export interface OidcIdentity {
  readonly id: string;
  /** The service account's. */
  readonly principalArn: string;
  readonly name: string;
  readonly providerArn: string;
  readonly audiences: readonly string[];
  readonly subjects: readonly string[];
  readonly ttlSeconds: number;
  readonly createdAt: number;
}

type IdentityRow = Omit<OidcIdentity, "audiences" | "subjects"> & { audiences: string; subjects: string };

const maxPerAccount = 100;
/** A client that got no answer asks again with the token it has. */
const maxUses = 5;
/** Longer than issuers let their tokens live. */
const usesKeptMs = 7 * 86_400_000;
const removedAtOnce = 100;
const columns = `id, principal_arn as "principalArn", name, provider_arn as "providerArn", audiences, subjects,
  ttl_seconds as "ttlSeconds", created_at as "createdAt"`;
const toIdentity = (row: IdentityRow): OidcIdentity => ({
  ...row,
  audiences: JSON.parse(row.audiences) as string[],
  subjects: JSON.parse(row.subjects) as string[],
});

/** @throws ServiceError LimitExceededException */
export async function insertOidcIdentity(tx: Sql, identity: OidcIdentity): Promise<void> {
  await raiseIdentityVersion(tx); // lets such transactions pass one at a time
  const { id, principalArn, name, providerArn, audiences, subjects, ttlSeconds, createdAt } = identity;
  if ((await listOidcIdentities(tx, principalArn)).length >= maxPerAccount)
    throw new ServiceError("LimitExceededException", `A service account can have ${maxPerAccount} OIDC identities.`);
  await tx.query(
    `insert into oidc_identities (id, principal_arn, name, provider_arn, audiences, subjects, ttl_seconds, created_at)
       values ($1, $2, $3, $4, $5, $6, $7, $8)`,
    [id, principalArn, name, providerArn, JSON.stringify(audiences), JSON.stringify(subjects), ttlSeconds, createdAt],
  );
}

export async function findOidcIdentity(sql: Sql, id: string): Promise<OidcIdentity | undefined> {
  const [row] = await sql.query<IdentityRow>(`select ${columns} from oidc_identities where id = $1`, [id]);
  return row && toIdentity(row);
}

/** Of one service account, by age. */
export async function listOidcIdentities(sql: Sql, principalArn: string): Promise<OidcIdentity[]> {
  const text = `select ${columns} from oidc_identities where principal_arn = $1 order by created_at, id`;
  return (await sql.query<IdentityRow>(text, [principalArn])).map(toIdentity);
}

/** Ends its tokens too. False when the service account has no such identity. */
export async function deleteOidcIdentity(tx: Sql, principalArn: string, id: string): Promise<boolean> {
  await raiseIdentityVersion(tx);
  const rows = await tx.query("delete from oidc_identities where id = $1 and principal_arn = $2 returning id", [
    id,
    principalArn,
  ]);
  if (rows.length === 0) return false;
  await tx.query("delete from tokens where principal_arn = $1 and kind = 'service_account_identity' and name = $2", [
    principalArn,
    id,
  ]);
  return true;
}

/**
 * Stores a short-lived token of an identity. Principals that are known stay known: nothing changes for them.
 * @throws ServiceError InvalidIdentityToken when the issuer's token, named by the hash of what it signs, was exchanged too often
 */
export async function insertIdentityToken(
  tx: Sql,
  { id, principalArn }: OidcIdentity,
  token: { hash: string; id: string; createdAt: number; expiresAt: number },
  tokenHash: string,
): Promise<void> {
  const { createdAt } = token;
  await tx.query(
    `delete from oidc_uses where token_hash in (select token_hash from oidc_uses where expires_at <= $1 order by expires_at limit $2)`,
    [createdAt, removedAtOnce],
  );
  const [row] = await tx.query<{ uses: number }>(
    `insert into oidc_uses (token_hash, uses, expires_at) values ($1, 1, $2)
       on conflict (token_hash) do update set uses = oidc_uses.uses + 1 returning uses`,
    [tokenHash, createdAt + usesKeptMs],
  );
  if (Number(row?.uses) > maxUses)
    throw new ServiceError("InvalidIdentityToken", "This web identity token was used too often; ask the issuer for another one.");
  await tx.query(
    `delete from tokens where hash in (select hash from tokens where principal_arn = $1 and kind = 'service_account_identity'
       and expires_at <= $2 limit $3)`,
    [principalArn, createdAt, removedAtOnce],
  );
  await tx.query(
    `insert into tokens (hash, id, principal_arn, kind, name, state, created_at, expires_at)
       values ($1, $2, $3, 'service_account_identity', $4, 'Active', $5, $6)`,
    [token.hash, token.id, principalArn, id, createdAt, token.expiresAt],
  );
}
