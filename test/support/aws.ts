// Clients of a running server: the AWS SDK, raw signed requests, the native API.
import assert from "node:assert/strict";
import { createHash, createHmac, randomUUID } from "node:crypto";
import { SecretsManagerClient } from "@aws-sdk/client-secrets-manager";
import type { RekeyServer } from "./rekey-server.ts";

export interface Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}

export const homeRegion = "us-east-1";

/** A client that never tries again: what is asked once is answered once. */
export function clientSettings(server: RekeyServer, credentials: Credentials = server.credentials, region = homeRegion) {
  const { accessKeyId, secretAccessKey, sessionToken } = credentials;
  const key = { accessKeyId, secretAccessKey, ...(sessionToken === undefined ? {} : { sessionToken }) };
  return { endpoint: server.endpoint, region, credentials: key, maxAttempts: 1 };
}

export function secretsClient(server: RekeyServer, credentials?: Credentials, region?: string): SecretsManagerClient {
  return new SecretsManagerClient(clientSettings(server, credentials, region));
}

/** The call is refused with this code and text, and with the status of every client error: 400. */
export async function refused(call: Promise<unknown>, code: string, message: string | RegExp): Promise<void> {
  await assert.rejects(call, (error: Error & { $metadata?: { httpStatusCode?: number } }) => {
    assert.equal(error.name, code, error.message);
    if (typeof message === "string") assert.equal(error.message, message);
    else assert.match(error.message, message);
    assert.equal(error.$metadata?.httpStatusCode, 400);
    return true;
  });
}

export const newName = (word = "secret"): string => `${word}-${randomUUID().slice(0, 8)}x`;

export interface RawAnswer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  /** The body as JSON; undefined when it is empty. */
  readonly json: Record<string, unknown> | undefined;
}

export interface RawOptions {
  readonly service?: string;
  readonly region?: string;
  readonly credentials?: Credentials;
  /** Set over or, when undefined, left out after signing. */
  readonly headers?: Readonly<Record<string, string | undefined>>;
  /** Sent in place of the body that was signed. */
  readonly sentBody?: string;
  readonly signedAtMs?: number;
  readonly contentType?: string;
}

/** `POST /` with a signature of Signature Version 4, written here from its description and not from our own code. */
export async function rawRequest(
  server: RekeyServer,
  target: string | undefined,
  body: string,
  options: RawOptions = {},
): Promise<RawAnswer> {
  const { service = "secretsmanager", region = homeRegion, signedAtMs = Date.now() } = options;
  const credentials: Credentials = options.credentials ?? server.credentials;
  const amzDate = new Date(signedAtMs).toISOString().replace(/[-:]|\.\d{3}/g, "");
  const scope = `${amzDate.slice(0, 8)}/${region}/${service}/aws4_request`;
  const signed: Record<string, string> = {
    "content-type": options.contentType ?? "application/x-amz-json-1.1",
    host: new URL(server.endpoint).host,
    "x-amz-date": amzDate,
    ...(credentials.sessionToken === undefined ? {} : { "x-amz-security-token": credentials.sessionToken }),
    ...(target === undefined ? {} : { "x-amz-target": target }),
  };
  const names = Object.keys(signed).sort();
  const canonical = ["POST", "/", "", ...names.map((name) => `${name}:${signed[name]}`), "", names.join(";"), sha256(body)];
  const text = ["AWS4-HMAC-SHA256", amzDate, scope, sha256(canonical.join("\n"))].join("\n");
  const key = scope.split("/").reduce<Buffer | string>((made, part) => hmac(made, part), `AWS4${credentials.secretAccessKey}`);
  const signature = hmac(key, text).toString("hex");
  const { host: _host, ...sent } = signed;
  const authorization = `AWS4-HMAC-SHA256 Credential=${credentials.accessKeyId}/${scope}, SignedHeaders=${names.join(";")}, Signature=${signature}`;
  const headers = new Headers({ ...sent, authorization });
  for (const [name, value] of Object.entries(options.headers ?? {}))
    if (value === undefined) headers.delete(name);
    else headers.set(name, value);
  const response = await fetch(`${server.endpoint}/`, { method: "POST", headers, body: options.sentBody ?? body });
  return readAnswer(response);
}

