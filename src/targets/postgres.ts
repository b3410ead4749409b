import { createHash } from "node:crypto";
import pg from "pg";
import { type OutcomeClass, RotatorError } from "../core/error.ts";
import { type DatabaseCredential, databaseSecret, unsafeCharacters } from "./database-secret.ts";
import { setCloned } from "./postgres-clone.ts";
import { withSession } from "./postgres-session.ts";
import { scramVerifier } from "./scram.ts";
import type { Rotator, RotatorTools, Versions } from "./target.ts";

/** Longer names are cut by the server without a word. Source: PostgreSQL documentation, `NAMEDATALEN`. */
const maxNameBytes = 63;

const secret = databaseSecret({
  scheme: "postgres",
  engines: ["postgres", "postgresql", "aurora-postgresql"],
  port: 5432,
  dbname: "postgres",
  maxName: { length: maxNameBytes, of: (name) => Buffer.byteLength(name), unit: "bytes" },
});

/** PostgreSQL, with a password verifier made here: the server is never told a password. */
export const postgres: Rotator<DatabaseCredential> = {
  kind: "postgres",
  strategies: ["single-user", "alternating-users"],
  credential: secret.credential,

  account: secret.account,

  async create(current, strategy, tools) {
    const username = strategy === "alternating-users" ? secret.otherName(current.username) : current.username;
    return { ...current, username, password: tools.generatePassword({ length: 32, exclude: unsafeCharacters }) };
  },

  async set(versions, strategy, tools) {
    const verifier = scramVerifier(versions.pending.password); // made while the connection is
    verifier.catch(() => undefined); // perhaps nobody asks
    await (strategy === "alternating-users" ? setOther(versions, verifier, tools) : setOwn(versions, verifier, tools));
  },

  test: (pending, tools) =>
    withSession(secret.login(pending), session(pending, tools), async (db) => {
      await db.read("select 1");
    }),

  async probe(candidate, tools): Promise<OutcomeClass> {
    try {
      await postgres.test(candidate, tools);
      return "ok";
    } catch (error) {
      if (error instanceof RotatorError) return error.outcome;
      throw error;
    }
  },
};

/** The user changes its own password, logged in with whichever version is in force; a superuser does it when none is. */
async function setOwn(versions: Versions<DatabaseCredential>, verifier: Promise<string>, tools: RotatorTools): Promise<void> {
  const { pending, current, previous, admin } = versions;
  secret.mustMatch(pending, current, ["host", "port", "username"], "the pending version");
  const logins = [current, pending, ...(previous && secret.sameAccount(previous, pending) ? [previous] : [])];
  if (admin) {
    secret.mustMatch(admin, current, ["host", "port"], "the superuser's secret");
    logins.push(admin);
  }
  const change = (to: string) => `alter role ${pg.escapeIdentifier(pending.username)} password ${pg.escapeLiteral(to)}`;
  let refusal: RotatorError | undefined;
  for (const candidate of logins) {
    try {
      await withSession(secret.login(candidate), session(pending, tools), async (db) => {
        await db.change(`${endEarlierCalls(pending)}; ${change(await verifier)}`);
      });
      return;
    } catch (error) {
      if (!(error instanceof RotatorError && error.outcome === "refused")) throw error;
      refusal ??= error;
    }
  }
  throw refusal ?? new RotatorError("refused", `role ${pending.username}: no version of the password is accepted`);
}

/** A superuser sets the password of the user that is not in use, and makes that user at the first turn. */
async function setOther(versions: Versions<DatabaseCredential>, verifier: Promise<string>, tools: RotatorTools): Promise<void> {
  const { pending, current, admin } = versions;
  secret.mustMatch(pending, current, ["host", "port"], "the pending version");
  if (pending.username !== secret.otherName(current.username)) {
    throw new RotatorError("invalid", `the pending user ${pending.username} is not the other one of ${current.username}`);
  }
  if (!admin) throw new RotatorError("invalid", "alternating users need masterarn, the ARN of a superuser's secret");
  secret.mustMatch(admin, current, ["host", "port"], "the superuser's secret");
  await withSession(secret.login(admin), session(pending, tools), async (db) => {
    await db.read(endEarlierCalls(pending));
    const original = secret.originalName(current.username);
    const clone = original === pending.username ? current.username : pending.username;
    await setCloned(db, { name: pending.username, original, clone, verifier: await verifier });
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
  const account = postgres.account(credential, "alternating-users");
  return `rekey ${createHash("sha256").update(account).digest("hex").slice(0, 16)} `;
}

const session = (credential: DatabaseCredential, { rotationId, deadlineAt }: RotatorTools) => ({
  applicationName: `${mark(credential)}${rotationId}`.slice(0, maxNameBytes),
  deadlineAt,
});
