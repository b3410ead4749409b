import { createHash } from "node:crypto";
import { RotatorError } from "../core/error.ts";
import { type DatabaseCredential, databaseSecret, outcomeOf, withFirstAccepted } from "./database-secret.ts";
import { type SessionOptions, userDatabase, withSession } from "./mongodb-session.ts";
import { endEarlierCalls, findUser, mayDo, setAlternate, setPassword } from "./mongodb-users.ts";
import type { Access, Finding, Rotator, RotatorTools, Strategy, Versions } from "./target.ts";

const secret = databaseSecret({
  scheme: "mongodb",
  engines: ["mongo", "mongodb", "docdb"],
  port: 27_017,
  dbname: "admin",
  // Amazon DocumentDB's; MongoDB's own bound is far above.
  maxName: { length: 63, of: (name) => Buffer.byteLength(name), unit: "bytes" },
});

/** MongoDB and Amazon DocumentDB: logs in by SCRAM; a new password is told to the server itself, over verified TLS. */
export const mongodb: Rotator<DatabaseCredential> = {
  kind: "mongodb",
  strategies: ["single-user", "alternating-users"],
  credential: secret.credential,
  account: secret.account,
  create: secret.create,

  async set(versions, strategy, tools) {
    await (strategy === "alternating-users" ? setOther(versions, tools) : setOwn(versions, tools));
  },

  test: (pending, tools) =>
    withSession(secret.login(pending), options(pending, pending, tools), async (db) => {
      await db.read(userDatabase(secret.login(pending)), { ping: 1 });
    }),

  probe: (candidate, tools) => outcomeOf(mongodb.test(candidate, tools)),

  at: secret.at,

  /** Only what logs in is ended, so that a younger password stays. */
  async retire(old, access, _strategy, tools) {
    const admin = secret.superuserOf({ ...access, pending: old, previous: undefined });
    if ((await mongodb.probe(old, tools)) === "refused") return;
    await withSession(secret.login(admin), options(admin, old, tools), async (db) => {
      await endEarlierCalls(db, mark(old), tools.deadlineAt);
      await setPassword(db, userDatabase(secret.login(old)), old.username, secret.newPassword(tools));
    });
  },

  check: (access, strategy, tools) => (strategy === "alternating-users" ? checkOther(access, tools) : checkOwn(access, tools)),
};

/** The user changes its own password, logged in with whichever version is in force; a superuser where it may not, or none is. */
async function setOwn(versions: Versions<DatabaseCredential>, tools: RotatorTools): Promise<void> {
  const { pending, admin } = versions;
  const attempt = (login: DatabaseCredential) =>
    withSession(secret.login(login), options(login, pending, tools), async (db) => {
      const { username, password } = pending;
      await endEarlierCalls(db, mark(pending), tools.deadlineAt);
      await setPassword(db, userDatabase(secret.login(pending)), username, password);
    });
  try {
    await withFirstAccepted(secret.loginsOf(versions), attempt);
  } catch (error) {
    if (!(admin && error instanceof RotatorError && error.outcome === "denied")) throw error;
    await attempt(admin);
  }
}

/** A superuser sets the password of the user that is not in use, and makes that user at the first turn. */
async function setOther(versions: Versions<DatabaseCredential>, tools: RotatorTools): Promise<void> {
  const { pending, current } = versions;
  const admin = secret.superuserOf(versions);
  const database = userDatabase(secret.login(pending));
  await withSession(secret.login(admin), options(admin, pending, tools), async (db) => {
    const { username: name, password } = pending;
    const isClone = secret.originalName(name) === current.username;
    await endEarlierCalls(db, mark(pending), tools.deadlineAt);
    await setAlternate(db, { database, name, inUse: current.username, isClone, password });
  });
}

async function checkOwn({ current, admin }: Access<DatabaseCredential>, tools: RotatorTools): Promise<Finding[]> {
  const database = userDatabase(secret.login(current));
  return withSession(secret.login(current), options(current, current, tools), async (db) => {
    const may = await mayDo(db, database);
    if (!may || may("changeOwnPassword") || may("changePassword") || admin) return [];
    return [
      {
        step: "setSecret",
        problem: `user ${current.username} may not change its own password`,
        remedy: `grant it a role with the action changeOwnPassword on ${database}, or name a superuser's secret as masterarn`,
      },
    ];
  });
}

async function checkOther({ current, admin }: Access<DatabaseCredential>, tools: RotatorTools): Promise<Finding[]> {
  if (!admin) return [{ step: "setSecret", problem: "there is no superuser", remedy: "name its secret as masterarn" }];
  const database = userDatabase(secret.login(current));
  const original = secret.originalName(current.username);
  return withSession(secret.login(admin), options(admin, current, tools), async (db) => {
    const findings: Finding[] = [];
    const may = await mayDo(db, database);
    const missing = ["viewUser", "createUser", "grantRole", "changePassword"].filter((action) => may && !may(action));
    if (missing.length > 0) {
      findings.push({
        step: "setSecret",
        problem: `user ${admin.username} may not ${missing.join(", ")} on ${database}`,
        remedy: `grant it userAdmin on ${database}, or a role with these actions`,
      });
    }
    if (!missing.includes("viewUser") && !(await findUser(db, database, original))) {
      findings.push({
        step: "setSecret",
        problem: `user ${original} does not exist in ${database}`,
        remedy: "create it: its roles are given to its clone",
      });
    }
    return findings;
  });
}

/** One rotation at a time changes an account, so that another operation with its mark is a leftover. */
function mark(credential: DatabaseCredential): string {
  const account = secret.account(credential, "alternating-users" satisfies Strategy);
  return `rekey ${createHash("sha256").update(account).digest("hex").slice(0, 16)} `;
}

function options(
  login: DatabaseCredential,
  account: DatabaseCredential,
  { rotationId, deadlineAt }: RotatorTools,
): SessionOptions {
  const { replicaSet } = login;
  return {
    appName: `${mark(account)}${rotationId}`.slice(0, 128),
    deadlineAt,
    replicaSet: typeof replicaSet === "string" ? replicaSet : undefined,
  };
}
