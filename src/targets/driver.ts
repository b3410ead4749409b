import { RotatorError } from "../core/error.ts";

export type Failure = RotatorError["outcome"];

/**
 * A driver that is installed only where its databases are used.
 * @throws RotatorError `invalid`, saying what to install
 */
export async function loadDriver<T>(name: string, load: () => Promise<T>): Promise<T> {
  try {
    return await load();
  } catch (cause) {
    if (!/^(ERR_)?MODULE_NOT_FOUND$/.test(errorCode(cause) ?? "")) throw cause;
    throw new RotatorError("invalid", `the package ${name} is not installed where Rekey runs: npm install ${name}`, { cause });
  }
}

/** `code` of a driver's or the system's error, where it is a text. */
export const errorCode = (error: unknown): string | undefined =>
  error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;

const tlsCode = /^(ERR_TLS|ERR_SSL|EPROTO|CERT_|CRL_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO|HOSTNAME_MISMATCH|INVALID_CA|PATH_LENGTH)/;

/** What the system said before any server did: `tls` or `timeout` where it says so, else `unreachable`. */
export function systemFailure(error: unknown): Failure {
  for (const code of codesOf(error)) {
    if (tlsCode.test(code)) return "tls";
    if (code === "ETIMEDOUT") return "timeout";
  }
  return "unreachable";
}

/** Drivers wrap what the system said. */
function codesOf(error: unknown, depth = 0): string[] {
  if (!(error instanceof Error) || depth > 5) return [];
  const code = errorCode(error);
  return [...(code === undefined ? [] : [code]), ...codesOf(error.cause, depth + 1)];
}

const words: Readonly<Record<Failure, string>> = {
  refused: "the password is refused",
  locked: "the account is locked",
  expired: "the password has expired",
  unreachable: "the server cannot be reached",
  timeout: "the server did not answer in time",
  tls: "no verified TLS connection: see ssl and sslrootcert",
  denied: "the server denies this",
  invalid: "the server cannot do this as configured",
  unknown: "the connection ended before the answer",
};

/**
 * In words of our own, with a number or code: a server's and a driver's texts may quote what was sent. `own`: what a kind of
 * target says otherwise.
 */
export const failureWords = (
  outcome: Failure,
  code?: string | number,
  own: Readonly<Partial<Record<Failure, string>>> = {},
): string => `${own[outcome] ?? words[outcome]}${code === undefined ? "" : ` (${code})`}`;
