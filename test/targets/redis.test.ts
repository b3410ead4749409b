import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import type { DatabaseCredential } from "../../src/targets/database-secret.ts";
import { redis } from "../../src/targets/redis.ts";
import { type RedisServer, redisSkip, redisTlsSkip, startRedis } from "../support/redis-server.ts";
import { failure, rotatorContract, tools } from "./contract.ts";

const rootPassword = "password-of-default";
/** What a user needs to change its own passwords. */
const selfRights = ["+ping", "+acl|getuser", "+acl|setuser", "+acl|save", "+config|rewrite"];

const freshName = (prefix: string) => `${prefix}_${randomUUID().slice(0, 8)}`;

async function newUser(server: RedisServer, username: string, password: string, rights = selfRights): Promise<DatabaseCredential> {
  await server.run("ACL", "SETUSER", username, "on", `>${password}`, "-@all", ...rights);
  return { engine: "redis", host: server.host, port: server.port, username, password, ssl: server.caFile !== undefined };
}

const adminOf = ({ host, port }: RedisServer): DatabaseCredential => ({
  engine: "redis",
  host,
  port,
  username: "default",
  password: rootPassword,
  ssl: false,
});

describe("redis", { skip: redisSkip }, () => {
  let server: RedisServer;
  let trusting: RedisServer;
  let stopped: RedisServer;
  before(async () => {
    [server, trusting, stopped] = await Promise.all([startRedis({ password: rootPassword }), startRedis(), startRedis()]);
    await stopped.stop();
  });
  after(async () => {
    for (const one of [server, trusting, stopped]) await one[Symbol.asyncDispose]();
  });

  rotatorContract<DatabaseCredential>(
    () => ({
      rotator: redis,
      names: ["plain", "odd#>name", "näme{with}<signs>", "UPPER%s$1", "a:b@c/d"],
      async newUser(name, password) {
        await trusting.run("ACL", "SETUSER", name, "on", "nopass", ...selfRights);
        return newUser(server, name, password);
      },
      admin: adminOf(server),
      atStoppedServer: (credential) => ({ ...credential, port: stopped.port }),
      atTrustingServer: (credential) => ({ ...credential, port: trusting.port }),
      withPassword: (credential, password) => ({ ...credential, password }),
      passwordOf: ({ password }) => password,
      serverLog: () => server.log(),
    }),
    ["dual-slot", "single-user"],
  );
});

test("redis over TLS: verified or not at all", { skip: redisTlsSkip }, async () => {
  await using server = await startRedis({ tls: true });
  const pem = readFileSync(server.caFile ?? "", "utf8");
  const { ssl: _, ...current } = await newUser(server, "app", "old-password");
  const probe = (changed: object) => redis.probe({ ...(current as DatabaseCredential), ...changed }, tools());
  assert.equal(await probe({}), "tls", "verified TLS is what nothing said means");
  assert.equal(await probe({ ssl: true }), "tls");
  assert.equal(await probe({ sslrootcert: server.caFile }), "ok");
  assert.equal(await probe({ ssl: true, sslrootcert: pem }), "ok");
  assert.equal(await probe({ host: "127.0.0.2", sslrootcert: pem }), "unreachable");
  assert.notEqual(await probe({ ssl: false }), "ok");
});
