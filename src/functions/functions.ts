import { randomUUID } from "node:crypto";
import type { Logger } from "pino";
import type { Audit } from "../core/audit.ts";
import { RotatorError } from "../core/error.ts";
import type { CallResult, FunctionRecord } from "../core/function.ts";
import { Plaintext } from "../core/plaintext.ts";
import type { Envelope } from "../crypto/envelope.ts";
import type { KeyRing } from "../crypto/key-ring.ts";
import type { CodeClaim } from "../store/function-code.ts";
import { addFunctionLog, findFunction, loadEnvironment, type SealedEnvironment } from "../store/functions.ts";
import { installationId } from "../store/installation.ts";
import type { Sql } from "../store/sql.ts";
import { parseHttpApiDeclaration } from "../targets/http-api-declaration.ts";
import { type CallEnd, notStarted } from "./call-failure.ts";
import { CodeRefused } from "./code-bundle.ts";
import { cutValues } from "./cut-values.ts";
import { KnownValues } from "./known-values.ts";
import { createLambdaCaller, type LambdaFunction, lambdaMarginMs } from "./lambda.ts";
import { createLambdaCode } from "./lambda-code.ts";
import { createCodeLooks } from "./lambda-code-looks.ts";
import { type FarStatus, type LambdaFarParts, probeLambda } from "./lambda-far.ts";
import { checkReceiver, createLambdaFarSides, type FarSideParts, type LambdaFarSides } from "./lambda-far-sides.ts";
import { createLambdaReleases, type ReleasePlace } from "./lambda-releases.ts";
import { missingCertificates } from "./missing-certificates.ts";
import type { ProcessFunction } from "./process-environment.ts";
import { type CallTrace, type PoolParts, ProcessPool, startMs } from "./process-pool.ts";
import { type Program, ProgramCode, type ProgramCodeParts } from "./program-code.ts";

export interface FunctionParts extends Omit<PoolParts, "environment" | "code"> {
  readonly code: Omit<ProgramCodeParts, "forOthers" | "now">;
  readonly audit: Pick<Audit<Sql>, "append">;
  /** Functions of AWS Lambda may be called. */
  readonly lambda: boolean;
  /** What the names of those that are called begin with; absent: any. */
  readonly lambdaPrefix?: string | undefined;
  readonly signingKeys: LambdaFarParts["signingKeys"];
  /** The newest code of Rekey's own functions at AWS; absent: this server has none. */
  readonly releases?: ReleasePlace | undefined;
  readonly sql: Sql;
  readonly envelope: Pick<Envelope, "open" | "seal">;
  readonly keys: Pick<KeyRing, "resolve">;
  readonly log: Logger;
}

export interface CallAbout {
  /**
   * A secret whose value the function may know, to be cut out of what it writes. Never one that is kept from it: what is
   * missing would tell whether it guessed right.
   */
  readonly secretArn?: string | undefined;
  /** What it may know cannot be told: nothing of what it writes is kept. */
  readonly withhold?: boolean;
  readonly signal?: AbortSignal | undefined;
}

/** Calls registered functions. */
export interface Functions {
  /** Calls one with a payload of JSON text. */
  call(record: FunctionRecord, payload: string, about?: CallAbout): Promise<CallResult>;
  /** Whether it could be started here: @throws RotatorError with why not. */
  check(record: FunctionRecord): Promise<void>;
  /** Certificates that its program names and that this machine has not: see `missingCertificates`. @throws RotatorError as `check` */
  missingCertificates(record: FunctionRecord): Promise<readonly string[]>;
  /** Whether AWS Lambda would let this server call it, which it does not: @throws RotatorError with why not. */
  reach(record: LambdaFunction): Promise<void>;
  /** Asks a far side what it is: @throws RotatorError with why it does not answer, and what would help. */
  probe(record: LambdaFunction): Promise<FarStatus>;
  /** The timeout that a function has at AWS; `undefined` when nobody tells, as where the role may not ask. */
  timeoutAtAws(record: LambdaFunction): Promise<number | undefined>;
  /** Those that are ways into networks. */
  readonly farSides: LambdaFarSides;
  /** Looks at the code that one of them runs, and replaces it where it may. */
  lookAtCode(claim: CodeClaim): Promise<void>;
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
  const { sql, envelope, keys, log, audit, now } = parts;
  const lambda = createLambdaCaller();
  const known = new KnownValues(sql, envelope);
  const environment = async ({ arn }: FunctionRecord): Promise<Record<string, string>> => {
    const sealed = await loadEnvironment(sql, arn);
    if (!sealed) return {};
    return JSON.parse((await envelope.open(sealed, { FunctionARN: arn })).revealText()) as Record<string, string>;
  };
  /** Short ones, such as `true`, are switches and not secrets. */
  const variables = async (record: FunctionRecord) =>
    Object.values(await environment(record)).filter(({ length }) => length >= 8);
  const programs = new ProgramCode({ ...parts.code, forOthers: parts.users !== undefined, now });
  /** Its code, looked at; what is wrong with its signature is on record before it runs, or is refused. */
  const find = async (record: ProcessFunction): Promise<Program> => {
    const note = (reason: string, outcome: string) =>
      audit.append({
        requestId: randomUUID(),
        at: now(),
        principal: "lambda.amazonaws.com",
        action: "rekey:VerifyFunctionCode",
        resource: record.arn,
        region: record.region,
        sourceIp: "lambda.amazonaws.com",
        parameters: { File: record.process.file, Reason: reason },
        outcome,
      });
    try {
      const program = await programs.find(record.process);
      if (program.doubt !== undefined) await note(program.doubt, "ok");
      return program;
    } catch (error) {
      if (error instanceof CodeRefused && parts.code.signing === "enforce") await note(error.message, "AccessDeniedException");
      throw error;
    }
  };
  const pool = new ProcessPool({ ...parts, environment, code: { find, close: () => programs.close() } });

