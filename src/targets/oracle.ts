import { createHash } from "node:crypto";
import { RotatorError } from "../core/error.ts";
import { type DatabaseCredential, databaseSecret, outcomeOf, withFirstAccepted } from "./database-secret.ts";
import { type OracleDriver, oracleDriver, quotedName, type Session, userName, withSession } from "./oracle-session.ts";
import { endEarlierCalls, findUser, matchAlternate, rightsOf, setPassword } from "./oracle-users.ts";
import type { Access, Finding, Rotator, RotatorTools, Strategy, Versions } from "./target.ts";

const secret = databaseSecret({
  scheme: "oracle",
  engines: ["oracle", "oracle-ee", "oracle-se2"],
  port: 1521,
  maxName: { length: 128, of: (name) => Buffer.byteLength(name), unit: "bytes" },
  cloneSuffix: "_CLONE",
  // The limit of all versions before 23ai.
  password: { maxLength: 30 },
});

/** Oracle Database: users change their own password encrypted by the protocol; superusers set others' in statements. */
export const oracle: Rotator<DatabaseCredential> = oracleRotator(oracleDriver);

/** `driver` is the one seam of this target: node-oracledb, or what answers like it. */
export function oracleRotator(driver: () => Promise<OracleDriver>): Rotator<DatabaseCredential> {
  /** As `login`, for the account of `of`. */
  const open = <T>(
    login: DatabaseCredential,
    of: DatabaseCredential,
    { rotationId, deadlineAt }: RotatorTools,
    work: (db: Session) => Promise<T>,
  ): Promise<T> =>
    withSession(secret.login(login), { driver, clientId: `${mark(of)}${rotationId}`.slice(0, 64), deadlineAt }, work);

  const test = (pending: DatabaseCredential, tools: RotatorTools): Promise<void> =>
    open(pending, pending, tools, async (db) => {
      await db.read(`select 1 as "one" from dual`);
    });
  const probe = (candidate: DatabaseCredential, tools: RotatorTools) => outcomeOf(test(candidate, tools));

  /** The user changes its own password, logged in with whichever version is in force; a superuser does it when none is. */
  async function setOwn(versions: Versions<DatabaseCredential>, strategy: Strategy, tools: RotatorTools): Promise<void> {
    const { pending, admin } = versions;
    const logins = secret.loginsOf(versions);
    if (strategy === "dual-slot" && (await probe(pending, tools)) === "ok") return;
    await withFirstAccepted(logins, (candidate) =>
      open(candidate, pending, tools, async (db) => {
        await endEarlierCalls(db, mark(pending), tools.deadlineAt);
        // Set by an earlier call: a policy may forbid to set a password that was used before.
        if (candidate === pending) return;
        if (strategy === "dual-slot") await makeRoom(db, versions, tools);
        if (candidate === admin) await setPassword(db, userName(pending.username), pending.password);
        else await db.changePassword(candidate.password, pending.password);
      }),
    );
  }

  /**
   * While two passwords are valid, a change replaces the younger one. That is the current one if the previous one is still
   * valid: then the older goes first.
   */
  async function makeRoom(db: Session, { previous, current }: Versions<DatabaseCredential>, tools: RotatorTools): Promise<void> {
    if (!previous || previous.username !== current.username || previous.password === current.password) return;
    if ((await probe(previous, tools)) === "ok") await db.change(expireRollover(current));
  }

  /** A superuser sets the password of the user that is not in use, and makes that user at the first turn. */
  async function setOther(versions: Versions<DatabaseCredential>, tools: RotatorTools): Promise<void> {
    const { pending, current } = versions;
    const admin = secret.superuserOf(versions);
    const [name, inUse] = [userName(pending.username), userName(current.username)];
    const isClone = secret.originalName(name) === inUse;
    await open(admin, pending, tools, async (db) => {
      await endEarlierCalls(db, mark(pending), tools.deadlineAt);
      const known = await matchAlternate(db, { name, inUse, isClone, password: pending.password });
      if (known) await setOnce(db, pending, tools);
    });
  }

  /** A policy may forbid to set a password that was used before, as by an earlier call of the same step. */
  async function setOnce(db: Session, pending: DatabaseCredential, tools: RotatorTools): Promise<void> {
    try {
      await setPassword(db, userName(pending.username), pending.password);
    } catch (error) {
      const isInForce = isInvalid(error) && (await probe(pending, tools)) === "ok";
      if (!isInForce) throw error;
    }
  }

  async function checkOther({ current, admin }: Access<DatabaseCredential>, tools: RotatorTools): Promise<Finding[]> {
    if (!admin) return [{ step: "setSecret", problem: "there is no superuser", remedy: "name its secret as masterarn" }];
    return open(admin, current, tools, (db) => findings(db, userName(secret.originalName(current.username)), admin.username));
  }

  return {
    kind: "oracle",
    strategies: ["single-user", "alternating-users", "dual-slot"],
    credential: secret.credential,
    account: (value, strategy) => secret.account({ ...value, username: userName(value.username) }, strategy),
    create: secret.create,
    test,
    probe,
    at: secret.at,

    /** With a profile that lets two passwords be valid for a time (PASSWORD_ROLLOVER_TIME), no client is ever refused. */
    async prefer({ current }, asked, tools) {
      if (asked !== "single-user") return asked;
      const days = await open(current, current, tools, rolloverDays).catch(zeroWhenRefused);
      return days > 0 ? "dual-slot" : asked;
    },

    async set(versions, strategy, tools) {
      await (strategy === "alternating-users" ? setOther(versions, tools) : setOwn(versions, strategy, tools));
    },

    /** Only what logs in is ended, so that a younger password stays. */
    async retire(old, access, strategy, tools) {
      const isPair = strategy === "alternating-users";
      const actor = isPair ? secret.superuserOf({ ...access, pending: old, previous: undefined }) : access.current;
      if (["refused", "locked"].includes(await probe(old, tools))) return;
      await open(actor, old, tools, async (db) => {
        await endEarlierCalls(db, mark(old), tools.deadlineAt);
        if (isPair) await setPassword(db, userName(old.username), secret.newPassword(tools));
        else await db.change(expireRollover(old));
      });
    },

    check: async (access, strategy, tools) => (strategy === "alternating-users" ? await checkOther(access, tools) : []),
  };
}

