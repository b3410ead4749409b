import { RotatorError } from "../core/error.ts";
import { errorCode, type Failure, failureWords } from "./driver.ts";

/** Error numbers that the server answers with. Source: MySQL Error Message Reference; MariaDB Error Codes. */
const byNumber: Readonly<Record<number, Failure>> = {
  1045: "refused", // ER_ACCESS_DENIED_ERROR
  1698: "refused", // ER_ACCESS_DENIED_NO_PASSWORD_ERROR
  3118: "locked", // ER_ACCOUNT_HAS_BEEN_LOCKED
  3955: "locked", // ER_USER_ACCESS_DENIED_FOR_USER_ACCOUNT_BLOCKED_BY_PASSWORD_LOCK
  4150: "locked", // MariaDB ER_USER_IS_BLOCKED: too many failed logins
  4151: "locked", // MariaDB ER_ACCOUNT_HAS_BEEN_LOCKED
  1820: "expired", // ER_MUST_CHANGE_PASSWORD
  1862: "expired", // ER_MUST_CHANGE_PASSWORD_LOGIN
  1095: "denied", // ER_KILL_DENIED_ERROR
  1044: "denied", // ER_DBACCESS_DENIED_ERROR
  1130: "denied", // ER_HOST_NOT_PRIVILEGED
  1142: "denied", // ER_TABLEACCESS_DENIED_ERROR
  1227: "denied", // ER_SPECIFIC_ACCESS_DENIED_ERROR
  1370: "denied", // ER_PROCACCESS_DENIED_ERROR
  1410: "denied", // ER_CANT_CREATE_USER_WITH_GRANT
  1049: "invalid", // ER_BAD_DB_ERROR
  1064: "invalid", // ER_PARSE_ERROR: a dialect that lacks the statement
  1094: "invalid", // ER_NO_SUCH_THREAD
  1141: "invalid", // ER_NONEXISTING_GRANT
  1146: "invalid", // ER_NO_SUCH_TABLE
  1147: "invalid", // ER_NONEXISTING_TABLE_GRANT
  1221: "invalid", // ER_WRONG_USAGE
  1251: "invalid", // ER_NOT_SUPPORTED_AUTH_MODE
  1290: "invalid", // ER_OPTION_PREVENTS_STATEMENT: read_only
  1396: "invalid", // ER_CANNOT_USER
  1470: "invalid", // ER_WRONG_STRING_LENGTH: the name is too long
  1524: "invalid", // ER_PLUGIN_IS_NOT_LOADED
  1959: "invalid", // MariaDB ER_INVALID_ROLE
  4006: "invalid", // ER_CANNOT_USER_REFERENCED_AS_DEFINER
  1819: "invalid", // ER_NOT_VALID_PASSWORD: the password policy
  1836: "invalid", // ER_READ_ONLY_MODE
  3638: "invalid", // ER_CREDENTIALS_CONTRADICT_TO_HISTORY: the reuse policy
  3878: "invalid", // ER_SECOND_PASSWORD_CANNOT_BE_EMPTY
  3891: "invalid", // ER_INCORRECT_CURRENT_PASSWORD: not the primary one
  3892: "invalid", // ER_MISSING_CURRENT_PASSWORD: the account requires REPLACE
  3894: "invalid", // ER_PASSWORD_CANNOT_BE_RETAINED_ON_PLUGIN_CHANGE
  3895: "invalid", // ER_CURRENT_PASSWORD_CANNOT_BE_RETAINED
  3159: "tls", // ER_SECURE_TRANSPORT_REQUIRED
  1040: "unreachable", // ER_CON_COUNT_ERROR
  1053: "unreachable", // ER_SERVER_SHUTDOWN
  1129: "unreachable", // ER_HOST_IS_BLOCKED
  1203: "unreachable", // ER_TOO_MANY_USER_CONNECTIONS
  1205: "unreachable", // ER_LOCK_WAIT_TIMEOUT
  1226: "unreachable", // ER_USER_LIMIT_REACHED
  1317: "timeout", // ER_QUERY_INTERRUPTED
  1969: "timeout", // MariaDB ER_STATEMENT_TIMEOUT
  3024: "timeout", // ER_QUERY_TIMEOUT
};
/** What ends a statement from outside: whether it took effect is not said. */
const interruptions: readonly number[] = [1053, 1317, 1927];

const byCode: Readonly<Record<string, Failure>> = {
  ETIMEDOUT: "timeout",
  HANDSHAKE_NO_SSL_SUPPORT: "tls",
  HANDSHAKE_SSL_ERROR: "tls",
  AUTH_SWITCH_PLUGIN_ERROR: "invalid",
  MYSQL_CLEAR_PASSWORD_NOT_ENABLED: "invalid",
};
const tlsCode = /^(ERR_TLS|ERR_SSL|EPROTO|CERT_|CRL_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO|HOSTNAME_MISMATCH|INVALID_CA|PATH_LENGTH)/;

/** The server says that it has no TLS: before anything was sent. */
export const saysNoTls = (error: unknown): boolean => errorCode(error) === "HANDSHAKE_NO_SSL_SUPPORT";

/** What a driver error means. Only an answer of the server is ever a refusal; silence while a change was under way is `unknown`. */
export function classify(error: unknown, { changing, late }: { changing: boolean; late: boolean }): Failure {
  const number = numberOf(error);
  if (number !== undefined) {
    if (changing && interruptions.includes(number)) return "unknown";
    return byNumber[number] ?? "unknown";
  }
  if (changing) return "unknown";
  if (late) return "timeout";
  const code = errorCode(error) ?? "";
  return byCode[code] ?? (tlsCode.test(code) ? "tls" : "unreachable");
}

/** The driver keeps the statement in its errors, and a server's text may quote it: neither is kept, as both may hold a password. */
export function withoutStatement(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  if ("sql" in error) Reflect.deleteProperty(error, "sql");
  const errno = numberOf(error);
  return errno === undefined
    ? error
    : Object.assign(new Error(`error ${errno}`), { code: errorCode(error), errno, sqlState: "" });
}

/** The policy or the reuse policy refuses the new password: another one may do. */
export const isUnfit = (error: unknown): boolean => [1819, 3638].includes(numberOf(error) ?? 0);

/** The password that REPLACE names is not the primary one. Source: MySQL Error Message Reference. */
export const incorrectCurrentPassword = 3891;

/** Whether the server answered with this number. */
export const isAnswer = (error: unknown, number: number): boolean =>
  error instanceof RotatorError && numberOf(error.cause) === number;

const wordsByNumber: Readonly<Record<number, string>> = {
  1819: "the server's password policy refuses the new password",
  3638: "the server's reuse policy refuses the new password",
  3892: "the account requires its present password, which is not the one that logged in",
};

/** In words of our own, with the number or code that the driver gave: a server's texts may quote what it was sent. */
export function describe(error: unknown, outcome: Failure): string {
  const number = numberOf(error);
  const special = number === undefined ? undefined : wordsByNumber[number];
  return failureWords(outcome, number ?? errorCode(error), special === undefined ? {} : { [outcome]: special });
}

/** Of an error packet; `undefined` for what the driver or the system says. */
function numberOf(error: unknown): number | undefined {
  const isAnswer = error instanceof Error && "sqlState" in error && "errno" in error && typeof error.errno === "number";
  return isAnswer ? Number(error.errno) : undefined;
}
