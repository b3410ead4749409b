import { randomBytes } from "node:crypto";
import mysql from "mysql2";
import { RotatorError } from "../core/error.ts";
import { type Account, atLeast, confidential, isMariaDb } from "./mysql-accounts.ts";
import { incorrectCurrentPassword, isAnswer } from "./mysql-errors.ts";
import type { Session } from "./mysql-session.ts";

/** Source: MySQL manual, dual password support. */
export const keepsTwo = (db: Session): boolean => !isMariaDb(db) && atLeast(db.version, [8, 0, 14]);

/**
 * Whether this login may give users a second password: its own with APPLICATION_PASSWORD_ADMIN, anybody's with CREATE USER.
 * Source: MySQL manual, dual password support.
 */
export async function mayRetain(db: Session, whose: "own" | "any"): Promise<boolean> {
  if (!keepsTwo(db)) return false;
  const rights =
    whose === "own" ? /\b(APPLICATION_PASSWORD_ADMIN|CREATE USER|ALL PRIVILEGES)\b/ : /\b(CREATE USER|ALL PRIVILEGES)\b/;
  const grants = await db.read<object>("show grants");
  return grants.some((row) => {
    const [, given = ""] = /^GRANT (.*) ON \*\.\* TO /.exec(String(Object.values(row)[0])) ?? [];
    return rights.test(given);
  });
}

/** The account that a login was matched to. */
export async function accountOf(db: Session): Promise<Account> {
  const [row] = await db.read<{ account: string }>("select current_user() as account");
  const text = row?.account ?? "";
  const at = text.lastIndexOf("@");
  return { user: text.slice(0, at), host: text.slice(at + 1) };
}

/**
 * A new primary password, beside which the one logged in with stays good. That one may be the secondary already, where an
 * earlier rotation was given up: then it is left there, as retaining would put the primary in its place.
 */
export async function addOwnPassword(db: Session, password: string, inForce: string): Promise<void> {
  const change = `alter user user() identified by ${confidential(db, password)}`;
  try {
    await db.change(`${change} replace ${confidential(db, inForce)} retain current password`);
  } catch (error) {
    if (!isAnswer(error, incorrectCurrentPassword)) throw error;
    await db.change(change);
  }
}

/** The same by a superuser, who cannot ask which of two passwords is the primary one: the current one is made it first. */
export async function addPassword(db: Session, account: Account, password: string, inForce: string): Promise<void> {
  const user = `${mysql.escape(account.user)}@${mysql.escape(account.host)}`;
  const [row] = await db.read<{ two: number | null }>(
    `select json_contains_path(user_attributes, 'one', '$.additional_password') as two from mysql.user
     where user = ${mysql.escape(account.user)} and host = ${mysql.escape(account.host)}`,
  );
  if (row?.two) await db.change(`alter user ${user} identified by ${confidential(db, inForce)}`);
  await db.change(`alter user ${user} identified by ${confidential(db, password)} retain current password`);
}

/**
 * Ends the other one of the two passwords; logged in with the current one, which stays good throughout. Is the old one the
 * primary, as after a way back, then something that nobody has takes its place; else it is the secondary, and is discarded.
 * `discard`: does so for the account when this login may not.
 */
export async function endOldPassword(db: Session, old: string, discard: (account: Account) => Promise<void>): Promise<void> {
  try {
    const random = confidential(db, `${randomBytes(32).toString("base64url")}aA1-`);
    return await db.change(`alter user user() identified by ${random} replace ${confidential(db, old)}`);
  } catch (error) {
    if (!isAnswer(error, incorrectCurrentPassword)) throw error;
  }
  try {
    await db.change("alter user user() discard old password");
  } catch (error) {
    if (!(error instanceof RotatorError && error.outcome === "denied")) throw error;
    await discard(await accountOf(db));
  }
}

/** The superuser's way to discard a secondary password. */
export async function discardOldPassword(db: Session, { user, host }: Account): Promise<void> {
  await db.change(`alter user ${mysql.escape(user)}@${mysql.escape(host)} discard old password`);
}
