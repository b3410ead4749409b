import { RotatorError } from "../core/error.ts";
import { quotedName, quotedPassword, type Session } from "./oracle-session.ts";

interface User {
  readonly status: string;
  readonly authentication: string;
  readonly tablespace: string;
  readonly temporary: string;
  readonly profile: string;
}

/** Set by a superuser, in a statement. @throws RotatorError `invalid` where others could read it on its way */
export async function setPassword(db: Session, name: string, password: string): Promise<void> {
  await db.change(`alter user ${quotedName(name)} identified by ${sayable(db, password)}`);
}

function sayable(db: Session, password: string): string {
  if (db.maySayPasswords) return quotedPassword(password);
  throw new RotatorError(
    "invalid",
    "a superuser must tell Oracle the password itself, which needs TLS: set ssl to true, with the port of TCPS; or to false where the network is trusted",
  );
}

/** `undefined` when there is none. @throws RotatorError `locked`; `invalid` when it logs in without a password */
export async function findUser(db: Session, name: string): Promise<User | undefined> {
  const [user] = await db.read<User>(
    `select account_status as "status", authentication_type as "authentication", default_tablespace as "tablespace",
       temporary_tablespace as "temporary", profile as "profile" from dba_users where username = :name`,
    { name },
  );
  if (user && user.authentication !== "PASSWORD") {
    throw new RotatorError("invalid", `user ${name} logs in by other means than a password (${user.authentication})`);
  }
  if (user && /LOCKED/.test(user.status)) {
    throw new RotatorError("locked", `user ${name} is locked: alter user … account unlock`);
  }
  return user;
}

/** Two users of which one is in use and the other gets a new password. */
export interface Pair {
  /** The user whose password is set. */
  readonly name: string;
  readonly inUse: string;
  /** Of the user in use, or else its original. */
  readonly isClone: boolean;
  readonly password: string;
}

/**
 * Makes sure that the other user of an alternating pair is there and may do what it should: a clone is made, and given what it
 * lacks of the original's roles and privileges, each by a statement of its own, since each ends its transaction: what a crash
 * left undone is done by the next call. Who writes a secret must not have the superuser set anybody's password: a user that may
 * do more than the one in use is not of its pair. Gives whether the password is still to be set.
 */
export async function matchAlternate(db: Session, { name, inUse, isClone, password }: Pair): Promise<boolean> {
  const [from, known] = [await findUser(db, inUse), await findUser(db, name)];
  if (!from && (isClone || !known)) throw new RotatorError("invalid", `user ${isClone ? inUse : name} does not exist`);
  if (!from) return true; // a clone that somebody dropped keeps nobody from going back to the original
  if (!known && !isClone) throw new RotatorError("invalid", `user ${name} does not exist`);
  // Looked up before anything is made, since it may find what cannot be given to a clone.
  const wanted = await rightsOf(db, inUse);
  if (!known) await create(db, from, name, password);
  const held = await rightsOf(db, name);
  const excess = held.find((right) => !wanted.some(({ words }) => words === right.words));
  if (excess) {
    throw new RotatorError("invalid", `${name} has what ${inUse} lacks (${excess.words}): give it to both or to none`);
  }
  const missing = wanted.filter((right) => !held.some(({ words }) => words === right.words));
  if (isClone && missing.length > 0) {
    for (const { statement } of missing) await db.change(statement(quotedName(name)));
    await leaveOff(db, inUse, name);
  }
  return known !== undefined;
}

async function create(db: Session, { tablespace, temporary, profile }: User, name: string, password: string): Promise<void> {
  await db.change(
    `create user ${quotedName(name)} identified by ${sayable(db, password)} default tablespace ${quotedName(tablespace)}
       temporary tablespace ${quotedName(temporary)} profile ${quotedName(profile)}`,
  );
}

/** Roles that the original has to ask for when it is logged in. */
async function leaveOff(db: Session, original: string, name: string): Promise<void> {
  const rows = await db.read<{ role: string }>(
    `select granted_role as "role" from dba_role_privs where grantee = :name and default_role = 'NO'`,
    { name: original },
  );
  if (rows.length === 0) return;
  const roles = rows.map(({ role }) => quotedName(role)).join(", ");
  await db.change(`alter user ${quotedName(name)} default role all except ${roles}`);
}

/** A right, and the statement that gives it to another, whose name comes quoted. */
interface Right {
  readonly words: string;
  statement(to: string): string;
}

