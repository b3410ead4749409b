import type { InvokeCommandOutput, LambdaClient } from "@aws-sdk/client-lambda";
import { RotatorError } from "../core/error.ts";
import { type CallFailure, type FunctionRecord, type LambdaSettings, roleRefusedText } from "../core/function.ts";
import { answered, type CallEnd, stopped, timedOut, withoutAnswer } from "./call-failure.ts";
import { lambdaFailure } from "./lambda-failure.ts";

/** A function of AWS Lambda with its settings. */
export type LambdaFunction = FunctionRecord & { readonly kind: "lambda"; readonly lambda: LambdaSettings };

/** What a call of AWS Lambda left behind. */
interface LambdaCall {
  readonly end: CallEnd;
  /** The end of what the function wrote, as AWS gives it: up to 4 KiB. */
  readonly output: string;
  /** It may begin in the middle. */
  readonly cut: boolean;
}

export interface LambdaCaller {
  /** Never throws for what AWS or the function does. */
  call(record: LambdaFunction, payload: string, signal?: AbortSignal): Promise<LambdaCall>;
  /** Asks AWS whether it may be called, and does not call it. @throws RotatorError; `remedy` says what would help */
  reach(record: LambdaFunction): Promise<void>;
  /** Other calls about it, as whoever may call it. @throws what the SDK throws, and RotatorError */
  ask<T>(record: LambdaFunction, ask: (client: LambdaClient) => Promise<T>): Promise<T>;
  close(): void;
}

/** After its own timeout an answer is waited for so long. Source: `docs/functions.md`. */
export const lambdaMarginMs = 30_000;
const connectMs = 5_000;
const reachMs = 8_000;
const silent: CallFailure = {
  outcome: "timeout",
  message: "AWS Lambda did not answer",
  remedy: "Check this server's way to AWS: network, name resolution, proxy, AWS_ENDPOINT_URL_LAMBDA.",
};
const sessionSeconds = 3_600;
const mostClients = 50;
/** AWS gives the last 4 KiB; a little less may be the end of more. */
const tailBytes = 4_000;

/**
 * Calls AWS Lambda functions and waits for their answers. AWS's addresses may be others by AWS_ENDPOINT_URL_LAMBDA and
 * AWS_ENDPOINT_URL_STS in the server's environment; its credentials come from the usual places. The SDK is loaded with the
 * first call, which is never made twice for one event.
 * Source: AWS Lambda API reference, Invoke; AWS SDKs and Tools reference, "Service-specific endpoints".
 */
export function createLambdaCaller(): LambdaCaller {
  const clients = new Map<string, LambdaClient>();

  const clientOf = async ({ name, lambda }: LambdaFunction): Promise<LambdaClient> => {
    const { targetArn, assumeRoleArn, externalId } = lambda;
    const region = targetArn.split(":")[3] ?? "";
    const key = JSON.stringify([region, assumeRoleArn, externalId, assumeRoleArn && name]);
    const known = clients.get(key);
    if (known) return known;
    const { LambdaClient } = await import("@aws-sdk/client-lambda");
    const client = new LambdaClient({
      region,
      maxAttempts: 1,
      requestHandler: { connectionTimeout: connectMs },
      ...(assumeRoleArn !== undefined && { credentials: () => assumeRole(region, name, { assumeRoleArn, externalId }) }),
    });
    clients.set(key, client);
    const [oldest] = clients;
    if (clients.size > mostClients && oldest) {
      clients.delete(oldest[0]);
      oldest[1].destroy();
    }
    return client;
  };

  /** AWS may end an assumed role's credentials early. Nothing has run then: new ones are asked for, once. */
  const withRenewal: LambdaCaller["ask"] = async (record, ask) => {
    const client = await clientOf(record);
    try {
      return await ask(client);
    } catch (error) {
      const isExpired = error instanceof Error && /^ExpiredToken(Exception)?$/.test(error.name);
      if (!isExpired || record.lambda.assumeRoleArn === undefined) throw error;
      for (const [key, known] of clients) if (known === client) clients.delete(key);
      return ask(await clientOf(record));
    }
  };

  return {
    ask: withRenewal,
    async call(record, payload, signal) {
      const late = AbortSignal.timeout(record.timeoutSeconds * 1_000 + lambdaMarginMs);
      const abortSignal = signal ? AbortSignal.any([signal, late]) : late;
      try {
        const { InvokeCommand } = await import("@aws-sdk/client-lambda");
        const command = new InvokeCommand({
          FunctionName: record.lambda.targetArn,
          InvocationType: "RequestResponse",
          LogType: "Tail",
          Payload: Buffer.from(payload),
        });
        const answer = await withRenewal(record, (client) => client.send(command, { abortSignal }));
        const written = Buffer.from(answer.LogResult ?? "", "base64");
        return { end: endOf(record, answer), output: written.toString("utf8"), cut: written.length >= tailBytes };
      } catch (error) {
        return { end: failed(record, error, { late, signal }), output: "", cut: false };
      }
    },
    async reach(record) {
      const late = AbortSignal.timeout(reachMs);
      try {
        const { InvokeCommand } = await import("@aws-sdk/client-lambda");
        const command = new InvokeCommand({ FunctionName: record.lambda.targetArn, InvocationType: "DryRun" });
        await withRenewal(record, (client) => client.send(command, { abortSignal: late }));
      } catch (error) {
        const { failure } = late.aborted ? withoutAnswer(silent) : failed(record, error, { late, signal: undefined });
        const { outcome, message, remedy } = failure ?? silent;
        throw Object.assign(new RotatorError(outcome, message, { cause: error }), { remedy });
      }
    },
    close() {
      for (const client of clients.values()) client.destroy();
      clients.clear();
    },
  };
}

