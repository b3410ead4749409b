import { createHash } from "node:crypto";
import pg from "pg";
import { RotatorError } from "../core/error.ts";
import type { Session } from "./postgres-session.ts";

const identifier = pg.escapeIdentifier;

/** Users bear no comments: a group without rights, which only an administrator can make, says which two alternate. */
const markOf = (name: string, inUse: string): string =>
  `rekey_pair_${createHash("sha256")
    .update(JSON.stringify([name, inUse].sort()))
    .digest("hex")
    .slice(0, 16)}`;

/** What an administrator says of two users that are there already. */
export function markStatements(name: string, inUse: string): string[] {
  const group = markOf(name, inUse);
  return [`create group ${group}`, `alter group ${group} add user ${identifier(name)}`];
}

export async function isMarked(db: Session, name: string, inUse: string): Promise<boolean> {
  const rows = await db.read(
    "select 1 from pg_user u, pg_group g where g.groname = $1 and u.usename in ($2, $3) and u.usesysid = any(g.grolist)",
    [markOf(name, inUse), name, inUse],
  );
  return rows.length > 0;
}

interface User {
  readonly id: number;
  readonly createdb: boolean;
  readonly superuser: boolean;
  readonly until: string | null;
  readonly settings: readonly string[] | null;
}

/** Makes a user like another one: attributes, settings, groups, roles, and what was given to it by name in this database. */
export async function newUserStatements(db: Session, name: string, original: string, password: string): Promise<string[]> {
  const [from] = await db.read<User>(
    `select usesysid as id, usecreatedb as createdb, usesuper as superuser, cast(valuntil as text) as until, useconfig as settings
     from pg_user where usename = $1`,
    [original],
  );
  if (!from) throw new RotatorError("invalid", `user ${original} does not exist`);
  const user = identifier(name);
  const options = [
    from.createdb ? "createdb" : "",
    from.superuser ? "createuser" : "", // Redshift's word for superuser
    from.until === null ? "" : `valid until ${pg.escapeLiteral(from.until)}`,
  ];
  const group = markOf(name, original);
  const [marked] = await db.read("select 1 from pg_group where groname = $1", [group]);
  return [
    `create user ${user} password ${password} ${options.filter(Boolean).join(" ")}`,
    ...settingsOf(user, from.settings),
    ...(await groupsOf(db, from.id)).map((one) => `alter group ${identifier(one)} add user ${user}`),
    ...(await rolesOf(db, original)).map((role) => `grant role ${identifier(role)} to ${user}`),
    ...(await grantsOf(db, original)).map((grant) => `${grant} to ${user}`),
    ...(marked ? [] : [`create group ${group}`]),
    `alter group ${group} add user ${user}`,
  ];
}

function settingsOf(user: string, settings: User["settings"]): string[] {
  return (settings ?? []).map((setting) => {
    const at = setting.indexOf("=");
    return `alter user ${user} set ${setting.slice(0, at)} to ${pg.escapeLiteral(setting.slice(at + 1))}`;
  });
}

async function groupsOf(db: Session, id: number): Promise<string[]> {
  const rows = await db.read<{ name: string }>("select groname as name from pg_group where $1 = any(grolist)", [id]);
  return rows.map(({ name }) => name).filter((name) => !name.startsWith("rekey_pair_"));
}

async function rolesOf(db: Session, user: string): Promise<string[]> {
  const rows = await db.read<{ name: string }>("select role_name as name from svv_user_grants where user_name = $1", [user]);
  return rows.map(({ name }) => name);
}

interface Privilege {
  readonly type: string;
  readonly schema: string | null;
  readonly name: string | null;
}

/** Given to the user itself, not to its groups or roles. Source: Redshift's SVV_RELATION_, _SCHEMA_ and _DATABASE_PRIVILEGES. */
async function grantsOf(db: Session, user: string): Promise<string[]> {
  const where = "where identity_type = 'user' and identity_name = $1";
  const relations = await db.read<Privilege>(
    `select privilege_type as type, namespace_name as schema, relation_name as name from svv_relation_privileges ${where}`,
    [user],
  );
  const schemas = await db.read<Privilege>(
    `select privilege_type as type, namespace_name as schema from svv_schema_privileges ${where}`,
    [user],
  );
  const databases = await db.read<Privilege>(
    `select privilege_type as type, database_name as name from svv_database_privileges ${where}`,
    [user],
  );
  return [
    ...relations.map(({ type, schema, name }) => `grant ${verb(type)} on ${identifier(schema ?? "")}.${identifier(name ?? "")}`),
    ...schemas.map(({ type, schema }) => `grant ${verb(type)} on schema ${identifier(schema ?? "")}`),
    ...databases.map(({ type, name }) => `grant ${verb(type)} on database ${identifier(name ?? "")}`),
  ];
}

/** Nothing but words gets into a statement unquoted. */
function verb(type: string): string {
  if (/^[A-Z ]+$/i.test(type)) return type;
  throw new RotatorError("invalid", "a right of the user in use cannot be read");
}
