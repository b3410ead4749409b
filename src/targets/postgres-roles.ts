import type { Session } from "./postgres-session.ts";
import type { Difference } from "./target.ts";

/** Of each kind at most so many are told. */
export const mostDifferences = 1_000;

/** Two roles that take turns. */
export interface RolePair {
  readonly first: RoleRow;
  readonly second: RoleRow;
}

interface RoleRow {
  readonly name: string;
  readonly oid: string;
  readonly superuser: boolean;
  readonly inherit: boolean;
  readonly createrole: boolean;
  readonly createdb: boolean;
  readonly login: boolean;
  readonly replication: boolean;
  readonly bypassrls: boolean;
  readonly limit: number;
  readonly until: string | null;
  /** Of all roles whose rights it has without SET ROLE, itself among them. */
  readonly inherits: readonly string[];
}

/** The roles of these names, in their order. */
export async function readRoles(db: Session, names: readonly [string, string]): Promise<(RoleRow | undefined)[]> {
  const rows = await db.read<RoleRow>(
    `select rolname as name, oid::text as oid, rolsuper as superuser, rolinherit as inherit, rolcreaterole as createrole,
       rolcreatedb as createdb, rolcanlogin as login, rolreplication as replication, rolbypassrls as bypassrls,
       rolconnlimit as limit, rolvaliduntil::text as until,
       array(select o.oid::text from pg_roles o where pg_has_role(r.oid, o.oid, 'usage')) as inherits
     from pg_roles r where rolname in ($1, $2)`,
    names,
  );
  return names.map((name) => rows.find((row) => row.name === name));
}

/** Members that are there: absent is not null. */
export function present({
  first,
  second,
}: {
  first: string | null;
  second: string | null;
}): Pick<Difference, "first" | "second"> {
  return { ...(first !== null && { first }), ...(second !== null && { second }) };
}
