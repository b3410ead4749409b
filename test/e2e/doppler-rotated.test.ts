// Rotated secrets as Doppler's Terraform provider makes them (Basic, ids in query and body), at a real Redis.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { createClient } from "@redis/client";
import { nativeOk } from "../support/aws.ts";
import { anything, assertShape, type CliRequest, cli, filled, type Pattern, shapes } from "../support/doppler.ts";
import { type RedisServer, redisSkip, startRedis } from "../support/redis-server.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";

const at = "?project=api&config=dev";
const here = "/v3/configs/config/rotated_secrets";

describe("rotated secrets by the config API", { skip: redisSkip }, () => {
  let redis: RedisServer;
  let server: RekeyServer;
  let integration: { slug: string; name: string; type: string };
  before(async () => {
    redis = await startRedis({ password: "root-password" });
    server = await startRekey();
    await redis.run("ACL", "SETUSER", "app", "on", ">first-password-of-app", "+@all", "~*");
    await asked("POST /v3/projects", { project: shapes.project }, { body: { name: "api" } });
    const data = { host: redis.host, port: redis.port, username: "default", password: "root-password", ssl: false };
    const made = await asked(
      "POST /v3/integrations",
      { integration: anything },
      { body: { type: "redis", name: "cache", data } },
    );
    integration = made.integration;
  });
  after(async () => {
    await server[Symbol.asyncDispose]();
    await redis[Symbol.asyncDispose]();
  });

  const terraform = { "User-Agent": "terraform-provider-doppler/1.20.0" };
  async function asked(endpoint: string, shape: Pattern, options: CliRequest = {}) {
    const { token } = server.credentials;
    const answer = await cli(server, endpoint, { token, basic: true, headers: terraform, ...options });
    assert.equal(answer.status, 200, `${endpoint}: ${answer.text}`);
    assertShape(answer.json, shape, endpoint);
    return answer.json;
  }
  async function refused(endpoint: string, status: number, message: RegExp, body?: object) {
    const answer = await cli(server, endpoint, { token: server.credentials.token, ...(body ? { body } : {}) });
    assert.equal(answer.status, status, `${endpoint}: ${answer.text}`);
    assertShape(answer.json, shapes.failure, endpoint);
    assert.match(answer.json.messages.join("\n"), message);
  }
  const values = async (): Promise<Record<string, string>> =>
    (
      await cli(server, `GET /v3/configs/config/secrets/download${at}&format=json&include_dynamic_secrets=true`, {
        token: server.credentials.token,
      })
    ).json;
  async function logsIn(username: string, password: string): Promise<boolean> {
    const socket = { host: redis.host, port: redis.port, reconnectStrategy: false as const };
    const client = createClient({ RESP: 2, disableClientInfo: true, username, password, socket }).on("error", () => undefined);
    try {
      await client.connect();
      return true;
    } catch {
      return false;
    } finally {
      client.destroy();
    }
  }

  const shape = (): Pattern => ({
    slug: filled,
    name: filled,
    project: "api",
    config: "dev",
    integration: { slug: integration.slug, name: "cache", type: "redis" },
    rotation_period_sec: (value) => Number.isInteger(value),
  });

  test("made, read, changed and deleted", async () => {
    const body = {
      integration: integration.slug,
      name: "CACHE",
      rotation_period_sec: 2_592_000,
      parameters: {},
      credentials: [{ USERNAME: "app", PASSWORD: "first-password-of-app" }],
    };
    await refused(`POST ${here}${at}`, 400, /./, { ...body, credentials: [{ USERNAME: "app", PASSWORD: "wrong-password" }] });
    await refused(`POST ${here}${at}`, 400, /rotation_period_sec/, { ...body, rotation_period_sec: "monthly" });
    const made = await asked(`POST ${here}${at}`, { rotatedSecret: shape() }, { body });
    const slug = `${at}&slug=${made.rotatedSecret.slug}`;
    assert.deepEqual(await asked(`GET ${here}/rotated_secret${slug}`, { rotatedSecret: shape() }), made);
    assert.deepEqual((await asked(`GET ${here}${at}`, { rotatedSecrets: [shape()] })).rotatedSecrets, [made.rotatedSecret]);

    const shown = await values();
    assert.deepEqual(
      [shown.CACHE_USERNAME, shown.CACHE_PASSWORD, shown.CACHE_HOST, shown.CACHE_PORT],
      ["app", "first-password-of-app", redis.host, `${redis.port}`],
    );
    await refused(`POST /v3/configs/config/secrets${at}`, 400, /CACHE_PASSWORD/, { secrets: { CACHE_PASSWORD: "mine" } });

    await nativeOk(server, "rotated-secrets/rotate", { project: "api", config: "dev", id: "CACHE" });
    while ((await values()).CACHE_PASSWORD === "first-password-of-app") await sleep(100);
    const rotated = await values();
    assert.equal(await logsIn("app", rotated.CACHE_PASSWORD ?? ""), true);
    const { logs } = await asked(`GET /v3/configs/config/logs${at}`, { page: 1, logs: [shapes.log] });
    assert.match(logs[0].text, /CACHE/);

    const put = { body: { name: "STORE", rotation_period_sec: 86_400 } };
    const { rotatedSecret } = await asked(`PUT ${here}/rotated_secret${slug}`, { rotatedSecret: shape() }, put);
    assert.deepEqual([rotatedSecret.name, rotatedSecret.rotation_period_sec], ["STORE", 86_400]);
    assert.equal((await values()).STORE_PASSWORD, rotated.CACHE_PASSWORD);
    await asked(`DELETE ${here}/rotated_secret${slug}`, { success: true });
    await refused(`GET ${here}/rotated_secret${slug}`, 404, /rotated secret/i);
    assert.equal((await values()).STORE_PASSWORD, undefined);
    assert.equal(await logsIn("app", rotated.CACHE_PASSWORD ?? ""), true, "the credential itself stays as it was");
  });
});
