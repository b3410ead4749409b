// A small stand-in for AWS Lambda's and STS's addresses on loopback, for tests only: it keeps the wire form of Invoke and
// AssumeRole and asks for signed requests, but runs nothing. What an invocation answers is up to the test.
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";

export interface SeenInvocation {
  readonly functionName: string;
  readonly qualifier: string | null;
  readonly invocationType: string | undefined;
  /** From the credential scope of the signature. */
  readonly accessKeyId: string;
  readonly region: string;
  readonly hasSessionToken: boolean;
  readonly event: Record<string, unknown>;
}

/** `error`: AWS's own refusal; `functionError`: that of the function, with its payload. */
export interface LambdaAnswer {
  readonly payload?: unknown;
  readonly functionError?: "Handled" | "Unhandled";
  readonly error?: { readonly status: number; readonly name: string; readonly message: string };
  /** What the function wrote, as LogType Tail gives it. */
  readonly log?: string;
}

export interface LambdaEndpoint extends AsyncDisposable {
  readonly url: string;
  /** Environment of a server that is to call it. */
  readonly env: NodeJS.ProcessEnv;
  readonly invocations: SeenInvocation[];
  readonly assumed: Record<string, string>[];
  /** Answers every invocation; `hang` never answers, `reset` ends the connection. */
  answer(invocation: SeenInvocation): LambdaAnswer | "hang" | "reset" | Promise<LambdaAnswer | "hang" | "reset">;
  /** External id that AssumeRole asks for. */
  externalId: string | undefined;
}

const signature =
  /^AWS4-HMAC-SHA256 Credential=([A-Z0-9]+)\/\d{8}\/([a-z0-9-]+)\/(lambda|sts)\/aws4_request, SignedHeaders=[a-z0-9;-]+, Signature=[0-9a-f]{64}$/;
const path = /^\/2015-03-31\/functions\/([^/]+)\/invocations(?:\?Qualifier=(.+))?$/;

export async function startLambdaEndpoint(): Promise<LambdaEndpoint> {
  const server = createServer((incoming, response) => {
    void serve(incoming, response).catch((error: unknown) => response.destroy(error as Error));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const endpoint: LambdaEndpoint = {
    url,
    env: {
      AWS_ENDPOINT_URL_LAMBDA: url,
      AWS_ENDPOINT_URL_STS: url,
      AWS_ACCESS_KEY_ID: "AKIASERVERSERVERSERV",
      AWS_SECRET_ACCESS_KEY: "secret-of-the-server",
      AWS_EC2_METADATA_DISABLED: "true",
    },
    invocations: [],
    assumed: [],
    externalId: undefined,
    answer: () => ({ payload: null }),
    async [Symbol.asyncDispose]() {
      server.close();
      server.closeAllConnections();
      await once(server, "close");
    },
  };

  async function serve(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await buffer(incoming);
    const [, accessKeyId, region, service] = signature.exec(incoming.headers.authorization ?? "") ?? [];
    if (accessKeyId === undefined || region === undefined)
      refuse(response, 403, "MissingAuthenticationTokenException", "not signed");
    else if (service === "sts") assumeRole(new URLSearchParams(body.toString("utf8")), response);
    else await invoke(incoming, body, { accessKeyId, region }, response);
  }

  async function invoke(
    { method, url: asked = "", headers }: IncomingMessage,
    body: Buffer,
    signer: Pick<SeenInvocation, "accessKeyId" | "region">,
    response: ServerResponse,
  ): Promise<void> {
    const [, name, qualifier = null] = path.exec(asked) ?? [];
    if (method !== "POST" || name === undefined) return refuse(response, 404, "UnknownOperationException", "what?");
    const seen: SeenInvocation = {
      functionName: decodeURIComponent(name),
      qualifier,
      invocationType: headers["x-amz-invocation-type"] as string | undefined,
      ...signer,
      hasSessionToken: headers["x-amz-security-token"] !== undefined,
      event: body.length === 0 ? {} : JSON.parse(body.toString("utf8")),
    };
    endpoint.invocations.push(seen);
    const answer = await endpoint.answer(seen);
    if (answer === "reset") response.destroy();
    else if (answer !== "hang") send(answer, response, seen.invocationType === "DryRun");
  }

  function assumeRole(asked: URLSearchParams, response: ServerResponse): void {
    endpoint.assumed.push(Object.fromEntries(asked));
    if (endpoint.externalId !== undefined && asked.get("ExternalId") !== endpoint.externalId) {
      response.writeHead(403, { "Content-Type": "text/xml" });
      response.end(
        `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>User is not authorized to perform: sts:AssumeRole</Message></Error><RequestId>1</RequestId></ErrorResponse>`,
      );
      return;
    }
    const expires = new Date(Date.now() + 3_600_000).toISOString();
    response.writeHead(200, { "Content-Type": "text/xml" });
    response.end(
      `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials><AccessKeyId>ASIAASSUMEDASSUMEDAS</AccessKeyId><SecretAccessKey>assumed-secret</SecretAccessKey><SessionToken>assumed-token</SessionToken><Expiration>${expires}</Expiration></Credentials><AssumedRoleUser><AssumedRoleId>AROA:rekey</AssumedRoleId><Arn>arn:aws:sts::111122223333:assumed-role/rekey/rekey</Arn></AssumedRoleUser></AssumeRoleResult></AssumeRoleResponse>`,
    );
  }
  return endpoint;
}

function send({ error, functionError, log, payload = null }: LambdaAnswer, response: ServerResponse, isDryRun: boolean): void {
  if (error) {
    refuse(response, error.status, error.name, error.message);
    return;
  }
  if (isDryRun) {
    response.writeHead(204).end();
    return;
  }
  response.writeHead(200, {
    "Content-Type": "application/json",
    "X-Amz-Executed-Version": "$LATEST",
    ...(functionError && { "X-Amz-Function-Error": functionError }),
    ...(log !== undefined && { "X-Amz-Log-Result": Buffer.from(log).toString("base64") }),
  });
  response.end(JSON.stringify(payload));
}

function refuse(response: ServerResponse, status: number, name: string, message: string): void {
  response.writeHead(status, { "Content-Type": "application/json", "X-Amzn-ErrorType": name });
  response.end(JSON.stringify({ Type: "User", message }));
}
