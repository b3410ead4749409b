import pg from "pg";
import type { DatabaseLogin } from "./database-secret.ts";
import { type Pair, refusalFor } from "./postgres-clone.ts";
import { type Session, type SessionOptions, withSession } from "./postgres-session.ts";
import type { Finding, Strategy } from "./target.ts";

/** The logins that a rotation would use, and the role that it would change. */
export interface Checked {
  readonly own: DatabaseLogin;
  readonly admin: DatabaseLogin | undefined;
  readonly pair: Pair;
  readonly session: SessionOptions;
}

/** What at the server stands against a rotation. Reads only. @throws RotatorError */
export async function checkPostgres({ own, admin, pair, session }: Checked, strategy: Strategy): Promise<Finding[]> {
  const findings = await withSession(own, session, async (db) => {
    const server = await readServer(db);
    const of = strategy === "single-user" ? checkOwn(server) : [];
    return [...checkServer(server, own), ...of, ...checkRole(await readRole(db, own.username), own.username)];
  });
  if (strategy !== "alternating-users" || !admin) return findings;
  const others = await withSession(admin, { ...session, serverNames: true }, async (db) => [
    ...checkWrites(await readServer(db), admin.username),
    ...(await checkAdmin(db, admin, pair)),
  ]);
  return [...findings, ...others];
}

interface Server {
  readonly version: number;
  readonly standby: boolean;
  readonly readOnly: boolean;
  readonly encryption: string;
  readonly tls: boolean;
  readonly port: number | null;
  /** `name=value` of those settings that the role may see. */
  readonly settings: readonly string[];
  readonly libraries: string;
  readonly mayAlterPassword: boolean;
}

export async function readServer(db: Session): Promise<Server> {
  const [row] = await db.read<Omit<Server, "libraries">>(
    `select current_setting('server_version_num')::int as version, pg_is_in_recovery() as standby,
       current_setting('transaction_read_only') = 'on' as "readOnly", current_setting('password_encryption') as encryption,
       coalesce((select ssl from pg_stat_ssl where pid = pg_backend_pid()), false) as tls, inet_server_port() as port,
       array(select name || '=' || setting from pg_settings where name in ('shared_preload_libraries', 'local_preload_libraries',
         'session_preload_libraries', 'credcheck.encrypted_password_allowed', 'rds.restrict_password_commands')) as settings,
       coalesce((select pg_has_role(oid, 'member') from pg_roles where rolname = 'rds_password'), true) as "mayAlterPassword"`,
  );
  if (!row) throw new Error("no row"); // a query without FROM has one
  const libraries = row.settings.filter((setting) => setting.includes("preload_libraries=")).join(" ");
  return { ...row, libraries };
}

const isSet = (server: Server, name: string, value: string): boolean => server.settings.includes(`${name}=${value}`);

export function checkServer(server: Server, own: DatabaseLogin): Finding[] {
  const findings: Finding[] = [];
  if (server.version < 100_000) {
    findings.push({
      step: "setSecret",
      problem: "the server is older than PostgreSQL 10 and knows no SCRAM",
      remedy: "Upgrade the server.",
    });
  }
  if (server.encryption === "md5") {
    findings.push({
      step: "testSecret",
      problem:
        "password_encryption is md5, and new passwords are kept as SCRAM-SHA-256: clients that know only MD5 are refused then",
      remedy: "Make sure that all clients know SCRAM-SHA-256.",
      warning: true,
    });
  }
  if (!server.tls && !isLocal(own.host)) {
    findings.push({
      step: "testSecret",
      problem: "the connection is not encrypted",
      remedy: "Give the server TLS, and set ssl to true.",
      warning: true,
    });
  }
  if (server.port !== null && server.port !== own.port) {
    findings.push({
      step: "setSecret",
      problem: `something stands between: the server itself listens on port ${server.port}, not ${own.port}`,
      remedy: "A pooler that keeps passwords of its own must get the new ones too; else name the server itself.",
      warning: true,
    });
  }
  return [...findings, ...checkPlugins(server)];
}

const isLocal = (host: string): boolean => host === "localhost" || host === "::1" || /^127\.|^\//.test(host);

