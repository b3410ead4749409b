// Marked credentials of every kind of target and function go through rotations, checks, heartbeats and failures of the real
// program; afterwards they stand in no table, log, result or answer.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { native, nativeOk, newName } from "../support/aws.ts";
import { functionWorld } from "../support/function-world.ts";
import { reply, startApiServer, type Trick } from "../support/http-api-server.ts";
import { declarationAt, routes } from "../support/http-api-world.ts";
import { newUser as newEntry } from "../support/ldap-entries.ts";
import { Marks } from "../support/marks.ts";
import { redisSkip, startRedis } from "../support/redis-server.ts";
import { slapdSkip, startSlapd } from "../support/slapd-server.ts";

type World = Awaited<ReturnType<typeof functionWorld>>;

/** Writes all that it gets to know, in several ways, and fails. */
const talkative = `
import { SecretsManager } from ${JSON.stringify(import.meta.resolve("@aws-sdk/client-secrets-manager"))};
export async function handler(event) {
  const secrets = new SecretsManager({ endpoint: process.env.SECRETS_MANAGER_ENDPOINT });
  const { SecretString } = await secrets.getSecretValue({ SecretId: event.SecretId });
  const { password } = JSON.parse(SecretString);
  console.log(SecretString, JSON.stringify({ SecretString }), Buffer.from(password).toString("base64"), process.env.SETTING_OF_MINE);
  console.error(process.env, event);
  throw new Error("cannot log in with " + password + " and " + event.RotationToken);
}
`;

describe("marked credentials of all kinds", () => {
  const marks = new Marks();
  const told: string[] = [];
  let world: World;
  before(async () => {
    world = await functionWorld({ env: { REKEY_LOG_LEVEL: "trace" } });
    world.write("talkative.mjs", talkative);
  });
  after(() => world[Symbol.asyncDispose]());

  async function ask(path: string, members: object): Promise<Record<string, unknown>> {
    const { text, json } = await native(world.server, path, members);
    told.push(text);
    return json ?? {};
  }

  async function watchValues(secretId: string): Promise<void> {
    for (const label of ["AWSCURRENT", "AWSPENDING"]) {
      const value = await world.value(secretId, label).catch(() => ({}));
      for (const [key, text] of Object.entries(value))
        if (/password|apiKey/.test(key)) marks.watch(`${label} of ${secretId}`, text);
    }
  }

  async function useJobs(secretId: string): Promise<void> {
    for (const [path, more] of [
      ["rotations/check", {}],
      ["rotations/parity", {}],
      ["secrets/rollback", { setAgain: true }],
    ] as const) {
      const { jobId } = await ask(path, { secretId, ...more });
      while (jobId !== undefined && (await ask("rotations/get-job", { jobId })).endedDate === undefined) await sleep(20);
    }
    for (let asked = 0; asked < 300; asked++) {
      const { heartbeats } = await ask("rotations/heartbeats", { secretId });
      if ((heartbeats as unknown[] | undefined)?.length) break;
      await sleep(20);
    }
  }

  /** A rotation, a heartbeat, a check and a rollback, and all that is shown of them. */
  async function use(secretId: string, functionArn: string): Promise<void> {
    await world.rotate(secretId, functionArn);
    const { state, reason } = await world.rotationOf(secretId, (seen) => seen.state !== "running" || seen.failedTries > 0);
    told.push(`${state} ${reason}`);
    await watchValues(secretId);
    await ask("rotations/put-policy", { secretId, heartbeatSeconds: 60 });
    await useJobs(secretId);
    await ask("rotations/list", { secretId });
    await ask("retirements/list", { secretId });
    await world.root.cancelRotateSecret({ SecretId: secretId });
  }

  async function isNowhere(): Promise<void> {
    const { server } = world;
    await ask("events/list", { limit: 1000 });
    await ask("functions/list", {});
    const trail = JSON.stringify(await nativeOk(server, "audit/search", { limit: 1000 }));
    const places = { log: server.log(), answers: told.join("\n"), audit: trail };
    const found = Object.entries(places).flatMap(([place, text]) => marks.foundIn(text).map((what) => `${place}: ${what}`));
    const environ = process.platform === "linux" ? readFileSync(`/proc/${server.pid}/environ`, "utf8") : "";
    const files = marks.foundInFolder(server.dataFolder, ["root.key", "root-credentials.json"]);
    assert.deepEqual([...found, ...marks.foundIn(environ), ...files], []);
  }

  it("a talkative function's, its variables and its tokens", async () => {
    const environment = { SETTING_OF_MINE: marks.fresh("variable") };
    const { name, arn } = await world.create({ file: "talkative.mjs", environment });
    const { SecretId } = await world.newSecret({ username: "app", password: marks.fresh("password of a function") });
    await use(SecretId, arn);
    assert.match(await world.logs(name), /\[secret\]/);
    told.push(await world.logs(name), JSON.stringify(await ask("functions/get", { functionName: name })));
    await isNowhere();
  });

  it("an HTTP API's, which says them again in its errors", async () => {
    await using api = await startApiServer();
    const admin = api.addKey("ops", { admin: true });
    const first = api.addKey("orders");
    for (const { key, owner } of [admin, first]) marks.watch(`key of ${owner}`, key);
    const value = { origin: api.url, user: "ops", keyId: admin.id, apiKey: admin.key };
    const { ARN: masterarn } = await world.newSecret(value, newName("master"));
    const { SecretId } = await world.newSecret({ user: "orders", keyId: first.id, apiKey: first.key, masterarn });
    const functionName = newName("api");
    await ask("functions/create", { functionName, httpApi: declarationAt(api.url) });
    const { leastFunctionPolicy: policy } = await ask("functions/policy", { functionName });
    await ask("functions/put-policy", { functionName, policy });
    const echo =
      (status: number): Trick =>
      (request, response) =>
        reply(response, { status, json: { error: { ...request.headers, url: request.url } } });
    await use(SecretId, world.arnOf(functionName));
    assert.notEqual((await world.value(SecretId)).apiKey, undefined);
    for (const route of Object.values(routes)) api.tricks.set(route, [echo(500), echo(400), echo(401), echo(302)]);
    await use(SecretId, world.arnOf(functionName));
    for (const { key } of api.keys.values()) marks.watch("a key", key);
    await isNowhere();
  });

  it("Redis users'", { skip: redisSkip }, async () => {
    await using target = await startRedis();
    const password = marks.fresh("Redis password");
    await target.run("ACL", "SETUSER", "app", "reset", "on", `>${password}`, "+@all");
    const { host, port } = target;
    const login = { engine: "redis", host, port, username: "app", password, ssl: false };
    const arn = world.arnOf("RekeyRedisRotation");
    await use((await world.newSecret(login)).SecretId, arn);
    await use((await world.newSecret({ ...login, password: marks.fresh("wrong Redis password") })).SecretId, arn);
    await use((await world.newSecret({ ...login, port: 1, password: marks.fresh("Redis far away") })).SecretId, arn);
    await isNowhere();
  });

  it("LDAP entries'", { skip: slapdSkip }, async () => {
    await using directory = await startSlapd();
    const login = await newEntry(directory, newName("app"), marks.fresh("LDAP password"));
    const arn = world.arnOf("RekeyLDAPRotationSingleUser");
    await use((await world.newSecret(login)).SecretId, arn);
    await use((await world.newSecret({ ...login, password: marks.fresh("wrong LDAP password") })).SecretId, arn);
    await isNowhere();
  });
});
