import { createHash, randomBytes } from "node:crypto";
import pg from "pg";
import { RotatorError } from "../core/error.ts";
import { type DatabaseCredential, databaseSecret, outcomeOf, withFirstAccepted } from "./database-secret.ts";
import { type Session, withSession } from "./postgres-session.ts";
import { isMarked, markStatements, newUserStatements } from "./redshift-users.ts";
import type { Finding, Rotator, RotatorTools } from "./target.ts";

const secret = databaseSecret({
  scheme: "redshift",
  engines: ["redshift"],
  port: 5439,
  dbname: "dev",
  maxName: { length: 127, of: (name) => Buffer.byteLength(name), unit: "bytes" },
  namedUsers: true,
  // Source: Amazon Redshift database developer guide, CREATE USER.
  password: { maxLength: 64 },
});

/**
 * Amazon Redshift: PostgreSQL's protocol with users and groups of its own. It takes no finished verifier that would be as good
 * as its own, and is told passwords over verified TLS only.
 */
export const redshift: Rotator<DatabaseCredential> = {
  kind: "redshift",
  strategies: ["single-user", "alternating-users"],
  credential: secret.credential,
  account: secret.account,
  create: secret.create,
  at: secret.at,

  /** The user changes its own password, logged in with whichever version is in force; or a superuser sets the other user's. */
  async set(versions, strategy, tools) {
    const { pending, current } = versions;
    if (strategy === "single-user") {
      return withFirstAccepted(secret.loginsOf(versions), (candidate) =>
        open(candidate, pending, tools, (db) => change(db, pending, pending.password)),
      );
    }
    await open(secret.superuserOf(versions), pending, tools, async (db) => {
      if (!(await mayChange(db, pending.username, current.username))) await make(db, pending, current);
      await change(db, pending, pending.password);
    });
  },

  test: (pending, tools) =>
    open(pending, pending, tools, async (db) => {
      await db.read("select 1");
    }),

  probe: (candidate, tools) => outcomeOf(redshift.test(candidate, tools)),

  /** The user that is not in use gets a password that nobody has, if it still has that of the old version. */
  async retire(old, access, strategy, tools) {
    if (strategy !== "alternating-users") return;
    const admin = secret.superuserOf({ ...access, pending: old, previous: undefined });
    if ((await redshift.probe(old, tools)) === "refused") return;
    await open(admin, old, tools, (db) => change(db, old, `${randomBytes(32).toString("base64url")}aA1`));
  },

  async check({ current, admin }, strategy, tools) {
    if (strategy === "single-user") return open(current, current, tools, async (db) => checkSecrecy(db));
    if (!admin) return [];
    const { username } = await secret.create(current, strategy, tools);
    return open(admin, current, tools, async (db) => [
      ...checkSecrecy(db),
      ...(await checkSuperuser(db, admin.username)),
      ...(await checkOther(db, username, current.username)),
    ]);
  },
};

function checkSecrecy({ confidential }: Session): Finding[] {
  if (confidential) return [];
  const problem = "Redshift must be told the new password itself, and the connection is not verified TLS";
  return [{ step: "setSecret", problem, remedy: "Set ssl to true, and sslrootcert if its authority is not the system's." }];
}

async function checkSuperuser(db: Session, username: string): Promise<Finding[]> {
  const [user] = await db.read<{ superuser: boolean }>("select usesuper as superuser from pg_user where usename = current_user");
  if (user?.superuser) return [];
  const problem = `user ${username}, whose secret masterarn names, is no superuser`;
  return [{ step: "setSecret", problem, remedy: `alter user ${pg.escapeIdentifier(username)} createuser` }];
}

async function checkOther(db: Session, name: string, inUse: string): Promise<Finding[]> {
  try {
    await mayChange(db, name, inUse);
    return [];
  } catch (error) {
    if (!(error instanceof RotatorError && error.outcome === "invalid")) throw error;
    return [
      { step: "setSecret", problem: error.message, remedy: "Do what the problem says, or name another user in usernames." },
    ];
  }
}

const mark = (credential: DatabaseCredential): string =>
  createHash("sha256").update(secret.account(credential, "alternating-users")).digest("hex").slice(0, 16);

const open = <T>(
  login: DatabaseCredential,
  account: DatabaseCredential,
  { rotationId, deadlineAt }: RotatorTools,
  work: (db: Session) => Promise<T>,
): Promise<T> => withSession(secret.login(login), { applicationName: `rekey ${mark(account)} ${rotationId}`, deadlineAt }, work);

async function change(db: Session, account: DatabaseCredential, password: string): Promise<void> {
  await endEarlierCalls(db, account);
  await db.change(`${note(account)} alter user ${pg.escapeIdentifier(account.username)} password ${confidential(db, password)}`);
}

/** In front of every statement that changes the account: the server shows statements, but no names of connections. */
const note = (account: DatabaseCredential): string => `/* rekey ${mark(account)} */`;

/** A call whose caller died may still change the password. The pattern must not find this very statement. */
async function endEarlierCalls(db: Session, account: DatabaseCredential): Promise<void> {
  const left = await db.read<{ pid: number }>("select pid from stv_recents where status = 'Running' and query like $1", [
    `${note(account)}%`,
  ]);
  for (const { pid } of left) await db.read(`select pg_terminate_backend(${Number(pid)})`);
}

function confidential(db: Session, password: string): string {
  if (db.confidential) return pg.escapeLiteral(password);
  throw new RotatorError("invalid", "Redshift must be told the new password itself, which needs verified TLS: set ssl to true");
}

/** Whether the user is there and is the pair's other one; false when there is none. @throws RotatorError `invalid` for a stranger */
async function mayChange(db: Session, name: string, inUse: string): Promise<boolean> {
  const found = await db.read("select 1 from pg_user where usename = $1", [name]);
  if (found.length === 0) return false;
  if (await isMarked(db, name, inUse)) return true;
  const statements = markStatements(name, inUse).join("; ");
  throw new RotatorError(
    "invalid",
    `user ${name} exists, and nothing says that it alternates with ${inUse}; if it does: ${statements}`,
  );
}

/** One text, so that the server makes all of it or nothing. */
async function make(db: Session, { username, password, ...rest }: DatabaseCredential, inUse: DatabaseCredential): Promise<void> {
  const statements = await newUserStatements(db, username, inUse.username, confidential(db, password));
  await db.change(`${note({ ...rest, username, password })} ${statements.join("; ")}`);
}