/** Modules that have a say in passwords. The server gets a verifier, never the password itself. */
function checkPlugins(server: Server): Finding[] {
  if (server.libraries.includes("credcheck") && !isSet(server, "credcheck.encrypted_password_allowed", "on")) {
    return [
      {
        step: "setSecret",
        problem: "credcheck refuses password verifiers, and the server is told no password itself",
        remedy: "Set credcheck.encrypted_password_allowed to on.",
      },
    ];
  }
  if (!server.libraries.includes("passwordcheck")) return [];
  return [
    {
      step: "setSecret",
      problem: "passwordcheck cannot look into a verifier: its rules do not hold for new passwords",
      remedy: "Say in the rotation policy how long passwords are to be.",
      warning: true,
    },
  ];
}

/** The role sets its own password: which every role may, unless the server was told otherwise. */
function checkOwn(server: Server): Finding[] {
  const findings = checkWrites(server, "the role");
  if (isSet(server, "rds.restrict_password_commands", "on") && !server.mayAlterPassword) {
    findings.push({
      step: "setSecret",
      problem: "rds.restrict_password_commands is on, and the role is no member of rds_password",
      remedy: "Grant rds_password to the role, or rotate with a superuser.",
    });
  }
  return findings;
}

export function checkWrites({ standby, readOnly }: Server, who: string): Finding[] {
  if (standby) {
    const problem = "the server is a standby, where no password can be set";
    return [{ step: "setSecret", problem, remedy: "Name the primary as host, and the standby as an endpoint of the policy." }];
  }
  if (!readOnly) return [];
  const problem = `sessions of ${who} are read only`;
  return [{ step: "setSecret", problem, remedy: "Set default_transaction_read_only to off for it, or for the server." }];
}

interface Role {
  readonly limit: number;
  readonly used: number;
  readonly until: string | null;
}

async function readRole(db: Session, name: string): Promise<Role | undefined> {
  const [row] = await db.read<Role>(
    `select rolconnlimit as limit, (select count(*)::int from pg_stat_activity where usename = $1) as used,
       case when rolvaliduntil < now() + interval '30 days' then rolvaliduntil::text end as until
     from pg_roles where rolname = $1`,
    [name],
  );
  return row;
}

function checkRole(role: Role | undefined, name: string): Finding[] {
  const findings: Finding[] = [];
  if (role && role.until !== null) {
    findings.push({
      step: "testSecret",
      problem: `role ${name} is valid until ${role.until}, which a rotation does not extend`,
      remedy: "alter role … valid until a later time.",
      warning: true,
    });
  }
  if (role && role.limit >= 0 && role.used >= role.limit) {
    findings.push({
      step: "testSecret",
      problem: `role ${name} has ${role.used} of ${role.limit} connections in use: the next login may be refused`,
      remedy: "Raise the role's connection limit.",
      warning: true,
    });
  }
  return findings;
}

/** What the superuser's role may do with the pair. */
interface Rights {
  readonly version: number;
  readonly superuser: boolean;
  readonly createrole: boolean;
  readonly createdb: boolean;
  readonly replication: boolean;
  readonly bypassrls: boolean;
  readonly usedSuper: boolean;
  readonly usedCreatedb: boolean;
  readonly usedReplication: boolean;
  readonly usedBypassrls: boolean;
  readonly usedThere: boolean;
  readonly adminOfUsed: boolean;
  readonly otherThere: boolean;
  readonly otherSuper: boolean;
  readonly otherLimit: number | null;
  readonly otherConnects: boolean | null;
  readonly adminOfOther: boolean;
}

