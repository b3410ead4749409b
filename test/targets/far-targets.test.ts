// The suites of rotators and lease targets hold when every verb is run at a far side; nothing reaches the target from here.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import pg from "pg";
import type { DatabaseCredential } from "../../src/targets/database-secret.ts";
import { farLeaseTarget } from "../../src/targets/far-lease.ts";
import { farRotator } from "../../src/targets/far-rotator.ts";
import { httpApiRotator, parseHttpApiDeclaration } from "../../src/targets/http-api.ts";
import type { AnyCredential } from "../../src/targets/index.ts";
import type { LeaseTarget } from "../../src/targets/lease-target.ts";
import { postgres } from "../../src/targets/postgres.ts";
import { redis } from "../../src/targets/redis.ts";
import type { Rotator } from "../../src/targets/target.ts";
import { loopRoute } from "../support/far-route.ts";
import { declarationAt, httpApiWorld } from "../support/http-api-world.ts";
import { type PostgresServer, postgresSkip, startPostgres } from "../support/postgres-server.ts";
import { type RedisServer, redisSkip, startRedis } from "../support/redis-server.ts";
import { rotatorContract, tools } from "./contract.ts";
import { leaseContract } from "./lease-contract.ts";
import { type LeaseWorld, startLeaseWorld } from "./lease-postgres-world.ts";

const farOf = (local: unknown): Rotator<DatabaseCredential> =>
  farRotator(local as Rotator<AnyCredential>, loopRoute()) as unknown as Rotator<DatabaseCredential>;

describe("postgres at a far side", { skip: postgresSkip }, () => {
  let server: PostgresServer;
  let trusting: PostgresServer;
  let stopped: PostgresServer;
  before(async () => {
    [server, trusting, stopped] = await Promise.all([
      startPostgres({ settings: ["log_statement=all"] }),
      startPostgres({ hba: ["host all all 127.0.0.1/32 trust"] }),
      startPostgres(),
    ]);
    await stopped.stop();
  });
  after(async () => {
    for (const one of [server, trusting, stopped]) await one[Symbol.asyncDispose]();
  });
  const at = ({ host, port }: PostgresServer, username: string, password: string): DatabaseCredential => ({
    engine: "postgres",
    host,
    port,
    username,
    password,
  });

  rotatorContract<DatabaseCredential>(
    () => ({
      rotator: farOf(postgres),
      async newUser(name, password) {
        const client = new pg.Client(server.url);
        await client.connect();
        await client.query(`create role ${pg.escapeIdentifier(name)} login password ${pg.escapeLiteral(password)}`);
        await client.end();
        return at(server, name, password);
      },
      admin: at(server, server.user, server.password),
      atStoppedServer: (credential) => ({ ...credential, port: stopped.port }),
      atTrustingServer: (credential) => ({ ...credential, port: trusting.port, username: "postgres" }),
      withPassword: (credential, password) => ({ ...credential, password }),
      passwordOf: ({ password }) => password,
      serverLog: () => readFileSync(server.logFile, "utf8"),
    }),
    ["single-user", "alternating-users"],
  );

  test("what a pre-flight and a comparison find is the same far as near", async () => {
    const admin = at(server, server.user, server.password);
    const current = at(server, server.user, server.password);
    for (const strategy of ["single-user", "alternating-users"] as const) {
      assert.deepEqual(
        await farOf(postgres).check?.({ current, admin }, strategy, tools()),
        await postgres.check?.({ current, admin }, strategy, tools()),
      );
    }
    const found = await postgres.compare?.({ current, admin }, tools());
    assert.deepEqual(await farOf(postgres).compare?.({ current, admin }, tools()), JSON.parse(JSON.stringify(found)));
  });
});

describe("redis at a far side", { skip: redisSkip }, () => {
  let server: RedisServer;
  let trusting: RedisServer;
  let stopped: RedisServer;
  const rights = ["-@all", "+ping", "+acl|getuser", "+acl|setuser", "+acl|save", "+config|rewrite"];
  before(async () => {
    [server, trusting, stopped] = await Promise.all([
      startRedis({ password: "password-of-default" }),
      startRedis(),
      startRedis(),
    ]);
    await stopped.stop();
  });
  after(async () => {
    for (const one of [server, trusting, stopped]) await one[Symbol.asyncDispose]();
  });
  const at = (username: string, password: string): DatabaseCredential => {
    const { host, port } = server;
    return { engine: "redis", host, port, username, password, ssl: false };
  };

  rotatorContract<DatabaseCredential>(
    () => ({
      rotator: farOf(redis),
      names: ["plain", "odd#>name", "UPPER%s$1"],
      async newUser(name, password) {
        await trusting.run("ACL", "SETUSER", name, "on", "nopass", ...rights);
        await server.run("ACL", "SETUSER", name, "on", `>${password}`, ...rights);
        return at(name, password);
      },
      admin: at("default", "password-of-default"),
      atStoppedServer: (credential) => ({ ...credential, port: stopped.port }),
      atTrustingServer: (credential) => ({ ...credential, port: trusting.port }),
      withPassword: (credential, password) => ({ ...credential, password }),
      passwordOf: ({ password }) => password,
      serverLog: () => server.log(),
    }),
    ["dual-slot", "single-user"],
  );
});

describe("leases of postgres at a far side", { skip: postgresSkip }, () => {
  let world: LeaseWorld;
  before(async () => {
    world = await startLeaseWorld();
  });
  after(() => world[Symbol.asyncDispose]());

  leaseContract(() => {
    const subject = world.subject();
    return { ...subject, target: farLeaseTarget(subject.target as LeaseTarget, loopRoute()) };
  });
});

describe("an HTTP API at a far side", () => {
  const world = httpApiWorld();

  test("its keys are made, found, tested and deleted there, as it is declared", async () => {
    const declaration = parseHttpApiDeclaration(declarationAt(world.api.url));
    const route = loopRoute();
    const rotator = farRotator(httpApiRotator(declaration), route, { declaration });
    const { user, ...access } = world.newAccess();
    const asked = tools();
    const made = await rotator.issuer?.issue(access, asked);
    assert.ok(made && rotator.issuer);
    const id = rotator.issuer.id(made);
    const listed = await rotator.issuer.list(access, asked);
    assert.ok(listed?.some((one) => one.id === id && one.rotationId === asked.rotationId));
    await rotator.test(made, asked);
    const old = rotator.issuer.id(access.current);
    await rotator.issuer.delete(old, { ...access, current: made }, asked);
    await rotator.issuer.delete(old, { ...access, current: made }, asked);
    assert.deepEqual(world.keysOf(user), [id]);
    assert.equal(await rotator.probe(access.current, asked), "refused");
    assert.deepEqual(
      route.calls.map(({ verb, repeatable, subject }) => [verb, repeatable, subject === asked.rotationId]),
      [
        ["rotator.issuer.issue", false, true],
        ["rotator.issuer.list", true, true],
        ["rotator.test", true, true],
        ["rotator.issuer.delete", true, true],
        ["rotator.issuer.delete", true, true],
        ["rotator.probe", true, true],
      ],
    );
  });
});
