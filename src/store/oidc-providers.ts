import { ServiceError } from "../core/error.ts";
import { identityLimits, oidcProviderArn } from "../core/identity.ts";
import { raiseIdentityVersion } from "./identity.ts";
import type { Sql } from "./sql.ts";

/** An issuer whose tokens AssumeRoleWithWebIdentity takes, when made for one of the client ids. */
export interface OidcProvider {
  readonly arn: string;
  /** As the token's `iss` has it. */
  readonly url: string;
  readonly clientIds: readonly string[];
  readonly createdAt: number;
}

interface ProviderRow {
  readonly arn: string;
  readonly url: string;
  readonly clientIds: string;
  readonly createdAt: number;
}
const columns = `arn, url, client_ids as "clientIds", created_at as "createdAt"`;
const toProvider = (row: ProviderRow): OidcProvider => ({ ...row, clientIds: JSON.parse(row.clientIds) as string[] });

/** @throws ServiceError ResourceExistsException, LimitExceededException. */
export async function createOidcProvider(
  tx: Sql,
  account: string,
  { url, clientIds, createdAt }: Omit<OidcProvider, "arn">,
): Promise<OidcProvider> {
  await raiseIdentityVersion(tx);
  const arn = oidcProviderArn(account, url);
  const existing = await listOidcProviders(tx);
  if (existing.some((one) => one.arn === arn)) {
    throw new ServiceError("ResourceExistsException", `Provider with url ${url} already exists.`);
  }
  if (existing.length >= identityLimits.oidcProviders) {
    const limit = identityLimits.oidcProviders;
    throw new ServiceError("LimitExceededException", `Cannot exceed quota for OpenIdConnectProvidersPerAccount: ${limit}`);
  }
  await tx.query("insert into oidc_providers (arn, url, client_ids, created_at) values ($1, $2, $3, $4)", [
    arn,
    url,
    JSON.stringify(clientIds),
    createdAt,
  ]);
  return { arn, url, clientIds, createdAt };
}

/** By the exact `iss` of a token. */
export async function findOidcProvider(sql: Sql, url: string): Promise<OidcProvider | undefined> {
  const [row] = await sql.query<ProviderRow>(`select ${columns} from oidc_providers where url = $1`, [url]);
  return row && toProvider(row);
}

export async function listOidcProviders(sql: Sql): Promise<OidcProvider[]> {
  const rows = await sql.query<ProviderRow>(`select ${columns} from oidc_providers order by arn`);
  return rows.map(toProvider);
}

/** False when there is no such provider. */
export async function deleteOidcProvider(tx: Sql, arn: string): Promise<boolean> {
  await raiseIdentityVersion(tx);
  const rows = await tx.query("delete from oidc_providers where arn = $1 returning arn", [arn]);
  return rows.length > 0;
}
