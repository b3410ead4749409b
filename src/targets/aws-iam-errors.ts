import type { OutcomeClass } from "../core/error.ts";

type Failure = Exclude<OutcomeClass, "ok">;

/** Error codes of IAM and STS, and the names that the SDK gives them. Source: IAM and STS API references, "Common errors" and "Errors". */
const byCode: Readonly<Record<string, Failure>> = {
  InvalidClientTokenId: "refused",
  InvalidAccessKeyId: "refused",
  UnrecognizedClientException: "refused",
  SignatureDoesNotMatch: "refused",
  InvalidSignatureException: "refused",
  ExpiredToken: "expired",
  ExpiredTokenException: "expired",
  AccessDenied: "denied",
  AccessDeniedException: "denied",
  NotAuthorized: "denied",
  OptInRequired: "denied",
  RegionDisabledException: "denied",
  UnauthorizedOperation: "denied",
  RequestExpired: "invalid",
  RequestTimeTooSkewed: "invalid",
  DeleteConflictException: "invalid",
  EntityAlreadyExistsException: "invalid",
  LimitExceededException: "invalid",
  MalformedPolicyDocumentException: "invalid",
  NoSuchEntityException: "invalid",
  InvalidInputException: "invalid",
  InvalidUserTypeException: "invalid",
  PackedPolicyTooLargeException: "invalid",
  ValidationError: "invalid",
  ConcurrentModificationException: "unreachable",
  EntityTemporarilyUnmodifiableException: "unreachable",
  RequestLimitExceeded: "unreachable",
  ServiceUnavailable: "unreachable",
  SlowDown: "unreachable",
  Throttling: "unreachable",
  ThrottlingException: "unreachable",
  TooManyRequestsException: "unreachable",
};
const clockCodes: readonly string[] = ["RequestExpired", "RequestTimeTooSkewed"];
/** What IAM and STS say under SignatureDoesNotMatch when it is the time that is wrong. */
const clockText = /^Signature (expired|not yet current)\b/;
/** The request did not leave this machine. */
const notSent: readonly string[] = ["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "EHOSTUNREACH", "ENETUNREACH", "EADDRNOTAVAIL"];
const tlsCode = /^(ERR_TLS|ERR_SSL|EPROTO|CERT_|CRL_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO|HOSTNAME_MISMATCH|INVALID_CA|PATH_LENGTH)/;

const words: Readonly<Record<Failure, string>> = {
  refused: "the access key is refused",
  locked: "the account is locked",
  expired: "the session token has expired",
  unreachable: "AWS cannot be reached or asks to wait",
  timeout: "AWS did not answer in time",
  tls: "no verified TLS connection",
  denied: "no policy allows this",
  invalid: "AWS cannot do this",
  unknown: "whether it was done is not known",
};

export interface Failed {
  readonly outcome: Failure;
  /** In our own words, with the code where it is a known one: AWS's texts quote what was sent, session tokens included. */
  readonly text: string;
  readonly code?: string | undefined;
}

/** What an error of the SDK means. Only AWS's own answer is a refusal; silence while a key was being made is `unknown`. */
export function readFailure(error: unknown, { changing, late }: { changing: boolean; late: boolean }): Failed {
  const { name, status, code, message } = partsOf(error);
  if (status !== undefined) return ofAnswer({ name, status, message, changing });
  const why = code === undefined ? "" : ` (${code})`;
  let outcome: Failure = "unreachable";
  if (tlsCode.test(code ?? "")) outcome = "tls";
  else if (changing && !notSent.includes(code ?? "")) outcome = "unknown";
  else if (late || isTimeout(name, code)) outcome = "timeout";
  return { outcome, text: `${words[outcome]}${why}` };
}

/** The SDK gives this name to connections that were cut, too. */
const isTimeout = (name: string, code: string | undefined): boolean =>
  code === "ETIMEDOUT" || (name === "TimeoutError" && code !== "ECONNRESET" && code !== "EPIPE");

function ofAnswer(answer: { name: string; status: number; message: string; changing: boolean }): Failed {
  const { name, status, message, changing } = answer;
  if (clockCodes.includes(name) || (name === "SignatureDoesNotMatch" && clockText.test(message))) {
    return { outcome: "invalid", code: name, text: `the clock of this machine is wrong, says AWS (${name}): set it` };
  }
  const known = Object.hasOwn(byCode, name) ? byCode[name] : undefined;
  if (known) return { outcome: known, code: name, text: `${words[known]} (${name})` };
  let outcome: Failure = "invalid";
  if (status < 400 || status >= 500) outcome = changing ? "unknown" : "unreachable";
  return { outcome, text: `${words[outcome]} (status ${status})` };
}

function partsOf(error: unknown): { name: string; status: number | undefined; code: string | undefined; message: string } {
  if (!(error instanceof Error)) return { name: "", status: undefined, code: undefined, message: "" };
  const { $metadata: metadata, code } = error as { $metadata?: { httpStatusCode?: unknown }; code?: unknown };
  const status = metadata?.httpStatusCode;
  return {
    name: error.name,
    status: typeof status === "number" ? status : undefined,
    code: typeof code === "string" && /^[A-Z_]{1,64}$/.test(code) ? code : undefined,
    message: error.message,
  };
}
