import { createHash } from "node:crypto";
import mysql from "mysql2";
import { RotatorError } from "../core/error.ts";
import { incorrectCurrentPassword, isAnswer } from "./mysql-errors.ts";
import type { Session } from "./mysql-session.ts";

/** One account: what is granted and checked is granted to and checked for a user at a host pattern. */
export interface Account {
  readonly user: string;
  readonly host: string;
}

export const quoted = (text: string): string => mysql.escape(text);
export const accountText = ({ user, host }: Account): string => `${quoted(user)}@${quoted(host)}`;

export const isMariaDb = ({ version }: Session): boolean => /mariadb/i.test(version);

/** Source: MySQL manual, native pluggable authentication: `*` and SHA-1 of SHA-1, in upper-case hexadecimals. */
function nativeHash(password: string): string {
  const once = createHash("sha1").update(password, "utf8").digest();
  return `*${createHash("sha1").update(once).digest("hex").toUpperCase()}`;
}

/** The user's own password, changed by itself. `inForce`: the one it logged in with; of two, perhaps not the primary one. */
export async function setOwnPassword(db: Session, password: string, inForce: string): Promise<void> {
  if (isMariaDb(db)) return db.change(`set password = ${quoted(nativeHash(password))}`);
  const change = `alter user user() identified by ${confidential(db, password)}`;
  if (!atLeast(db.version, [8, 0, 13])) return db.change(change);
  try {
    await db.change(`${change} replace ${confidential(db, inForce)}`);
  } catch (error) {
    if (!isAnswer(error, incorrectCurrentPassword)) throw error;
    await db.change(change);
  }
}

/** Somebody else's password. */
export async function setPassword(db: Session, account: Account, password: string): Promise<void> {
  await db.change(`alter user ${accountText(account)} ${identified(db, password)}`);
}

/** How a new password is told, after the account's name. @throws RotatorError `invalid` when others could read it */
export function identified(db: Session, password: string): string {
  return isMariaDb(db) ? `identified by password ${quoted(nativeHash(password))}` : `identified by ${confidential(db, password)}`;
}

/** MySQL is told the password itself, and hides it from its logs: never over a connection that others may read. */
export function confidential(db: Session, password: string): string {
  if (db.confidential) return quoted(password);
  throw new RotatorError("invalid", "MySQL must be told the new password itself, which needs verified TLS: set ssl to true");
}

/** Whether a version is the same or later. */
export function atLeast(version: string, least: readonly number[]): boolean {
  const numbers = version.split(/[.-]/).map(Number);
  const differing = least.findIndex((value, index) => numbers[index] !== value);
  return differing < 0 || (numbers[differing] ?? 0) > (least[differing] ?? 0);
}

/** All accounts of a user name. */
export async function accountsOf(db: Session, user: string): Promise<Account[]> {
  const rows = await db.read<{ host: string }>(
    `select host as host from mysql.user where user = ${quoted(user)} and host <> '' order by host`, // MariaDB's roles have no host
  );
  return rows.map(({ host }) => ({ user, host }));
}

/** Makes the account like the original in all but name and password, or checks that it still is. */
export async function matchAccount(db: Session, original: Account, clone: Account, password: string): Promise<void> {
  const create = await requireMatchable(db, original, clone, password);
  if (create !== undefined) await db.change(create);
  const [wanted, held] = [await grantsOf(db, original), await grantsOf(db, clone)];
  for (const [grant, statement] of wanted) if (!held.has(grant)) await db.change(statement(accountText(clone)));
}

/**
 * Whether the account could be made like the original: the statement that would make it, or `undefined` when it is there.
 * Reads only. @throws RotatorError when it is there and is another one's
 */
export async function requireMatchable(
  db: Session,
  original: Account,
  clone: Account,
  password: string,
): Promise<string | undefined> {
  const known = (await accountsOf(db, clone.user)).some(({ host }) => host === clone.host);
  if (!known) return cloneStatement(db, original, clone, password);
  if (/ ACCOUNT LOCK\b/.test(await definition(db, clone))) {
    throw new RotatorError("locked", `the account ${accountText(clone)} is locked: alter user … account unlock`);
  }
  const excess = await firstExcess(db, clone, original);
  if (excess === undefined) return undefined;
  throw new RotatorError(
    "invalid",
    `${accountText(clone)} has a right that ${accountText(original)} lacks (${excess}): revoke it, or rename that user`,
  );
}

