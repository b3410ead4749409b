import type { AccessRole } from "../core/access-role.ts";
import { type Page, raiseIdentityVersion, type User } from "./identity.ts";
import type { Sql } from "./sql.ts";

const columns = `id, name, arn, kind, role, created_at as "createdAt"`;

/** By id or name. */
export async function findServiceAccount(sql: Sql, idOrName: string): Promise<User | undefined> {
  const [row] = await sql.query<User>(
    `select ${columns} from users where (id = $1 or name = $1) and kind = 'service_account' order by id = $1 desc limit 1`,
    [idOrName],
  );
  return row;
}

/** In the order of names; `skip`: rows to leave out behind `after`. */
export const listServiceAccounts = (sql: Sql, page: UserPage): Promise<User[]> => listUsersOf(sql, "service_account", page);
/** As service accounts, those who are none. */
export const listPeople = (sql: Sql, page: UserPage): Promise<User[]> => listUsersOf(sql, "person", page);

type UserPage = Page & { readonly skip?: number };

function listUsersOf(sql: Sql, kind: User["kind"], { after, limit, skip = 0 }: UserPage): Promise<User[]> {
  return sql.query<User>(`select ${columns} from users where name > $1 and kind = $4 order by name limit $2 offset $3`, [
    after,
    limit,
    skip,
    kind,
  ]);
}

/** False when there is no such user. */
export async function setWorkplaceRole(tx: Sql, id: string, role: AccessRole | null): Promise<boolean> {
  await raiseIdentityVersion(tx);
  return (await tx.query("update users set role = $2 where id = $1 returning id", [id, role])).length > 0;
}
