import { RotatorError } from "../core/error.ts";
import type { Session } from "./sqlserver-session.ts";

/** Source: Transact-SQL reference, QUOTENAME. */
const quotedName = (name: string): string => `[${name.replaceAll("]", "]]")}]`;

/** Source: Transact-SQL reference, "Constants". */
export const literal = (text: string): string => `N'${text.replaceAll("'", "''")}'`;

/** What a password belongs to: a login of the server, or a user that a contained database keeps by itself. */
export interface Principal {
  readonly name: string;
  readonly kind: "login" | "user";
}

/** `undefined` when there is neither. @throws RotatorError `locked` for a login that is disabled */
export async function findPrincipal(db: Session, name: string): Promise<Principal | undefined> {
  const users = await db.read(
    `select name from sys.database_principals where name = ${literal(name)} and authentication_type = 2`,
  );
  if (users.length > 0) return { name, kind: "user" };
  const login = await findLogin(db, name);
  if (login && Number(login.disabled)) throw new RotatorError("locked", `login ${name} is disabled: alter login … enable`);
  return login && { name, kind: "login" };
}

/** With `old`, the principal changes its own password, which needs no right. */
export async function setPassword(db: Session, { name, kind }: Principal, password: string, old?: string): Promise<void> {
  const proof = old === undefined ? "" : ` old_password = ${literal(old)}`;
  await db.change(`alter ${kind} ${quotedName(name)} with password = ${literal(password)}${proof}`);
}

interface Login {
  readonly disabled: unknown;
  readonly database: string;
  readonly language: string;
  readonly policy: unknown;
  readonly expiration: unknown;
}

async function findLogin(db: Session, name: string): Promise<Login | undefined> {
  const [login] = await db.read<Login>(
    `select is_disabled as disabled, default_database_name as [database], default_language_name as [language],
       is_policy_checked as policy, is_expiration_checked as expiration
     from sys.sql_logins where name = ${literal(name)}`,
  );
  return login;
}

/** Two principals of which one is in use and the other gets a new password. */
export interface Pair {
  /** Whose password is set. */
  readonly name: string;
  readonly inUse: string;
  /** Of the one in use, or else its original. */
  readonly isClone: boolean;
  readonly password: string;
}

/**
 * Makes sure that the other one of an alternating pair is there and may do what it should: a clone is made, and given what it
 * lacks of the original's roles and permissions, each by a statement of its own: what a crash left undone is done by the next
 * call. Who writes a secret must not have the superuser set anybody's password: a login that may do more than the one in use is
 * not of its pair. Gives whose password is still to be set: `undefined` when it was made with it.
 */
export async function matchAlternate(db: Session, { name, inUse, isClone, password }: Pair): Promise<Principal | undefined> {
  const [from, known] = [await findPrincipal(db, inUse), await findPrincipal(db, name)];
  if (!from && (isClone || !known)) throw new RotatorError("invalid", `login ${isClone ? inUse : name} does not exist`);
  if (!from) return known; // a clone that somebody dropped keeps nobody from going back to the original
  if (!known && !isClone) throw new RotatorError("invalid", `login ${name} does not exist`);
  if (known && known.kind !== from.kind) {
    throw new RotatorError("invalid", `${name} is a ${known.kind} and ${inUse} a ${from.kind}: rename one of them`);
  }
  // Looked up before anything is made, since it may find what cannot be given to a clone.
  const wanted = await rightsOf(db, from);
  if (!known) await create(db, from, name, password);
  const missing = await missingRights(db, wanted, inUse, { name, kind: from.kind });
  for (const right of isClone ? missing : []) await give(db, right, name);
  return known;
}

async function create(db: Session, original: Principal, clone: string, password: string): Promise<void> {
  const start = `create ${original.kind} ${quotedName(clone)} with password = ${literal(password)}`;
  const login = original.kind === "login" ? await findLogin(db, original.name) : undefined;
  if (!login) return db.change(start);
  const onOff = (value: unknown) => (Number(value) ? "on" : "off");
  await db.change(
    `${start}, default_database = ${quotedName(login.database)}, default_language = ${quotedName(login.language)},
     check_expiration = ${onOff(login.expiration)}, check_policy = ${onOff(login.policy)}`,
  );
}

