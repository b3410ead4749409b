import pg from "pg";
import { mostDifferences, present, type RolePair } from "./postgres-roles.ts";
import type { Session } from "./postgres-session.ts";
import type { Difference } from "./target.ts";

/** Catalogs whose objects have rights: their owner's and the rights' column. Source: PostgreSQL documentation, "System Catalogs". */
const catalogs = [
  ["pg_class", "relowner", "relacl"],
  ["pg_proc", "proowner", "proacl"],
  ["pg_namespace", "nspowner", "nspacl"],
  ["pg_database", "datdba", "datacl"],
  ["pg_type", "typowner", "typacl"],
  ["pg_language", "lanowner", "lanacl"],
  ["pg_foreign_data_wrapper", "fdwowner", "fdwacl"],
  ["pg_foreign_server", "srvowner", "srvacl"],
  ["pg_tablespace", "spcowner", "spcacl"],
  ["pg_largeobject_metadata", "lomowner", "lomacl"],
] as const;

const all = [
  ...catalogs.map(
    ([catalog, owner, acl]) =>
      `select '${catalog}'::regclass as classid, oid as objid, 0 as sub, ${owner} as owner, ${acl} as acl from ${catalog} where ${acl} is not null`,
  ),
  `select 'pg_class'::regclass, attrelid, attnum, relowner, attacl from pg_attribute join pg_class c on c.oid = attrelid
     where attacl is not null`,
].join(" union all ");

interface Row {
  what: string;
  type: string;
  identity: string;
  privilege: string;
  column: string | null;
  first: string | null;
  second: string | null;
}

/** Rights on objects that belong to neither, given to one of the two roles, to a role that it inherits, or to all. */
export async function readGrants(db: Session, { first, second }: RolePair): Promise<Difference[]> {
  const held = (oids: string) =>
    `case when bool_or(is_grantable and grantee = any(${oids}::oid[])) then 'with grant option'
       when bool_or(grantee = any(${oids}::oid[]) or grantee = 0) then 'yes' end`;
  const rows = await db.read<Row>(
    `with given as (
       select classid, objid, sub, privilege_type as privilege, ${held("$1")} as first, ${held("$2")} as second
       from (${all}) as objects, aclexplode(acl) as rights
       where not owner = any($1::oid[]) and not owner = any($2::oid[])
         and (grantee = any($1::oid[]) or grantee = any($2::oid[]) or grantee = 0)
       group by classid, objid, sub, privilege_type)
     select pg_describe_object(classid, objid, sub) as what, i.type, i.identity, privilege, first, second,
       case when sub > 0 then (select attname from pg_attribute where attrelid = objid and attnum = sub) end as column
     from given, lateral pg_identify_object(classid, objid, 0) as i
     where first is distinct from second order by what, privilege limit ${mostDifferences}`,
    [first.inherits, second.inherits],
  );
  return rows.map((row) => {
    const lacking = row.first === null || row.second === "with grant option" ? first : second;
    return {
      kind: "grant",
      what: `${row.privilege} on ${row.what}`,
      ...present(row),
      statements: [grantStatement(row, lacking.name)],
    };
  });
}

/** As GRANT names what `pg_identify_object` names by another word. */
const words: Readonly<Record<string, string>> = {
  view: "table",
  "materialized view": "table",
  "foreign table": "table",
  aggregate: "function",
  domain: "type",
  server: "foreign server",
};

function grantStatement({ privilege, column, type, identity, first, second }: Row, to: string): string {
  const columns = column === null ? "" : ` (${pg.escapeIdentifier(column)})`;
  const option = [first, second].includes("with grant option") ? " with grant option" : "";
  return `grant ${privilege.toLowerCase()}${columns} on ${words[type] ?? type} ${identity} to ${pg.escapeIdentifier(to)}${option}`;
}
