import pg from "pg";
import { errorCode, type Failure, failureWords } from "./driver.ts";

/** SQLSTATE, or its first two characters, to what it means for a rotation. Source: PostgreSQL documentation, appendix A. */
const bySqlState: Readonly<Record<string, Failure>> = {
  "28P01": "refused", // invalid_password
  "28000": "refused", // invalid_authorization_specification
  "3D000": "invalid", // invalid_catalog_name: no such database
  "42501": "denied", // insufficient_privilege
  "2BP01": "invalid", // dependent_objects_still_exist
  "0L": "invalid", // invalid grantor
  "0P": "invalid", // invalid role specification
  "42": "invalid", // syntax errors, and names that do not exist or exist already
  "25006": "invalid", // read_only_sql_transaction: a standby
  "57014": "timeout", // query_canceled
  "08": "unreachable", // connection exceptions
  "53": "unreachable", // insufficient resources, too_many_connections among them
  "55": "unreachable", // object not in prerequisite state, lock_not_available
  "57": "unreachable", // operator intervention: shutting down, starting up
};

const byErrno: Readonly<Record<string, Failure>> = {
  ENOTFOUND: "unreachable",
  EAI_AGAIN: "unreachable",
  ECONNREFUSED: "unreachable",
  ECONNRESET: "unreachable",
  EPIPE: "unreachable",
  EHOSTUNREACH: "unreachable",
  ENETUNREACH: "unreachable",
  ENOENT: "unreachable",
  EACCES: "unreachable",
  ETIMEDOUT: "timeout",
};

const noTls = "The server does not support SSL connections";
const tlsCode = /^(ERR_TLS|ERR_SSL|EPROTO|CERT_|CRL_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO|HOSTNAME_MISMATCH|INVALID_CA|PATH_LENGTH)/;

/** What a driver error means. Only an answer of the server is ever a refusal; silence while a change was under way is `unknown`. */
export function classify(error: unknown, { changing, late }: { changing: boolean; late: boolean }): Failure {
  if (error instanceof pg.DatabaseError) return classifyAnswer(error, changing);
  if (changing) return "unknown";
  if (late) return "timeout";
  if (!(error instanceof Error)) return "unknown";
  const code = "code" in error ? String(error.code) : "";
  if (error.message === noTls || tlsCode.test(code)) return "tls";
  if (error.message.startsWith("SASL")) return "invalid";
  return byErrno[code] ?? "unreachable";
}

function classifyAnswer(error: pg.DatabaseError, changing: boolean): Failure {
  const state = error.code ?? "";
  // The role may not log in at all (NOLOGIN), or pg_hba.conf has no place for it: said by routine, since texts are translated.
  if (state === "28000" && error.routine === "InitializeSessionUserId") return "locked";
  if (state === "28000" && error.routine === "ClientAuthentication") return "denied";
  const outcome = bySqlState[state] ?? bySqlState[state.slice(0, 2)] ?? "unknown";
  return changing && (state.startsWith("57P") || state.startsWith("08")) ? "unknown" : outcome;
}

/** In words of our own, with the code that the driver gave: a server's texts may quote what it was sent. */
export const describe = (error: unknown, outcome: Failure): string =>
  failureWords(outcome, errorCode(error), { locked: "the role may not log in", expired: "the role has expired" });
