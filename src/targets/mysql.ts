import { createHash } from "node:crypto";
import { type OutcomeClass, RotatorError } from "../core/error.ts";
import { type DatabaseCredential, databaseSecret, unsafeCharacters } from "./database-secret.ts";
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

  async create(current, strategy, tools) {
    const username = strategy === "alternating-users" ? secret.otherName(current.username) : current.username;
    return { ...current, username, password: tools.generatePassword({ length: 32, exclude: unsafeCharacters }) };
  },

  async set(versions, strategy, tools) {
    await (strategy === "alternating-users" ? setOther(versions, tools) : setOwn(versions, tools));
  },

  test: (pending, tools) =>
    withSession(secret.login(pending), tools.deadlineAt, async (db) => {
      await db.read("select 1");
    }),

  async probe(candidate, tools): Promise<OutcomeClass> {
    try {
      await mysql.test(candidate, tools);
      return "ok";
    } catch (error) {
      if (error instanceof RotatorError) return error.outcome;
      throw error;
    }
  },
};

/** The user changes its own password, logged in with whichever version is in force; a superuser does it when none is. */
async function setOwn(versions: Versions<DatabaseCredential>, tools: RotatorTools): Promise<void> {
  const { pending, current, previous, admin } = versions;
  secret.mustMatch(pending, current, ["host", "port", "username"], "the pending version");
  const own = [current, pending, ...(previous && secret.sameAccount(previous, pending) ? [previous] : [])];
  const change = (candidate: DatabaseCredential, work: (db: Session) => Promise<void>) =>
    withSession(secret.login(candidate), tools.deadlineAt, async (db) => {
      await holdAccount(db, pending, tools);
      await work(db);
    });
  let refusal: RotatorError | undefined;
  for (const candidate of own) {
    try {
      await change(candidate, (db) => setOwnPassword(db, pending.password, candidate.password));
      return;
    } catch (error) {
      if (!(error instanceof RotatorError && error.outcome === "refused")) throw error;
      refusal ??= error;
    }
  }
  if (!admin) throw refusal ?? new RotatorError("refused", `user ${pending.username}: no version of the password is accepted`);
  secret.mustMatch(admin, current, ["host", "port"], "the superuser's secret");
  await change(admin, (db) => setAll(db, pending));
}

/** A superuser sets the password of the user that is not in use, and makes that user at the first turn. */
async function setOther(versions: Versions<DatabaseCredential>, tools: RotatorTools): Promise<void> {
  const { pending, current, admin } = versions;
  secret.mustMatch(pending, current, ["host", "port"], "the pending version");
  if (pending.username !== secret.otherName(current.username)) {
    throw new RotatorError("invalid", `the pending user ${pending.username} is not the other one of ${current.username}`);
  }
  if (!admin) throw new RotatorError("invalid", "alternating users need masterarn, the ARN of a superuser's secret");
  secret.mustMatch(admin, current, ["host", "port"], "the superuser's secret");
  const original = secret.originalName(current.username);
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