function granted(what: string, option: string): Right {
  return { words: `${what}${option}`, statement: (to) => `grant ${what} to ${to}${option}` };
}

/** All that was given to the user itself. @throws RotatorError `invalid` for a right that Rekey cannot copy */
export async function rightsOf(db: Session, name: string): Promise<Right[]> {
  const binds = { name };
  const withAdmin = (admin: string) => (admin === "YES" ? " with admin option" : "");
  const roles = await db.read<{ role: string; admin: string }>(
    `select granted_role as "role", admin_option as "admin" from dba_role_privs where grantee = :name`,
    binds,
  );
  const system = await db.read<{ privilege: string; admin: string }>(
    `select privilege as "privilege", admin_option as "admin" from dba_sys_privs where grantee = :name`,
    binds,
  );
  const quotas = await db.read<{ tablespace: string; bytes: number }>(
    `select tablespace_name as "tablespace", max_bytes as "bytes" from dba_ts_quotas where username = :name and dropped = 'NO'`,
    binds,
  );
  return [
    ...roles.map(({ role, admin }) => granted(quotedName(role), withAdmin(admin))),
    ...system.map(({ privilege, admin }) => granted(privilege, withAdmin(admin))),
    ...(await objectRights(db, name)),
    ...quotas.map(({ tablespace, bytes }) => quotaOn(quotedName(tablespace), bytes)),
  ];
}

const quotaOn = (tablespace: string, bytes: number): Right => ({
  words: `quota on ${tablespace}`,
  statement: (to) => `alter user ${to} quota ${Number(bytes) < 0 ? "unlimited" : Number(bytes)} on ${tablespace}`,
});

interface ObjectPrivilege {
  readonly owner: string;
  readonly object: string;
  readonly type: string;
  readonly column: string | null;
  readonly privilege: string;
  readonly grantable: string;
}

async function objectRights(db: Session, name: string): Promise<Right[]> {
  const rows = await db.read<ObjectPrivilege>(
    `select owner as "owner", table_name as "object", type as "type", null as "column", privilege as "privilege",
       grantable as "grantable" from dba_tab_privs where grantee = :name
     union all select owner, table_name, 'TABLE', column_name, privilege, grantable from dba_col_privs where grantee = :name`,
    { name },
  );
  return rows.map((row) => {
    const column = row.column === null ? "" : ` (${quotedName(row.column)})`;
    const option = row.grantable === "YES" ? " with grant option" : "";
    return granted(`${row.privilege}${column} on ${objectText(row)}`, option);
  });
}

/** Kinds of objects that are named by owner and name. Source: Oracle SQL Language Reference, GRANT, `on_object_clause`. */
const plain = /^(TABLE|VIEW|MATERIALIZED VIEW|SEQUENCE|PROCEDURE|FUNCTION|PACKAGE|TYPE|LIBRARY|OPERATOR|INDEXTYPE|UNKNOWN)$/;

function objectText({ owner, object, type, privilege }: ObjectPrivilege): string {
  if (plain.test(type)) return `${quotedName(owner)}.${quotedName(object)}`;
  if (type === "DIRECTORY") return `directory ${quotedName(object)}`;
  throw new RotatorError(
    "invalid",
    `${privilege} on ${type.toLowerCase()} ${object} cannot be given to a clone by Rekey: give it to a role that both have`,
  );
}

/**
 * A call whose caller died may still change the password: its session is ended by the account's mark, and waited for. Where the
 * login may not see or end it, its own time limit does.
 */
export async function endEarlierCalls(db: Session, mark: string, deadlineAt: number): Promise<void> {
  for (;;) {
    const sessions = await db
      .read<{ sid: number; serial: number }>(
        `select sid as "sid", serial# as "serial" from v$session
         where client_identifier like :mark and sid <> sys_context('userenv', 'sid')`,
        { mark: `${mark}%` },
      )
      .catch(ignoreDenial);
    if (!sessions?.length) return;
    for (const { sid, serial } of sessions) {
      const end = `alter system disconnect session '${Number(sid)},${Number(serial)}' immediate`;
      if (!(await db.read(end).catch(ignoreDenial))) return;
    }
    if (Date.now() > deadlineAt - 1_000) throw new RotatorError("timeout", "an earlier call for this user has not ended yet");
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** The server has answered that it will not. */
function ignoreDenial(error: unknown): undefined {
  if (!(error instanceof RotatorError && ["denied", "unknown", "invalid"].includes(error.outcome))) throw error;
}
