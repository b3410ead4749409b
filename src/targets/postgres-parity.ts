import pg from "pg";
import { settingText } from "./postgres-clone.ts";
import { readDefaults } from "./postgres-default-acl.ts";
import { readGrants } from "./postgres-grants.ts";
import { mostDifferences, present, type RolePair, readRoles } from "./postgres-roles.ts";
import type { Session } from "./postgres-session.ts";
import type { Comparison, Difference } from "./target.ts";

const ident = pg.escapeIdentifier;
const literal = pg.escapeLiteral;

/**
 * What two roles do not have alike: rights count as the server counts them, whether given to the role itself or to one whose
 * rights it inherits. Of objects only those of the session's database are looked at.
 */
export async function comparePostgres(db: Session, names: readonly [string, string]): Promise<Comparison> {
  const roles = await readRoles(db, names);
  const users = names.map((name, index) => ({ name, exists: roles[index] !== undefined }));
  const [first, second] = roles;
  if (!first || !second) return { users, differences: [], advice: [] };
  const pair = { first, second };
  const owned = await readOwned(db, pair);
  const differences = [
    ...compareAttributes(pair),
    ...(await readMemberships(db, pair)),
    ...(await readGrants(db, pair)),
    ...(await readDefaults(db, pair)),
    ...(await readSettings(db, pair)),
    ...owned,
  ];
  return { users, differences, advice: owned.length > 0 ? [ownerAdvice(names)] : [] };
}

const attributes = ["superuser", "inherit", "createrole", "createdb", "login", "replication", "bypassrls"] as const;

function compareAttributes({ first, second }: RolePair): Difference[] {
  const found: Difference[] = [];
  const note = (kind: Difference["kind"], what: string, values: readonly [unknown, unknown], statement: string) => {
    const [a, b] = values.map(String);
    if (a !== b) found.push({ kind, what, first: a, second: b, statements: [`alter role ${ident(second.name)} ${statement}`] });
  };
  for (const name of attributes) {
    const word = name.toUpperCase();
    note("attribute", word, [first[name] ? "yes" : "no", second[name] ? "yes" : "no"], first[name] ? word : `NO${word}`);
  }
  note("limit", "connections", [first.limit, second.limit], `connection limit ${first.limit}`);
  const until = [first.until ?? "infinity", second.until ?? "infinity"] as const;
  note("limit", "valid until", until, `valid until ${literal(until[0])}`);
  return found;
}

/** Roles that one of the two reaches and the other does not, or not in the same way; that they reach each other is as it should be. */
async function readMemberships(db: Session, { first, second }: RolePair): Promise<Difference[]> {
  const how = (oid: string) =>
    `case when not pg_has_role(${oid}, r.oid, 'member') then null else concat_ws(', ',
       case when pg_has_role(${oid}, r.oid, 'usage') then 'inherits its rights' else 'may set it' end,
       case when pg_has_role(${oid}, r.oid, 'member with admin option') then 'may give it to others' end) end`;
  const rows = await db.read<{ name: string; first: string | null; second: string | null }>(
    `with recursive reached (oid) as (select roleid from pg_auth_members where member in ($1::oid, $2::oid)
       union select m.roleid from pg_auth_members m join reached on m.member = reached.oid)
     select * from (select r.rolname as name, ${how("$1::oid")} as first, ${how("$2::oid")} as second
       from pg_roles r where r.oid in (select oid from reached) and r.oid not in ($1::oid, $2::oid)) as both_roles
     where first is distinct from second order by name limit ${mostDifferences}`,
    [first.oid, second.oid],
  );
  return rows.map((row) => {
    const lacking = row.first === null ? first : second;
    const more = (row.first ?? row.second ?? "").includes("give it") ? " with admin option" : "";
    const statements = [`grant ${ident(row.name)} to ${ident(lacking.name)}${more}`];
    return { kind: "membership", what: `role ${row.name}`, ...present(row), statements };
  });
}

async function readSettings(db: Session, { first, second }: RolePair): Promise<Difference[]> {
  const rows = await db.read<{ oid: string; database: string | null; setting: string }>(
    `select s.setrole::text as oid, d.datname as database, unnest(s.setconfig) as setting
     from pg_db_role_setting s left join pg_database d on d.oid = s.setdatabase where s.setrole in ($1::oid, $2::oid)`,
    [first.oid, second.oid],
  );
  const known = new Map<string, { first?: string; second?: string; name: string; database: string | null }>();
  for (const { oid, database, setting } of rows) {
    const at = setting.indexOf("=");
    const name = setting.slice(0, at);
    const key = JSON.stringify([name, database]);
    const entry = { ...(known.get(key) ?? { name, database }), [oid === first.oid ? "first" : "second"]: setting.slice(at + 1) };
    known.set(key, entry);
  }
  const differing = [...known.values()].filter((entry) => entry.first !== entry.second);
  return differing.slice(0, mostDifferences).map(({ name, database, ...values }) => {
    const where = database === null ? "" : `in database ${ident(database)} `;
    const statement = values.first === undefined ? `reset ${name}` : `set ${settingText(`${name}=${values.first}`)}`;
    const statements = [`alter role ${ident(second.name)} ${where}${statement}`];
    const place = database === null ? "" : ` in database ${database}`;
    return { kind: "setting", what: `${name}${place}`, ...values, statements };
  });
}

/** What belongs to one of the two, or to a role that only one of them inherits: the other may not alter or drop it. */
async function readOwned(db: Session, { first, second }: RolePair): Promise<Difference[]> {
  const rows = await db.read<{ what: string; type: string; identity: string; owner: string; isFirst: boolean }>(
    `select pg_describe_object(classid, objid, objsubid) as what, i.type, i.identity, r.rolname as owner,
       refobjid = any($1::oid[]) as "isFirst"
     from pg_shdepend d join pg_roles r on r.oid = d.refobjid,
       lateral pg_identify_object(classid, objid, objsubid) as i
     where d.refclassid = 'pg_authid'::regclass and d.deptype = 'o'
       and (d.dbid = (select oid from pg_database where datname = current_database()) or d.dbid = 0)
       and (refobjid = any($1::oid[])) <> (refobjid = any($2::oid[]))
       and i.type <> 'default acl' order by what limit ${mostDifferences}`,
    [first.inherits, second.inherits],
  );
  return rows.map(({ what, type, identity, owner, isFirst }) => ({
    kind: "ownership",
    what,
    ...(isFirst ? { first: `belongs to ${owner}` } : { second: `belongs to ${owner}` }),
    statements: [`alter ${type} ${identity} owner to ${ident(groupOf(first.name))}`],
  }));
}

const groupOf = (name: string): string => `${name}_owner`;

function ownerAdvice([first, second]: readonly [string, string]): string {
  const group = ident(groupOf(first));
  return [
    "What one user makes, the other may not alter. Make both members of one owner role, under which they work:",
    `  create role ${group} nologin;`,
    `  grant ${group} to ${ident(first)}, ${ident(second)};`,
    `  alter role ${ident(first)} set role to ${literal(groupOf(first))};`,
    `  alter role ${ident(second)} set role to ${literal(groupOf(first))};`,
  ].join("\n");
}
