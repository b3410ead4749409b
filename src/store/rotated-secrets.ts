import type { Sql } from "./sql.ts";

/** A secret that a config owns and shows, and that is rotated. */
export interface RotatedSecret {
  readonly id: string;
  readonly configId: string;
  readonly name: string;
  readonly integrationId: string;
  /** Of the ordinary secret that has its versions and its rotations. */
  readonly secretId: string;
  readonly rotationPeriodSeconds: number;
  readonly createdAt: number;
  /** Whose credential it is, at which target; two that rotate one account would break each other. */
  readonly account?: string | undefined;
}

interface Row {
  id: string;
  config_id: string;
  name: string;
  integration_id: string;
  secret_id: string;
  rotation_period_seconds: number;
  created_at: number;
  account: string | null;
}

const columns = "id, config_id, name, integration_id, secret_id, rotation_period_seconds, created_at, account";

const toRotatedSecret = (row: Row): RotatedSecret => ({
  id: row.id,
  configId: row.config_id,
  name: row.name,
  integrationId: row.integration_id,
  secretId: row.secret_id,
  rotationPeriodSeconds: row.rotation_period_seconds,
  createdAt: row.created_at,
  account: row.account ?? undefined,
});

/** False when the config has one of that name, or its account is rotated already. */
export async function insertRotatedSecret(tx: Sql, added: RotatedSecret): Promise<boolean> {
  const { id, configId, name, integrationId, secretId, rotationPeriodSeconds, createdAt, account = null } = added;
  const rows = await tx.query(
    `insert into rotated_secrets (${columns}) values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict do nothing returning id`,
    [id, configId, name, integrationId, secretId, rotationPeriodSeconds, createdAt, account],
  );
  return rows.length > 0;
}

/** By id first, then by name. */
export async function findRotatedSecret(sql: Sql, configId: string, idOrName: string): Promise<RotatedSecret | undefined> {
  const rows = await sql.query<Row>(`select ${columns} from rotated_secrets where config_id = $1 and (id = $2 or name = $2)`, [
    configId,
    idOrName,
  ]);
  const found = rows.find(({ id }) => id === idOrName) ?? rows[0];
  return found && toRotatedSecret(found);
}

/** That which shows a secret. */
export async function rotatedSecretShowing(sql: Sql, secretId: string): Promise<RotatedSecret | undefined> {
  const [row] = await sql.query<Row>(`select ${columns} from rotated_secrets where secret_id = $1`, [secretId]);
  return row && toRotatedSecret(row);
}

/** That which rotates an account. */
export async function rotatedSecretOfAccount(sql: Sql, account: string): Promise<RotatedSecret | undefined> {
  const [row] = await sql.query<Row>(`select ${columns} from rotated_secrets where account = $1`, [account]);
  return row && toRotatedSecret(row);
}

/** Of a config, by name. */
export async function rotatedSecretsOf(sql: Sql, configId: string): Promise<RotatedSecret[]> {
  const rows = await sql.query<Row>(`select ${columns} from rotated_secrets where config_id = $1 order by name limit 1000`, [
    configId,
  ]);
  return rows.map(toRotatedSecret);
}

/** False when it is gone, or another one of the config has the name. For a transaction that has locked the config. */
export async function saveRotatedSecret(tx: Sql, after: RotatedSecret): Promise<boolean> {
  const rows = await tx.query(
    `update rotated_secrets set name = $2, rotation_period_seconds = $3 where id = $1 and not exists
       (select 1 from rotated_secrets o where o.config_id = rotated_secrets.config_id and o.name = $2 and o.id <> $1) returning id`,
    [after.id, after.name, after.rotationPeriodSeconds],
  );
  return rows.length > 0;
}

/** The secret stays. False when it is gone already. */
export async function deleteRotatedSecret(tx: Sql, id: string): Promise<boolean> {
  return (await tx.query("delete from rotated_secrets where id = $1 returning id", [id])).length > 0;
}
