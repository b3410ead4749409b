import type { Sql } from "./sql.ts";

/**
 * Until the transaction ends, nobody else finds out who works at the account: rotations, jobs and retirements keep that in
 * tables of their own. SQLite has one writer at a time anyway.
 */
export async function lockAccount(tx: Sql, account: string): Promise<void> {
  if (tx.dialect === "postgres") await tx.query("select pg_advisory_xact_lock(hashtextextended($1, 0)) as locked", [account]);
}
