import type { Sql } from "./sql.ts";

/** Dynamic secrets that were deleted, by id, after one of them. */
export async function deletedDynamicSecrets(sql: Sql, after: string, limit: number): Promise<string[]> {
  const rows = await sql.query<{ id: string }>(
    "select id from dynamic_secrets where deleted_at is not null and id > $1 order by id limit $2",
    [after, limit],
  );
  return rows.map(({ id }) => id);
}

/** Removes a deleted dynamic secret that has no leases any more. */
export async function removeDynamicSecret(tx: Sql, id: string): Promise<void> {
  await tx.query(
    `delete from dynamic_secrets where id = $1 and deleted_at is not null
       and not exists (select 1 from leases where dynamic_secret_id = $1 and state <> 'ended')`,
    [id],
  );
}

/** Removes deleted integrations that nothing needs any more, with how they got to their targets. */
export async function removeIntegrations(tx: Sql, limit: number): Promise<void> {
  await tx.query(
    `delete from integrations where id in (
       select i.id from integrations i where i.deleted_at is not null
         and not exists (select 1 from dynamic_secrets d where d.integration_id = i.id)
         and not exists (select 1 from rotated_secrets r where r.integration_id = i.id)
         and not exists (select 1 from leases l where l.integration_id = i.id and l.state <> 'ended') limit $1)`,
    [limit],
  );
}

/** Removes how integrations got to their targets before they were changed, where no lease may need that any more. */
export async function removeOldVersions(tx: Sql, changedBefore: number, limit: number): Promise<void> {
  await tx.query(
    `delete from integration_versions where id in (
       select v.id from integration_versions v join integrations i on i.id = v.integration_id
       where v.number < i.version and i.updated_at < $1
         and not exists (select 1 from leases l where l.integration_id = v.integration_id and l.target = v.target and l.state <> 'ended')
         and not exists (select 1 from leases l where l.integration_version = v.id and l.network is not null and l.state <> 'ended')
       limit $2)`,
    [changedBefore, limit],
  );
}

/**
 * The store is older than what was done: of what was not begun by then, more may be at the target by now; and of users there,
 * this store may know no lease. Both are looked for.
 */
export async function doubtLeases(tx: Sql, nowMs: number): Promise<void> {
  const pages = [
    `update leases set fence = 1, claim_until = 0 where id in (select id from leases
       where due_at is not null and state in ('creating', 'revoking') and fence = 0 limit 1000) returning id`,
    `update integrations set orphans_due_at = ${Math.floor(nowMs)} where id in (select id from integrations
       where orphans_due_at > ${Math.floor(nowMs)} and deleted_at is null limit 1000) returning id`,
  ];
  for (const page of pages) while ((await tx.query(page)).length > 0);
}
