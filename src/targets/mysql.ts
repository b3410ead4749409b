import { randomBytes } from "node:crypto";
import { RotatorError } from "../core/error.ts";
import { type DatabaseCredential, databaseSecret, outcomeOf, withFirstAccepted } from "./database-secret.ts";
import { setOwnPassword } from "./mysql-accounts.ts";
import { checkMysql } from "./mysql-check.ts";
import { accountOf, addOwnPassword, addPassword, discardOldPassword, endOldPassword, mayRetain } from "./mysql-dual.ts";
import { hold } from "./mysql-hold.ts";
import { type Pair, setAll, setAlternate } from "./mysql-pair.ts";
import { compareMysql } from "./mysql-parity.ts";
import { type Session, withSession, withUnprovenSession } from "./mysql-session.ts";
import type { Access, Rotator, RotatorTools, Versions } from "./target.ts";

const secret = databaseSecret({
  scheme: "mysql",
  engines: ["mysql", "mariadb", "aurora-mysql"],
  port: 3306,
  // MariaDB's; MySQL takes 32 and says so itself.
  maxName: { length: 80, of: (name) => [...name].length, unit: "characters" },
  namedUsers: true,
});

/** MySQL and MariaDB: the latter is told the password's hash only, the former the password, over verified TLS. */
export const mysql: Rotator<DatabaseCredential> = {
  kind: "mysql",
  strategies: ["single-user", "alternating-users", "dual-slot"],
  logsInEarly: true,
  credential: secret.credential,
  account: secret.account,

  create: secret.create,

  /** MySQL since 8.0.14 keeps two passwords of one user, where the login or the superuser may say so. */
  async prefer({ current, admin }, asked, tools) {
    if (asked !== "single-user") return asked;
    const may = (login: DatabaseCredential, whose: "own" | "any") =>
      withUnprovenSession(secret.login(login), tools.deadlineAt, (db) => mayRetain(db, whose));
    try {
      return (await may(current, "own")) || (admin && (await may(admin, "any"))) ? "dual-slot" : asked;
    } catch (error) {
      if (error instanceof RotatorError && error.outcome === "refused") return asked; // what is in force is not known: nothing to keep
      throw error;
    }
  },

  async set(versions, strategy, tools) {
    if (strategy === "alternating-users") await setOther(versions, tools);
    else if (strategy === "dual-slot") await addOwn(versions, tools);
    else await setOwn(versions, tools);
  },

  test: (pending, tools) =>
    withSession(secret.login(pending), tools.deadlineAt, async (db) => {
      await db.read("select 1");
    }),

  probe: (candidate, tools) => outcomeOf(mysql.test(candidate, tools)),

  at: secret.at,

  async retire(old, access, strategy, tools) {
    if (strategy === "alternating-users") await retireOther(old, access, tools);
    else if (strategy === "dual-slot") await retireOwn(old, access, tools);
  },

  async check(access, strategy, tools) {
    const { current, admin, pairIsProven: proven } = access;
    const pending = await secret.create(current, strategy, tools);
    const { deadlineAt } = tools;
    const logins = { own: secret.login(current), admin: admin && secret.login(admin), deadlineAt };
    return checkMysql({ ...logins, pair: { ...pairOf(current, pending), proven } }, strategy);
  },

  async compare({ current, admin }, tools) {
    const { name, inUse, change } = pairOf(current, await secret.create(current, "alternating-users", tools));
    const [first = "", second = ""] = change === "original" ? [name, inUse] : [inUse, name];
    return withSession(secret.login(admin ?? current), tools.deadlineAt, (db) => compareMysql(db, [first, second]));
  },
};

function pairOf(current: DatabaseCredential, { username: name, password }: DatabaseCredential): Pair {
  const isClone = secret.originalName(name) === current.username;
  const change = secret.isNamed(current) ? "named" : isClone ? "clone" : "original";
  return { name, inUse: current.username, change, password };
}

