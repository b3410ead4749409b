import type { Sql } from "./sql.ts";

/** Name of a dynamic secret of the config that was not deleted, if there is one. */
export async function liveDynamicSecret(sql: Sql, configId: string): Promise<string | undefined> {
  const [row] = await sql.query<{ name: string }>(
    "select name from dynamic_secrets where config_id = $1 and deleted_at is null limit 1",
    [configId],
  );
  return row?.name;
}

/** Name of a rotated secret of the config, if there is one. */
export async function liveRotatedSecret(sql: Sql, configId: string): Promise<string | undefined> {
  const [row] = await sql.query<{ name: string }>("select name from rotated_secrets where config_id = $1 limit 1", [configId]);
  return row?.name;
}
