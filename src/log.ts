import { type DestinationStream, destination, type Logger, pino } from "pino";

/** Names under which values of secrets could reach a log line by mistake; whatever stands there is cut out. */
const secretMembers = [
  "SecretString",
  "SecretBinary",
  "secretString",
  "secretBinary",
  "SecretAccessKey",
  "secretAccessKey",
  "password",
  "token",
  "Token",
  "authorization",
  "databaseUrl",
];

/**
 * JSON lines to stderr, or to `stream`. Log names and ids, never values: redaction is the second belt.
 * Lines of one request carry its `requestId`.
 */
export function createLog(level: string, stream: DestinationStream = destination({ dest: 2, sync: true })): Logger {
  return pino(
    {
      level,
      base: { pid: process.pid },
      redact: { paths: secretMembers.flatMap((name) => [name, `*.${name}`, `*.*.${name}`]), censor: "[redacted]" },
      serializers: { err: describeError },
    },
    stream,
  );
}

/** Class, message and stack with causes; nothing else of an error, because drivers hang queries and parameters on theirs. */
function describeError(error: unknown): object {
  if (!(error instanceof Error)) return { message: "something that is not an error was thrown" };
  const code = "code" in error && typeof error.code === "string" ? { code: error.code } : {};
  const cause = error.cause === undefined ? {} : { cause: describeError(error.cause) };
  return { name: error.name, message: error.message, ...code, stack: error.stack, ...cause };
}
