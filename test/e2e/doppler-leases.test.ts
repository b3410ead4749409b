// Integrations and leases as Doppler's SDK, command line and Terraform provider ask for them, at a real Redis.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { DopplerSDK } from "@dopplerhq/node-sdk";
import { createClient } from "@redis/client";
import { nativeOk } from "../support/aws.ts";
import { anything, assertShape, type CliRequest, cli, filled, type Pattern, shapes, text, time } from "../support/doppler.ts";
import { type RedisServer, redisSkip, startRedis } from "../support/redis-server.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";

const [project, config] = ["api", "dev"];
const at = `?project=${project}&config=${config}`;
const download = `GET /v3/configs/config/secrets/download?project=&config=&format=json&include_dynamic_secrets=true`;
const leases = "/v3/configs/config/dynamic_secrets/dynamic_secret/leases";

describe("leases by the config API", { skip: redisSkip }, () => {
  let redis: RedisServer;
  let server: RekeyServer;
  let token: string;
  let sdk: DopplerSDK;
  before(async () => {
    redis = await startRedis({ password: "root-password" });
    server = await startRekey();
    token = server.credentials.token;
    sdk = new DopplerSDK({ accessToken: token });
    sdk.setBaseUrl(server.endpoint);
    await sdk.projects.create({ name: project });
  });
  after(async () => {
    await server[Symbol.asyncDispose]();
    await redis[Symbol.asyncDispose]();
  });

  async function asked(endpoint: string, shape: Pattern, options: CliRequest = {}) {
    const answer = await cli(server, endpoint, { token, ...options });
    assert.equal(answer.status, 200, `${endpoint}: ${answer.text}`);
    assertShape(answer.json, shape, endpoint);
    return answer.json;
  }
  async function refused(endpoint: string, status: number, message: RegExp, options: CliRequest = {}) {
    const answer = await cli(server, endpoint, { token, ...options });
    assert.equal(answer.status, status, `${endpoint}: ${answer.text}`);
    assertShape(answer.json, shapes.failure, endpoint);
    assert.match(answer.json.messages.join("\n"), message);
  }
  async function logsIn(username: string, password: string): Promise<boolean> {
    const socket = { host: redis.host, port: redis.port, reconnectStrategy: false as const };
    const client = createClient({ RESP: 2, disableClientInfo: true, username, password, socket }).on("error", () => undefined);
    try {
      await client.connect();
      return String(await client.sendCommand(["SET", "orders:1", "x"])) === "OK";
    } catch {
      return false;
    } finally {
      client.destroy();
    }
  }
  const users = async () => (await redis.run("ACL", "USERS")) as string[];
  const connection = (password: string) => ({ host: redis.host, port: redis.port, username: "default", password, ssl: false });

  test("integrations are tried before they are kept", async () => {
    const shape = { integration: { slug: filled, name: filled, type: "redis" } };
    const wrong = { type: "redis", name: "cache", data: connection("wrong") };
    await refused("POST /v3/integrations", 400, /Nothing was kept/, { body: wrong });
    const list = { integrations: [shape.integration], success: true };
    assert.deepEqual((await asked("GET /v3/integrations", list)).integrations, []);
    const made = await asked("POST /v3/integrations", shape, { body: { ...wrong, data: connection("root-password") } });
    const { slug } = made.integration;
    assert.deepEqual(await asked(`GET /v3/integrations/integration?integration=${slug}`, shape), made);
    const renamed = await asked(`PUT /v3/integrations/integration?integration=${slug}`, shape, { body: { name: "redis" } });
    assert.deepEqual(renamed.integration, { slug, name: "redis", type: "redis" });
    assert.deepEqual((await asked("GET /v3/integrations", list)).integrations, [renamed.integration]);
    assert.equal((await sdk.integrations.get(slug)).integration?.type_, "redis");
    const other = await asked("POST /v3/integrations", shape, {
      body: { ...wrong, name: "two", data: connection("root-password") },
    });
    await asked(`DELETE /v3/integrations/integration?integration=${other.integration.slug}`, { success: true });
    await refused(`GET /v3/integrations/integration?integration=${other.integration.slug}`, 404, /integration/i);
    const external = await asked(
      "POST /v3/integrations/generate_external_id",
      { pendingExternalId: filled },
      { body: { type: "aws-iam" } },
    );
    assert.ok(external.pendingExternalId.length >= 16);
  });

  test("the SDK issues a lease and revokes it", async () => {
    const commands = ["+get", "+set"];
    const settings = { keys: ["orders:*"], commands };
    await nativeOk(server, "dynamic-secrets/create", { project, config, name: "CACHE", integration: "redis", settings });
    const input = { project, config, dynamic_secret: "CACHE", ttl_sec: 600 };
    const issued = await sdk.dynamicSecrets.issueLease(input);
    const value = { USERNAME: filled, PASSWORD: filled, HOST: filled, PORT: `${redis.port}` };
    assertShape(issued, { success: true, id: filled, expires_at: time, value });
    const lease = issued as { id: string; expires_at: string; value: { USERNAME: string; PASSWORD: string } };
    const leftMs = new Date(lease.expires_at).getTime() - Date.now();
    assert.ok(leftMs > 0 && leftMs <= 600_000, lease.expires_at);
    assert.equal(await logsIn(lease.value.USERNAME, lease.value.PASSWORD), true);
    const revoked = await sdk.dynamicSecrets.revokeLease({ project, config, dynamic_secret: "CACHE", slug: lease.id });
    assert.deepEqual(revoked, { success: true });
    while ((await users()).includes(lease.value.USERNAME)) await sleep(50);
    await assert.rejects(sdk.dynamicSecrets.issueLease({ ...input, dynamic_secret: "NONE" }), { statusCode: 404 });
    await refused(`POST ${leases}`, 400, /^ttl_sec has/, { body: { ...input, ttl_sec: "soon" } });
  });

  test("a download holds a fresh lease, and then no ETag; without leases it has one", async () => {
    const made = await asked(
      `POST /v3/configs/config/tokens${at}`,
      { token: anything, success: true },
      { body: { name: "t", access: "read" } },
    );
    const own = { token: made.token.key as string };
    const before = await users();
    const first = await cli(server, `${download}&dynamic_secrets_ttl_sec=60`, own);
    assert.equal(first.status, 200, first.text);
    assert.equal(first.headers.etag, undefined);
    const managed = { DOPPLER_CONFIG: text, DOPPLER_ENVIRONMENT: text, DOPPLER_PROJECT: text };
    const fields = { CACHE_USERNAME: filled, CACHE_PASSWORD: filled, CACHE_HOST: text, CACHE_PORT: text };
    assertShape(first.json, { ...managed, ...fields, CACHE_LEASE_ID: filled, CACHE_LEASE_EXPIRATION: time });
    assert.deepEqual(Object.keys(first.json), Object.keys(first.json).toSorted());
    assert.equal(await logsIn(first.json.CACHE_USERNAME, first.json.CACHE_PASSWORD), true);
    const leftMs = new Date(first.json.CACHE_LEASE_EXPIRATION).getTime() - Date.now();
    assert.ok(leftMs > 0 && leftMs <= 60_000);
    const second = await cli(server, download, own);
    assert.notEqual(second.json.CACHE_USERNAME, first.json.CACHE_USERNAME);
    assert.equal((await users()).length, before.length + 2);

    const without = await cli(server, download.replace("&include_dynamic_secrets=true", ""), own);
    assert.deepEqual(Object.keys(without.json), Object.keys(managed));
    assert.match(String(without.headers.etag), /^W\//);
    const issued = (await users()).length;
    await asked(`GET /v3/configs/config/secrets/names${at}&include_dynamic_secrets=true`, { names: [filled] });
    assert.equal((await users()).length, issued, "names issue no leases");
    const listed = await asked(`GET /v3/configs/config/secrets${at}&include_dynamic_secrets=true`, {
      secrets: anything,
      success: true,
    });
    assertShape(listed.secrets.CACHE_PASSWORD, shapes.secret);
    assert.equal(await logsIn(listed.secrets.CACHE_USERNAME.computed, listed.secrets.CACHE_PASSWORD.computed), true);
    const end = (slug: string, who: object) =>
      asked(`DELETE ${leases}/lease`, { success: true }, { ...who, body: { project, config, dynamic_secret: "CACHE", slug } });
    for (const { json } of [first, second]) await end(json.CACHE_LEASE_ID, own);
    await end(listed.secrets.CACHE_LEASE_ID.computed, {}); // which the token did not issue
    while ((await users()).length > before.length) await sleep(50);
  });

  test("issuing is a right of its own, and a token's reach ends at its config", async () => {
    const made = await asked(
      "POST /v3/configs/config/tokens?project=api&config=stg",
      { token: anything, success: true },
      { body: { name: "t" } },
    );
    const own = { token: made.token.key as string };
    const body = { project, config, dynamic_secret: "CACHE", ttl_sec: 60 };
    await refused(`POST ${leases}`, 403, /not authorized/, { ...own, body });
    await refused("GET /v3/integrations", 403, /not authorized/, own);
    const issued = await sdk.dynamicSecrets.issueLease(body);
    await refused(`DELETE ${leases}/lease`, 403, /not authorized/, { ...own, body: { slug: issued.id } });
    await asked(`DELETE ${leases}/lease`, { success: true }, { body: { slug: issued.id } });
  });
});