/** A right that the account has and the other lacks. */
export async function firstExcess(db: Session, account: Account, other: Account): Promise<string | undefined> {
  const [held, wanted] = [await grantsOf(db, account), await grantsOf(db, other)];
  return [...held.keys()].find((grant) => !wanted.has(grant));
}

/** How CREATE USER would make the account. */
export async function definition(db: Session, account: Account): Promise<string> {
  if (!isMariaDb(db) && atLeast(db.version, [8, 0, 17])) await db.read("set session print_identified_with_as_hex = 1");
  const [row] = await db.read<object>(`show create user ${accountText(account)}`);
  return String(Object.values(row ?? {})[0] ?? "");
}

const literal = "'(?:[^'\\\\]|\\\\.|'')*'";
const name = "(?:`(?:[^`]|``)*`|'(?:[^'\\\\]|\\\\.|'')*')";
const accountPattern = `${name}@${name}`;
const createPattern = new RegExp(
  `^CREATE USER ${accountPattern}` +
    `(?: IDENTIFIED (?:BY PASSWORD ${literal}|WITH ${literal}(?: AS (?:${literal}|0x[0-9A-F]*))?|VIA \\w+(?: USING ${literal})?))?` +
    "( (?:DEFAULT|REQUIRE|WITH|PASSWORD|ACCOUNT|FAILED_LOGIN_ATTEMPTS|COMMENT|ATTRIBUTE) .*)?$",
  "s",
);

async function cloneStatement(db: Session, original: Account, clone: Account, password: string): Promise<string> {
  const match = createPattern.exec(await definition(db, original));
  if (!match) throw new RotatorError("invalid", `${accountText(original)} logs in by other means than one password`);
  return `create user ${accountText(clone)} ${identified(db, password)}${match[1] ?? ""}`;
}

const grantPattern = new RegExp(
  `^(GRANT|REVOKE|SET DEFAULT ROLE) (.*?)( ON .*?)? (TO|FROM|FOR) ${accountPattern}` +
    `(?: IDENTIFIED (?:BY PASSWORD ${literal}|VIA \\w+(?: USING ${literal})?))?(.*)$`,
  "s",
);

/** A role that gives no right: it says which two users alternate. */
const pairMark = /^`rekey_pair_[0-9a-f]{16}`$/;

/** Every single right, and the statement that gives it to another account. */
export async function grantsOf(db: Session, account: Account): Promise<Map<string, (to: string) => string>> {
  const rows = await db.read<object>(`show grants for ${accountText(account)}`);
  const grants = new Map<string, (to: string) => string>();
  for (const row of rows) {
    const text = String(Object.values(row)[0]);
    const match = grantPattern.exec(text);
    if (!match) throw new RotatorError("invalid", `a right of ${accountText(account)} cannot be read`);
    const [, verb = "", rights = "", on = "", word = "", options = ""] = match;
    // Requirements and limits came with the account itself.
    const grantOption = options.includes(" WITH GRANT OPTION")
      ? " WITH GRANT OPTION"
      : options.includes(" WITH ADMIN OPTION")
        ? " WITH ADMIN OPTION"
        : "";
    for (const right of splitRights(rights)) {
      if (right === "USAGE" || pairMark.test(right)) continue;
      grants.set(`${verb} ${right}${on}${grantOption}`, (to) => `${verb} ${right}${on} ${word} ${to}${grantOption}`);
    }
  }
  return grants;
}

/** Each right by itself, and each column's: `SELECT (a, b), INSERT`. */
function splitRights(text: string): string[] {
  return atCommas(text).flatMap((right) => {
    const [, verb, columns] = /^([A-Z ]+?) \((.*)\)$/s.exec(right) ?? [];
    return columns === undefined ? [right] : atCommas(columns).map((column) => `${verb} (${column})`);
  });
}

/** At commas outside brackets and quotes. */
function atCommas(text: string): string[] {
  return (text.match(/(?:\((?:`(?:[^`]|``)*`|[^)])*\)|`(?:[^`]|``)*`|'[^']*'|[^,])+/g) ?? []).map((part) => part.trim());
}
