import { ServiceError } from "../core/error.ts";
import { groupArn, identityLimits } from "../core/identity.ts";
import type { Group } from "./group-members.ts";
import { deleteBelongings, type Page, raiseIdentityVersion } from "./identity.ts";
import type { Sql } from "./sql.ts";

const columns = `id, name, arn, role, default_project_role as "defaultProjectRole", created_at as "createdAt"`;

/** @throws ServiceError ResourceExistsException when a group of this name exists in any case; LimitExceededException. */
export async function createGroup(tx: Sql, account: string, given: Omit<Group, "arn">): Promise<Group> {
  await raiseIdentityVersion(tx);
  const { id, name, role, defaultProjectRole, createdAt } = given;
  const [taken] = await tx.query("select 1 as found from user_groups where lower(name) = $1", [name.toLowerCase()]);
  if (taken) throw new ServiceError("ResourceExistsException", `Group with name ${name} already exists.`);
  const [row] = await tx.query<{ count: number }>("select count(*) as count from user_groups");
  if (Number(row?.count) >= identityLimits.groups)
    throw new ServiceError("LimitExceededException", `Cannot exceed quota for GroupsPerAccount: ${identityLimits.groups}`);
  const arn = groupArn(account, name);
  await deleteBelongings(tx, arn); // given to an earlier one of this name while it was deleted
  await tx.query(
    "insert into user_groups (id, name, arn, role, default_project_role, created_at) values ($1, $2, $3, $4, $5, $6)",
    [id, name, arn, role, defaultProjectRole, createdAt],
  );
  return { ...given, arn };
}

/** By id or name. */
export async function findGroup(sql: Sql, idOrName: string): Promise<Group | undefined> {
  const [row] = await sql.query<Group>(
    `select ${columns} from user_groups where id = $1 or name = $1 order by id = $1 desc limit 1`,
    [idOrName],
  );
  return row;
}

/** In the order of names; `skip`: rows to leave out behind `after`. */
export function listGroups(sql: Sql, { after, limit, skip = 0 }: Page & { readonly skip?: number }): Promise<Group[]> {
  return sql.query<Group>(`select ${columns} from user_groups where name > $1 order by name limit $2 offset $3`, [
    after,
    limit,
    skip,
  ]);
}

/** Its roles; false when it is gone. */
export async function updateGroup(tx: Sql, { id, role, defaultProjectRole }: Group): Promise<boolean> {
  await raiseIdentityVersion(tx);
  const text = "update user_groups set role = $2, default_project_role = $3 where id = $1 returning id";
  return (await tx.query(text, [id, role, defaultProjectRole])).length > 0;
}

/** Takes its members, attachments and roles in projects with it. False when there was no such group. */
export async function deleteGroup(tx: Sql, { id, arn }: Group): Promise<boolean> {
  await raiseIdentityVersion(tx);
  await deleteBelongings(tx, arn);
  return (await tx.query("delete from user_groups where id = $1 returning id", [id])).length > 0;
}
