import { createHash } from "node:crypto";
import { RotatorError } from "../core/error.ts";
import { type DatabaseCredential, databaseSecret, outcomeOf, withFirstAccepted } from "./database-secret.ts";
import { findPrincipal, literal, matchAlternate, type Principal, rightsOf, setPassword } from "./sqlserver-logins.ts";
import { type Session, type SessionOptions, withSession } from "./sqlserver-session.ts";
import type { Access, Finding, Rotator, RotatorTools, Versions } from "./target.ts";

const secret = databaseSecret({
  scheme: "sqlserver",
  engines: ["sqlserver", "mssql"],
  port: 1433,
  dbname: "master",
  namedUsers: true,
  maxName: { length: 128, of: (name) => name.length, unit: "characters" },
});

/** SQL Server, with logins of the server or users of a contained database: it is told passwords themselves, over verified TLS. */
export const sqlserver: Rotator<DatabaseCredential> = {
  kind: "sqlserver",
  strategies: ["single-user", "alternating-users"],
  credential: secret.credential,
  account: secret.account,
  create: secret.create,

  async set(versions, strategy, tools) {
    await (strategy === "alternating-users" ? setOther(versions, tools) : setOwn(versions, tools));
  },

  test: (pending, tools) =>
    withSession(secret.login(pending), options(pending, tools), async (db) => {
      await db.read("select 1 as one");
    }),

  probe: (candidate, tools) => outcomeOf(sqlserver.test(candidate, tools)),

  at: secret.at,

  /** Only what logs in is ended, so that a younger password stays. */
  async retire(old, access, _strategy, tools) {
    const admin = secret.superuserOf({ ...access, pending: old, previous: undefined });
    if (["refused", "locked"].includes(await sqlserver.probe(old, tools))) return;
    await asSuperuser(admin, old, tools, async (db) => {
      await setPassword(db, await mustFind(db, old.username), secret.newPassword(tools));
    });
  },

  check: async (access, strategy, tools) => (strategy === "alternating-users" ? await checkOther(access, tools) : []),
};

/** The login changes its own password, logged in with whichever version is in force; a superuser does it when none is. */
async function setOwn(
  versions: Versions<DatabaseCredential>,
  tools: RotatorTools,
  logins = secret.loginsOf(versions),
): Promise<void> {
  const { pending, admin } = versions;
  await withFirstAccepted(logins, (candidate) =>
    withSession({ ...secret.login(candidate), dbname: secret.login(pending).dbname }, options(pending, tools), async (db) => {
      await holdAccount(db, pending, tools);
      // Set by an earlier call: a policy may forbid to set a password that was used before.
      if (candidate === pending) return;
      const principal = await mustFind(db, pending.username);
      await setPassword(db, principal, pending.password, candidate === admin ? undefined : candidate.password);
    }),
  );
}

/**
 * A superuser sets the password of the login that is not in use, and makes that login at the first turn. Where there is none, each
 * of two named logins changes its own.
 */
async function setOther(versions: Versions<DatabaseCredential>, tools: RotatorTools): Promise<void> {
  const own = secret.othersOf(versions);
  if (own) return setOwn(versions, tools, own);
  const { pending, current } = versions;
  const admin = secret.superuserOf(versions);
  const { username: name, password } = pending;
  const isClone = !secret.isNamed(current) && secret.originalName(name) === current.username;
  await asSuperuser(admin, pending, tools, async (db) => {
    const known = await matchAlternate(db, { name, inUse: current.username, isClone, password });
    if (known) await setOnce(db, known, pending, tools);
  });
}

/** A policy may forbid to set a password that was used before, as by an earlier call of the same step. */
async function setOnce(db: Session, principal: Principal, pending: DatabaseCredential, tools: RotatorTools): Promise<void> {
  try {
    await setPassword(db, principal, pending.password);
  } catch (error) {
    const isInForce = isInvalid(error) && (await sqlserver.probe(pending, tools)) === "ok";
    if (!isInForce) throw error;
  }
}

const isInvalid = (error: unknown): boolean => error instanceof RotatorError && error.outcome === "invalid";

