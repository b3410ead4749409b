// AWS Lambda's part of the account: what its API says of functions, and when it refuses.
import { randomUUID } from "node:crypto";
import type { ServerResponse } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { AwsError, type AwsIdentity, type AwsRequest, awsAccountId, awsRegion } from "./aws-request.ts";
import { type FunctionOptions, HostedFunction } from "./hosted-function.ts";

interface LambdaParts {
  readonly url: string;
  readonly objects: ReadonlyMap<string, Uint8Array>;
  /** Credentials of a function's role. */
  newSession(): AwsIdentity;
}

const route = /^\/2015-03-31\/functions\/([^/]+)(?:\/(invocations|configuration|code))?$/;

export class LambdaService implements AsyncDisposable {
  readonly #parts: LambdaParts;
  readonly #functions = new Map<string, HostedFunction>();
  readonly #replaced: HostedFunction[] = [];

  constructor(parts: LambdaParts) {
    this.#parts = parts;
  }

  /** One of the same name is no more. */
  create(options: FunctionOptions): HostedFunction {
    const before = this.#functions.get(options.name);
    if (before) this.#replaced.push(before);
    const arn = `arn:aws:lambda:${awsRegion}:${awsAccountId}:function:${options.name}`;
    const { accessKeyId, secretAccessKey, sessionToken } = this.#parts.newSession();
    const made = new HostedFunction(arn, options, {
      AWS_REGION: awsRegion,
      AWS_DEFAULT_REGION: awsRegion,
      AWS_ACCESS_KEY_ID: accessKeyId,
      AWS_SECRET_ACCESS_KEY: secretAccessKey,
      AWS_SESSION_TOKEN: sessionToken ?? "",
      AWS_ENDPOINT_URL_S3: this.#parts.url,
    });
    this.#functions.set(options.name, made);
    return made;
  }

  async serve(request: AwsRequest, response: ServerResponse): Promise<void> {
    const [, written = "", part = ""] = route.exec(request.path) ?? [];
    const asked = decodeURIComponent(written);
    const name = asked.startsWith("arn:") ? (asked.split(":")[6] ?? "") : (asked.split(":")[0] ?? "");
    const call = `${request.method} ${part}`;
    const action = actions[call];
    if (action === undefined) throw new AwsError(404, "UnknownOperationException", "");
    const arn = `arn:aws:lambda:${awsRegion}:${awsAccountId}:function:${name}`;
    request.mustBeAllowed(action, arn);
    const found = this.#functions.get(name);
    if (!found) throw new AwsError(404, "ResourceNotFoundException", `Function not found: ${arn}`);
    if (call === "POST invocations") await invoke(found, request, response);
    else if (call === "PUT code") answer(response, this.#update(found, request.body));
    else if (part === "configuration") answer(response, configuration(found));
    else {
      const Location = `${this.#parts.url}/code/${name}`;
      answer(response, { Configuration: configuration(found), Code: { RepositoryType: "S3", Location }, Tags: {} });
    }
  }

  /** The address that GetFunction gives needs no signature. */
  download(path: string, response: ServerResponse): void {
    const found = this.#functions.get(path.slice("/code/".length));
    if (found) response.writeHead(200, { "Content-Type": "application/zip" }).end(found.zip);
    else response.writeHead(404).end();
  }

  #update(found: HostedFunction, body: Buffer): object {
    const { ZipFile, S3Bucket, S3Key } = JSON.parse(body.toString("utf8")) as Record<string, string>;
    if (found.lastUpdateStatus === "InProgress")
      throw new AwsError(
        409,
        "ResourceConflictException",
        `The operation cannot be performed at this time. An update is in progress for resource: ${found.arn}`,
      );
    const zip = ZipFile === undefined ? this.#parts.objects.get(`${S3Bucket}/${S3Key}`) : Buffer.from(ZipFile, "base64");
    if (!zip)
      throw new AwsError(400, "InvalidParameterValueException", "Error occurred while GetObject. S3 Error Code: NoSuchKey.");
    if (!found.acceptsCode(zip))
      throw new AwsError(
        400,
        "CodeVerificationFailedException",
        "Lambda cannot deploy the function. The function or layer might be signed using a signature that the client is not configured to accept.",
      );
    found.update(zip);
    return configuration(found);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#replaced, ...this.#functions.values()].map((each) => each[Symbol.asyncDispose]()));
  }
}

const actions: Readonly<Record<string, string>> = {
  "POST invocations": "lambda:InvokeFunction",
  "GET ": "lambda:GetFunction",
  "GET configuration": "lambda:GetFunctionConfiguration",
  "PUT code": "lambda:UpdateFunctionCode",
};

function configuration(found: HostedFunction): object {
  return {
    FunctionName: found.name,
    FunctionArn: found.arn,
    Runtime: found.runtime,
    Role: `arn:aws:iam::${awsAccountId}:role/function`,
    Handler: found.handler,
    CodeSize: found.zip.length,
    CodeSha256: found.codeSha256,
    Timeout: found.timeoutSeconds,
    MemorySize: found.memoryMiB,
    LastModified: "2026-01-01T00:00:00.000+0000",
    Version: "$LATEST",
    RevisionId: found.revisionId,
    State: "Active",
    LastUpdateStatus: found.lastUpdateStatus,
    PackageType: "Zip",
    Architectures: ["x86_64"],
  };
}

async function invoke(found: HostedFunction, { headers, body }: AwsRequest, response: ServerResponse): Promise<void> {
  if (found.throttled) throw new AwsError(429, "TooManyRequestsException", "Rate Exceeded.");
  if (headers["x-amz-invocation-type"] === "DryRun") {
    response.writeHead(204).end();
    return;
  }
  if (found.losesRequests) {
    response.destroy();
    return;
  }
  await sleep(found.requestDelayMs); // each of these may say something else when it is asked again
  const requestId = randomUUID();
  const call = () => found.invoke(requestId, body.length === 0 ? "{}" : body.toString("utf8"));
  const [, { payload, functionError, log }] = await Promise.all([found.doublesRequests ? call() : undefined, call()]);
  await sleep(found.answerDelayMs);
  if (found.losesAnswers) {
    response.destroy();
    return;
  }
  response.writeHead(200, {
    "Content-Type": "application/json",
    "X-Amzn-RequestId": requestId,
    "X-Amz-Executed-Version": "$LATEST",
    ...(functionError && { "X-Amz-Function-Error": functionError }),
    ...(headers["x-amz-log-type"] === "Tail" && { "X-Amz-Log-Result": Buffer.from(log.slice(-4_096)).toString("base64") }),
  });
  response.end(payload);
}

function answer(response: ServerResponse, body: object): void {
  response.writeHead(200, { "Content-Type": "application/json" }).end(JSON.stringify(body));
}
