import { ServiceError } from "../core/error.ts";
import type { Network } from "../core/network.ts";
import { deleteEnrolmentsOf } from "./agent-enrolments.ts";
import type { Page } from "./identity.ts";
import type { Sql } from "./sql.ts";

const maxNetworks = 1_000;

interface NetworkRow {
  name: string;
  description: string | null;
  functions: string;
  made: string | null;
  created_at: number;
  updated_at: number;
}

export async function findNetwork(sql: Sql, name: string): Promise<Network | undefined> {
  const [row] = await sql.query<NetworkRow>("select * from networks where name = $1", [name]);
  return row && toNetwork(row);
}

/** For a transaction that has something use it: it is not deleted meanwhile. False when there is none. */
export async function holdNetwork(tx: Sql, name: string): Promise<boolean> {
  const text = `select name from networks where name = $1 ${tx.dialect === "postgres" ? "for share" : ""}`;
  return (await tx.query(text, [name])).length > 0;
}

/** In the order of names, `after` excluded. */
export async function listNetworks(sql: Sql, { after, limit }: Page): Promise<Network[]> {
  const rows = await sql.query<NetworkRow>("select * from networks where name > $1 order by name limit $2", [after, limit]);
  return rows.map(toNetwork);
}

/** @throws ServiceError ResourceExistsException, LimitExceededException */
export async function insertNetwork(tx: Sql, added: Network): Promise<void> {
  const { name, description, functions, made, createdAt, updatedAt } = added;
  const [row] = await tx.query<{ count: number }>("select count(*) as count from networks");
  if (Number(row?.count) >= maxNetworks)
    throw new ServiceError("LimitExceededException", `There can be at most ${maxNetworks} networks.`);
  const rows = await tx.query(
    `insert into networks (name, description, functions, made, created_at, updated_at) values ($1, $2, $3, $4, $5, $6)
     on conflict do nothing returning name`,
    [name, description ?? null, JSON.stringify(functions), made ? JSON.stringify(made) : null, createdAt, updatedAt],
  );
  if (rows.length === 0) throw new ServiceError("ResourceExistsException", `There is a network ${name} already.`);
}

/** Locks it, and changes it; `undefined` when there is none. */
export async function changeNetwork(tx: Sql, name: string, decide: (before: Network) => Network): Promise<Network | undefined> {
  const lock = tx.dialect === "postgres" ? "for update" : "";
  const [row] = await tx.query<NetworkRow>(`select * from networks where name = $1 ${lock}`, [name]);
  if (!row) return undefined;
  const after = decide(toNetwork(row));
  await tx.query("update networks set description = $2, functions = $3, updated_at = $4 where name = $1", [
    name,
    after.description ?? null,
    JSON.stringify(after.functions),
    after.updatedAt,
  ]);
  return after;
}

/**
 * False when there was none. What uses it must have been looked for in the same transaction, after `changeNetwork`. Open
 * enrolments go with it: another network may have its name later.
 */
export async function deleteNetwork(tx: Sql, name: string): Promise<boolean> {
  await deleteEnrolmentsOf(tx, name);
  return (await tx.query("delete from networks where name = $1 returning name", [name])).length > 0;
}

/** Names of the networks that call the function. */
export async function networksOfFunction(sql: Sql, arn: string): Promise<string[]> {
  const rows = await sql.query<NetworkRow>("select * from networks where functions <> '{}' order by name");
  return rows.map(toNetwork).flatMap(({ name, functions }) => (Object.values(functions).includes(arn) ? [name] : []));
}

/** Those that have the function run verbs at a kind of target, by name. */
export async function networksThrough(sql: Sql, kind: string, arn: string): Promise<Network[]> {
  const rows = await sql.query<NetworkRow>("select * from networks where functions <> '{}' order by name");
  return rows.map(toNetwork).filter(({ functions }) => Object.hasOwn(functions, kind) && functions[kind] === arn);
}

/** The secret's rotations go through the network; `undefined`: through none. */
export async function noteNetworkOf(tx: Sql, secretId: string, network: string | undefined): Promise<void> {
  await tx.query("delete from network_secrets where secret_id = $1", [secretId]);
  if (network === undefined) return;
  await tx.query("insert into network_secrets (secret_id, network) values ($1, $2)", [secretId, network]);
}

/** Of a config's own secret: where its integration's target is now. */
export async function networkOfIntegrationOf(sql: Sql, secretId: string): Promise<string | undefined> {
  const [row] = await sql.query<{ network: string | null }>(
    `select v.network from rotated_secrets r join integrations i on i.id = r.integration_id
       join integration_versions v on v.integration_id = i.id and v.number = i.version where r.secret_id = $1`,
    [secretId],
  );
  return row?.network ?? undefined;
}

/** What uses the network, by kind; of each a few names. */
export interface NetworkUses {
  readonly agents: readonly string[];
  readonly secrets: readonly string[];
  readonly integrations: readonly string[];
  readonly dynamicSecrets: readonly string[];
  readonly leases: readonly string[];
}

const fewOf = {
  agents: "select name from agents where network = $1 and revoked_at is null order by id limit 5",
  secrets: "select s.name from network_secrets n join secrets s on s.id = n.secret_id where n.network = $1 order by s.id limit 5",
  integrations: `select distinct i.name from integration_versions v join integrations i on i.id = v.integration_id
    where v.network = $1 and i.deleted_at is null and v.number = i.version order by i.name limit 5`,
  dynamicSecrets: `select project || '/' || config || '/' || name as name from dynamic_secrets
    where network = $1 and deleted_at is null order by id limit 5`,
  leases: "select id as name from leases where network = $1 and state <> 'ended' order by id limit 5",
} as const satisfies Record<keyof NetworkUses, string>;

export async function usesOfNetwork(sql: Sql, network: string): Promise<NetworkUses> {
  const namesBy = async (text: string) => (await sql.query<{ name: string }>(text, [network])).map(({ name }) => name);
  return {
    agents: await namesBy(fewOf.agents),
    secrets: await namesBy(fewOf.secrets),
    integrations: await namesBy(fewOf.integrations),
    dynamicSecrets: await namesBy(fewOf.dynamicSecrets),
    leases: await namesBy(fewOf.leases),
  };
}

function toNetwork(row: NetworkRow): Network {
  return {
    name: row.name,
    description: row.description ?? undefined,
    functions: JSON.parse(row.functions) as Record<string, string>,
    made: row.made === null ? undefined : (JSON.parse(row.made) as Network["made"]),
    createdAt: row.created_at,
    updatedAt: row.updated_at,
  };
}
