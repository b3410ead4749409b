import type { AccessRole } from "../core/access-role.ts";
import { ServiceError } from "../core/error.ts";
import { identityLimits } from "../core/identity.ts";
import type { User } from "./identity.ts";
import type { Sql } from "./sql.ts";

/** Users that are given rights together: by policies, by a role in the deployment, by roles in projects. */
export interface Group {
  readonly id: string;
  readonly name: string;
  readonly arn: string;
  /** In the whole deployment; `null`: none. */
  readonly role: AccessRole | null;
  /** What it becomes in a project when nothing else is said; `null`: that must be said. */
  readonly defaultProjectRole: AccessRole | null;
  readonly createdAt: number;
}

/** In the order of names, after `after`; `skip`: rows to leave out behind it. */
interface MemberPage {
  readonly after: string;
  readonly limit: number;
  readonly skip?: number;
}

/** Groups of a user, by name. */
export function groupsOf(sql: Sql, userArn: string): Promise<Group[]> {
  return sql.query<Group>(
    `select g.id, g.name, g.arn, g.role, g.default_project_role as "defaultProjectRole", g.created_at as "createdAt"
       from group_members m join user_groups g on g.id = m.group_id where m.principal_arn = $1 order by g.name`,
    [userArn],
  );
}

/** Users of a group, in the order of names. */
export function groupUsers(sql: Sql, groupId: string, page: MemberPage): Promise<User[]> {
  const { after, limit, skip = 0 } = page;
  return sql.query<User>(
    `select u.id, u.name, u.arn, u.kind, u.role, u.created_at as "createdAt" from group_members m join users u on u.arn = m.principal_arn
       where m.group_id = $1 and u.name > $2 order by u.name limit $3 offset $4`,
    [groupId, after, limit, skip],
  );
}

export async function isInGroup(sql: Sql, groupId: string, userArn: string): Promise<boolean> {
  const rows = await sql.query("select 1 as found from group_members where group_id = $1 and principal_arn = $2", [
    groupId,
    userArn,
  ]);
  return rows.length > 0;
}

/** False when the user was in it already; the identities' version is raised by the caller. @throws ServiceError LimitExceededException */
export async function addToGroup(tx: Sql, group: Group, userArn: string, createdAt: number): Promise<boolean> {
  const added = await tx.query(
    `insert into group_members (group_id, principal_arn, created_at) values ($1, $2, $3) on conflict do nothing
       returning group_id`,
    [group.id, userArn, createdAt],
  );
  await assertFewer(tx, "group_id", group.id, identityLimits.usersPerGroup, "UsersPerGroup");
  await assertFewer(tx, "principal_arn", userArn, identityLimits.groupsPerUser, "GroupsPerUser");
  return added.length > 0;
}

async function assertFewer(tx: Sql, column: string, value: string, limit: number, quota: string): Promise<void> {
  const [row] = await tx.query<{ count: number }>(`select count(*) as count from group_members where ${column} = $1`, [value]);
  if (Number(row?.count) > limit) throw new ServiceError("LimitExceededException", `Cannot exceed quota for ${quota}: ${limit}`);
}

/** False when the user was not in it; the identities' version is raised by the caller. */
export async function removeFromGroup(tx: Sql, groupId: string, userArn: string): Promise<boolean> {
  const text = "delete from group_members where group_id = $1 and principal_arn = $2 returning group_id";
  return (await tx.query(text, [groupId, userArn])).length > 0;
}