  const check = async (record: FunctionRecord): Promise<void> => {
    if (record.kind === "process") await find(record);
    if (record.kind === "lambda" && !parts.lambda)
      throw new RotatorError(
        "denied",
        "this server calls no functions of AWS Lambda: start it with --functions-lambda to allow it",
      );
    if (record.kind === "lambda") {
      checkPrefix(record, parts.lambdaPrefix);
      await checkReceiver(record);
    }
    if (record.kind === "http-api") parseHttpApiDeclaration(record.declaration);
  };

  const traceOf = async (record: FunctionRecord, payload: string, signal: AbortSignal | undefined): Promise<CallTrace> => {
    if (record.kind === "process") return pool.call(record, payload, signal);
    const startedAt = now();
    const called = parts.lambda
      ? await lambda.call(record as LambdaFunction, payload, signal)
      : { end: await refusedHere(record), output: "", cut: false };
    return { requestId: randomUUID(), ...called, secrets: [], startedAt, endedAt: now() };
  };
  const refusedHere = async (record: FunctionRecord): Promise<CallEnd> => {
    try {
      await check(record);
    } catch (error) {
      if (error instanceof RotatorError) return notStarted(record, { outcome: error.outcome, message: error.message });
      throw error;
    }
    throw new Error(`a function of kind ${record.kind} is none that is called`);
  };

  const keepLog = async (record: FunctionRecord, trace: CallTrace, secrets: readonly string[] | undefined): Promise<void> => {
    const { requestId, startedAt, endedAt, output, cut, end } = trace;
    const lines = [
      `START RequestId: ${requestId}`,
      secrets
        ? cutValues(output, secrets, cut)
        : "[what it wrote is not kept: a value that it may have read is not known here, so it cannot be cut out]",
      ...(cut ? ["[this is not all that it wrote]"] : []),
      ...(end.failure ? [cleaned(end.failure.message, secrets)] : []),
      `END RequestId: ${requestId} Duration: ${endedAt - startedAt} ms`,
    ];
    const whole = lines.map((line) => line.replaceAll("\0", "").trimEnd()).filter((line) => line !== "");
    const kept = whole.join("\n").slice(0, maxLogChars);
    await addFunctionLog(sql, record.arn, { requestId, at: startedAt, failed: end.failure !== undefined, output: kept });
  };

  const call: Functions["call"] = async (record, payload, { secretArn, withhold = false, signal } = {}) => {
    const { roleArn = "", region } = record;
    known.watch(roleArn);
    const trace = await traceOf(record, payload, signal);
    const values = withhold ? undefined : await known.texts(roleArn, region, secretArn);
    const secrets = values && [...values, ...trace.secrets, ...tokensIn(payload), ...(await variables(record))];
    await keepLog(record, trace, secrets).catch((error: unknown) => log.error({ err: error }, "a function's log cannot be kept"));
    const { failure } = trace.end;
    const result = { requestId: trace.requestId, ...trace.end };
    return failure ? { ...result, failure: { ...failure, message: cleaned(failure.message, secrets) } } : result;
  };
  const far: FarSideParts = {
    check,
    findFunction: (arn) => findFunction(sql, arn),
    // What is sent holds credentials, and those are nothing to look for in a log.
    call: (record, payload, signal) => call(record, payload, { withhold: true, signal }),
    signingKeys: parts.signingKeys,
    issuer: () => installationId(sql),
    noteRefusal: ({ arn, region }, parameters) =>
      audit.append({
        requestId: randomUUID(),
        at: now(),
        principal: "secretsmanager.amazonaws.com",
        action: "lambda:InvokeFunction",
        resource: arn,
        region,
        sourceIp: "secretsmanager.amazonaws.com",
        parameters,
        outcome: "AccessDeniedException",
      }),
    now,
  };

  const probe = (record: LambdaFunction): Promise<FarStatus> => probeLambda(far, record);
  const releases = parts.releases && createLambdaReleases(parts.releases);

  const code = createLambdaCode(lambda);

  return {
    check,
    probe,
    async timeoutAtAws(record) {
      try {
        return (await code.running(record)).timeoutSeconds;
      } catch (error) {
        if (error instanceof RotatorError) return undefined;
        throw error;
      }
    },
    lookAtCode: createCodeLooks({ ...far, sql, audit, code, releases, probe }),
    farSides: createLambdaFarSides(far),
    async missingCertificates(record) {
      if (record.kind !== "process" || record.process.runtime === "executable") return [];
      return missingCertificates((await find(record)).path);
    },
    reach: lambda.reach,
    call,
    longestMs: ({ kind, timeoutSeconds }) => timeoutSeconds * 1_000 + marginMs + (kind === "lambda" ? lambdaMarginMs : startMs),
    async seal({ arn, region }, given) {
      const key = await keys.resolve(undefined, region);
      return envelope.seal(new Plaintext(JSON.stringify(given)), { FunctionARN: arn }, key.id);
    },
    noteRead: (secretId, principalArn) => known.noteRead(secretId, principalArn),
    forget: (functionArn) => pool.forget(functionArn),
    async close(drainMs) {
      await pool.close(drainMs);
      lambda.close();
    },
  };
}

/** @throws RotatorError */
function checkPrefix({ name, lambda }: LambdaFunction, prefix = ""): void {
  if ((lambda.targetArn.split(":")[6] ?? "").startsWith(prefix)) return;
  const why = `function ${name} cannot be called: this server calls functions of AWS Lambda whose names begin with ${prefix}`;
  throw new RotatorError("denied", `${why} (--functions-lambda-prefix)`);
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
