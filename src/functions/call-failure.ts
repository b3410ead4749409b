import type { CallFailure, CallResult, FunctionRecord } from "../core/function.ts";
import { functionTimeoutText } from "../core/login-outcome.ts";
import type { RuntimeAnswer } from "./runtime-api.ts";

/** How a call ended, before secret values are cut out of it. */
export type CallEnd = Omit<CallResult, "requestId">;

/** How a process ended. */
export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

const maxSaidChars = 500;

/** The sentence on a call that took too long, and what to look at. */
export function timedOut({ name, timeoutSeconds }: Pick<FunctionRecord, "name" | "timeoutSeconds">): CallFailure {
  return {
    outcome: "timeout",
    message: `function ${name} timed out after ${timeoutSeconds} s`,
    remedy: functionTimeoutText,
  };
}

export function timedOutEnd(record: FunctionRecord, requestId: string): CallEnd {
  const errorMessage = `${requestId} Task timed out after ${record.timeoutSeconds.toFixed(2)} seconds`;
  return unhandled({ errorMessage, errorType: "Sandbox.Timedout" }, timedOut(record));
}

/** The process did not ask for its first call in time. */
export function slowStart(record: FunctionRecord, seconds: number): CallEnd {
  return unhandled(
    { errorMessage: `the function did not begin within ${seconds} s`, errorType: "Sandbox.InitTimedout" },
    {
      outcome: "timeout",
      message: `function ${record.name} did not begin within ${seconds} s`,
      remedy: "See what the file does while it is loaded; an executable must ask the Lambda Runtime API for its first call.",
    },
  );
}

/** What the process answered, as the caller is told. */
export function answered(record: FunctionRecord, answer: RuntimeAnswer): CallEnd {
  if (answer.kind === "response") return { payload: answer.payload };
  const { errorMessage, errorType } = parseError(answer.payload);
  const said = `${errorType}: ${errorMessage}`.slice(0, maxSaidChars);
  // AWS ends a function by the timeout that it has there.
  const [isLate, seconds = record.timeoutSeconds] = /Task timed out after(?: ([\d.]+) seconds)?/.exec(said) ?? [];
  const failure: CallFailure = isLate
    ? timedOut({ ...record, timeoutSeconds: Number(seconds) })
    : isOutOfMemory(said)
      ? outOfMemory(record)
      : answer.kind === "init-error"
        ? {
            outcome: "invalid",
            message: `function ${record.name} could not begin: ${said}`,
            remedy: "Correct the file or the handler's name.",
          }
        : {
            outcome: "unknown",
            message: `function ${record.name} failed: ${said}`,
            remedy: `See rekey function logs ${record.name}.`,
          };
  return { payload: answer.payload, functionError: "Unhandled", failure };
}

/** The process ended before it had answered. `output`: what it wrote last. */
export function ended(record: FunctionRecord, { code, signal }: Exit, output: string): CallEnd {
  // The shell over it tells of signals by numbers above 128.
  const how = signal !== null ? signal : (code ?? 0) > 128 ? `signal ${(code ?? 0) - 128}` : `exit status ${code}`;
  const error = { errorMessage: `Runtime exited with error: ${how}`, errorType: "Runtime.ExitError" };
  if (isOutOfMemory(output.slice(-20_000))) return unhandled({ ...error, errorType: "Runtime.OutOfMemory" }, outOfMemory(record));
  return unhandled(error, {
    outcome: "unknown",
    message: `function ${record.name} ended before it answered: ${how}`,
    remedy: `See rekey function logs ${record.name}.`,
  });
}

/** Nothing was started. */
export function notStarted({ name }: FunctionRecord, failure: CallFailure): CallEnd {
  return unhandled(
    { errorMessage: failure.message, errorType: "Sandbox.NotStarted" },
    { ...failure, message: `function ${name} could not be started: ${failure.message}` },
  );
}

/** A call that was begun, or not, elsewhere, and that nobody answered. */
export function withoutAnswer(failure: CallFailure): CallEnd {
  return unhandled({ errorMessage: failure.message, errorType: "Rekey.NoAnswer" }, failure);
}

/** This server ended the call. */
export function stopped({ name }: FunctionRecord, why: string): CallEnd {
  return unhandled(
    { errorMessage: why, errorType: "Sandbox.Stopped" },
    { outcome: "unknown", message: `function ${name} was stopped: ${why}` },
  );
}

function outOfMemory({ name, memoryMiB }: FunctionRecord): CallFailure {
  return {
    outcome: "invalid",
    message: `function ${name} ran out of its ${memoryMiB} MiB of memory`,
    remedy: `Give it more: rekey function update ${name} --memory-mib ${Math.min(2 * memoryMiB, 10_240)}`,
  };
}

function isOutOfMemory(text: string): boolean {
  return /heap out of memory|MemoryError|out of memory|Failed to allocate memory|Array buffer allocation failed|Cannot allocate memory/i.test(
    text,
  );
}

function unhandled(error: { errorMessage: string; errorType: string }, failure: CallFailure): CallEnd {
  return { payload: JSON.stringify(error), functionError: "Unhandled", failure };
}

function parseError(payload: string): { errorMessage: string; errorType: string } {
  try {
    const { errorMessage, errorType } = JSON.parse(payload) as Record<string, unknown>;
    return { errorMessage: String(errorMessage ?? ""), errorType: String(errorType ?? "Error") };
  } catch {
    return { errorMessage: "it answered an error that is not JSON", errorType: "Error" };
  }
}