async function mustFind(db: Session, name: string) {
  const principal = await findPrincipal(db, name);
  if (!principal) throw new RotatorError("invalid", `login ${name} does not exist`);
  return principal;
}

/** The superuser works in the database of the account, where its users are. */
async function asSuperuser(
  admin: DatabaseCredential,
  account: DatabaseCredential,
  tools: RotatorTools,
  work: (db: Session) => Promise<void>,
): Promise<void> {
  const login = { ...secret.login(admin), dbname: secret.login(account).dbname };
  await withSession(login, options(account, tools), async (db) => {
    await holdAccount(db, account, tools);
    await work(db);
  });
}

/**
 * A call whose caller died may still change the password, and holds the account's lock until its session ends: end that
 * session where that is allowed, and wait for it.
 */
async function holdAccount(db: Session, account: DatabaseCredential, { deadlineAt }: RotatorTools): Promise<void> {
  const resource = mark(account);
  const earlier = await db.read<{ id: unknown }>(
    `select session_id as id from sys.dm_exec_sessions where program_name like ${literal(`${resource}%`)} and session_id <> @@spid`,
  );
  for (const { id } of earlier) await db.read(`kill ${Number(id)}`).catch(ignoreAnswer);
  const ms = Math.max(0, deadlineAt - Date.now() - 1_000);
  const [got] = await db.read<{ held: unknown }>(
    `declare @held int; exec @held = sys.sp_getapplock @Resource = ${literal(resource)}, @LockMode = 'Exclusive',
       @LockOwner = 'Session', @LockTimeout = ${ms}; select @held as held`,
  );
  if (got && Number(got.held) >= 0) return;
  throw new RotatorError("timeout", `an earlier call for login ${account.username} has not ended yet`);
}

/** The server has answered that it will not: no right, or no such session any more. */
function ignoreAnswer(error: unknown): void {
  if (!(error instanceof RotatorError && ["denied", "unknown"].includes(error.outcome))) throw error;
}

async function checkOther({ current, admin }: Access<DatabaseCredential>, tools: RotatorTools): Promise<Finding[]> {
  if (!admin && secret.isNamed(current)) return [];
  if (!admin) return [{ step: "setSecret", problem: "there is no superuser", remedy: "name its secret as masterarn" }];
  const original = secret.isNamed(current) ? current.username : secret.originalName(current.username);
  const login = { ...secret.login(admin), dbname: secret.login(current).dbname };
  return withSession(login, options(current, tools), async (db) => {
    const findings: Finding[] = [];
    const found = await findPrincipal(db, original);
    if (!found) {
      const remedy = "create it: its roles and permissions are given to its clone";
      findings.push({ step: "setSecret", problem: `login ${original} does not exist`, remedy });
    } else await rightsOf(db, found).catch((error) => findings.push(findingOf(error)));
    const right = found?.kind === "user" ? "ALTER ANY USER" : "ALTER ANY LOGIN";
    const of = found?.kind === "user" ? "db_name(), N'DATABASE'" : "null, null";
    const [has] = await db.read<{ may: unknown }>(`select has_perms_by_name(${of}, ${literal(right)}) as may`);
    if (!Number(has?.may)) {
      findings.push({
        step: "setSecret",
        problem: `${admin.username} lacks ${right}`,
        remedy: `grant ${right} to ${admin.username}`,
      });
    }
    return findings;
  });
}

function findingOf(error: unknown): Finding {
  if (!isInvalid(error)) throw error;
  return { step: "setSecret", problem: (error as RotatorError).message, remedy: "change that right of the original" };
}

/** One rotation at a time changes an account, so that another session with its mark is a leftover. */
function mark(credential: DatabaseCredential): string {
  const account = secret.account(credential, "alternating-users");
  return `rekey ${createHash("sha256").update(account).digest("hex").slice(0, 16)} `;
}

const options = (account: DatabaseCredential, { rotationId, deadlineAt }: RotatorTools): SessionOptions => ({
  appName: `${mark(account)}${rotationId}`.slice(0, 128),
  deadlineAt,
});
