import { createHash, randomBytes } from "node:crypto";
import pg from "pg";
import { type DatabaseCredential, databaseSecret, outcomeOf, withFirstAccepted } from "./database-secret.ts";
import { type Checked, checkPostgres } from "./postgres-check.ts";
import { type Pair, scramble, setCloned } from "./postgres-clone.ts";
import { comparePostgres } from "./postgres-parity.ts";
import { withSession } from "./postgres-session.ts";
import { type ScramKeys, scramKeys, scramVerifier, verifierOf } from "./scram.ts";
import type { Access, Rotator, RotatorTools, Strategy, Versions } from "./target.ts";

/** Longer names are cut by the server without a word. Source: PostgreSQL documentation, `NAMEDATALEN`. */
const maxNameBytes = 63;

const secret = databaseSecret({
  scheme: "postgres",
  engines: ["postgres", "postgresql", "aurora-postgresql"],
  port: 5432,
  dbname: "postgres",
  maxName: { length: maxNameBytes, of: (name) => Buffer.byteLength(name), unit: "bytes" },
  namedUsers: true,
});

/** Of credentials that a verifier was made for: the test login needs the same keys. */
const keysOf = new WeakMap<DatabaseCredential, ScramKeys>();

/** PostgreSQL, with a password verifier made here: the server is never told a password. */
export const postgres: Rotator<DatabaseCredential> = {
  kind: "postgres",
  strategies: ["single-user", "alternating-users"],
  logsInEarly: true,
  credential: secret.credential,

  account: secret.account,

  create: secret.create,

  async set(versions, strategy, tools) {
    const keys = scramKeys(versions.pending.password); // made while the connection is
    const verifier = keys.then((made) => {
      keysOf.set(versions.pending, made);
      return verifierOf(made);
    });
    verifier.catch(() => undefined); // perhaps nobody asks
    await (strategy === "alternating-users" ? setOther(versions, verifier, tools) : setOwn(versions, verifier, tools));
  },

  test: (pending, tools) =>
    withSession(secret.login(pending), { ...session(pending, tools), scramKeys: keysOf.get(pending) }, async (db) => {
      await db.read("select 1");
    }),

  probe: (candidate, tools) => outcomeOf(postgres.test(candidate, tools)),

  at: secret.at,

  async retire(old, access, strategy, tools) {
    if (strategy === "alternating-users") await retireOther(old, access, tools);
  },

  async check(access, strategy, tools) {
    return checkPostgres(await loginsOf(access, strategy, tools), strategy);
  },

  async compare(access, tools) {
    const { own, admin, pair, session: options } = await loginsOf(access, "alternating-users", tools);
    const names = secret.isNamed(access.current) || pair.change === "clone" ? [pair.inUse, pair.name] : [pair.name, pair.inUse];
    const [first = "", second = ""] = secret.isNamed(access.current) ? names.sort() : names;
    // In the database of the user, with whatever rights there are: catalogs can be read by everybody.
    const login = admin ? { ...admin, dbname: own.dbname } : own;
    return withSession(login, { ...options, serverNames: admin !== undefined }, (db) => comparePostgres(db, [first, second]));
  },
};

/** What a look at the server needs of the credentials; the password of the next one is made for its name alone. */
async function loginsOf(
  { current, admin, pairIsProven }: Access<DatabaseCredential>,
  strategy: Strategy,
  tools: RotatorTools,
): Promise<Checked> {
  const pending = await secret.create(current, strategy, tools);
  return {
    own: secret.login(current),
    admin: admin && secret.login(admin),
    pair: { ...pairOf(current, pending), proven: pairIsProven },
    session: session(current, tools),
  };
}

function pairOf(current: DatabaseCredential, { username: name }: DatabaseCredential): Pair {
  const isClone = secret.originalName(name) === current.username;
  return { name, inUse: current.username, change: secret.isNamed(current) ? "named" : isClone ? "clone" : "original" };
}

/** The user changes its own password, logged in with whichever version is in force; a superuser does it when none is. */
async function setOwn(versions: Versions<DatabaseCredential>, verifier: Promise<string>, tools: RotatorTools): Promise<void> {
  const { pending, admin } = versions;
  const change = (to: string) => `alter role ${pg.escapeIdentifier(pending.username)} password ${pg.escapeLiteral(to)}`;
  await withFirstAccepted(secret.loginsOf(versions), (candidate) =>
    withSession(secret.login(candidate), session(pending, tools, candidate === admin), async (db) => {
      await tools.ready;
      await db.change(`${endEarlierCalls(pending)}; ${change(await verifier)}`);
    }),
  );
}

/** A superuser sets the password of the user that is not in use, and makes that user at the first turn. */
async function setOther(versions: Versions<DatabaseCredential>, verifier: Promise<string>, tools: RotatorTools): Promise<void> {
  const { pending, current, pairIsProven: proven } = versions;
  const admin = secret.superuserOf(versions);
  await withSession(secret.login(admin), session(pending, tools, true), async (db) => {
    await tools.ready;
    await db.read(endEarlierCalls(pending));
    await setCloned(db, { ...pairOf(current, pending), proven }, await verifier);
  });
}

/**
 * The user that is not in use gets a password that nobody has, if it still has that of the old version; only what logs in is
 * ended, so that a younger password stays. Its open sessions go on.
 */
async function retireOther(old: DatabaseCredential, access: Access<DatabaseCredential>, tools: RotatorTools): Promise<void> {
  const admin = secret.superuserOf({ ...access, pending: old, previous: undefined });
  if ((await postgres.probe(old, tools)) === "refused") return;
  const verifier = await scramVerifier(randomBytes(32).toString("base64url"));
  await withSession(secret.login(admin), session(old, tools, true), async (db) => {
    await db.read(endEarlierCalls(old));
    await scramble(db, old.username, verifier);
  });
}

/**
 * A call whose caller died may still change the password: end it before deciding anything, by the account's mark. Asks the
 * function under the view pg_stat_activity, as a new session takes some ms to plan the view.
 */
function endEarlierCalls(account: DatabaseCredential): string {
  return `select pg_terminate_backend(pid) from pg_stat_get_activity(null)
    where application_name like ${pg.escapeLiteral(`${mark(account)}%`)} and pid <> pg_backend_pid()
      and pg_has_role(usesysid, 'usage')`;
}

/** One rotation at a time changes an account, so that another session with its mark is a leftover. */
function mark(credential: DatabaseCredential): string {
  const account = secret.account(credential, "alternating-users");
  return `rekey ${createHash("sha256").update(account).digest("hex").slice(0, 16)} `;
}

const session = (credential: DatabaseCredential, { rotationId, deadlineAt }: RotatorTools, serverNames = false) => ({
  applicationName: `${mark(credential)}${rotationId}`.slice(0, maxNameBytes),
  deadlineAt,
  serverNames,
});