/** The user changes its own password, logged in with whichever version is in force; a superuser does it when none is. */
async function setOwn(versions: Versions<DatabaseCredential>, tools: RotatorTools): Promise<void> {
  const { pending, admin } = versions;
  await withFirstAccepted(secret.loginsOf(versions), (candidate) =>
    withSession(secret.login(candidate), tools.deadlineAt, async (db) => {
      await holdAccount(db, pending, tools);
      await (candidate === admin
        ? setAll(db, pending.username, pending.password)
        : setOwnPassword(db, pending.password, candidate.password));
    }),
  );
}

/**
 * The user gets a second password. What logs in with the new one is done: once more would put the new one in the old one's
 * place too. Nothing is kept when neither logs in.
 */
async function addOwn(versions: Versions<DatabaseCredential>, tools: RotatorTools): Promise<void> {
  const { pending, current, admin } = versions;
  const [, , ...others] = secret.loginsOf(versions);
  await withFirstAccepted([pending, current, ...others], (candidate) =>
    withSession(secret.login(candidate), tools.deadlineAt, async (db) => {
      if (candidate === pending) return;
      await holdAccount(db, pending, tools);
      if (candidate === admin) return setAll(db, pending.username, pending.password);
      const { password: inForce } = candidate;
      if (await mayRetain(db, "own")) return addOwnPassword(db, pending.password, inForce);
      const account = await accountOf(db);
      if (!admin) throw new RotatorError("denied", `user ${account.user} needs the right APPLICATION_PASSWORD_ADMIN`);
      await withSession(secret.login(admin), tools.deadlineAt, (by) => addPassword(by, account, pending.password, inForce));
    }),
  );
}

/** The old one of the user's two passwords is ended, if it still logs in. */
async function retireOwn(old: DatabaseCredential, access: Access<DatabaseCredential>, tools: RotatorTools): Promise<void> {
  const { current, admin } = access;
  secret.mustMatch(old, current, ["host", "port", "username"], "the old version");
  if (old.password === current.password || (await mysql.probe(old, tools)) === "refused") return;
  await withSession(secret.login(current), tools.deadlineAt, async (db) => {
    await holdAccount(db, current, tools);
    await endOldPassword(db, old.password, async (account) => {
      if (!admin) throw new RotatorError("denied", `user ${account.user} needs the right APPLICATION_PASSWORD_ADMIN`);
      secret.mustMatch(admin, current, ["host", "port"], "the superuser's secret");
      await withSession(secret.login(admin), tools.deadlineAt, (by) => discardOldPassword(by, account));
    });
  });
}

/** A superuser sets the password of the user that is not in use, and makes that user at the first turn. */
async function setOther(versions: Versions<DatabaseCredential>, tools: RotatorTools): Promise<void> {
  const { pending, current, pairIsProven: proven } = versions;
  const admin = secret.superuserOf(versions);
  await withSession(secret.login(admin), tools.deadlineAt, async (db) => {
    await holdAccount(db, pending, tools);
    const unfinished = async () => (await mysql.probe(pending, tools)) === "ok";
    await setAlternate(db, { ...pairOf(current, pending), proven }, unfinished);
  });
}

/**
 * The user that is not in use gets a password that nobody has, if it still has that of the old version; only what logs in is
 * ended, so that a younger password stays. Its open sessions go on.
 */
async function retireOther(old: DatabaseCredential, access: Access<DatabaseCredential>, tools: RotatorTools): Promise<void> {
  const admin = secret.superuserOf({ ...access, pending: old, previous: undefined });
  if ((await mysql.probe(old, tools)) === "refused") return;
  await withSession(secret.login(admin), tools.deadlineAt, async (db) => {
    await holdAccount(db, old, tools);
    await setAll(db, old.username, `${randomBytes(32).toString("base64url")}aA1-`);
  });
}

/** Only one call at a time changes an account, and none before that may be. */
async function holdAccount(db: Session, credential: DatabaseCredential, { deadlineAt, ready }: RotatorTools): Promise<void> {
  await ready;
  await hold(db, secret.account(credential, "alternating-users"), credential.username, deadlineAt);
}
