import { errorCode, type Failure, failureWords, systemFailure } from "./driver.ts";

/** Numbers of the server's errors. Source: SQL Server documentation, "Database Engine events and errors". */
const byNumber: Readonly<Record<number, Failure>> = {
  18456: "refused", // the state that tells why goes to the server's log only
  18470: "locked", // the login is disabled
  18486: "locked", // too many failed logins
  15113: "locked", // the same, said to ALTER LOGIN
  18487: "expired",
  18488: "expired", // must be changed at the next login
  229: "denied", // on an object
  230: "denied", // on a column
  262: "denied", // in a database
  297: "denied",
  300: "denied", // VIEW SERVER STATE and the like
  916: "denied", // no user in that database
  6102: "denied", // KILL
  15151: "denied", // cannot alter it: it does not exist, or no right
  15247: "denied",
  17892: "denied", // a logon trigger
  40615: "denied", // Azure's firewall
  40914: "denied", // Azure's firewall
  102: "invalid", // syntax
  911: "invalid", // no such database
  976: "invalid", // a secondary that is not to be read
  978: "invalid", // a secondary for reading only
  3906: "invalid", // a database for reading only
  4060: "invalid", // the database of the login cannot be opened
  4064: "invalid", // nor the login's default one
  5808: "invalid",
  15007: "invalid", // no such login
  15023: "invalid", // the user exists already
  15025: "invalid", // the login exists already
  15114: "invalid", // policy: changed too recently
  15115: "invalid", // policy: used before
  15116: "invalid", // policy: too short
  15117: "invalid", // policy: too long
  15118: "invalid", // policy: not complex enough
  15119: "invalid", // policy: a filter of the system
  15120: "invalid", // policy
  15128: "invalid", // policy and expiration while a change is due
  18452: "invalid", // Windows authentication only
  1222: "timeout", // lock_timeout
  596: "unreachable", // the session is being killed
  1205: "unreachable", // chosen as deadlock victim: undone
  6005: "unreachable", // shutting down
  10928: "unreachable", // Azure: too many sessions
  10929: "unreachable", // Azure: too busy
  17142: "unreachable", // paused
  17809: "unreachable", // too many connections
  17810: "unreachable", // the administrator's connection is taken
  18401: "unreachable", // being upgraded
  18461: "unreachable", // single-user mode
  40197: "unreachable", // Azure: being moved
  40501: "unreachable", // Azure: busy
  40613: "unreachable", // Azure: not available
};

/** Whether a statement that these end took effect is not said. */
const interruptions: readonly number[] = [596, 6005, 40197, 40613];

const byCode: Readonly<Record<string, Failure>> = { EENCRYPT: "tls", ETIMEOUT: "timeout" };

interface Moment {
  readonly changing: boolean;
  readonly late: boolean;
  /** Of the errors that the server sent with this answer. */
  readonly numbers: readonly number[];
}

/** What a driver error means. Only an answer of the server is ever a refusal; silence while a change was under way is `unknown`. */
export function classify(error: unknown, { changing, late, numbers }: Moment): Failure {
  const number = mainNumber(numbers);
  if (number !== undefined) return changing && interruptions.includes(number) ? "unknown" : (byNumber[number] ?? "unknown");
  if (changing) return "unknown";
  if (late) return "timeout";
  return byCode[errorCode(error) ?? ""] ?? systemFailure(error);
}

/** A policy refuses the new password: another one may do. Not 15114, which asks for patience. */
export const isUnfit = (numbers: readonly number[]): boolean => numbers.some((number) => number >= 15_115 && number <= 15_120);

export const describe = (error: unknown, outcome: Failure, numbers: readonly number[]): string =>
  failureWords(outcome, mainNumber(numbers) ?? errorCode(error));

/** A login that fails for another reason than its password ends with 18456 as well. */
const mainNumber = (numbers: readonly number[]): number | undefined => numbers.find((number) => number !== 18_456) ?? numbers[0];
