import pg from "pg";
import { mostDifferences, type RolePair } from "./postgres-roles.ts";
import type { Session } from "./postgres-session.ts";
import type { Difference } from "./target.ts";

/** Source: PostgreSQL documentation, catalog `pg_default_acl`. */
const kinds: Readonly<Record<string, string>> = { r: "tables", S: "sequences", f: "functions", T: "types", n: "schemas" };

interface Row {
  maker: string;
  kind: string;
  schema: string | null;
  grantee: string;
  privilege: string;
  grantable: boolean;
  ofFirst: boolean;
  ofSecond: boolean;
  toFirst: boolean;
  toSecond: boolean;
}

/** What others get on objects that one of the two makes later, and what the two get on objects that others make. */
export async function readDefaults(db: Session, { first, second }: RolePair): Promise<Difference[]> {
  const rows = await db.read<Row>(
    `select m.rolname as maker, defaclobjtype::text as kind, n.nspname as schema, coalesce(g.rolname, 'public') as grantee,
       privilege_type as privilege, is_grantable as grantable, defaclrole = $1::oid as "ofFirst", defaclrole = $2::oid as "ofSecond",
       grantee = any($3::oid[]) as "toFirst", grantee = any($4::oid[]) as "toSecond"
     from pg_default_acl join pg_roles m on m.oid = defaclrole left join pg_namespace n on n.oid = defaclnamespace,
       aclexplode(defaclacl) left join pg_roles g on g.oid = grantee
     where grantee <> defaclrole`,
    [first.oid, second.oid, first.inherits, second.inherits],
  );
  const [one, two] = [new Map<string, string>(), new Map<string, string>()];
  for (const row of rows) {
    if (row.ofFirst) add(one, madeByUs(row), row.grantable, statement(row, second.name, row.grantee));
    else if (row.ofSecond) add(two, madeByUs(row), row.grantable, statement(row, first.name, row.grantee));
    else {
      if (row.toFirst) add(one, madeByOthers(row), row.grantable, statement(row, row.maker, second.name));
      if (row.toSecond) add(two, madeByOthers(row), row.grantable, statement(row, row.maker, first.name));
    }
  }
  const differing = [...new Set([...one.keys(), ...two.keys()])].filter((what) => one.has(what) !== two.has(what)).sort();
  return differing.slice(0, mostDifferences).map((what) => {
    const [a, b] = [one.get(what), two.get(what)];
    return { kind: "default", what, ...(a && { first: "yes" }), ...(b && { second: "yes" }), statements: [a ?? b ?? ""] };
  });
}

function add(to: Map<string, string>, what: string, grantable: boolean, change: string): void {
  to.set(grantable ? `${what} with grant option` : what, change);
}

const place = ({ schema }: Row): string => (schema === null ? "" : ` in schema ${schema}`);
const madeByUs = (row: Row): string => `${row.privilege} for ${row.grantee} on ${kinds[row.kind]} it makes${place(row)}`;
const madeByOthers = (row: Row): string => `${row.privilege} on ${kinds[row.kind]} that ${row.maker} makes${place(row)}`;

function statement({ privilege, kind, schema, grantable }: Row, maker: string, to: string): string {
  const where = schema === null ? "" : ` in schema ${pg.escapeIdentifier(schema)}`;
  const grantee = to === "public" ? "public" : pg.escapeIdentifier(to);
  const option = grantable ? " with grant option" : "";
  return `alter default privileges for role ${pg.escapeIdentifier(maker)}${where} grant ${privilege.toLowerCase()} on ${kinds[kind]} to ${grantee}${option}`;
}