async function readRights(
  db: Session,
  { dbname = "postgres" }: DatabaseLogin,
  { name, inUse }: Pair,
): Promise<Rights | undefined> {
  const [row] = await db.read<Rights>(
    `select current_setting('server_version_num')::int as version, a.rolsuper as superuser, a.rolcreaterole as createrole,
       a.rolcreatedb as createdb, a.rolreplication as replication, a.rolbypassrls as bypassrls,
       u.oid is not null as "usedThere", coalesce(u.rolsuper, false) as "usedSuper", coalesce(u.rolcreatedb, false) as "usedCreatedb",
       coalesce(u.rolreplication, false) as "usedReplication", coalesce(u.rolbypassrls, false) as "usedBypassrls",
       coalesce(pg_has_role(u.oid, 'member with admin option'), false) as "adminOfUsed",
       o.oid is not null as "otherThere", coalesce(o.rolsuper, false) as "otherSuper", o.rolconnlimit as "otherLimit",
       has_database_privilege(o.oid, (select oid from pg_database where datname = $3), 'connect') as "otherConnects",
       coalesce(pg_has_role(o.oid, 'member with admin option'), false) as "adminOfOther"
     from pg_roles a left join pg_roles u on u.rolname = $2 left join pg_roles o on o.rolname = $1
     where a.rolname = current_user`,
    [name, inUse, dbname],
  );
  return row;
}

async function checkAdmin(db: Session, admin: DatabaseLogin, pair: Pair): Promise<Finding[]> {
  const rights = await readRights(db, admin, pair);
  if (!rights) return [];
  const refusal = await refusalFor(db, pair);
  const findings: Finding[] = refusal
    ? [{ step: "setSecret", problem: refusal.message, remedy: "Do at the server what the reason says." }]
    : [];
  const missing = rights.superuser ? [] : missingRights(rights, pair);
  for (const { problem, remedy } of missing) {
    findings.push({ step: "setSecret", problem: `role ${admin.username} ${problem}`, remedy });
  }
  return [...findings, ...checkOther(rights, pair)];
}

interface Missing {
  readonly problem: string;
  readonly remedy: string;
}

/** Of a role that is no superuser. Source: PostgreSQL documentation, CREATE ROLE and ALTER ROLE; the rules of version 16. */
function missingRights(rights: Rights, pair: Pair): Missing[] {
  const { name, inUse } = pair;
  if (!rights.createrole) return [{ problem: "may not change roles", remedy: "Give it CREATEROLE." }];
  const since16 = rights.version >= 160_000;
  const target = rights.otherThere ? name : inUse;
  if (rights.otherThere ? rights.otherSuper : rights.usedSuper) {
    return [{ problem: `may not change ${target}, a superuser`, remedy: "Use a superuser, or take SUPERUSER from that role." }];
  }
  if (since16 && !(rights.otherThere ? rights.adminOfOther : rights.adminOfUsed)) {
    const grant = `grant ${pg.escapeIdentifier(target)} to … with admin option`;
    return [{ problem: `has no ADMIN option on ${target}`, remedy: `Since PostgreSQL 16 that is needed: ${grant}.` }];
  }
  return rights.otherThere ? [] : missingAttributes(rights, since16, inUse);
}

/** The clone gets what the original has, which whoever makes it must have, too. */
function missingAttributes(rights: Rights, since16: boolean, inUse: string): Missing[] {
  const lacks = [
    ["REPLICATION", rights.usedReplication, since16 && rights.replication],
    ["BYPASSRLS", rights.usedBypassrls, since16 && rights.bypassrls],
    ["CREATEDB", rights.usedCreatedb, !since16 || rights.createdb],
  ] as const;
  return lacks
    .filter(([, wanted, may]) => wanted && !may)
    .map(([attribute]) => ({
      problem: `may not give ${attribute}, which ${inUse} has, to a clone`,
      remedy: `Use a superuser, or take ${attribute} from ${inUse}.`,
    }));
}

function checkOther({ otherThere, otherLimit, otherConnects, usedThere }: Rights, { name, inUse }: Pair): Finding[] {
  const findings: Finding[] = [];
  if (!usedThere) {
    const problem = `role ${inUse} does not exist for the superuser's login`;
    findings.push({ step: "setSecret", problem, remedy: "Check whether both secrets are for the same server." });
  }
  if (!otherThere) return findings;
  if (otherLimit === 0) {
    const problem = `role ${name} has connection limit 0`;
    findings.push({ step: "testSecret", problem, remedy: "Raise its connection limit." });
  }
  if (otherConnects === false) {
    const problem = `role ${name} may not connect to the database`;
    findings.push({ step: "testSecret", problem, remedy: `Grant it CONNECT, as ${inUse} has it.` });
  }
  return findings;
}
