import type { Sql } from "./sql.ts";

/** A region to which a primary's versions, labels, tags and policy are copied. */
export interface Replica {
  /** Of the primary. */
  readonly secretId: string;
  readonly region: string;
  readonly kmsKeyId?: string | undefined;
  readonly status: "InProgress" | "InSync" | "Failed";
  readonly statusMessage?: string | undefined;
  readonly forceOverwrite: boolean;
  /** The primary's row version that the replica holds. */
  readonly syncedRowVersion: number;
}

interface ReplicaRow {
  secret_id: string;
  region: string;
  kms_key_id: string | null;
  status: Replica["status"];
  status_message: string | null;
  force_overwrite: number;
  synced_row_version: number;
}

export async function listReplicas(sql: Sql, secretId: string): Promise<Replica[]> {
  return (await sql.query<ReplicaRow>("select * from replicas where secret_id = $1 order by region", [secretId])).map(toReplica);
}

/** Asks for a copy in a region; one that is there already is copied again. */
export async function putReplica(
  tx: Sql,
  replica: Omit<Replica, "status" | "syncedRowVersion" | "statusMessage">,
  dueAt: number,
): Promise<void> {
  await tx.query(
    `insert into replicas (secret_id, region, kms_key_id, status, force_overwrite, synced_row_version, due_at)
     values ($1, $2, $3, 'InProgress', $4, 0, $5)
     on conflict (secret_id, region) do update set kms_key_id = excluded.kms_key_id, status = 'InProgress', status_message = null,
       force_overwrite = excluded.force_overwrite, synced_row_version = 0, due_at = excluded.due_at`,
    [replica.secretId, replica.region, replica.kmsKeyId ?? null, Number(replica.forceOverwrite), dueAt],
  );
}

export async function removeReplica(tx: Sql, secretId: string, region: string): Promise<void> {
  await tx.query("delete from replicas where secret_id = $1 and region = $2", [secretId, region]);
}

/** Replicas that are behind their primary, those due longest first. */
export async function dueReplicas(sql: Sql, nowMs: number, limit: number): Promise<Replica[]> {
  return (await sql.query<ReplicaRow>("select * from replicas where due_at <= $1 order by due_at limit $2", [nowMs, limit])).map(
    toReplica,
  );
}

/** Locks the replica's row. False when the copy is not wanted any more: it was removed, or made a secret of its own. */
export async function holdReplica(tx: Sql, { secretId, region }: Replica): Promise<boolean> {
  const rows = await tx.query(
    `select 1 as there from replicas where secret_id = $1 and region = $2 ${tx.dialect === "postgres" ? "for update" : ""}`,
    [secretId, region],
  );
  return rows.length > 0;
}

export interface ReplicaOutcome {
  readonly status: "InSync" | "Failed";
  readonly message?: string;
  readonly rowVersion: number;
  /** When to try again; absent: not before the primary changes. */
  readonly retryAt?: number;
}

/** Notes what came of a copy. One that was asked for again meanwhile (the primary has changed) stays due. */
export async function recordReplica(
  tx: Sql,
  { secretId, region }: Replica,
  outcome: ReplicaOutcome,
  nowMs: number,
): Promise<void> {
  await tx.query(
    `update replicas set status = $3, status_message = $4, synced_row_version = $5,
       due_at = case when $5 < (select row_version from secrets where id = $1) then cast($6 as bigint) else cast($7 as bigint) end
     where secret_id = $1 and region = $2`,
    [secretId, region, outcome.status, outcome.message ?? null, outcome.rowVersion, nowMs, outcome.retryAt ?? null],
  );
}

function toReplica(row: ReplicaRow): Replica {
  return {
    secretId: row.secret_id,
    region: row.region,
    kmsKeyId: row.kms_key_id ?? undefined,
    status: row.status,
    statusMessage: row.status_message ?? undefined,
    forceOverwrite: row.force_overwrite === 1,
    syncedRowVersion: row.synced_row_version,
  };
}
