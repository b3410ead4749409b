// Rotated secrets of configs that are no pairs: a user of a real Redis, and a key of the AWS-compatible endpoint.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { createClient } from "@redis/client";
import { ldap } from "../../src/targets/ldap.ts";
import { mongodb } from "../../src/targets/mongodb.ts";
import { allow, native, nativeOk, newUser, statement } from "../support/aws.ts";
import { cli } from "../support/doppler.ts";
import { type IamEndpoint, startIamEndpoint } from "../support/iam-endpoint.ts";
import { freshName, newUser as newEntries } from "../support/ldap-entries.ts";
import { ordinaryUser, startMongoDbWire } from "../support/mongodb-wire.ts";
import { redisSkip, startRedis } from "../support/redis-server.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";
import { slapdSkip, startSlapd } from "../support/slapd-server.ts";
import { tools } from "../targets/contract.ts";

const config = { project: "shop", config: "dev" };
const monthly = 30 * 86_400;
let server: RekeyServer;
before(async () => {
  server = await startRekey();
  await nativeOk(server, "projects/create", { name: config.project });
});
after(() => server[Symbol.asyncDispose]());

const download = async (): Promise<Record<string, string>> =>
  (
    await cli(server, "GET /v3/configs/config/secrets/download?project=shop&config=dev&format=json", {
      token: server.credentials.token,
    })
  ).json;

async function rotate(id: string): Promise<void> {
  await nativeOk(server, "rotated-secrets/rotate", { ...config, id });
  for (let asked = 0; ; asked++) {
    const { rotations } = await nativeOk(server, "rotated-secrets/history", { ...config, id });
    const [newest] = rotations as { state: string; reason?: string }[];
    if (newest?.state === "succeeded") return;
    if (newest?.state !== "running" || asked > 5_000) throw new Error(JSON.stringify(newest));
    await sleep(20);
  }
}

test("a user of Redis: a second password, and the first stays for a while", { skip: redisSkip }, async () => {
  await using redis = await startRedis({ password: "root-password" });
  await redis.run("ACL", "SETUSER", "app", "on", ">first-password", "~*", "+@all");
  const logsIn = async (password: string): Promise<boolean> => {
    const socket = { host: redis.host, port: redis.port, reconnectStrategy: false as const };
    const client = createClient({ RESP: 2, disableClientInfo: true, username: "app", password, socket }).on(
      "error",
      () => undefined,
    );
    try {
      await client.connect();
      return true;
    } catch {
      return false;
    } finally {
      client.destroy();
    }
  };
  const data = { host: redis.host, port: redis.port, username: "default", password: "root-password", ssl: false };
  await nativeOk(server, "integrations/create", { name: "cache", type: "redis", data });
  const credentials = [{ USERNAME: "app", PASSWORD: "first-password" }];
  const input = { ...config, name: "CACHE", integration: "cache", rotationPeriodSeconds: monthly };
  const wrong = await native(server, "rotated-secrets/create", {
    ...input,
    credentials: [{ USERNAME: "app", PASSWORD: "wrong" }],
  });
  assert.match(wrong.text, /was not accepted/);
  await nativeOk(server, "rotated-secrets/create", { ...input, credentials });
  await rotate("CACHE");
  const values = await download();
  assert.equal(values.CACHE_USERNAME, "app");
  assert.notEqual(values.CACHE_PASSWORD, "first-password");
  for (const password of ["first-password", values.CACHE_PASSWORD ?? ""]) assert.ok(await logsIn(password));
  await rotate("CACHE");
  const next = (await download()).CACHE_PASSWORD ?? "";
  assert.deepEqual([await logsIn(next), await logsIn("first-password")], [true, false]);
  await redis.run("ACL", "SETUSER", "app", "resetpass", ">by-hand");
  await assert.rejects(rotate("CACHE"), /refuses the credential of app.*changed outside/);
  assert.deepEqual([await logsIn("by-hand"), (await download()).CACHE_PASSWORD], [true, next]);
});

test("two entries of a directory take turns", { skip: slapdSkip }, async () => {
  await using slapd = await startSlapd();
  const { usernames: both, password } = await newEntries(slapd, freshName("app"), "first-password");
  const usernames = both as string[];
  const { host, port, rootDn: username, rootPassword, suffix: baseDn } = slapd;
  const data = { host, port, username, password: rootPassword, baseDn, ssl: false };
  await nativeOk(server, "integrations/create", { name: "directory", type: "ldap", data });
  const credentials = usernames.map((one) => ({ username: one, password }));
  const input = { ...config, name: "LDAP", integration: "directory", rotationPeriodSeconds: monthly, credentials };
  await nativeOk(server, "rotated-secrets/create", input);
  for (const shown of [usernames[1], usernames[0]]) {
    await rotate("LDAP");
    const values = await download();
    assert.equal(values.LDAP_USERNAME, shown);
    await ldap.test(
      { host, port, username: values.LDAP_USERNAME ?? "", password: values.LDAP_PASSWORD ?? "", ssl: false },
      tools(),
    );
  }
});

