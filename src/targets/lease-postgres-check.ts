import { randomUUID } from "node:crypto";
import pg from "pg";
import { RotatorError } from "../core/error.ts";
import { leaseName } from "./lease-name.ts";
import { membershipOf } from "./lease-postgres-revoke.ts";
import { change, type Manager, withManager } from "./lease-postgres-session.ts";
import { creationOf, type PostgresLeaseSettings, renewalOf, revocationOf } from "./lease-postgres-settings.ts";
import type { LeaseFinding } from "./lease-target.ts";
import { checkServer, checkWrites, readServer } from "./postgres-check.ts";
import type { Session } from "./postgres-session.ts";
import { scramVerifier } from "./scram.ts";

/** What at the server stands against leases. A whole life is tried and rolled back. @throws RotatorError */
export async function checkPostgresLeases(manager: Manager, settings: PostgresLeaseSettings): Promise<LeaseFinding[]> {
  const { login } = manager;
  return withManager(manager, async (db) => {
    const server = await readServer(db);
    const general = [...checkServer(server, login), ...checkWrites(server, login.username)].map(({ step: _, ...found }) => found);
    const rights = [...(await checkManager(db, settings)), ...(await checkRoles(db, settings, login.dbname ?? ""))];
    const direct = checkDirect(settings);
    const stops = [...general, ...rights].some(({ warning }) => !warning);
    return [...general, ...rights, ...direct, ...(stops ? [] : await tryAll(db, settings, server.version >= 160_000))];
  });
}

interface ManagerRow {
  readonly name: string;
  readonly version: number;
  readonly superuser: boolean;
  readonly createrole: boolean;
  readonly inherit: boolean;
}

async function checkManager(db: Session, settings: PostgresLeaseSettings): Promise<LeaseFinding[]> {
  const [row] = await db.read<ManagerRow>(
    `select rolname as name, current_setting('server_version_num')::int as version, rolsuper as superuser,
       rolcreaterole as createrole, rolinherit as inherit from pg_roles where rolname = current_user`,
  );
  if (!row || row.superuser) return [];
  const findings: LeaseFinding[] = [];
  if (!row.createrole) {
    findings.push({
      problem: `role ${row.name} may not create roles`,
      remedy: `alter role ${pg.escapeIdentifier(row.name)} createrole`,
    });
  }
  if (!row.inherit && row.version < 160_000) {
    const problem = `role ${row.name} does not inherit rights, and can hand on nothing that leased users own`;
    findings.push({
      problem,
      remedy: `alter role ${pg.escapeIdentifier(row.name)} inherit`,
      ...(settings.roles && { warning: true }),
    });
  }
  return findings;
}

interface RoleRow {
  readonly name: string;
  readonly exists: boolean;
  readonly superuser: boolean;
  readonly mayGrant: boolean;
  readonly mayAct: boolean;
  readonly connects: boolean;
  readonly isOwn: boolean;
}

async function checkRoles(db: Session, settings: PostgresLeaseSettings, dbname: string): Promise<LeaseFinding[]> {
  const { roles = [], ownerRole } = settings;
  const rows = await db.read<RoleRow>(
    `select w.name, r.oid is not null as exists, coalesce(r.rolsuper, false) as superuser,
       coalesce(a.rolsuper or pg_has_role(r.oid, 'member with admin option')
         or (a.rolcreaterole and current_setting('server_version_num')::int < 160000), false) as "mayGrant",
       coalesce(pg_has_role(r.oid, 'usage'), false) as "mayAct", coalesce(r.oid = a.oid, false) as "isOwn",
       coalesce(has_database_privilege(r.oid, (select oid from pg_database where datname = $2), 'connect'), false) as connects
     from unnest($1::text[]) with ordinality as w(name, place) left join pg_roles r on r.rolname = w.name
       join pg_roles a on a.rolname = current_user order by w.place`,
    [[...roles, ...(ownerRole === undefined ? [] : [ownerRole])], dbname],
  );
  const groups = rows.slice(0, roles.length);
  const absent = rows.filter(({ exists }) => !exists).map(({ name }) => missing(name));
  const cannot = groups.length > 0 && groups.every(({ exists, connects }) => exists && !connects);
  return [
    ...absent,
    ...groups.filter(({ exists }) => exists).flatMap((row) => checkGroup(row)),
    ...(cannot
      ? [
          noConnect(
            groups.map(({ name }) => name),
            dbname,
          ),
        ]
      : []),
    ...rows
      .slice(roles.length)
      .filter(({ exists, mayAct }) => exists && !mayAct)
      .map(({ name }) => noHeir(name, false)),
    ...(ownerRole === undefined && groups.length === 1 ? groups.filter(({ exists, mayAct }) => exists && !mayAct) : []).map(
      ({ name }) => noHeir(name, true),
    ),
  ];
}

