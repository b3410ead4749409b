import type { AccessRole } from "../core/access-role.ts";
import type { Sql } from "./sql.ts";

/** What somebody may do in a project. */
export interface Membership {
  readonly projectId: string;
  /** Of a user, a service account or a group. */
  readonly principalArn: string;
  readonly role: AccessRole;
  /** `null`: all that the project has, and will have. */
  readonly environments: readonly string[] | null;
  readonly createdAt: number;
}

/** A membership, and whose it is. */
export interface Member extends Membership {
  readonly kind: "person" | "service_account" | "group";
  readonly id: string;
  readonly name: string;
}

/** One page in the order of ARNs, after `after`; `skip`: rows to leave out behind it. */
interface MemberPage {
  readonly after: string;
  readonly limit: number;
  readonly skip?: number;
}

type Row<T> = Omit<T, "environments"> & { readonly all: number };
const columns = `m.project_id as "projectId", m.principal_arn as "principalArn", m.role, m.all_environments as "all", m.created_at as "createdAt"`;
const holders = `left join users u on u.arn = m.principal_arn left join user_groups g on g.arn = m.principal_arn`;
const named = `${columns}, coalesce(u.kind, 'group') as kind, coalesce(u.id, g.id) as id, coalesce(u.name, g.name) as name`;

/** Of one user, role or group, by project. */
export async function memberships(sql: Sql, principalArn: string): Promise<Membership[]> {
  const rows = await sql.query<Row<Membership>>(
    `select ${columns} from project_members m where m.principal_arn = $1 order by m.project_id limit 1000`,
    [principalArn],
  );
  return withEnvironments(sql, rows, "principal_arn", principalArn);
}

/** Of one project. */
export async function projectMembers(sql: Sql, projectId: string, { after, limit, skip = 0 }: MemberPage): Promise<Member[]> {
  const rows = await sql.query<Row<Member>>(
    `select ${named} from project_members m ${holders} where m.project_id = $1 and m.principal_arn > $2
       and coalesce(u.id, g.id) is not null order by m.principal_arn limit $3 offset $4`,
    [projectId, after, limit, skip],
  );
  return withEnvironments(sql, rows, "project_id", projectId);
}

export async function findMember(sql: Sql, projectId: string, principalArn: string): Promise<Member | undefined> {
  const rows = await sql.query<Row<Member>>(
    `select ${named} from project_members m ${holders} where m.project_id = $1 and m.principal_arn = $2
       and coalesce(u.id, g.id) is not null`,
    [projectId, principalArn],
  );
  return (await withEnvironments(sql, rows, "principal_arn", principalArn))[0];
}

async function withEnvironments<T extends Membership>(
  sql: Sql,
  rows: readonly Row<T>[],
  column: "principal_arn" | "project_id",
  value: string,
): Promise<T[]> {
  const narrowed = rows.some(({ all }) => all === 0)
    ? await sql.query<{ projectId: string; principalArn: string; environment: string }>(
        `select project_id as "projectId", principal_arn as "principalArn", environment from member_environments
           where ${column} = $1 order by environment`,
        [value],
      )
    : [];
  const key = (row: { projectId: string; principalArn: string }) => `${row.projectId} ${row.principalArn}`;
  const byMember = Map.groupBy(narrowed, key);
  return rows.map(({ all, ...row }) => {
    const own = (byMember.get(key(row as unknown as Membership)) ?? []).map(({ environment }) => environment);
    return { ...row, environments: all === 1 ? null : own } as unknown as T;
  });
}

/** In place of the one before; the identities' version is raised by the caller. The environments are there. */
export async function setMembership(tx: Sql, membership: Membership): Promise<void> {
  const { projectId, principalArn, role, environments, createdAt } = membership;
  await tx.query(
    `insert into project_members (project_id, principal_arn, role, all_environments, created_at) values ($1, $2, $3, $4, $5)
       on conflict (project_id, principal_arn) do update set role = excluded.role, all_environments = excluded.all_environments`,
    [projectId, principalArn, role, environments === null ? 1 : 0, createdAt],
  );
  await tx.query("delete from member_environments where project_id = $1 and principal_arn = $2", [projectId, principalArn]);
  for (const environment of environments ?? [])
    await tx.query("insert into member_environments (project_id, principal_arn, environment) values ($1, $2, $3)", [
      projectId,
      principalArn,
      environment,
    ]);
}

/** False when there was none. */
export async function removeMembership(tx: Sql, projectId: string, principalArn: string): Promise<boolean> {
  const rows = await tx.query(
    "delete from project_members where project_id = $1 and principal_arn = $2 returning principal_arn",
    [projectId, principalArn],
  );
  return rows.length > 0;
}
