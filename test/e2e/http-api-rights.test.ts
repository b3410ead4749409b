// A declaration says where a secret's value is sent: naming one asks for the right to read the value.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { SecretsManager } from "@aws-sdk/client-secrets-manager";
import { allow, clientSettings, homeRegion, native, nativeOk, newName, newUser, refused } from "../support/aws.ts";
import { declarationAt } from "../support/http-api-world.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";

/** A server of the attacker's, which takes every key. */
async function listener() {
  const seen: string[] = [];
  const server = createServer((request, response) => {
    seen.push(`${request.method} ${request.url} ${request.headers.authorization}`);
    response.writeHead(200).end("{}");
  }).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  return {
    seen,
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function ended(server: RekeyServer, jobId: string): Promise<unknown> {
  for (;;) {
    const job = await nativeOk(server, "rotations/get-job", { jobId });
    if (job.endedDate !== undefined) return job;
    await sleep(20);
  }
}

async function tokenOf(server: RekeyServer, ...statements: object[]) {
  const userName = newName("user");
  const user = await newUser(server, userName, ...statements);
  const { token } = await nativeOk(server, "tokens/create", { userName, name: "test" });
  return { user, token: String(token) };
}

test("whoever may rotate a secret but not read it cannot have it sent to a server of their own", async () => {
  await using server = await startRekey();
  await using evil = await listener();
  const root = new SecretsManager(clientSettings(server));
  const SecretId = newName();
  await root.createSecret({
    Name: SecretId,
    SecretString: JSON.stringify({ user: "app", keyId: "key_1", apiKey: "the-value-that-is-not-theirs" }),
  });
  const rights = ["secretsmanager:RotateSecret", "secretsmanager:DescribeSecret", "lambda:*", "rekey:*"];
  const { user, token } = await tokenOf(server, allow(...rights));
  const as = async (path: string, members: object) => {
    const { status, json } = await native(server, path, members, token);
    assert.equal(status, 200, JSON.stringify(json));
    return json as Record<string, unknown>;
  };
  const functionName = newName("evil");
  const { auth, account: _, ...declaration } = declarationAt(evil.origin);
  const create = { ...declaration.create, path: "/v1/keys" };
  const test = { method: "GET", path: "/v1/me" };
  await as("functions/create", { functionName, httpApi: { ...declaration, auth: { current: auth.current }, create, test } });
  const { leastFunctionPolicy } = await as("functions/policy", { functionName });
  await as("functions/put-policy", { functionName, policy: leastFunctionPolicy });
  const arn = `arn:aws:lambda:${homeRegion}:${server.credentials.account}:function:${functionName}`;

  const rotate = () => new SecretsManager(clientSettings(server, user)).rotateSecret({ SecretId, RotationLambdaARN: arn });
  await refused(rotate(), "AccessDeniedException", /secretsmanager:GetSecretValue/);
  for (const [path, more] of [
    ["rotations/check", {}],
    ["rotations/check", { functionPlanned: true }],
    ["rotations/adopt", {}],
  ] as const) {
    const { jobId } = await as(path, { secretId: SecretId, rotationLambdaArn: arn, ...more });
    const job = await ended(server, String(jobId));
    assert.match(JSON.stringify(job), /secretsmanager:GetSecretValue/, path);
  }
  assert.deepEqual(evil.seen, []);

  // Root's own rights count where root configures it, and those of whoever asks for the next one from then on.
  await root.rotateSecret({ SecretId, RotationLambdaARN: arn, RotateImmediately: false });
  await assert.rejects(new SecretsManager(clientSettings(server, user)).rotateSecret({ SecretId }));
});

test("having the server ask itself, or its cloud's metadata, is a right of its own", async () => {
  await using server = await startRekey();
  const { token } = await tokenOf(server, allow("lambda:*"));
  const statusOf = async (path: string, functionName: string, httpApi: object) => {
    const { status, json } = await native(server, path, { functionName, httpApi }, token);
    return `${status} ${json?.detail ?? ""}`;
  };
  const far = declarationAt("https://api.example.com");
  const [one, two] = [newName("api"), newName("api")];
  assert.match(await statusOf("functions/create", one, far), /^200/);
  const text = /^403 .*rekey:AllowFunctionAddresses on resource: \S+/;
  for (const near of [
    declarationAt("http://127.0.0.1:7353"),
    declarationAt("https://[::1]:7353"),
    declarationAt("http://localhost:1"),
    { ...far, allowAddresses: ["169.254.169.254"] },
  ]) {
    assert.match(await statusOf("functions/create", two, near), text);
    assert.match(await statusOf("functions/update", one, near), text);
  }
  const { token: operator } = await tokenOf(server, allow("lambda:*", "rekey:AllowFunctionAddresses"));
  const { status } = await native(
    server,
    "functions/create",
    { functionName: two, httpApi: declarationAt("http://127.0.0.1:1") },
    operator,
  );
  assert.equal(status, 200);
});
