import type { AccessRole } from "../core/access-role.ts";
import type { Sql } from "./sql.ts";

/** What somebody may do in a project. */
export interface Membership {
  readonly projectId: string;
  readonly principalArn: string;
  readonly role: AccessRole;
  readonly createdAt: number;
}

const columns = `project_id as "projectId", principal_arn as "principalArn", role, created_at as "createdAt"`;

/** Of one user or role, by project. */
export function memberships(sql: Sql, principalArn: string): Promise<Membership[]> {
  return sql.query<Membership>(`select ${columns} from project_members where principal_arn = $1 order by project_id limit 1000`, [
    principalArn,
  ]);
}

/** Of one project, by ARN. */
export function projectMembers(sql: Sql, projectId: string): Promise<Membership[]> {
  return sql.query<Membership>(`select ${columns} from project_members where project_id = $1 order by principal_arn limit 1000`, [
    projectId,
  ]);
}

/** In place of the one before; the identities' version is raised by the caller. */
export async function setMembership(tx: Sql, { projectId, principalArn, role, createdAt }: Membership): Promise<void> {
  await tx.query(
    `insert into project_members (project_id, principal_arn, role, created_at) values ($1, $2, $3, $4)
       on conflict (project_id, principal_arn) do update set role = excluded.role`,
    [projectId, principalArn, role, createdAt],
  );
}

/** False when there was none. */
export async function removeMembership(tx: Sql, projectId: string, principalArn: string): Promise<boolean> {
  const rows = await tx.query(
    "delete from project_members where project_id = $1 and principal_arn = $2 returning principal_arn",
    [projectId, principalArn],
  );
  return rows.length > 0;
}
