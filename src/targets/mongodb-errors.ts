import { RotatorError } from "../core/error.ts";
import { errorCode, type Failure, failureWords, systemFailure } from "./driver.ts";

/** What the server answers with. Source: MongoDB server, `error_codes.yml`. */
const byNumber: Readonly<Record<number, Failure>> = {
  18: "refused", // AuthenticationFailed; an unknown user and a forbidden client address too
  13: "denied", // Unauthorized
  31: "invalid", // RoleNotFound
  11: "invalid", // UserNotFound
  2: "invalid", // BadValue
  9: "invalid", // FailedToParse
  14: "invalid", // TypeMismatch
  20: "invalid", // IllegalOperation
  59: "invalid", // CommandNotFound
  72: "invalid", // InvalidOptions
  73: "invalid", // InvalidNamespace
  115: "invalid", // CommandNotSupported
  303: "invalid", // FeatureNotSupported, in Amazon DocumentDB
  323: "invalid", // APIStrictError
  334: "invalid", // MechanismUnavailable
  10107: "invalid", // NotWritablePrimary
  13435: "invalid", // NotPrimaryNoSecondaryOk
  40415: "invalid", // an unknown field
  51003: "invalid", // the user exists already
  6: "unreachable", // HostUnreachable
  7: "unreachable", // HostNotFound
  89: "unreachable", // NetworkTimeout
  91: "unreachable", // ShutdownInProgress
  189: "unreachable", // PrimarySteppedDown
  9001: "unreachable", // SocketException
  11600: "unreachable", // InterruptedAtShutdown
  11602: "unreachable", // InterruptedDueToReplStateChange
  13436: "unreachable", // NotPrimaryOrSecondary
  24: "timeout", // LockTimeout
  50: "timeout", // MaxTimeMSExpired
  202: "timeout", // NetworkInterfaceExceededTimeLimit
  262: "timeout", // ExceededTimeLimit
  11601: "timeout", // Interrupted
};

/** Answers of a server that gave up half-way: whether the change took effect is not said. */
const interruptions: readonly number[] = [6, 7, 50, 64, 89, 91, 100, 189, 202, 262, 9001, 11600, 11601, 11602];

/** What a driver error means. Only an answer of the server is ever a refusal; silence while a change was under way is `unknown`. */
export function classify(error: unknown, { changing, late }: { changing: boolean; late: boolean }): Failure {
  const number = numberOf(error);
  if (number !== undefined) return changing && interruptions.includes(number) ? "unknown" : (byNumber[number] ?? "unknown");
  if (changing) return "unknown";
  if (late) return "timeout";
  // The server is too old for the driver; or could not show by SCRAM that it knows the password.
  if (error instanceof Error && /^Mongo(Compatibility|Runtime|InvalidArgument|Parse)Error$/.test(error.name)) return "invalid";
  return systemFailure(error);
}

export function describe(error: unknown, outcome: Failure): string {
  const number = numberOf(error);
  if (number === 10107) return `this server is not the primary (${number}): name the primary as host, or the set as replicaSet`;
  return failureWords(outcome, number ?? errorCode(error));
}

/** Of a server's answer; `undefined` for what the driver or the system says. */
export function numberOf(error: unknown): number | undefined {
  const isAnswer = error instanceof Error && "code" in error && typeof error.code === "number" && error.name.startsWith("Mongo");
  return isAnswer ? Number(error.code) : undefined;
}

/** Whether the server answered with this number. */
export const isAnswer = (error: unknown, number: number): boolean =>
  error instanceof RotatorError && error.cause instanceof Error && "answer" in error.cause && error.cause.answer === number;
