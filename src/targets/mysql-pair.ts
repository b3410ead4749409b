import { createHash } from "node:crypto";
import mysql from "mysql2";
import { RotatorError } from "../core/error.ts";
import {
  type Account,
  accountsOf,
  atLeast,
  firstExcess,
  isMariaDb,
  matchAccount,
  requireMatchable,
  setPassword,
} from "./mysql-accounts.ts";
import type { Session } from "./mysql-session.ts";

/** Two users of which one is in use and the other gets a new password. */
export interface Pair {
  /** The user whose password is set. */
  readonly name: string;
  readonly inUse: string;
  /** What the secret itself says of the two: `named` by it, or one is the `clone` or the `original` of the other by its name. */
  readonly change: "named" | "clone" | "original";
  readonly password: string;
  /** That the two belong together is known from elsewhere. */
  readonly proven?: boolean | undefined;
}

/**
 * Sets the password of one user of an alternating pair; one that is missing is made like that in use. A user that is there must
 * be the pair's for sure: who writes a secret must not have the superuser set anybody's password.
 * `unfinished`: whether that user takes the new password already.
 */
export async function setAlternate(db: Session, pair: Pair, unfinished: () => Promise<boolean>): Promise<void> {
  const { name, inUse, change, password } = pair;
  const marked = await isMarked(db, pair);
  if (change === "original") {
    if (!marked) await requireNoMore(db, name, inUse);
  } else if (change === "clone" || !marked) {
    if (change === "named") await requireNewOrOurs(db, pair, unfinished);
    await makeAlike(db, inUse, name, password);
    if (!marked) await mark(db, pair); // last, so that what is marked is whole
  }
  await setAll(db, name, password);
}

/** Whether `setAlternate` would find the pair as it must be. Reads only. @throws RotatorError when not */
export async function requireSettable(db: Session, pair: Pair): Promise<void> {
  const { name, inUse, change, password } = pair;
  const marked = await isMarked(db, pair);
  if (change === "original") {
    if (!marked) await requireNoMore(db, name, inUse);
    await someAccounts(db, name);
  } else if (change === "clone" || !marked) {
    if (change === "named") await requireNewOrOurs(db, pair, async () => false);
    for (const { user, host } of await someAccounts(db, inUse)) {
      await requireMatchable(db, { user, host }, { user: name, host }, password);
    }
  }
}

/** Every account of the user gets the password. */
export async function setAll(db: Session, username: string, password: string): Promise<void> {
  for (const account of await someAccounts(db, username)) await setPassword(db, account, password);
}

async function someAccounts(db: Session, username: string): Promise<Account[]> {
  const accounts = await accountsOf(db, username);
  if (accounts.length === 0) throw new RotatorError("invalid", `user ${username} does not exist`);
  return accounts;
}

/** The clone has an account for every host pattern that the original has one for. */
async function makeAlike(db: Session, original: string, clone: string, password: string): Promise<void> {
  for (const account of await someAccounts(db, original)) {
    await matchAccount(db, account, { user: clone, host: account.host }, password);
  }
}

/** Who logs in as the clone may do all that the original may, or the original is not the clone's to reset. */
async function requireNoMore(db: Session, original: string, clone: string): Promise<void> {
  const hosts = new Set((await accountsOf(db, clone)).map(({ host }) => host));
  if (hosts.size === 0) return; // dropped: that keeps nobody from going back
  for (const account of await accountsOf(db, original)) {
    const ours = { user: clone, host: account.host };
    const excess = hosts.has(account.host) ? await firstExcess(db, account, ours) : `an account at ${account.host}`;
    if (excess !== undefined) {
      throw new RotatorError(
        "invalid",
        `user ${original} has what its clone ${clone} lacks (${excess}): give it to the clone too`,
      );
    }
  }
}

async function requireNewOrOurs(db: Session, pair: Pair, unfinished: () => Promise<boolean>): Promise<void> {
  const { name, inUse } = pair;
  if (!canMark(db)) throw new RotatorError("invalid", "usernames needs MariaDB or MySQL 8.0.21 or later");
  if ((await accountsOf(db, name)).length === 0 || (await unfinished())) return;
  const statements = markStatements(db, pair, (await accountsOf(db, name))[0]?.host ?? "%").join("; ");
  throw new RotatorError(
    "invalid",
    `user ${name} exists, and nothing says that it alternates with ${inUse}; if it does: ${statements}`,
  );
}

/** Both orders of the names give the same; it is a role's name, and says nothing of the users. */
const markOf = ({ name, inUse }: Pair): string =>
  `rekey_pair_${createHash("sha256")
    .update(JSON.stringify([name, inUse].sort()))
    .digest("hex")
    .slice(0, 16)}`;

/** MariaDB keeps no notes on users: there it is a role that gives no rights. Either can be set by an administrator only. */
const canMark = (db: Session): boolean => isMariaDb(db) || atLeast(db.version, [8, 0, 21]);

function markStatements(db: Session, pair: Pair, host: string): string[] {
  const [mark, account] = [markOf(pair), `${mysql.escape(pair.name)}@${mysql.escape(host)}`];
  if (isMariaDb(db)) return [`create role if not exists ${mark}`, `grant ${mark} to ${account}`];
  return [`alter user ${account} attribute '{"${mark}": true}'`];
}

async function mark(db: Session, pair: Pair): Promise<void> {
  if (!canMark(db)) return;
  const [account] = await someAccounts(db, pair.name);
  for (const statement of markStatements(db, pair, account?.host ?? "%")) await db.change(statement);
}

async function isMarked(db: Session, pair: Pair): Promise<boolean> {
  if (pair.proven) return true;
  if (!canMark(db)) return false;
  const names = [pair.name, pair.inUse].map((name) => mysql.escape(name)).join(", ");
  const rows = await db.read<object>(
    isMariaDb(db)
      ? `select 1 from mysql.roles_mapping where role = '${markOf(pair)}' and user in (${names})`
      : `select 1 from information_schema.user_attributes where user in (${names}) and attribute -> '$.${markOf(pair)}' = true`,
  );
  return rows.length > 0;
}