test("two users of MongoDB take turns by their names", async () => {
  await using mongo = await startMongoDbWire();
  const { host, port } = mongo;
  mongo.addUser({ user: "root", db: "admin", roles: [{ role: "root", db: "admin" }] }, "root-password");
  for (const user of ["app", "app_clone", "other"]) mongo.addUser(ordinaryUser(user), "first-password");
  const data = { host, port, username: "root", password: "root-password", ssl: false };
  await nativeOk(server, "integrations/create", { name: "documents", type: "mongodb", data });
  const pair = (second: string) => ["app", second].map((username) => ({ username, password: "first-password" }));
  const input = { ...config, name: "MONGO", integration: "documents", rotationPeriodSeconds: monthly };
  const wrong = await native(server, "rotated-secrets/create", { ...input, credentials: pair("other") });
  assert.match(wrong.text, /as app and app_clone/);
  await nativeOk(server, "rotated-secrets/create", { ...input, credentials: pair("app_clone") });
  for (const shown of ["app_clone", "app"]) {
    await rotate("MONGO");
    const values = await download();
    assert.equal(values.MONGO_USERNAME, shown);
    await mongodb.test({ host, port, username: shown, password: values.MONGO_PASSWORD ?? "", ssl: false }, tools());
  }
});

test("integrations under Doppler's names: with a connection, they are Rekey's own kinds", async () => {
  const token = server.credentials.token;
  const ask = async (type: string, data: object) =>
    (await cli(server, "POST /v3/integrations", { token, body: { name: `x-${type}`, type, data } })).text;
  const remote = { roleARN: "arn:aws:iam::111122223333:role/x", lambdaARN: "arn:aws:lambda:us-east-1:111122223333:function:x" };
  assert.match(
    await ask("aws_postgres", remote),
    /this server calls no functions of AWS Lambda: start it with --functions-lambda/,
  );
  assert.match(await ask("aws_mssql", { host: "127.0.0.1" }), /Data.roleARN and Data.lambdaARN are missing/);
  assert.match(await ask("aws_postgres", { host: "127.0.0.1" }), /Data.username/);
  assert.match(await ask("nothing", {}), /Type must be one of/);
});

test("attack: a kind that a policy denies is denied under Doppler's name for it too", async () => {
  const deny = statement("Deny", ["rekey:CreateIntegration"], "*", { StringEquals: { "rekey:IntegrationType": "postgres" } });
  await newUser(server, "maker", allow("rekey:CreateIntegration"), deny);
  const { token } = await nativeOk(server, "tokens/create", { userName: "maker", name: "t" });
  for (const type of ["postgres", "aws_postgres"]) {
    const answer = await native(server, "integrations/create", { name: "x", type, data: {} }, String(token));
    assert.equal(answer.status, 403, answer.text);
  }
});

test("a key of an AWS IAM user: a new one beside it", async () => {
  await using aws: IamEndpoint = await startIamEndpoint();
  const { id, secret } = aws.addUser("deploy", { actions: [] });
  const actions = ["iam:CreateAccessKey", "iam:ListAccessKeys", "iam:DeleteAccessKey"];
  const manager = aws.addUser("manager", { actions, on: "everybody" });
  const data = { accessKeyId: manager.id, secretAccessKey: manager.secret, endpoint: aws.url };
  await nativeOk(server, "integrations/create", { name: "aws", type: "aws_iam_user_keys", data });
  const input = {
    ...config,
    name: "DEPLOY",
    integration: "aws",
    rotationPeriodSeconds: monthly,
    parameters: { USERNAME: "deploy" },
    credentials: [{ ACCESS_KEY_ID: id, SECRET_ACCESS_KEY: secret }],
  };
  const stranger = await native(server, "rotated-secrets/create", { ...input, parameters: { USERNAME: "manager" } });
  assert.match(stranger.text, /is not of user manager/);
  await nativeOk(server, "rotated-secrets/create", input);
  assert.equal((await download()).DEPLOY_ACCESS_KEY_ID, id);
  await rotate("DEPLOY");
  const values = await download();
  const made = aws.keysOf("deploy").find((key) => key.id !== id);
  assert.deepEqual([values.DEPLOY_ACCESS_KEY_ID, values.DEPLOY_SECRET_ACCESS_KEY], [made?.id, made?.secret]);
  assert.equal(aws.keysOf("deploy").length, 2);
});