/** A right, and the statement that gives it to another: within a database, or on the server (`undefined`). */
export interface Right {
  readonly database: string | undefined;
  readonly words: string;
  statement(to: string): string;
}

/** All that was given to a principal itself, on the server and in each database. @throws RotatorError `invalid` for a right that Rekey cannot copy */
export async function rightsOf(db: Session, principal: Principal): Promise<Right[]> {
  if (principal.kind === "user") {
    const [here] = await db.read<{ name: string }>("select db_name() as name");
    return rightsIn(db, String(here?.name), principal);
  }
  const rights = [...(await serverRoles(db, principal.name)), ...(await serverPermissions(db, principal.name))];
  for (const database of await databasesOf(db, principal.name)) rights.push(...(await rightsIn(db, database, principal)));
  return rights;
}

async function serverRoles(db: Session, name: string): Promise<Right[]> {
  const rows = await db.read<{ role: string }>(
    `select r.name as role from sys.server_role_members m join sys.server_principals r on r.principal_id = m.role_principal_id
     where m.member_principal_id = suser_id(${literal(name)})`,
  );
  return rows.map(({ role }) => ({
    database: undefined,
    words: `member of ${role}`,
    statement: (to) => `alter server role ${quotedName(role)} add member ${quotedName(to)}`,
  }));
}

interface Permission {
  readonly state: string;
  readonly permission: string;
  readonly class: string;
  readonly schema?: string | null;
  readonly object?: string | null;
  readonly column?: string | null;
}

async function serverPermissions(db: Session, name: string): Promise<Right[]> {
  const rows = await db.read<Permission>(
    `select state_desc as state, permission_name as permission, class_desc as class
     from sys.server_permissions where grantee_principal_id = suser_id(${literal(name)})`,
  );
  return rows.map((row) => permissionRight(row, undefined));
}

/** Databases where the login has a user; Azure SQL Database shows no other than the one that is open. */
async function databasesOf(db: Session, name: string): Promise<string[]> {
  const all = await db.read<{ name: string }>(
    `select name from sys.databases
     where state = 0 and has_dbaccess(name) = 1 and (serverproperty('EngineEdition') <> 5 or name = db_name())`,
  );
  if (all.length === 0) return [];
  const asked = all.map(
    ({ name: database }) =>
      `select ${literal(database)} as name where exists
         (select * from ${quotedName(database)}.sys.database_principals where sid = suser_sid(${literal(name)}))`,
  );
  return (await db.read<{ name: string }>(asked.join(" union all "))).map(({ name: database }) => database);
}

interface User {
  readonly name: string;
  readonly schema: string | null;
}

async function findUser(db: Session, database: string, { name, kind }: Principal): Promise<User | undefined> {
  const same = kind === "user" ? `name = ${literal(name)}` : `sid = suser_sid(${literal(name)})`;
  const [user] = await db.read<User>(
    `select name, default_schema_name as [schema] from ${quotedName(database)}.sys.database_principals where ${same}`,
  );
  return user;
}

async function rightsIn(db: Session, database: string, principal: Principal): Promise<Right[]> {
  const user = await findUser(db, database, principal);
  if (!user) return [];
  const named = { database, name: user.name };
  const schema = user.schema === null ? "" : ` with default_schema = ${quotedName(user.schema)}`;
  const login: Right[] =
    principal.kind === "user"
      ? []
      : [{ database, words: "a user", statement: (to) => `create user ${quotedName(to)} for login ${quotedName(to)}${schema}` }];
  // The owner of a database is its user dbo, of whom there is one.
  if (user.name.toLowerCase() === "dbo") return [...login, roleRight(database, "db_owner"), permissionRight(bornWith, database)];
  return [...login, ...(await databaseRoles(db, named)), ...(await databasePermissions(db, named))];
}

/** Each user is made with it. */
const bornWith: Permission = { state: "GRANT", permission: "CONNECT", class: "DATABASE" };

interface NamedUser {
  readonly database: string;
  readonly name: string;
}

