/** Why a command ends without having done its work. `message` is one sentence that says what to do next. */
export class CommandError extends Error {
  override readonly name = "CommandError";
  /** 1: refused or failed. 2: wrongly called. 3: nobody answers. */
  readonly exitCode: 1 | 2 | 3;

  constructor(exitCode: 1 | 2 | 3, message: string, options?: ErrorOptions) {
    super(message, options);
    this.exitCode = exitCode;
  }
}

/** System error codes that mean that the other side could not be reached. */
const unreachableCodes = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENOTFOUND",
  "EAI_AGAIN",
  "ETIMEDOUT",
  "UND_ERR_CONNECT_TIMEOUT",
  "UND_ERR_SOCKET",
]);

/** Whether an error, or one that caused it, says that nobody answered. */
export function isUnreachable(error: unknown): boolean {
  if (error instanceof AggregateError && error.errors.some(isUnreachable)) return true;
  if (!(error instanceof Error)) return false;
  return ("code" in error && unreachableCodes.has(String(error.code))) || isUnreachable(error.cause);
}