const missing = (name: string): LeaseFinding => ({
  problem: `role ${name} does not exist`,
  remedy: `create role ${pg.escapeIdentifier(name)}, and grant it what leased users are to have`,
});

function checkGroup({ name, superuser, mayGrant, isOwn }: RoleRow): LeaseFinding[] {
  const role = pg.escapeIdentifier(name);
  if (isOwn) {
    const problem = `role ${name} is the managing user, which cannot be a group of users that it must end`;
    return [{ problem, remedy: "Create a group role with the rights of leased users." }];
  }
  const findings: LeaseFinding[] = [];
  if (!mayGrant) {
    findings.push({
      problem: `the managing user may not make members of role ${name}`,
      remedy: `grant ${role} to … with admin option`,
    });
  }
  if (superuser) {
    const problem = `role ${name} is a superuser, which every leased user may become`;
    findings.push({ problem, remedy: "Name a group role that has only what leased users need.", warning: true });
  }
  return findings;
}

const noConnect = (names: readonly string[], dbname: string): LeaseFinding => ({
  problem: `members of ${names.join(", ")} may not connect to database ${dbname}`,
  remedy: `grant connect on database ${pg.escapeIdentifier(dbname)} to one of them`,
});

const noHeir = (name: string, warning: boolean): LeaseFinding => ({
  problem: `the managing user has not the rights of role ${name}: what leased users own goes to ${warning ? "a role without rights of its own" : "nobody"}`,
  remedy: `grant ${pg.escapeIdentifier(name)} to …`,
  ...(warning && { warning }),
});

/** A table granted directly to some 2,440 roles cannot be granted to one more: its access list outgrows its row. */
function checkDirect({ creationStatements = [] }: PostgresLeaseSettings): LeaseFinding[] {
  const at = creationStatements.findIndex((text) => /\bgrant\b.*\bon\b.*\bto\b[^;]*\{\{\s*username\s*\}\}/is.test(text));
  if (at < 0) return [];
  return [
    {
      problem: `creationStatements[${at}] grants rights to each user itself, which ends at some 2,440 users of one table and slows all others`,
      remedy: "Grant them to a group role once, and make users members of it.",
      warning: true,
    },
  ];
}

/** Nothing of it stays: making a role is part of the transaction. */
async function tryAll(db: Session, settings: PostgresLeaseSettings, since16: boolean): Promise<LeaseFinding[]> {
  const mark = { installation: "preflght", leaseId: randomUUID(), secretName: "preflight" };
  const user = { mark, name: leaseName(mark, 63), handle: undefined, expiresAt: Date.now() + 3_600_000 };
  const verifier = await scramVerifier(randomUUID());
  await db.read("begin");
  try {
    const ending = [membershipOf(user.name, since16), ...revocationOf(settings, user)];
    const all = [
      ...creationOf(settings, user, verifier),
      ...renewalOf(settings, user),
      ...(settings.revocationStatements ? ending : []),
    ];
    for (const one of all) await change(db, one);
    return [];
  } catch (error) {
    if (!(error instanceof RotatorError) || !["denied", "invalid", "unknown"].includes(error.outcome)) throw error;
    return [{ problem: error.message, remedy: "Do at the server, or in the settings, what the reason says." }];
  } finally {
    await db.read("rollback").catch(() => undefined);
  }
}
