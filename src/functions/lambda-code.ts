import { setTimeout as sleep } from "node:timers/promises";
import type { LambdaClient } from "@aws-sdk/client-lambda";
import { RotatorError } from "../core/error.ts";
import type { LambdaCaller, LambdaFunction } from "./lambda.ts";
import { lambdaFailure } from "./lambda-failure.ts";
import { digestOf } from "./lambda-releases.ts";

/** What AWS says of a function's code. */
export interface RunningCode {
  readonly sha256: string;
  /** Changes with every change of the function. */
  readonly revision: string | undefined;
  readonly updating: boolean;
  /** Why the last update did not succeed, as AWS says. */
  readonly problem: string | undefined;
  /** Of the function itself. */
  readonly timeoutSeconds: number | undefined;
}

/** A zip, or where in S3 it is. */
export type CodeSource =
  | { readonly zip: Uint8Array }
  | { readonly bucket: string; readonly key: string; readonly objectVersion?: string | undefined };

/** A function's code at AWS. All throw RotatorError with what went wrong and what would help. */
export interface LambdaCode {
  running(record: LambdaFunction): Promise<RunningCode>;
  /** The zip that it runs now. */
  download(record: LambdaFunction, sha256: string): Promise<Uint8Array>;
  /** Puts code in place and waits until AWS has done so. `revision`: refused when the function has changed since. */
  replace(record: LambdaFunction, source: CodeSource, revision?: string): Promise<RunningCode>;
}

const callMs = 20_000;
const waitMs = 120_000;
const lookMs = 1_000;
/** Of a zip. AWS takes no larger ones without S3. */
const maxBytes = 50 * 1024 * 1024;

export function createLambdaCode(caller: Pick<LambdaCaller, "ask">): LambdaCode {
  const asked = async <T>(record: LambdaFunction, right: string, ask: (client: LambdaClient) => Promise<T>): Promise<T> => {
    try {
      return await caller.ask(record, ask);
    } catch (error) {
      if (error instanceof RotatorError) throw error;
      const { outcome, message, remedy } = lambdaFailure(error, right);
      throw new RotatorError(outcome, `${message}. ${remedy ?? ""}`.trim(), { cause: error });
    }
  };
  const running = (record: LambdaFunction): Promise<RunningCode> =>
    asked(record, "lambda:GetFunctionConfiguration", async (client) => {
      const { GetFunctionConfigurationCommand } = await import("@aws-sdk/client-lambda");
      const command = new GetFunctionConfigurationCommand({ FunctionName: record.lambda.targetArn });
      return codeIn(await client.send(command, { abortSignal: AbortSignal.timeout(callMs) }));
    });
  const settled = async (record: LambdaFunction): Promise<RunningCode> => {
    const endAt = Date.now() + waitMs;
    for (;;) {
      const code = await running(record);
      if (!code.updating) return code;
      if (Date.now() > endAt) throw new RotatorError("timeout", `AWS did not end the update of function ${record.name} in time`);
      await sleep(lookMs);
    }
  };
  return {
    running,
    download: (record, sha256) =>
      asked(record, "lambda:GetFunction", async (client) => {
        const { GetFunctionCommand } = await import("@aws-sdk/client-lambda");
        const command = new GetFunctionCommand({ FunctionName: record.lambda.targetArn });
        const abortSignal = AbortSignal.timeout(callMs);
        const { Code } = await client.send(command, { abortSignal });
        const bytes = await fetchBounded(Code?.Location ?? "", abortSignal);
        if (bytes && digestOf(bytes) === sha256) return bytes;
        throw new RotatorError("unknown", `the code of function ${record.name} could not be kept, so it is not replaced`);
      }),
    replace: (record, source, revision) =>
      asked(record, "lambda:UpdateFunctionCode", async (client) => {
        const { UpdateFunctionCodeCommand } = await import("@aws-sdk/client-lambda");
        const command = new UpdateFunctionCodeCommand({
          FunctionName: record.lambda.targetArn,
          ...("zip" in source
            ? { ZipFile: source.zip }
            : { S3Bucket: source.bucket, S3Key: source.key, S3ObjectVersion: source.objectVersion }),
          RevisionId: revision,
        });
        await client.send(command, { abortSignal: AbortSignal.timeout(waitMs) });
        return settled(record);
      }),
  };
}

function codeIn(said: {
  CodeSha256?: string | undefined;
  RevisionId?: string | undefined;
  LastUpdateStatus?: string | undefined;
  LastUpdateStatusReason?: string | undefined;
  Timeout?: number | undefined;
}): RunningCode {
  return {
    sha256: said.CodeSha256 ?? "",
    revision: said.RevisionId,
    updating: said.LastUpdateStatus === "InProgress",
    problem: said.LastUpdateStatus === "Failed" ? (said.LastUpdateStatusReason ?? "without a reason") : undefined,
    timeoutSeconds: said.Timeout,
  };
}

/** `undefined`: there is none, or it is larger than code may be. */
async function fetchBounded(url: string, signal: AbortSignal): Promise<Uint8Array | undefined> {
  if (!URL.canParse(url)) return undefined;
  const response = await fetch(url, { signal, redirect: "error" });
  if (!response.ok || !response.body) return undefined;
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  for await (const piece of response.body) {
    bytes += piece.length;
    if (bytes > maxBytes) return undefined;
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}
