import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { RotatorError } from "../core/error.ts";
import { powerlessHeir } from "./lease-postgres-heir.ts";
import { change, changeAll, type Manager, withManager } from "./lease-postgres-session.ts";
import type { Labelled } from "./lease-postgres-settings.ts";
import type { Session } from "./postgres-session.ts";

/** A role to be ended. */
export interface Ending {
  readonly name: string;
  readonly statements: readonly Labelled[];
  readonly owned: "reassign" | "drop";
  /** Who gets what it owns. */
  readonly owner: string | undefined;
  /** Who gets it when no `owner` is named and the managing user has this role's rights; else a role without rights of its own. */
  readonly group: string | undefined;
}

interface Role {
  readonly oid: string;
  /** The managing user may act as it. */
  readonly reachable: boolean;
  /** Who is to get what it owns; `null`: nobody whom it could not harm. */
  readonly heir: string | null;
  /** From PostgreSQL 16 on, memberships inherit or not by themselves. */
  readonly since16: boolean;
}

/** Whoever ends sessions of a role, and disposes of what it owns, must be a member of it. */
export const membershipOf = (name: string, since16: boolean): Labelled => ({
  label: "membership",
  text: `grant ${pg.escapeIdentifier(name)} to current_user${since16 ? " with inherit true" : ""}`,
});

/** Each part takes effect by itself and may run again. @throws RotatorError when anything of the role is left */
export async function revokeRole(manager: Manager, ending: Ending): Promise<void> {
  const failed = await withManager(manager, async (db) => {
    await endEarlierCalls(db, manager);
    const role = await find(db, ending);
    if (!role) return undefined;
    const name = pg.escapeIdentifier(ending.name);
    await change(db, { label: "lock", text: `alter role ${name} nologin password null valid until '-infinity'` });
    if (!role.reachable) await change(db, membershipOf(ending.name, role.since16));
    await endSessions(db, "usesysid = $1::oid", role.oid, manager.deadlineAt);
    await rollBackPrepared(db, manager, ending.name);
    const problem = await runOwn(db, ending.statements);
    await disown(db, manager, ending, role);
    await drop(db, name, role);
    return problem;
  });
  if (failed) throw failed;
}

/** A call whose caller is gone may yet make the role: it is ended before deciding anything. */
async function endEarlierCalls(db: Session, { sessionName, deadlineAt }: Manager): Promise<void> {
  const ours = "usesysid = (select oid from pg_roles where rolname = current_user) and application_name = $1";
  await endSessions(db, ours, sessionName, deadlineAt);
}

async function find(db: Session, { name, owner, group }: Ending): Promise<Role | undefined> {
  const [row] = await db.read<Role>(
    `select r.oid::text as oid, pg_has_role(r.oid, 'usage') as reachable,
       coalesce($2, (select g.rolname from pg_roles g where g.rolname = $3 and pg_has_role(g.oid, 'usage'))) as heir,
       current_setting('server_version_num')::int >= 160000 as since16
     from pg_roles r where r.rolname = $1`,
    [name, owner ?? null, group ?? null],
  );
  return row;
}

/** Until none is left: one that was just logging in when the login was locked comes a moment later. */
async function endSessions(db: Session, which: string, value: string, deadlineAt: number): Promise<void> {
  for (let pauseMs = 10; ; pauseMs = Math.min(pauseMs * 2, 250)) {
    const left = await db.read(
      `select pg_terminate_backend(pid) from pg_stat_get_activity(null) where pid <> pg_backend_pid() and ${which}`,
      [value],
    );
    if (left.length === 0) return;
    if (Date.now() + pauseMs >= deadlineAt) throw new RotatorError("timeout", `${left.length} sessions have not ended yet`);
    await sleep(pauseMs);
  }
}

/** Transactions that wait for the second phase of a commit outlive their session. */
async function rollBackPrepared(db: Session, manager: Manager, name: string): Promise<void> {
  const prepared = await db.read<{ gid: string; database: string }>(
    "select gid, database from pg_prepared_xacts where owner = $1",
    [name],
  );
  for (const { gid, database } of prepared) {
    await withManager({ ...manager, login: { ...manager.login, dbname: database } }, async (there) => {
      await there.change(`set role ${pg.escapeIdentifier(name)}`);
      await change(there, { label: "prepared transaction", text: `rollback prepared ${pg.escapeLiteral(gid)}` });
    });
  }
}

/** One that fails for good keeps no user alive: it is told when the role is gone. */
async function runOwn(db: Session, statements: readonly Labelled[]): Promise<RotatorError | undefined> {
  try {
    await changeAll(db, statements);
    return undefined;
  } catch (error) {
    if (!(error instanceof RotatorError) || !["denied", "invalid"].includes(error.outcome)) throw error;
    await db.change("rollback");
    return error;
  }
}

/** @throws RotatorError `invalid`, naming where something still rests on the role */
async function drop(db: Session, name: string, role: Role): Promise<void> {
  try {
    await change(db, { label: "drop", text: `drop role if exists ${name}` });
  } catch (error) {
    const where = error instanceof RotatorError && error.outcome === "invalid" ? await namedIn(db, role) : [];
    if (where.length === 0) throw error;
    const help = `as who granted it, or a superuser, there: drop owned by ${name}`;
    throw new RotatorError("invalid", `something in database ${where.join(", ")} still names the user: ${help}`, {
      cause: error,
    });
  }
}

/** Databases where something is the role's, or names it in its rights. */
async function namedIn(db: Session, { oid }: Role): Promise<string[]> {
  const rows = await db.read<{ name: string }>(
    `select distinct coalesce(d.datname, current_database()) as name from pg_shdepend s left join pg_database d on d.oid = s.dbid
     where s.refclassid = 'pg_authid'::regclass and s.refobjid = $1::oid order by 1`,
    [oid],
  );
  return rows.map(({ name }) => name);
}

async function disown(db: Session, manager: Manager, ending: Ending, role: Role): Promise<void> {
  const databases = await namedIn(db, role);
  if (databases.length === 0) return;
  const text = await disowning(db, ending, role);
  for (const dbname of databases) {
    await withManager({ ...manager, login: { ...manager.login, dbname } }, (there) =>
      change(there, { label: `what the user owns in database ${dbname}`, text }),
    );
  }
}

async function disowning(db: Session, { name, owned }: Ending, role: Role): Promise<string> {
  const drop = `drop owned by ${pg.escapeIdentifier(name)}`;
  const things = await db.read(
    "select 1 from pg_shdepend where refclassid = 'pg_authid'::regclass and refobjid = $1::oid and deptype = 'o' limit 1",
    [role.oid],
  );
  if (things.length === 0) return drop;
  const heir = role.heir ?? (await powerlessHeir(db, { name, oid: role.oid, since16: role.since16 }));
  const reassign = `reassign owned by ${pg.escapeIdentifier(name)} to ${pg.escapeIdentifier(heir)}`;
  // What cannot be dropped this way, such as a database, is handed on all the same.
  return (owned === "drop" ? [drop, reassign] : [reassign, drop]).join(";\n");
}