function roleRight(database: string, role: string): Right {
  const statement = (to: string) => `alter role ${quotedName(role)} add member ${quotedName(to)}`;
  return { database, words: `member of ${role}`, statement };
}

async function databaseRoles(db: Session, { database, name }: NamedUser): Promise<Right[]> {
  const sys = `${quotedName(database)}.sys`;
  const rows = await db.read<{ role: string }>(
    `select r.name as role from ${sys}.database_role_members m
       join ${sys}.database_principals r on r.principal_id = m.role_principal_id
       join ${sys}.database_principals u on u.principal_id = m.member_principal_id where u.name = ${literal(name)}`,
  );
  return rows.map(({ role }) => roleRight(database, role));
}

async function databasePermissions(db: Session, { database, name }: NamedUser): Promise<Right[]> {
  const sys = `${quotedName(database)}.sys`;
  const rows = await db.read<Permission>(
    `select p.state_desc as state, p.permission_name as permission, p.class_desc as class,
       s.name as [schema], o.name as [object], c.name as [column]
     from ${sys}.database_permissions p join ${sys}.database_principals u on u.principal_id = p.grantee_principal_id
       left join ${sys}.all_objects o on p.class = 1 and o.object_id = p.major_id
       left join ${sys}.schemas s on s.schema_id = case p.class when 1 then o.schema_id when 3 then p.major_id end
       left join ${sys}.all_columns c on p.class = 1 and p.minor_id > 0 and c.object_id = p.major_id and c.column_id = p.minor_id
     where u.name = ${literal(name)}`,
  );
  // What was taken back of a column comes after what was given of its table.
  const taken = rows.filter(({ state }) => state === "REVOKE");
  return [...rows.filter((row) => !taken.includes(row)), ...taken].map((row) => permissionRight(row, database));
}

function permissionRight(row: Permission, database: string | undefined): Right {
  const where = securable(row);
  if (where === undefined) {
    const words = `${row.permission} on a ${row.class.toLowerCase()} cannot be given to a clone by Rekey`;
    throw new RotatorError("invalid", `${words}: give it to a role that both are members of`);
  }
  const verb = row.state === "DENY" ? "deny" : row.state === "REVOKE" ? "revoke" : "grant";
  const preposition = verb === "revoke" ? "from" : "to";
  const option = row.state === "GRANT_WITH_GRANT_OPTION" ? " with grant option" : "";
  const right = `${verb} ${row.permission}${where}`;
  return { database, words: `${right}${option}`, statement: (to) => `${right} ${preposition} ${quotedName(to)}${option}` };
}

/** `undefined` for kinds of things that are named in other ways, e.g. certificates. Source: sys.database_permissions, `class_desc`. */
function securable({ class: kind, schema, object, column }: Permission): string | undefined {
  if (kind === "SERVER" || kind === "DATABASE") return "";
  if (kind === "SCHEMA" && schema) return ` on schema::${quotedName(schema)}`;
  if (kind !== "OBJECT_OR_COLUMN" || !schema || !object) return undefined;
  return ` on object::${quotedName(schema)}.${quotedName(object)}${column ? ` (${quotedName(column)})` : ""}`;
}

const sameRight = (a: Right, b: Right): boolean => a.database === b.database && a.words === b.words;

/** What the one in use has and the other lacks. @throws RotatorError `invalid` when the other may do more */
async function missingRights(db: Session, wanted: readonly Right[], inUse: string, to: Principal): Promise<Right[]> {
  const held = await rightsOf(db, to);
  const excess = held.find((right) => !wanted.some((other) => sameRight(other, right)));
  if (excess) {
    const place = excess.database === undefined ? "the server" : `database ${excess.database}`;
    throw new RotatorError(
      "invalid",
      `${to.name} has a right that ${inUse} lacks (${excess.words}, on ${place}): give it to both or to none`,
    );
  }
  return wanted.filter((right) => !held.some((other) => sameRight(other, right)));
}

async function give(db: Session, { database, statement }: Right, to: string): Promise<void> {
  const use = database === undefined ? "" : `use ${quotedName(database)}; `;
  await db.change(`${use}${statement(to)}`);
}
