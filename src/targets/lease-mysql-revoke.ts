import { setTimeout as sleep } from "node:timers/promises";
import { RotatorError } from "../core/error.ts";
import { changeEach } from "./lease-mysql-check.ts";
import { type Labelled, type MysqlLeaseSettings, revocationOf } from "./lease-mysql-settings.ts";
import type { LeasedUser } from "./lease-target.ts";
import { type Account, accountText, isMariaDb, quoted } from "./mysql-accounts.ts";
import { mayAll, readServer } from "./mysql-check.ts";
import { isAnswer } from "./mysql-errors.ts";
import type { Session } from "./mysql-session.ts";

/** Each part takes effect by itself and may run again. @throws RotatorError when anything of the account is left */
export async function revokeAccount(
  db: Session,
  settings: MysqlLeaseSettings,
  user: LeasedUser,
  account: Account,
  deadlineAt: number,
): Promise<void> {
  const there = await lock(db, account);
  await endSessions(db, account.user, deadlineAt);
  const failed = there ? await runOwn(db, revocationOf(settings, user, account)) : undefined;
  const defined = there ? await definedBy(db, account) : [];
  await changeEach(db, [{ label: "drop", text: `drop user if exists ${accountText(account)}` }]);
  if (failed) throw failed;
  if (defined.length > 0) {
    const what = `is gone, and was the DEFINER of ${defined.join(", ")}`;
    throw new RotatorError("invalid", `user ${account.user} ${what}: give those another one, as they run as nobody now`);
  }
}

/** Whether there was an account to lock. */
async function lock(db: Session, account: Account): Promise<boolean> {
  try {
    await changeEach(db, [{ label: "lock", text: `alter user ${accountText(account)} account lock` }]);
    return true;
  } catch (error) {
    if (isAnswer(error, 1396)) return false; // ER_CANNOT_USER
    throw error;
  }
}

/** Until none is left. Whoever may not see other users' sessions would see none. */
async function endSessions(db: Session, user: string, deadlineAt: number): Promise<void> {
  if (!mayAll(await readServer(db), "PROCESS")) {
    throw new RotatorError("denied", "the managing user cannot see the user's sessions: grant process on *.* to it");
  }
  for (let pauseMs = 10; ; pauseMs = Math.min(pauseMs * 2, 250)) {
    const left = await db.read<{ id: number }>(
      `select id as id from information_schema.processlist where user = ${quoted(user)}`,
    );
    if (left.length === 0) return;
    for (const { id } of left) await db.change(`kill ${Number(id)}`).catch(ignoreGone);
    if (Date.now() + pauseMs >= deadlineAt) throw new RotatorError("timeout", `${left.length} sessions have not ended yet`);
    await sleep(pauseMs);
  }
}

function ignoreGone(error: unknown): void {
  if (!isAnswer(error, 1094)) throw error; // ER_NO_SUCH_THREAD
}

/** One that fails for good keeps no user alive: it is told when the account is gone. */
async function runOwn(db: Session, statements: readonly Labelled[]): Promise<RotatorError | undefined> {
  try {
    await changeEach(db, statements);
    return undefined;
  } catch (error) {
    if (error instanceof RotatorError && ["denied", "invalid"].includes(error.outcome)) return error;
    throw error;
  }
}

/** Longer than this nobody looks what was defined: the user's end matters more. */
const lookSeconds = 2;

/** What runs with the account's rights, as far as the managing user may see it. */
async function definedBy(db: Session, { user, host }: Account): Promise<string[]> {
  const definer = quoted(`${user}@${host}`);
  const bound = isMariaDb(db) ? `max_statement_time = ${lookSeconds}` : `max_execution_time = ${lookSeconds * 1_000}`;
  await db.read(`set session ${bound}`);
  const look = db.read<{ what: string }>(
    `select concat('view ', table_schema, '.', table_name) as what from information_schema.views where definer = ${definer}
     union all select concat(lower(routine_type), ' ', routine_schema, '.', routine_name) from information_schema.routines
       where definer = ${definer}
     union all select concat('trigger ', trigger_schema, '.', trigger_name) from information_schema.triggers where definer = ${definer}
     union all select concat('event ', event_schema, '.', event_name) from information_schema.events where definer = ${definer}
     limit 10`,
  );
  const rows = await look.catch(unlessLate);
  await db.read(`set session ${bound.replace(/=.*/, "= 0")}`);
  return rows.map(({ what }) => what);
}

function unlessLate(error: unknown): never[] {
  if (error instanceof RotatorError && error.outcome === "timeout") return [];
  throw error;
}
