import pg from "pg";
import { RotatorError } from "../core/error.ts";
import type { Session } from "./postgres-session.ts";

export interface Pair {
  /** The role whose password is set: the original itself, or its clone. */
  readonly name: string;
  readonly original: string;
  readonly clone: string;
  readonly verifier: string;
}

interface Role {
  readonly exists: boolean;
  readonly member: boolean;
  readonly login: boolean;
  readonly expired: boolean;
}

/** Sets the password of one role of an alternating pair; a clone that is missing is made a member of the original, alike in all else. */
export async function setCloned(db: Session, { name, original, clone, verifier }: Pair): Promise<void> {
  const password = `password ${pg.escapeLiteral(verifier)}`;
  const role = await find(db, { name, original, clone });
  if (!role.exists) {
    if (name === original) throw new RotatorError("invalid", `role ${original} does not exist`);
    await db.change([...(await cloneStatements(db, name, original, password))].join(";\n"));
    return;
  }
  if (!role.member) {
    throw new RotatorError(
      "invalid",
      `role ${clone} exists and is not a member of ${original}: grant ${original} to it, or rename it`,
    );
  }
  if (!role.login) throw new RotatorError("locked", `role ${name} may not log in: alter role … login`);
  if (role.expired) throw new RotatorError("expired", `role ${name} has expired: alter role … valid until`);
  await db.change(`alter role ${pg.escapeIdentifier(name)} ${password}`);
}

/** A clone that is there must be a member, whichever of the two is to change: else its login would lead to the original's. */
async function find(db: Session, { name, original, clone }: Omit<Pair, "verifier">): Promise<Role> {
  const [row] = await db.read<Omit<Role, "exists">>(
    `select rolcanlogin as login, coalesce(rolvaliduntil <= now(), false) as expired,
       not exists (select from pg_roles c where c.rolname = $3 and not exists (select from pg_auth_members m
         join pg_roles o on o.oid = m.roleid where m.member = c.oid and o.rolname = $2)) as member
     from pg_roles r where rolname = $1`,
    [name, original, clone],
  );
  return row ? { ...row, exists: true } : { exists: false, member: false, login: false, expired: false };
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
  return [create, `grant ${pg.escapeIdentifier(original)} to ${clone}`, ...alters];
}

/** Settings that are lists of names are stored as quoted names, and given as one literal for each. */
const lists = ["search_path", "session_preload_libraries", "local_preload_libraries", "temp_tablespaces"];

function settingText(setting: string): string {
  const at = setting.indexOf("=");
  const [key, value] = [setting.slice(0, at), setting.slice(at + 1)];
  const name = key.split(".").map(pg.escapeIdentifier).join(".");
  if (!lists.includes(key.toLowerCase())) return `${name} to ${pg.escapeLiteral(value)}`;
  const members = value.match(/"(?:[^"]|"")*"|[^\s,"]+/g) ?? [""];
  const bare = (member: string) => (member.startsWith('"') ? member.slice(1, -1).replaceAll('""', '"') : member);
  return `${name} to ${members.map((member) => pg.escapeLiteral(bare(member))).join(", ")}`;
}
