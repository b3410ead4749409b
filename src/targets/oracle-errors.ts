import { errorCode, type Failure, failureWords, systemFailure } from "./driver.ts";

/** Codes of the server and of its listener (ORA), and of the driver (NJS). Source: Oracle Database Error Messages; node-oracledb. */
const byCode: Readonly<Record<string, Failure>> = {
  "ORA-01017": "refused",
  "ORA-28008": "refused", // the old password that a change gives
  "ORA-28000": "locked",
  "ORA-28001": "expired",
  "ORA-65162": "expired", // of a common user
  "ORA-00942": "denied", // no such table, or no right to see it
  "ORA-01031": "denied",
  "ORA-01045": "denied", // CREATE SESSION
  "ORA-12533": "denied",
  "ORA-12546": "denied",
  "ORA-12547": "unreachable",
  "ORA-00900": "invalid", // syntax
  "ORA-00922": "invalid", // syntax
  "ORA-00904": "invalid", // a column that older versions lack
  "ORA-00972": "invalid", // a name or password is too long
  "ORA-00988": "invalid", // a password is no password
  "ORA-01435": "invalid", // no such user
  "ORA-01918": "invalid", // no such user
  "ORA-01919": "invalid", // no such role
  "ORA-01920": "invalid", // the user exists already
  "ORA-01935": "invalid",
  "ORA-16000": "invalid", // open for reading only
  "ORA-28003": "invalid", // policy: the profile's function
  "ORA-28007": "invalid", // policy: used before
  "ORA-28040": "invalid", // no common way to log in
  "ORA-28219": "invalid", // policy: too short for the database
  "ORA-65066": "invalid", // must hold in all containers
  "ORA-65096": "invalid", // no name for a common user
  "ORA-01013": "timeout", // cancelled
  "ORA-04021": "timeout", // waits for a lock
  "ORA-30006": "timeout", // waits for a lock
  "ORA-00018": "unreachable", // too many sessions
  "ORA-00020": "unreachable", // too many processes
  "ORA-00028": "unreachable", // killed
  "ORA-00054": "unreachable", // busy
  "ORA-01012": "unreachable",
  "ORA-01033": "unreachable", // starting or stopping
  "ORA-01034": "unreachable", // not available
  "ORA-01035": "unreachable", // restricted
  "ORA-01089": "unreachable", // stopping
  "ORA-01090": "unreachable", // stopping
  "ORA-01109": "unreachable", // not open
  "ORA-02391": "unreachable", // too many sessions of the user
  "ORA-03113": "unreachable",
  "ORA-03114": "unreachable",
  "ORA-03135": "unreachable",
  "ORA-12170": "timeout",
  "NJS-040": "timeout",
  "NJS-123": "timeout", // callTimeout
  "NJS-510": "timeout",
  "NJS-505": "tls",
  "NJS-506": "tls",
  "NJS-507": "tls",
  "NJS-508": "tls",
  "NJS-116": "invalid", // the user has no verifier of a kind that is still in use
  "NJS-138": "invalid", // the server is too old
  "NJS-173": "invalid", // the server does not know the password that it accepted
  "NJS-529": "invalid", // the wallet
  "NJS-533": "invalid", // the server insists on encryption of its own kind
};

/** After these nobody knows whether the statement took effect. */
const interruptions = /^(ORA-(00028|01012|01013|01033|01034|01089|01090|03113|03114|03135|12537|12547)|NJS-(040|123|5\d\d))$/;

/** What a driver error means. Only an answer of the server is ever a refusal; silence while a change was under way is `unknown`. */
export function classify(error: unknown, { changing, late }: { changing: boolean; late: boolean }): Failure {
  const code = codeOf(error);
  const silent = code === undefined || interruptions.test(code);
  if (changing && silent) return "unknown";
  if (late && silent) return "timeout";
  if (code === undefined) return systemFailure(error);
  // What else listeners and networks say: 12541 no listener, 12514 a service that is not there now, 12516 full, …
  return byCode[code] ?? (/^(ORA-12[15]\d\d|NJS-5\d\d)$/.test(code) ? "unreachable" : "unknown");
}

/** A policy refuses the new password: another one may do. */
export const isUnfit = (error: unknown): boolean => ["ORA-28003", "ORA-28007", "ORA-28219"].includes(codeOf(error) ?? "");

export const describe = (error: unknown, outcome: Failure): string => failureWords(outcome, codeOf(error));

function codeOf(error: unknown): string | undefined {
  const code = errorCode(error);
  return code !== undefined && /^(ORA|NJS)-\d+$/.test(code) ? code : undefined;
}
