import { ServiceError } from "../core/error.ts";
import type { BoundConfig } from "../core/principal.ts";
import type { ServiceTokenAccess } from "../core/service-token.ts";
import { raiseIdentityVersion } from "./identity.ts";
import type { Sql } from "./sql.ts";

/** A token of one config, without itself. */
export interface ServiceToken {
  readonly id: string;
  readonly configId: string;
  readonly name: string;
  readonly access: ServiceTokenAccess;
  /** ARN of whoever made it. */
  readonly createdBy: string;
  readonly createdAt: number;
  readonly expiresAt: number | undefined;
  readonly lastUsedAt: number | undefined;
}

interface ServiceTokenRow extends Omit<ServiceToken, "expiresAt" | "lastUsedAt"> {
  readonly expiresAt: number | null;
  readonly lastUsedAt: number | null;
}

const maxPerConfig = 500;
const columns = `s.id, s.config_id as "configId", s.name, s.access, s.created_by as "createdBy", s.created_at as "createdAt",
  t.expires_at as "expiresAt", t.last_used_at as "lastUsedAt"`;

const toServiceToken = (row: ServiceTokenRow): ServiceToken => ({
  ...row,
  expiresAt: row.expiresAt ?? undefined,
  lastUsedAt: row.lastUsedAt ?? undefined,
});

/** @throws ServiceError LimitExceededException; ResourceNotFoundException when the config is gone by now. */
export async function createServiceToken(
  tx: Sql,
  { hash, arn, ...token }: Omit<ServiceToken, "lastUsedAt"> & { readonly hash: string; readonly arn: string },
): Promise<void> {
  await raiseIdentityVersion(tx);
  const [config] = await tx.query("select 1 as found from configs where id = $1", [token.configId]);
  if (!config) throw new ServiceError("ResourceNotFoundException", "The config does not exist any more.");
  const [row] = await tx.query<{ count: number }>("select count(*) as count from service_tokens where config_id = $1", [
    token.configId,
  ]);
  if (Number(row?.count) >= maxPerConfig)
    throw new ServiceError("LimitExceededException", `A config can have ${maxPerConfig} service tokens.`);
  await tx.query(
    `insert into service_tokens (id, config_id, name, access, created_by, created_at) values ($1, $2, $3, $4, $5, $6)`,
    [token.id, token.configId, token.name, token.access, token.createdBy, token.createdAt],
  );
  await tx.query(
    `insert into tokens (hash, id, principal_arn, kind, name, state, created_at, expires_at)
       values ($1, $2, $3, 'service', $4, 'Active', $5, $6)`,
    [hash, token.id, arn, token.name, token.createdAt, token.expiresAt ?? null],
  );
}

/** A config's tokens, by age. */
export async function listServiceTokens(sql: Sql, configId: string): Promise<ServiceToken[]> {
  const rows = await sql.query<ServiceTokenRow>(
    `select ${columns} from service_tokens s join tokens t on t.id = s.id where s.config_id = $1 order by s.created_at, s.id`,
    [configId],
  );
  return rows.map(toServiceToken);
}

/** The config that a token is for, by its current names, and what it may do there; undefined when either is gone. */
export async function loadServiceToken(
  sql: Sql,
  id: string,
): Promise<{ readonly name: string; readonly access: ServiceTokenAccess; readonly bound: BoundConfig } | undefined> {
  const [row] = await sql.query<BoundConfig & { name: string; access: ServiceTokenAccess }>(
    `select s.name, s.access, c.id as "configId", c.project_id as project, c.environment, c.name as config
       from service_tokens s join configs c on c.id = s.config_id where s.id = $1`,
    [id],
  );
  if (!row) return undefined;
  const { name, access, ...bound } = row;
  return { name, access, bound };
}

/** By its id, or by the hash of the token itself. The id of the one that was there; undefined when the config has no such token. */
export async function deleteServiceToken(
  tx: Sql,
  configId: string,
  by: { readonly id: string } | { readonly hash: string },
): Promise<{ readonly id: string; readonly name: string } | undefined> {
  await raiseIdentityVersion(tx);
  const [column, value] = "id" in by ? ["id", by.id] : ["hash", by.hash];
  const [found] = await tx.query<{ id: string; name: string }>(
    `select s.id, s.name from service_tokens s join tokens t on t.id = s.id where s.config_id = $1 and t.${column} = $2`,
    [configId, value],
  );
  if (!found) return undefined;
  await tx.query("delete from tokens where id = $1 and kind = 'service'", [found.id]);
  await tx.query("delete from service_tokens where id = $1", [found.id]);
  return found;
}

/**
 * Ends the tokens of a config that is deleted in this transaction, after this; renaming a config, its environment or project
 * calls `raiseIdentityVersion` instead, so that tokens follow.
 */
export async function deleteServiceTokensOf(tx: Sql, configId: string): Promise<void> {
  await raiseIdentityVersion(tx);
  await tx.query("delete from tokens where kind = 'service' and id in (select id from service_tokens where config_id = $1)", [
    configId,
  ]);
  await tx.query("delete from service_tokens where config_id = $1", [configId]);
}