/** One operation of Secrets Manager with any members, also ones that the SDK would not send. */
export function rawCall(server: RekeyServer, operation: string, members: object, options?: RawOptions): Promise<RawAnswer> {
  return rawRequest(server, `secretsmanager.${operation}`, JSON.stringify(members), options);
}

/** `POST /rekey/v1/PATH` as root, or with another bearer token. */
export async function native(
  server: RekeyServer,
  path: string,
  members: object,
  token = server.credentials.token,
): Promise<RawAnswer> {
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  return readAnswer(
    await fetch(`${server.endpoint}/rekey/v1/${path}`, { method: "POST", headers, body: JSON.stringify(members) }),
  );
}

/** The same where success is expected. */
export async function nativeOk(server: RekeyServer, path: string, members: object): Promise<Record<string, unknown>> {
  const { status, json, text } = await native(server, path, members);
  assert.equal(status, 200, text);
  return json ?? {};
}

export const allow = (...actions: string[]) => statement("Allow", actions, "*");

export function statement(Effect: "Allow" | "Deny", Action: readonly string[], Resource: string, Condition?: object): object {
  return { Effect, Action, Resource, ...(Condition === undefined ? {} : { Condition }) };
}

export const policyOf = (...Statement: object[]): string => JSON.stringify({ Version: "2012-10-17", Statement });

/** Makes a user with these statements as its only policy. */
export async function newUser(
  server: RekeyServer,
  name: string,
  ...statements: object[]
): Promise<Credentials & { arn: string }> {
  const { arn } = await nativeOk(server, "users/create", { userName: name });
  if (statements.length > 0) {
    const policy = await nativeOk(server, "policies/create", {
      policyName: `${name}-policy`,
      policyDocument: policyOf(...statements),
    });
    await nativeOk(server, "policies/attach", { policyArn: policy.arn, userName: name });
  }
  const key = await nativeOk(server, "access-keys/create", { userName: name });
  return { arn: String(arn), accessKeyId: String(key.accessKeyId), secretAccessKey: String(key.secretAccessKey) };
}

const token = randomUUID();
/** Every operation that names a secret, with what else it needs. */
export const namedOperations: Readonly<Record<string, object>> = {
  CancelRotateSecret: {},
  DeleteResourcePolicy: {},
  DeleteSecret: {},
  DescribeSecret: {},
  GetResourcePolicy: {},
  GetSecretValue: {},
  ListSecretVersionIds: {},
  PutResourcePolicy: { ResourcePolicy: "{}" },
  PutSecretValue: { SecretString: "v", ClientRequestToken: token },
  RemoveRegionsFromReplication: { RemoveReplicaRegions: ["eu-west-1"] },
  ReplicateSecretToRegions: { AddReplicaRegions: [{ Region: "eu-west-1" }] },
  RestoreSecret: {},
  RotateSecret: { ClientRequestToken: token },
  StopReplicationToReplica: {},
  TagResource: { Tags: [{ Key: "a", Value: "b" }] },
  UntagResource: { TagKeys: ["a"] },
  UpdateSecret: { ClientRequestToken: token },
  UpdateSecretVersionStage: { VersionStage: "X", MoveToVersionId: token },
  ValidateResourcePolicy: { ResourcePolicy: "{}" },
};

async function readAnswer(response: Response): Promise<RawAnswer> {
  const text = await response.text();
  const isJson = /json/.test(response.headers.get("content-type") ?? "") && text !== "";
  return { status: response.status, headers: response.headers, text, json: isJson ? JSON.parse(text) : undefined };
}

const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");
const hmac = (key: Buffer | string, text: string): Buffer => createHmac("sha256", key).update(text).digest();
