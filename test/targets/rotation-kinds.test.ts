// The engine rotates credentials of kinds that are no databases, with real servers.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type Secret, versionWith } from "../../src/core/secret.ts";
import { type Engine, startEngine } from "../../src/engine/loop.ts";
import { migrate } from "../../src/store/migrate.ts";
import { listRotations } from "../../src/store/rotations.ts";
import { openSqlite } from "../../src/store/sqlite.ts";
import { keyPair } from "../../src/targets/key-pair.ts";
import { ldap } from "../../src/targets/ldap.ts";
import { redis } from "../../src/targets/redis.ts";
import { openWorld, type World } from "../support/engine-world.ts";
import { redisSkip, startRedis } from "../support/redis-server.ts";
import { slapdSkip, startSlapd, suffix } from "../support/slapd-server.ts";
import { tools } from "./contract.ts";

describe("rotation through the engine", () => {
  let world: World;
  let engine: Engine;
  before(async () => {
    const sql = openSqlite(":memory:");
    await migrate(sql);
    world = await openWorld(sql);
    engine = startEngine(world.parts);
  });
  after(async () => {
    await engine.stop();
    await world.sql.close();
  });

  async function rotate(secret: Secret, functionName: string): Promise<void> {
    const id = await world.begin(secret, { functionName });
    engine.wake();
    const { state, error } = await world.ended(id);
    assert.equal(state, "succeeded", error);
  }

  test("a Redis user without rights gets a second password from the superuser's; the first stays good", {
    skip: redisSkip,
  }, async () => {
    await using server = await startRedis({ password: "password-of-default" });
    await server.run("ACL", "SETUSER", "app", "on", ">first-password", "+get", "~*");
    const place = { engine: "redis", host: server.host, port: server.port, ssl: false };
    const master = await world.newSecret("redis/admin", { ...place, username: "default", password: "password-of-default" });
    const first = { ...place, username: "app", password: "first-password", masterarn: master.arn };
    const secret = await world.newSecret("redis/app", first);
    for (const _ of ["first", "second"]) {
      await rotate(secret, "RekeyRedisRotation");
      for (const label of ["AWSCURRENT", "AWSPREVIOUS"]) {
        const credential = await world.credential(secret, label);
        assert.equal(credential && (await redis.probe(credential, tools())), "ok", label);
      }
    }
    assert.equal(await redis.probe(first, tools()), "refused");
  });

  test("a password that an LDAP server's policy refuses is given up for another one", { skip: slapdSkip }, async () => {
    await using server = await startSlapd();
    const rules = { pwdCheckQuality: "2", pwdMinLength: "12", pwdInHistory: "3" };
    const pwdPolicySubentry = await server.addPolicy("strict", rules);
    const username = `cn=strict,${suffix}`;
    const entry = { objectClass: "person", cn: "strict", sn: "x", userPassword: "first-password", pwdPolicySubentry };
    await server.asRoot((client) => client.add(username, entry));
    const sql = openSqlite(":memory:");
    await migrate(sql);
    const own = await openWorld(sql);
    const place = { engine: "ldap", host: server.host, port: server.port, ssl: false };
    const secret = await own.newSecret("ldap/strict", { ...place, username, password: "first-password" });
    const drawn = ["second-password", "first-password", "short", "a-password-that-is-fit"];
    await using begun = startEngine({ ...own.parts, generatePassword: () => drawn.shift() ?? "" });
    const first = await own.begin(secret, { functionName: "RekeyLDAPRotationSingleUser" });
    begun.wake();
    assert.equal((await own.ended(first)).state, "succeeded");
    const second = await own.begin(secret, { functionName: "RekeyLDAPRotationSingleUser" });
    begun.wake();
    assert.equal((await own.ended(second)).state, "abandoned");
    const rotations = async () => (await listRotations(sql, { secretArn: secret.arn, limit: 10 })).reverse();
    while ((await rotations()).some(({ state }) => state === "running")) await sleep(10);
    const tried = (await rotations()).sort((a, b) => a.startedAt - b.startedAt);
    assert.deepEqual(
      tried.map(({ state, error }) => [state, error?.replace(/^.*: /, "")]),
      [
        ["succeeded", undefined],
        ["abandoned", "the policy refuses a password that was used before"],
        ["abandoned", "the policy finds the new password too short"],
        ["succeeded", undefined],
      ],
    );
    const current = await own.credential(secret, "AWSCURRENT");
    assert.equal(current?.password, "a-password-that-is-fit");
    assert.equal(current && (await ldap.probe(current, tools())), "ok");
    await begun.stop();
    await sql.close();
  });

  test("an LDAP entry, and a pair of them", { skip: slapdSkip }, async () => {
    await using server = await startSlapd();
    const usernames = [`cn=a,${suffix}`, `cn=b,${suffix}`];
    await server.asRoot(async (client) => {
      for (const [cn, seeAlso] of [
        ["a", usernames[1]],
        ["b", usernames[0]],
      ] as const) {
        const entry = { objectClass: "person", cn, sn: "x", userPassword: "first-password", seeAlso: seeAlso ?? "" };
        await client.add(`cn=${cn},${suffix}`, entry);
      }
    });
    const place = { engine: "ldap", host: server.host, port: server.port, ssl: false };
    const master = await world.newSecret("ldap/admin", { ...place, username: server.rootDn, password: server.rootPassword });
    const value = { ...place, username: usernames[0], password: "first-password", usernames, masterarn: master.arn };
    const secret = await world.newSecret("ldap/a", value);
    const current = async () => (await world.credential(secret, "AWSCURRENT")) ?? assert.fail();
    for (const [name, at] of [
      ["Single", 0],
      ["Multi", 1],
      ["Multi", 0],
    ] as const) {
      await rotate(secret, `RekeyLDAPRotation${name}User`);
      assert.equal((await current()).username, usernames[at]);
      assert.equal(await ldap.probe(await current(), tools()), "ok");
    }
  });

  test("a random value and a key pair, from nothing but what they are to be", async () => {
    const token = await world.newSecret("token", { type: "random", charset: "hex", valueKey: "token" });
    const pair = await world.newSecret("pair", { type: "ssh-ed25519", comment: "deploy" });
    for (const _ of ["first", "second"]) {
      await rotate(token, "RekeyRandomRotation");
      await rotate(pair, "RekeyKeyPairRotation");
    }
    assert.match(String((await world.credential(token, "AWSCURRENT"))?.token), /^[0-9a-f]{64}$/);
    assert.notDeepEqual(await world.credential(token, "AWSCURRENT"), await world.credential(token, "AWSPREVIOUS"));
    await keyPair.test(keyPair.credential.parse(await world.credential(pair, "AWSCURRENT")), tools());
    assert.ok(versionWith(await world.reload(pair), "AWSPREVIOUS"));
  });
});
