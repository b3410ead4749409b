// Clocks that jump, and nodes whose clocks are wrong.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { startEngine } from "../../src/engine/loop.ts";
import { migrate } from "../../src/store/migrate.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import type { Sql } from "../../src/store/sql.ts";
import { openSqlite } from "../../src/store/sqlite.ts";
import { redis } from "../../src/targets/redis.ts";
import { newRootKey, openWorld, type World } from "../support/engine-world.ts";
import { postgresSkip, startPostgres } from "../support/postgres-server.ts";
import { type RedisServer, redisSkip, startRedis } from "../support/redis-server.ts";
import { tools } from "./contract.ts";

const minuteMs = 60_000;
/** A window that no jump leaves. */
const how = { functionName: "RekeyRedisRotation", windowMs: 180 * minuteMs };
const claimMs = 6_000;
const settings = { claimMs, callMs: 2_000 };

interface Shifted {
  readonly world: World;
  /** By how much the clock is wrong. */
  shiftMs: number;
}

describe("clocks", { skip: redisSkip }, () => {
  let server: RedisServer;
  let made = 0;
  before(async () => {
    server = await startRedis({ password: "password-of-default" });
  });
  after(() => server[Symbol.asyncDispose]());

  async function newSecret(world: World, retireAfterSeconds: number) {
    const username = `user_${++made}`;
    const rights = ["-@all", "+ping", "+acl|getuser", "+acl|setuser", "+acl|save"];
    await server.run("ACL", "SETUSER", username, "on", ">first-password", ...rights);
    const value = { engine: "redis", host: server.host, port: server.port, ssl: false, username, password: "first-password" };
    return world.newSecret(username, value, { rotationPolicy: { retireAfterSeconds } });
  }

  async function open(sql: Sql, more: object = {}, rootKey = newRootKey()): Promise<Shifted & AsyncDisposable> {
    const world = await openWorld(sql, { rootKey, settings: { ...settings, ...more } });
    const shifted = {
      world,
      shiftMs: 0,
      [Symbol.asyncDispose]: () => engine.stop(),
    };
    const now = () => Date.now() + shifted.shiftMs;
    const engine = startEngine({ ...world.parts, now, elapsed: () => performance.now() });
    return shifted;
  }

  const oldLogsIn = async (world: World, secret: Awaited<ReturnType<typeof newSecret>>) => {
    const old = await world.credential(secret, "AWSPREVIOUS");
    return old && redis.probe(old, tools());
  };
  const rotateOnce = async (world: World, secret: Awaited<ReturnType<typeof newSecret>>) => {
    const { state, error } = await world.ended(await world.begin(secret, how));
    assert.equal(state, "succeeded", error);
  };
  const alarms = ({ log }: World) => log.filter((line) => line.includes("the clock jumped")).length;

  test("old credentials outlive a clock that is an hour ahead for a while; not one that stays so", async () => {
    const sql = openSqlite(":memory:");
    await migrate(sql);
    await using node = await open(sql);
    const { world } = node;
    const secret = await newSecret(world, 1_800);
    await rotateOnce(world, secret);
    node.shiftMs = 60 * minuteMs;
    while (alarms(world) === 0) await sleep(20);
    await sleep(claimMs / 4);
    assert.equal(await oldLogsIn(world, secret), "ok");
    node.shiftMs = 0;
    while (alarms(world) < 2) await sleep(20);
    await sleep(claimMs);
    assert.equal(await oldLogsIn(world, secret), "ok");
    node.shiftMs = 60 * minuteMs;
    while ((await oldLogsIn(world, secret)) !== "refused") await sleep(50);
  });

  test("a clock that jumps to and fro: every rotation ends, once, and no old credential ends early", async () => {
    const sql = openSqlite(":memory:");
    await migrate(sql);
    await using node = await open(sql);
    const { world } = node;
    const secrets = await Promise.all(Array.from({ length: 4 }, () => newSecret(world, 3_600)));
    for (let turn = 0; turn < 12; turn += 1) {
      const begun = await Promise.all(secrets.map((secret) => world.begin(secret, how)));
      await sleep(40 * Math.random());
      node.shiftMs = ([-10, 0, 10][turn % 3] as number) * minuteMs;
      for (const id of begun) assert.equal((await world.ended(id)).state, "succeeded");
      for (const secret of secrets) {
        const current = await world.credential(secret, "AWSCURRENT");
        assert.equal(current && (await redis.probe(current, tools())), "ok");
        assert.equal(await oldLogsIn(world, secret), "ok");
      }
    }
  });

  test("what waits for a later try does not wait for a clock that has gone back", async () => {
    const sql = openSqlite(":memory:");
    await migrate(sql);
    await using node = await open(sql);
    const { world } = node;
    const secret = await newSecret(world, 3_600);
    node.shiftMs = 10 * minuteMs;
    while (alarms(world) === 0) await sleep(20);
    const at = Date.now() + node.shiftMs;
    const id = await world.begin(secret, how);
    await sql.query("update rotations set run_at = $2 where id = $1 and claim_until is null", [id, at + minuteMs]);
    node.shiftMs = 0;
    assert.equal((await world.ended(id)).state, "succeeded");
  });

  test("nodes with wrong clocks agree on the database's: claims are kept, and let go", { skip: postgresSkip }, async () => {
    await using database = await startPostgres();
    const url = await database.newDatabase();
    const rootKey = newRootKey();
    const stores = [openPostgres(url), openPostgres(url)];
    await using opened = new AsyncDisposableStack();
    for (const sql of stores) opened.defer(() => sql.close());
    await migrate(stores[0] as Sql);
    const nodes: Shifted[] = [];
    for (const [index, sql] of stores.entries()) {
      const node = opened.use(await open(sql, { node: `node-${index}`, ownsStore: false }, rootKey));
      node.shiftMs = (index === 0 ? -10 : 10) * minuteMs;
      nodes.push(node);
    }
    const [{ world }] = nodes as [Shifted];
    const secrets = await Promise.all(Array.from({ length: 4 }, () => newSecret(world, 3_600)));
    for (let turn = 0; turn < 4; turn += 1) {
      await Promise.all(secrets.map((secret) => rotateOnce(world, secret)));
      for (const secret of secrets) assert.equal(await oldLogsIn(world, secret), "ok");
    }
    const said = nodes.map(({ world: { log } }) => log.join(""));
    for (const text of said) {
      assert.match(text, /differs from the database's/);
      assert.doesNotMatch(text, /taken over meanwhile/);
    }
  });
});
