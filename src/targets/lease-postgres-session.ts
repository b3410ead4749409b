import { RotatorError } from "../core/error.ts";
import type { DatabaseLogin } from "./database-secret.ts";
import type { Labelled } from "./lease-postgres-settings.ts";
import { type Session, withSession } from "./postgres-session.ts";

/** The managing user at work. */
export interface Manager {
  readonly login: DatabaseLogin;
  /** What the server shows; sessions of the same name work for the same lease. */
  readonly sessionName: string;
  /** Epoch ms. */
  readonly deadlineAt: number;
}

/** Others wait behind a lock that is waited for. */
const maxLockWaitMs = 5_000;

/** The server itself ends what is not done by the deadline: nobody may be there any more to hear of it. */
export async function withManager<T>({ login, sessionName, deadlineAt }: Manager, work: (db: Session) => Promise<T>): Promise<T> {
  if (deadlineAt <= Date.now()) throw new RotatorError("timeout", "no time is left");
  return withSession(login, { applicationName: sessionName, deadlineAt, serverNames: true }, async (db) => {
    const left = Math.ceil(Math.max(1, deadlineAt - Date.now()));
    // Not by set_config: that is looked up, planned and run, in a session that knows no function yet.
    await db.read(`set statement_timeout = ${left}; set lock_timeout = ${Math.min(left, maxLockWaitMs)}`);
    return work(db);
  });
}

/** All of them or none. @throws RotatorError that names the one that failed */
export async function changeAll(db: Session, statements: readonly Labelled[]): Promise<void> {
  const together = statements.length > 1;
  if (together) await db.change("begin");
  for (const one of statements) await change(db, one);
  if (together) await db.change("commit");
}

export async function change(db: Session, { label, text }: Labelled): Promise<void> {
  try {
    await db.change(text);
  } catch (error) {
    if (!(error instanceof RotatorError)) throw error;
    throw new RotatorError(error.outcome, `${label}: ${error.message}`, { cause: error.cause });
  }
}
