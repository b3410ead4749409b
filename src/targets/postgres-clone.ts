import pg from "pg";
import { RotatorError } from "../core/error.ts";
import type { Session } from "./postgres-session.ts";

/** Two roles of which one is in use and the other gets a new password. */
export interface Pair {
  /** The role whose password is set. */
  readonly name: string;
  readonly inUse: string;
  /** What the secret itself says of the two: `named` by it, or one is the `clone` or the `original` of the other by its name. */
  readonly change: "named" | "clone" | "original";
  /** That the two belong together is known from elsewhere. */
  readonly proven?: boolean | undefined;
}

interface Role {
  readonly exists: boolean;
  readonly inUseExists: boolean;
  readonly login: boolean;
  readonly expired: boolean;
  /** A comment that only an administrator can have written says that the two alternate. */
  readonly marked: boolean;
  /** Of the role in use, and may do no more than it. */
  readonly member: boolean;
  /** The role in use may act as this one anyway. */
  readonly reachable: boolean;
}

/**
 * Sets the password of one role of an alternating pair; one that is missing is made a member of that in use, alike in all else.
 * A role that is there must be the pair's for sure: who writes a secret must not have the superuser set anybody's password.
 */
export async function setCloned(db: Session, pair: Pair, verifier: string): Promise<void> {
  const { name, inUse } = pair;
  const password = `password ${pg.escapeLiteral(verifier)}`;
  const role = await find(db, pair);
  const refusal = refusalOf(role, pair);
  if (refusal) throw refusal;
  if (!role.exists) {
    await db.change([...(await cloneStatements(db, name, inUse, password))].join(";\n"));
    return;
  }
  await db.change(`alter role ${pg.escapeIdentifier(name)} ${password}`);
}

/** Why the role's password would not be set; `undefined` when it would. Reads only. */
export async function refusalFor(db: Session, pair: Pair): Promise<RotatorError | undefined> {
  return refusalOf(await find(db, pair), pair);
}

function refusalOf(role: Role, pair: Pair): RotatorError | undefined {
  const { name, change, proven = false } = pair;
  if (!role.exists) return change === "original" ? new RotatorError("invalid", `role ${name} does not exist`) : undefined;
  if (!proven && !isProven(role, change)) return notProven(pair);
  if (!role.login) return new RotatorError("locked", `role ${name} may not log in: alter role … login`);
  return role.expired ? new RotatorError("expired", `role ${name} has expired: alter role … valid until`) : undefined;
}

/** A clone that somebody dropped keeps nobody from going back to the original. */
function isProven({ marked, member, reachable, inUseExists }: Role, change: Pair["change"]): boolean {
  if (marked) return true;
  if (change === "clone") return member;
  return change === "original" && (reachable || !inUseExists);
}

function notProven({ name, inUse, change }: Pair): RotatorError {
  const mark = `comment on role ${pg.escapeIdentifier(name)} is ${pg.escapeLiteral(markOf(inUse))}`;
  const [clone, original] = change === "clone" ? [name, inUse] : [inUse, name];
  return new RotatorError(
    "invalid",
    change === "named"
      ? `role ${name} exists, and nothing says that it alternates with ${inUse}; if it does: ${mark}`
      : `role ${clone} exists and is no clone of ${original} (a member that may do no more); if the two alternate: ${mark}`,
  );
}

/** Roles cannot comment on themselves. The quotes keep one name from being the beginning of another. */
const markOf = (other: string): string => `rekey: alternates with ${pg.escapeIdentifier(other)}`;

