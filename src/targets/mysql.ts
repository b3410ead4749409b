import { createHash } from "node:crypto";
import { RotatorError } from "../core/error.ts";
import { type DatabaseCredential, databaseSecret, outcomeOf, withFirstAccepted } from "./database-secret.ts";
import { accountsOf, matchAccount, setOwnPassword, setPassword } from "./mysql-accounts.ts";
import { type Session, withSession } from "./mysql-session.ts";
import type { Rotator, RotatorTools, Versions } from "./target.ts";

const secret = databaseSecret({
  scheme: "mysql",
  engines: ["mysql", "mariadb", "aurora-mysql"],
  port: 3306,
  // MariaDB's; MySQL takes 32 and says so itself.
  maxName: { length: 80, of: (name) => [...name].length, unit: "characters" },
});

/** MySQL and MariaDB: the latter is told the password's hash only, the former the password, over verified TLS. */
export const mysql: Rotator<DatabaseCredential> = {
  kind: "mysql",
  strategies: ["single-user", "alternating-users"],
  credential: secret.credential,
  account: secret.account,

  create: secret.create,

  async set(versions, strategy, tools) {
    await (strategy === "alternating-users" ? setOther(versions, tools) : setOwn(versions, tools));
  },

  test: (pending, tools) =>
    withSession(secret.login(pending), tools.deadlineAt, async (db) => {
      await db.read("select 1");
    }),

  probe: (candidate, tools) => outcomeOf(mysql.test(candidate, tools)),
};

/** The user changes its own password, logged in with whichever version is in force; a superuser does it when none is. */
async function setOwn(versions: Versions<DatabaseCredential>, tools: RotatorTools): Promise<void> {
  const { pending, admin } = versions;
  await withFirstAccepted(secret.loginsOf(versions), (candidate) =>
    withSession(secret.login(candidate), tools.deadlineAt, async (db) => {
      await holdAccount(db, pending, tools);
      await (candidate === admin ? setAll(db, pending) : setOwnPassword(db, pending.password, candidate.password));
    }),
  );
}

/** A superuser sets the password of the user that is not in use, and makes that user at the first turn. */
async function setOther(versions: Versions<DatabaseCredential>, tools: RotatorTools): Promise<void> {
  const { pending } = versions;
  const admin = secret.superuserOf(versions);
  const original = secret.originalName(pending.username);
  await withSession(secret.login(admin), tools.deadlineAt, async (db) => {
    await holdAccount(db, pending, tools);
    if (pending.username !== original) await match(db, original, pending);
    await setAll(db, pending);
  });
}

/** The clone has an account for every host pattern that the original has one for. */
async function match(db: Session, original: string, clone: DatabaseCredential): Promise<void> {
  const originals = await accountsOf(db, original);
  if (originals.length === 0) throw new RotatorError("invalid", `user ${original} does not exist`);
  for (const account of originals) {
    await matchAccount(db, account, { user: clone.username, host: account.host }, clone.password);
  }
}

async function setAll(db: Session, { username, password }: DatabaseCredential): Promise<void> {
  const accounts = await accountsOf(db, username);
  if (accounts.length === 0) throw new RotatorError("invalid", `user ${username} does not exist`);
  for (const account of accounts) await setPassword(db, account, password);
}

/**
 * A call whose caller died may still change the password, and holds the account's lock until its session ends: end that
 * session where that is allowed, and wait for it.
 */
async function holdAccount(db: Session, credential: DatabaseCredential, { deadlineAt }: RotatorTools): Promise<void> {
  const account = secret.account(credential, "alternating-users");
  const lock = `'rekey ${createHash("sha256").update(account).digest("hex").slice(0, 40)}'`;
  const [used] = await db.read<{ holder: number | null }>(`select is_used_lock(${lock}) as holder`);
  if (used?.holder) await db.read(`kill ${Number(used.holder)}`).catch(ignoreRefusal);
  const seconds = Math.max(0, Math.floor((deadlineAt - Date.now()) / 1000) - 1);
  const [got] = await db.read<{ held: number | null }>(`select get_lock(${lock}, ${seconds}) as held`);
  if (got?.held !== 1) throw new RotatorError("timeout", `an earlier call for user ${credential.username} has not ended yet`);
}

function ignoreRefusal(error: unknown): void {
  if (!(error instanceof RotatorError && (error.outcome === "denied" || error.outcome === "unknown"))) throw error;
}
