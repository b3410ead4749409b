// An AWS account on loopback, for tests only: IAM's part of it (users, roles with external ids, sessions that expire, allowed
// actions), STS, objects of S3, and AWS Lambda, which really runs the functions' zips. Every request's signature is verified.
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";
import { deriveSigningKey, parseAuthorization, verifySignature } from "../../src/core/sigv4.ts";
import { LambdaService } from "./aws-account-lambda.ts";
import { AwsError, type AwsIdentity, type AwsRequest, awsAccountId, awsRegion } from "./aws-request.ts";
import type { FunctionOptions, HostedFunction } from "./hosted-function.ts";

/** A role that users of the account may assume. */
interface AwsRole {
  readonly externalId?: string;
  /** May be changed: it counts for sessions that are under way too. */
  readonly allow: Set<string>;
}

/** A request as it was, once its signature was found right. */
interface SeenCall {
  /** E.g. `lambda:InvokeFunction`. */
  readonly action: string;
  readonly by: string;
  readonly status: number;
}

export interface AwsAccount extends AsyncDisposable {
  readonly url: string;
  /** Environment of a server that is to use this account as a user of it, who may do whatever `allow` has. */
  readonly env: NodeJS.ProcessEnv;
  /** Actions of the server's own user; all are allowed at first. */
  readonly allow: Set<string>;
  /** By ARN. */
  readonly roles: Map<string, AwsRole>;
  /** By `bucket/key`. Buckets are this account's. */
  readonly objects: Map<string, Uint8Array>;
  readonly calls: SeenCall[];
  createFunction(options: FunctionOptions): HostedFunction;
  /** Temporary credentials that were given are expired from now on. */
  expireSessions(): void;
}

const actions = [
  "sts:AssumeRole",
  "lambda:InvokeFunction",
  "lambda:GetFunction",
  "lambda:GetFunctionConfiguration",
  "lambda:UpdateFunctionCode",
  "s3:GetObject",
];

