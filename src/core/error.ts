/** HTTP status of each error code. Source: AWS Secrets Manager API reference, "Errors" of each operation and "Common errors"; STS likewise. */
const statusOf = {
  AccessDeniedException: 400,
  DecryptionFailure: 400,
  EncryptionFailure: 400,
  ExpiredTokenException: 400,
  IDPCommunicationError: 400,
  IncompleteSignatureException: 400,
  InternalServiceError: 500,
  InvalidIdentityToken: 400,
  InvalidNextTokenException: 400,
  InvalidParameterException: 400,
  InvalidRequestException: 400,
  InvalidSignatureException: 400,
  LimitExceededException: 400,
  MalformedPolicyDocumentException: 400,
  MissingAuthenticationTokenException: 400,
  PackedPolicyTooLarge: 400,
  PreconditionNotMetException: 400,
  PublicPolicyException: 400,
  RequestEntityTooLarge: 413,
  ResourceExistsException: 400,
  ResourceNotFoundException: 400,
  SerializationException: 400,
  ThrottlingException: 400,
  UnknownOperationException: 400,
  UnrecognizedClientException: 400,
  ValidationException: 400,
} as const;

export type ErrorCode = keyof typeof statusOf;

export function isErrorCode(text: string): text is ErrorCode {
  return Object.hasOwn(statusOf, text);
}

/** What a caller is told: `code` and `message` go on the wire, `cause` only to the log. Any other throw is a bug (500). */
export class ServiceError extends Error {
  override readonly name = "ServiceError";
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }

  get status(): number {
    return statusOf[this.code];
  }
}

/** Why a call at a target did not end well; `unknown` is answered by a probe, never by a guess. */
export const failureClasses = [
  "refused",
  "locked",
  "expired",
  "unreachable",
  "timeout",
  "tls",
  "denied",
  "invalid",
  "unknown",
] as const;

/** What came of one call at a target. Unreachable is never refused. */
export type OutcomeClass = "ok" | (typeof failureClasses)[number];

/** A target did not do what was asked. `message` holds names, never values; `cause` never leaves the log. */
export class RotatorError extends Error {
  override readonly name = "RotatorError";
  readonly outcome: Exclude<OutcomeClass, "ok">;

  constructor(outcome: Exclude<OutcomeClass, "ok">, message: string, options?: ErrorOptions) {
    super(message, options);
    this.outcome = outcome;
  }
}

/** The target's rules refuse this very credential, as too simple or used before: nothing was changed, and another one may do. */
export class UnfitCredential extends RotatorError {}

/** The program will not start: every problem at once, each naming its setting and the allowed range. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(problems.join("\n"));
    this.problems = problems;
  }
}
