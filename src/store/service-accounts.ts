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
export function listServiceAccounts(sql: Sql, { after, limit, skip = 0 }: Page & { readonly skip?: number }): Promise<User[]> {
  return sql.query<User>(
    `select ${columns} from users where name > $1 and kind = 'service_account' order by name limit $2 offset $3`,
    [after, limit, skip],
  );
}

/** False when there is no such user. */
export async function setWorkplaceRole(tx: Sql, id: string, role: AccessRole | null): Promise<boolean> {
  await raiseIdentityVersion(tx);
  return (await tx.query("update users set role = $2 where id = $1 returning id", [id, role])).length > 0;
}
