import type { Sql } from "./sql.ts";

/** JSON list of addresses and ranges; of a config that the transaction has locked. */
export async function setTrustedIps(tx: Sql, configId: string, ranges: string): Promise<void> {
  await tx.query("update configs set trusted_ips = $2 where id = $1", [configId, ranges]);
}
