import { isDeepStrictEqual } from "node:util";
import type { Document } from "mongodb";
import { RotatorError } from "../core/error.ts";
import type { Session } from "./mongodb-session.ts";

interface Role {
  readonly role: string;
  readonly db: string;
}

interface User {
  readonly roles: readonly Role[];
  readonly mechanisms?: readonly string[] | undefined;
  readonly customData?: Document | undefined;
  readonly authenticationRestrictions?: readonly unknown[] | undefined;
}

/** Kept by most of the set before it is answered, so that a new primary does not bring the old password back. */
export const durable = { writeConcern: { w: "majority" } };

/** The server makes the verifiers from the password itself: it takes no finished ones. */
export async function setPassword(db: Session, database: string, username: string, password: string): Promise<void> {
  await db.change(database, { updateUser: username, pwd: password, ...durable });
}

/** Two users of which one is in use and the other gets a new password. */
export interface Pair {
  readonly database: string;
  /** The user whose password is set. */
  readonly name: string;
  readonly inUse: string;
  /** Of the user in use, or else its original. */
  readonly isClone: boolean;
  readonly password: string;
}

/**
 * Sets the password of one user of an alternating pair; a clone is made with the original's roles and restrictions, and given
 * later what it lacks. Who writes a secret must not have the superuser set anybody's password: a user that may do more than the
 * one in use is not of its pair.
 */
export async function setAlternate(db: Session, { database, name, inUse, isClone, password }: Pair): Promise<void> {
  const [from, to] = [await findUser(db, database, inUse), await findUser(db, database, name)];
  if (!(isClone ? from : to)) throw new RotatorError("invalid", `user ${isClone ? inUse : name} does not exist in ${database}`);
  const excess = from && to?.roles.find((held) => !from.roles.some((wanted) => sameRole(wanted, held)));
  if (excess) {
    throw new RotatorError(
      "invalid",
      `user ${name} has the role ${excess.role} of ${excess.db} that ${inUse} lacks: give it to both or to none`,
    );
  }
  if (isClone && from && !to) return createClone(db, database, name, password, from);
  if (isClone && from && to) await match(db, database, name, from, to);
  await setPassword(db, database, name, password);
}

async function createClone(db: Session, database: string, name: string, password: string, from: User): Promise<void> {
  const { roles, mechanisms, customData, authenticationRestrictions: only } = from;
  const born = { ...(mechanisms ? { mechanisms } : {}), ...(customData ? { customData } : {}) };
  const restricted = only?.length ? { authenticationRestrictions: only } : {};
  await db.change(database, { createUser: name, pwd: password, roles, ...born, ...restricted, ...durable });
}

/** What the original was given since. Whoever may grant roles may not always replace them, as `updateUser` would. */
async function match(db: Session, database: string, name: string, from: User, to: User): Promise<void> {
  const missing = from.roles.filter((wanted) => !to.roles.some((held) => sameRole(wanted, held)));
  if (missing.length > 0) await db.change(database, { grantRolesToUser: name, roles: missing, ...durable });
  const only = from.authenticationRestrictions ?? [];
  if (isDeepStrictEqual(only, to.authenticationRestrictions ?? [])) return;
  await db.change(database, { updateUser: name, authenticationRestrictions: only, ...durable });
}

const sameRole = (a: Role, b: Role): boolean => a.role === b.role && a.db === b.db;

/** `undefined` when there is none. */
export async function findUser(db: Session, database: string, username: string): Promise<User | undefined> {
  const ask = { usersInfo: { user: username, db: database } };
  const { users } = await db.read(database, { ...ask, showAuthenticationRestrictions: true }).catch((error: unknown) => {
    if (error instanceof RotatorError && error.outcome === "invalid") return db.read(database, ask); // Amazon DocumentDB has none
    throw error;
  });
  return users[0];
}

/**
 * An operation whose caller died may still change the password: it is ended by the account's mark, and waited for. Where the
 * login may not see or end it, the server ends it at the deadline that it was given.
 */
export async function endEarlierCalls(db: Session, mark: string, deadlineAt: number): Promise<void> {
  for (;;) {
    const left = await earlierCalls(db, mark);
    if (left.length === 0) return;
    for (const op of left) {
      const ended = await db.read("admin", { killOp: 1, op }).catch(ignoreAnswer);
      if (!ended) return;
    }
    if (Date.now() > deadlineAt - 1_000) throw new RotatorError("timeout", "an earlier call for this user has not ended yet");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function earlierCalls(db: Session, mark: string): Promise<unknown[]> {
  const changes = ["updateUser", "createUser"].map((name) => ({ [`command.${name}`]: { $exists: true } }));
  const filter = { appName: { $regex: `^${mark}` }, $or: changes };
  const all = await db.read("admin", { currentOp: 1, ...filter }).catch(ignoreAnswer);
  const own = all ?? (await db.read("admin", { currentOp: 1, $ownOps: true, ...filter }).catch(ignoreAnswer));
  return (own?.inprog ?? []).map(({ opid }: Document) => opid);
}

/** The server has answered that it will not. */
export function ignoreAnswer(error: unknown): undefined {
  if (error instanceof RotatorError && ["denied", "invalid", "unknown"].includes(error.outcome)) return undefined;
  throw error;
}

/** Whether the login may do this to users of the database; `undefined` where the server does not say. */
export async function mayDo(db: Session, database: string): Promise<((action: string) => boolean) | undefined> {
  const status = await db.read("admin", { connectionStatus: 1, showPrivileges: true }).catch(ignoreAnswer);
  const privileges: Document[] | undefined = status?.authInfo?.authenticatedUserPrivileges;
  return privileges && ((action) => privileges.some((held) => covers(held, database) && held.actions.includes(action)));
}

function covers({ resource }: Document, database: string): boolean {
  const wholeDatabase = resource.collection === "" && (resource.db === "" || resource.db === database);
  return resource.anyResource === true || resource.cluster === true || wholeDatabase;
}