const isInvalid = (error: unknown): boolean => error instanceof RotatorError && error.outcome === "invalid";

const expireRollover = ({ username }: DatabaseCredential): string =>
  `alter user ${quotedName(userName(username))} expire password rollover period`;

/** Days for which the user's profile lets an old password be valid beside the new one; 0 where it does not, or the server is older. */
async function rolloverDays(db: Session): Promise<number> {
  const [limit] = await db.read<{ days: string }>(
    `select limit as "days" from user_password_limits where resource_name = 'PASSWORD_ROLLOVER_TIME'`,
  );
  const days = Number(limit?.days ?? 0);
  return Number.isFinite(days) ? days : 0;
}

/** Then another version, or the superuser, logs in and changes the password as for a single user. */
function zeroWhenRefused(error: unknown): number {
  if (error instanceof RotatorError && error.outcome === "refused") return 0;
  throw error;
}

async function findings(db: Session, original: string, admin: string): Promise<Finding[]> {
  const found: Finding[] = [];
  const add = (problem: string, remedy: string) => found.push({ step: "setSecret", problem, remedy });
  const held = await db.read<{ privilege: string }>(`select privilege as "privilege" from session_privs`);
  const missing = ["CREATE USER", "ALTER USER"].filter((name) => !held.some(({ privilege }) => privilege === name));
  for (const privilege of missing) add(`${admin} lacks ${privilege}`, `grant ${privilege} to ${admin}`);
  if (!db.maySayPasswords) add("a superuser must tell Oracle the password itself", "set ssl to true, with the port of TCPS");
  try {
    if (!(await findUser(db, original))) add(`user ${original} does not exist`, "create it: its rights are given to its clone");
    await rightsOf(db, original);
  } catch (error) {
    if (!(error instanceof RotatorError && ["invalid", "locked", "denied"].includes(error.outcome))) throw error;
    add(error.message, "change that of the original, or grant the superuser SELECT ANY DICTIONARY");
  }
  const [own] = await db.read<{ objects: number }>(`select count(*) as "objects" from all_objects where owner = :original`, {
    original,
  });
  if (!Number(own?.objects)) return found;
  const problem = `${original} owns ${Number(own?.objects)} objects, which its clone does not`;
  return [...found, { step: "setSecret", problem, remedy: "grant both a role for them, and name their schema", warning: true }];
}

/** One rotation at a time changes an account, so that another session with its mark is a leftover. */
function mark(credential: DatabaseCredential): string {
  const account = secret.account({ ...credential, username: userName(credential.username) }, "alternating-users");
  return `rekey ${createHash("sha256").update(account).digest("hex").slice(0, 16)} `;
}