export async function startAwsAccount(): Promise<AwsAccount> {
  const server = createServer((incoming, response) => {
    void serve(incoming, response).catch((error: unknown) => response.destroy(error as Error));
  });
  // As AWS does: a connection that ends while a call goes out on it is a call that may have run.
  server.keepAliveTimeout = 120_000;
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const identities = new Map<string, AwsIdentity>();
  const sessions: AwsIdentity[] = [];
  const calls: SeenCall[] = [];
  const objects = new Map<string, Uint8Array>();
  const roles = new Map<string, AwsRole>();

  const addIdentity = (identity: AwsIdentity): AwsIdentity => {
    identities.set(identity.accessKeyId, identity);
    return identity;
  };
  const addSession = (role: string, allow: ReadonlySet<string>, expiresAt = Date.now() + 3_600_000): AwsIdentity => {
    const session = addIdentity({
      arn: `arn:aws:sts::${awsAccountId}:assumed-role/${role}/session`,
      accessKeyId: `ASIA${randomBytes(8).toString("hex").toUpperCase()}`,
      secretAccessKey: randomBytes(20).toString("hex"),
      sessionToken: randomBytes(40).toString("base64"),
      expiresAt,
      allow,
    });
    sessions.push(session);
    return session;
  };
  const allow = new Set(actions);
  const user = addIdentity({
    arn: `arn:aws:iam::${awsAccountId}:user/rekey-server`,
    accessKeyId: "AKIASERVERSERVERSERV",
    secretAccessKey: "secret-of-the-server",
    allow,
  });
  const lambda = new LambdaService({ url, objects, newSession: () => addSession("function", new Set(["s3:GetObject"])) });

  async function serve(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await buffer(incoming);
    const asked = new URL(incoming.url ?? "/", url);
    if (asked.pathname.startsWith("/code/")) return lambda.download(asked.pathname, response);
    let service = "lambda";
    let seen: Omit<SeenCall, "status"> | undefined;
    try {
      const { identity, service: signedFor } = authenticate(incoming, body);
      service = signedFor;
      const mustBeAllowed = (action: string, resource: string): void => {
        seen = { action, by: identity.arn };
        if (!identity.allow.has(action))
          throw new AwsError(
            403,
            service === "lambda" ? "AccessDeniedException" : "AccessDenied",
            `User: ${identity.arn} is not authorized to perform: ${action} on resource: ${resource}`,
          );
      };
      const request = {
        method: incoming.method ?? "",
        path: asked.pathname,
        query: asked.searchParams,
        headers: incoming.headers,
        body,
        identity,
        mustBeAllowed,
      };
      if (service === "sts") assumeRole(request, response);
      else if (service === "s3") getObject(request, response);
      else await lambda.serve(request, response);
    } catch (error) {
      if (!(error instanceof AwsError)) throw error;
      refuse(service, error, response);
    }
    if (seen) calls.push({ ...seen, status: response.statusCode });
  }

  function authenticate(incoming: IncomingMessage, body: Buffer): { identity: AwsIdentity; service: string } {
    const [path = "", query = ""] = (incoming.url ?? "").split("?", 2);
    const { method = "", headers, rawHeaders } = incoming;
    const request = { method, path, query, headers, rawHeaders, body };
    const scope = { services: ["lambda", "sts", "s3"], isRegion: (region: string) => region === awsRegion, nowMs: Date.now() };
    const claim = readClaim(() => parseAuthorization(request, scope));
    const identity = identities.get(claim.accessKeyId);
    const { service } = claim;
    if (!identity || claim.securityToken !== identity.sessionToken)
      throw new AwsError(403, "UnrecognizedClientException", "The security token included in the request is invalid.");
    const key = deriveSigningKey(identity.secretAccessKey, claim.date, claim.region, service);
    if (!verifySignature(request, claim, key))
      throw new AwsError(
        403,
        service === "s3" ? "SignatureDoesNotMatch" : "InvalidSignatureException",
        "The request signature we calculated does not match the signature you provided.",
      );
    if (identity.expiresAt !== undefined && identity.expiresAt <= Date.now())
      throw new AwsError(
        403,
        service === "lambda" ? "ExpiredTokenException" : "ExpiredToken",
        "The security token included in the request is expired",
      );
    return { identity, service };
  }

  function assumeRole({ body, mustBeAllowed }: AwsRequest, response: ServerResponse): void {
    const asked = new URLSearchParams(body.toString("utf8"));
    const arn = asked.get("RoleArn") ?? "";
    mustBeAllowed("sts:AssumeRole", arn);
    const role = roles.get(arn);
    if (!role || role.externalId !== (asked.get("ExternalId") ?? undefined))
      throw new AwsError(
        403,
        "AccessDenied",
        `User: ${user.arn} is not authorized to perform: sts:AssumeRole on resource: ${arn}`,
      );
    const made = addSession(
      arn.split("/").at(-1) ?? "",
      role.allow,
      Date.now() + Number(asked.get("DurationSeconds") ?? 3_600) * 1_000,
    );
    const expires = new Date(made.expiresAt ?? 0).toISOString();
    response.writeHead(200, { "Content-Type": "text/xml" });
    response.end(
      `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials><AccessKeyId>${made.accessKeyId}</AccessKeyId><SecretAccessKey>${made.secretAccessKey}</SecretAccessKey><SessionToken>${made.sessionToken}</SessionToken><Expiration>${expires}</Expiration></Credentials><AssumedRoleUser><AssumedRoleId>AROA:rekey</AssumedRoleId><Arn>${made.arn}</Arn></AssumedRoleUser></AssumeRoleResult></AssumeRoleResponse>`,
    );
  }

  function getObject({ path, headers, mustBeAllowed }: AwsRequest, response: ServerResponse): void {
    const name = decodeURIComponent(path.slice(1));
    mustBeAllowed("s3:GetObject", `arn:aws:s3:::${name}`);
    if ((headers["x-amz-expected-bucket-owner"] ?? awsAccountId) !== awsAccountId)
      throw new AwsError(403, "AccessDenied", "Access Denied");
    const found = objects.get(name);
    if (!found) throw new AwsError(404, "NoSuchKey", "The specified key does not exist.");
    response.writeHead(200, { "Content-Type": "application/octet-stream" }).end(found);
  }

  return {
    url,
    env: {
      AWS_ENDPOINT_URL_LAMBDA: url,
      AWS_ENDPOINT_URL_STS: url,
      AWS_ENDPOINT_URL_S3: url,
      AWS_ACCESS_KEY_ID: user.accessKeyId,
      AWS_SECRET_ACCESS_KEY: user.secretAccessKey,
      AWS_EC2_METADATA_DISABLED: "true",
    },
    allow,
    roles,
    objects,
    calls,
    createFunction: (options) => lambda.create(options),
    expireSessions() {
      for (const session of sessions) session.expiresAt = 0;
    },
    async [Symbol.asyncDispose]() {
      server.close();
      server.closeAllConnections();
      await Promise.all([once(server, "close"), lambda[Symbol.asyncDispose]()]);
    },
  };
}

function readClaim<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    const { code, message } = error as { code: string; message: string };
    throw new AwsError(403, code, message);
  }
}

/** In the form of the service. */
function refuse(service: string, { status, code, message }: AwsError, response: ServerResponse): void {
  if (service === "lambda") {
    response.writeHead(status, { "Content-Type": "application/json", "X-Amzn-ErrorType": code });
    response.end(JSON.stringify({ Type: "User", Message: message, message }));
    return;
  }
  const error = `<Error><Type>Sender</Type><Code>${code}</Code><Message>${message}</Message></Error>`;
  const root = `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">${error}<RequestId>1</RequestId></ErrorResponse>`;
  response.writeHead(status, { "Content-Type": "text/xml" }).end(service === "sts" ? root : error);
}
