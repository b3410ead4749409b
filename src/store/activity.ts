import { randomUUID } from "node:crypto";
import type { ListPage } from "./projects.ts";
import type { Sql, SqlValue } from "./sql.ts";

/** What somebody did, in words. With versions it is an entry of a config's log. */
export interface NewActivity {
  readonly at: number;
  /** ARN, or the name of what happened by itself. */
  readonly principal: string;
  readonly principalName: string;
  /** Names and ids, never values. */
  readonly text: string;
  /** Id. */
  readonly project?: string | undefined;
  /** Slug. */
  readonly environment?: string | undefined;
  /** Name. */
  readonly config?: string | undefined;
  readonly configId?: string | undefined;
  /** Of a config's values; 0: none. */
  readonly fromVersion?: number | undefined;
  readonly toVersion?: number | undefined;
  readonly isRollback?: boolean;
  /** Names of values that changed. */
  readonly names?: readonly string[];
}

export interface Activity extends NewActivity {
  readonly logId: string;
  /** Rises. */
  readonly position: number;
  readonly isRollback: boolean;
  readonly names: readonly string[];
}

/** Writes an entry in the transaction of what it tells of. Its id. */
export async function logActivity(tx: Sql, entry: NewActivity): Promise<string> {
  const logId = randomUUID();
  await tx.query(
    `insert into activity_logs (log_id, at, principal, principal_name, text, project, environment, config, config_id,
       from_version, to_version, is_rollback, names) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
    [
      logId,
      entry.at,
      entry.principal,
      entry.principalName,
      entry.text,
      entry.project ?? null,
      entry.environment ?? null,
      entry.config ?? null,
      entry.configId ?? null,
      entry.fromVersion ?? null,
      entry.toVersion ?? null,
      Number(entry.isRollback ?? false),
      entry.names === undefined ? null : JSON.stringify(entry.names),
    ],
  );
  return logId;
}

export async function findActivity(sql: Sql, logId: string): Promise<Activity | undefined> {
  const [row] = await sql.query<ActivityRow>("select * from activity_logs where log_id = $1", [logId]);
  return row && toActivity(row);
}

/** Newest first; `after`: the position that the page before ended with. Of one config: its log. */
export async function listActivity(
  sql: Sql,
  of: { readonly configId?: string },
  { after, skip = 0, limit }: ListPage,
): Promise<Activity[]> {
  const values: SqlValue[] = [after === undefined ? Number.MAX_SAFE_INTEGER : Number(after), limit, skip];
  const ofConfig = of.configId === undefined ? "" : "config_id = $4 and";
  if (of.configId !== undefined) values.push(of.configId);
  const rows = await sql.query<ActivityRow>(
    `select * from activity_logs where ${ofConfig} id < $1 order by id desc limit $2 offset $3`,
    values,
  );
  return rows.map(toActivity);
}

interface ActivityRow {
  id: number;
  log_id: string;
  at: number;
  principal: string;
  principal_name: string;
  text: string;
  project: string | null;
  environment: string | null;
  config: string | null;
  config_id: string | null;
  from_version: number | null;
  to_version: number | null;
  is_rollback: number;
  names: string | null;
}

function toActivity(row: ActivityRow): Activity {
  return {
    logId: row.log_id,
    position: row.id,
    at: row.at,
    principal: row.principal,
    principalName: row.principal_name,
    text: row.text,
    project: row.project ?? undefined,
    environment: row.environment ?? undefined,
    config: row.config ?? undefined,
    configId: row.config_id ?? undefined,
    fromVersion: row.from_version ?? undefined,
    toVersion: row.to_version ?? undefined,
    isRollback: row.is_rollback === 1,
    names: row.names === null ? [] : JSON.parse(row.names),
  };
}