async function find(db: Session, { name, inUse }: Pair): Promise<Role> {
  const [row] = await db.read<Omit<Role, "exists">>(
    `select r.rolcanlogin as login, coalesce(r.rolvaliduntil <= now(), false) as expired, u.oid is not null as "inUseExists",
       coalesce(position($3 in shobj_description(r.oid, 'pg_authid')) > 0, false)
         or coalesce(position($4 in shobj_description(u.oid, 'pg_authid')) > 0, false) as marked,
       coalesce(pg_has_role(u.oid, r.oid, 'member'), false) as reachable,
       exists (select from pg_auth_members m where m.member = r.oid and m.roleid = u.oid)
         and not (r.rolsuper and not u.rolsuper or r.rolcreaterole and not u.rolcreaterole
           or r.rolcreatedb and not u.rolcreatedb or r.rolreplication and not u.rolreplication
           or r.rolbypassrls and not u.rolbypassrls)
         and not exists (select from pg_auth_members m where m.member = r.oid and m.roleid <> u.oid
           and not pg_has_role(u.oid, m.roleid, 'member')) as member
     from pg_roles r left join pg_roles u on u.rolname = $2 where r.rolname = $1`,
    [name, inUse, markOf(inUse), markOf(name)],
  );
  const none = { login: false, expired: false, marked: false, member: false, reachable: false, inUseExists: false };
  return row ? { ...row, exists: true } : { ...none, exists: false };
}

/** Ends a password: what takes its place nobody has. */
export async function scramble(db: Session, name: string, verifier: string): Promise<void> {
  await db.change(`alter role ${pg.escapeIdentifier(name)} password ${pg.escapeLiteral(verifier)}`);
}

interface Attributes {
  readonly oid: number;
  readonly options: string;
  readonly limit: number;
  readonly until: string | null;
}

/** One text, so that the server makes all of it or nothing. */
async function cloneStatements(db: Session, name: string, original: string, password: string): Promise<string[]> {
  const [from] = await db.read<Attributes>(
    `select oid::int8::text as oid, rolconnlimit as limit, rolvaliduntil::text as until,
       concat_ws(' ', case when rolsuper then 'superuser' end, case when rolcreatedb then 'createdb' end,
         case when rolcreaterole then 'createrole' end, case when rolreplication then 'replication' end,
         case when rolbypassrls then 'bypassrls' end) as options
     from pg_roles where rolname = $1`,
    [original],
  );
  if (!from) throw new RotatorError("invalid", `role ${original} does not exist`);
  const clone = pg.escapeIdentifier(name);
  const until = from.until === null ? "" : `valid until ${pg.escapeLiteral(from.until)}`;
  const create = `create role ${clone} login inherit ${from.options} connection limit ${from.limit} ${until} ${password}`;
  const settings = await db.read<{ database: string | null; setting: string }>(
    `select d.datname as database, unnest(s.setconfig) as setting
     from pg_db_role_setting s left join pg_database d on d.oid = s.setdatabase where s.setrole = $1::oid`,
    [from.oid],
  );
  const alters = settings.map(({ database, setting }) => {
    const within = database === null ? "" : `in database ${pg.escapeIdentifier(database)} `;
    return `alter role ${clone} ${within}set ${settingText(setting)}`;
  });
  const mark = `comment on role ${clone} is ${pg.escapeLiteral(markOf(original))}`;
  return [create, `grant ${pg.escapeIdentifier(original)} to ${clone}`, mark, ...alters];
}

/** Settings that are lists of names are stored as quoted names, and given as one literal for each. */
const lists = ["search_path", "session_preload_libraries", "local_preload_libraries", "temp_tablespaces"];

/** A setting as the catalog keeps it, `name=value`, as SET takes it. */
export function settingText(setting: string): string {
  const at = setting.indexOf("=");
  const [key, value] = [setting.slice(0, at), setting.slice(at + 1)];
  const name = key.split(".").map(pg.escapeIdentifier).join(".");
  if (!lists.includes(key.toLowerCase())) return `${name} to ${pg.escapeLiteral(value)}`;
  const members = value.match(/"(?:[^"]|"")*"|[^\s,"]+/g) ?? [""];
  const bare = (member: string) => (member.startsWith('"') ? member.slice(1, -1).replaceAll('""', '"') : member);
  return `${name} to ${members.map((member) => pg.escapeLiteral(bare(member))).join(", ")}`;
}