/** Temporary credentials of a role at AWS. @throws RotatorError with the class of what went wrong */
async function assumeRole(
  region: string,
  name: string,
  { assumeRoleArn, externalId }: { assumeRoleArn: string; externalId: string | undefined },
) {
  const { AssumeRoleCommand, STSClient } = await import("@aws-sdk/client-sts");
  const client = new STSClient({
    region,
    maxAttempts: 2,
    requestHandler: { connectionTimeout: connectMs, requestTimeout: connectMs },
  });
  try {
    const command = new AssumeRoleCommand({
      RoleArn: assumeRoleArn,
      RoleSessionName: `rekey-${name}`.slice(0, 64),
      DurationSeconds: sessionSeconds,
      ExternalId: externalId,
    });
    const { Credentials: made } = await client.send(command);
    if (!made?.AccessKeyId || !made.SecretAccessKey || !made.SessionToken)
      throw new RotatorError("unknown", `AWS gave no credentials for ${assumeRoleArn}`);
    return {
      accessKeyId: made.AccessKeyId,
      secretAccessKey: made.SecretAccessKey,
      sessionToken: made.SessionToken,
      ...(made.Expiration && { expiration: made.Expiration }),
    };
  } catch (error) {
    if (error instanceof RotatorError) throw error;
    const { outcome, message, remedy } = lambdaFailure(error);
    const why = `role ${assumeRoleArn} ${roleRefusedText}: ${message}`;
    throw Object.assign(new RotatorError(outcome, why, { cause: error }), {
      remedy: outcome === "denied" ? "See that its trust policy names this server's AWS identity and the external id." : remedy,
    });
  } finally {
    client.destroy();
  }
}

function endOf(record: LambdaFunction, { FunctionError: functionError, Payload }: InvokeCommandOutput): CallEnd {
  const payload = Buffer.from(Payload ?? []).toString("utf8");
  if (functionError === undefined) return { payload: payload === "" ? "null" : payload };
  const end = answered(record, { kind: "error", payload });
  return { ...end, functionError: functionError === "Handled" ? "Handled" : "Unhandled" };
}

function failed(
  record: LambdaFunction,
  error: unknown,
  { late, signal }: { late: AbortSignal; signal: AbortSignal | undefined },
): CallEnd {
  if (signal?.aborted) return stopped(record, "the rotation was ended; at AWS the call may go on until its timeout");
  if (late.aborted) return withoutAnswer({ ...timedOut(record), message: `${timedOut(record).message}, and AWS gave no answer` });
  const known: CallFailure =
    error instanceof RotatorError
      ? { outcome: error.outcome, message: error.message, ...("remedy" in error && { remedy: String(error.remedy) }) }
      : lambdaFailure(error);
  return withoutAnswer({ ...known, message: `function ${record.name} could not be called: ${known.message}` });
}
