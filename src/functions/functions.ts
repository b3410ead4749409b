import type { Logger } from "pino";
import type { CallResult, FunctionRecord } from "../core/function.ts";
import { Plaintext } from "../core/plaintext.ts";
import type { Envelope } from "../crypto/envelope.ts";
import type { KeyRing } from "../crypto/key-ring.ts";
import { addFunctionLog, loadEnvironment, type SealedEnvironment } from "../store/functions.ts";
import type { Sql } from "../store/sql.ts";
import { cutValues, cutValuesAtEnd } from "./cut-values.ts";
import { KnownValues } from "./known-values.ts";
import { type CallTrace, type PoolParts, type ProcessFunction, ProcessPool, resultOf, startMs } from "./process-pool.ts";
import { findProgramFile } from "./program-file.ts";

export interface FunctionParts extends Omit<PoolParts, "environment"> {
  readonly sql: Sql;
  readonly envelope: Pick<Envelope, "open" | "seal">;
  readonly keys: Pick<KeyRing, "resolve">;
  readonly log: Logger;
}

/** Calls registered functions. */
export interface Functions {
  /** Calls one with a payload of JSON text. `secretArn`: the secret that the call is about. */
  call(record: FunctionRecord, payload: string, about?: { secretArn?: string; signal?: AbortSignal }): Promise<CallResult>;
  /** Whether it could be started here: @throws RotatorError with why not. */
  check(record: FunctionRecord): Promise<void>;
  /** The longest that a call may go on, in ms. */
  longestMs(record: FunctionRecord): number;
  seal(record: Pick<FunctionRecord, "arn" | "region">, variables: Readonly<Record<string, string>>): Promise<SealedEnvironment>;
  /** Told of every read of a secret: see `KnownValues`. */
  noteRead(secretId: string, principalArn: string): void;
  /** After a change or its end: no process of before is used again. */
  forget(functionArn: string): void;
  close(drainMs: number): Promise<void>;
}

/** Between a call's longest time and the moment from which nobody waits for it. */
const marginMs = 5_000;
const maxLogChars = 65_536;

export function createFunctions(parts: FunctionParts): Functions {
  const { sql, envelope, keys, log, folder } = parts;
  const known = new KnownValues(sql, envelope);
  const environment = async ({ arn }: FunctionRecord): Promise<Record<string, string>> => {
    const sealed = await loadEnvironment(sql, arn);
    if (!sealed) return {};
    return JSON.parse((await envelope.open(sealed, { FunctionARN: arn })).revealText()) as Record<string, string>;
  };
  /** Short ones, such as `true`, are switches and not secrets. */
  const variables = async (record: FunctionRecord) =>
    Object.values(await environment(record)).filter(({ length }) => length >= 8);
  const pool = new ProcessPool({ ...parts, environment });

  const callProcess: Functions["call"] = async (found, payload, { secretArn, signal } = {}) => {
    const record = found as ProcessFunction;
    const roleArn = record.roleArn ?? "";
    known.watch(roleArn);
    const trace = await pool.call(record, payload, signal);
    const values = await known.texts(roleArn, record.region, secretArn);
    const secrets = values && [...values, ...trace.secrets, ...tokensIn(payload), ...(await variables(record))];
    await keepLog(record, trace, secrets).catch((error: unknown) => log.error({ err: error }, "a function's log cannot be kept"));
    const { failure } = trace.end;
    const result = resultOf(trace);
    return failure ? { ...result, failure: { ...failure, message: cleaned(failure.message, secrets) } } : result;
  };

  const keepLog = async (record: FunctionRecord, trace: CallTrace, secrets: readonly string[] | undefined): Promise<void> => {
    const { requestId, startedAt, endedAt, output, cut, end } = trace;
    const text = secrets === undefined ? undefined : cut ? cutValuesAtEnd(output, secrets) : cutValues(output, secrets);
    const lines = [
      `START RequestId: ${requestId}`,
      text === undefined
        ? "[what it wrote is not kept: a value that it may have read cannot be opened, so it cannot be cut out]"
        : text,
      ...(cut ? ["[it wrote more than is kept]"] : []),
      ...(end.failure ? [cleaned(end.failure.message, secrets)] : []),
      `END RequestId: ${requestId} Duration: ${endedAt - startedAt} ms`,
    ];
    const whole = lines.map((line) => line.replaceAll("\0", "").trimEnd()).filter((line) => line !== "");
    const kept = whole.join("\n").slice(0, maxLogChars);
    await addFunctionLog(sql, record.arn, { requestId, at: startedAt, failed: end.failure !== undefined, output: kept });
  };

  return {
    call: callProcess,
    async check(record) {
      if (record.kind === "process") await findProgramFile(folder, record.process);
    },
    longestMs: ({ timeoutSeconds }) => startMs + timeoutSeconds * 1_000 + marginMs,
    async seal({ arn, region }, variables) {
      const key = await keys.resolve(undefined, region);
      return envelope.seal(new Plaintext(JSON.stringify(variables)), { FunctionARN: arn }, key.id);
    },
    noteRead: (secretId, principalArn) => known.noteRead(secretId, principalArn),
    forget: (functionArn) => pool.forget(functionArn),
    close: (drainMs) => pool.close(drainMs),
  };
}

/** Of a failure's sentence: where the values are not known, only what Rekey itself says stays. */
function cleaned(message: string, secrets: readonly string[] | undefined): string {
  return secrets ? cutValues(message, secrets) : message.replace(/(failed|begin): .*/s, "$1");
}

/** The token that shows a call's source: functions like to log their event. */
function tokensIn(payload: string): string[] {
  const [, token] = /"RotationToken":"([^"]+)"/.exec(payload) ?? [];
  return token === undefined ? [] : [token];
}
