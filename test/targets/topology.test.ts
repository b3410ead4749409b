// A new credential must be good at replicas and poolers too before it becomes current.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import type { Rotation } from "../../src/core/rotation.ts";
import type { RotationPolicy } from "../../src/core/rotation-policy.ts";
import { currentInForce, type Secret, versionWith } from "../../src/core/secret.ts";
import { type Engine, startEngine } from "../../src/engine/loop.ts";
import { migrate } from "../../src/store/migrate.ts";
import { openSqlite } from "../../src/store/sqlite.ts";
import { openWorld, type World } from "../support/engine-world.ts";
import { type PostgresServer, postgresSkip, startPostgres } from "../support/postgres-server.ts";
import { startProxy } from "../support/proxy.ts";
import { freePort } from "../support/server-process.ts";

describe("replicas and poolers", { skip: postgresSkip }, () => {
  let primary: PostgresServer;
  /** Stands for a replica: its users are copied by hand, with their password verifiers. */
  let replica: PostgresServer;
  let onPrimary: pg.Client;
  let onReplica: pg.Client;
  let world: World;
  let engine: Engine;
  const folder = mkdtempSync(join(tmpdir(), "rekey-topology-"));

  before(async () => {
    [primary, replica] = await Promise.all([startPostgres(), startPostgres()]);
    onPrimary = new pg.Client(primary.url);
    onReplica = new pg.Client(replica.url);
    await Promise.all([onPrimary.connect(), onReplica.connect()]);
    const sql = openSqlite(join(folder, "rekey.db"));
    await migrate(sql);
    const opened = await openWorld(sql);
    world = { ...opened, parts: { ...opened.parts, random: () => 0.02 } }; // short pauses
    engine = startEngine(world.parts);
  });
  after(async () => {
    await engine.stop();
    await world.sql.close();
    await Promise.all([onPrimary.end(), onReplica.end()]);
    await Promise.all([primary[Symbol.asyncDispose](), replica[Symbol.asyncDispose]()]);
    rmSync(folder, { recursive: true });
  });

  const place = ({ host, port }: { host: string; port: number }) => ({ host, port });

  async function newSecret(username: string, rotationPolicy: RotationPolicy): Promise<Secret> {
    await onPrimary.query(`create role ${username} login password 'first'`);
    await onReplica.query(`create role ${username} login`);
    await follow(username);
    const credential = { engine: "postgres", ...place(primary), username, password: "first", ssl: false };
    return world.newSecret(username, credential, { rotationPolicy });
  }

  /** The replica catches up. */
  async function follow(username: string): Promise<void> {
    const { rows } = await onPrimary.query("select rolpassword from pg_authid where rolname = $1", [username]);
    await onReplica.query(`alter role ${username} password '${rows[0].rolpassword}'`);
  }

  /** A try of the test failed. */
  async function tried(id: string): Promise<Rotation> {
    for (;;) {
      const rotation = await world.rotationOf(id);
      if (rotation.error !== undefined) return rotation;
      await sleep(5);
    }
  }

  async function logsIn(client: PostgresServer, user: string, password: string): Promise<boolean> {
    const session = new pg.Client({ ...place(client), user, password, database: "postgres" });
    session.on("error", () => undefined);
    try {
      await session.connect();
      return true;
    } catch {
      return false;
    } finally {
      await session.end();
    }
  }

  /** What a reader of AWSCURRENT gets. */
  async function served(secret: Secret): Promise<string | undefined> {
    const latest = await world.reload(secret);
    const inForce = currentInForce(latest);
    const label = inForce?.stages.includes("AWSPENDING") ? "AWSPENDING" : "AWSCURRENT";
    return (await world.credential(secret, label))?.password;
  }

  test("a replica that lags: the label waits for it, and readers get what the primary takes", async () => {
    const secret = await newSecret("lagging", { endpoints: [place(replica)] });
    const before = await world.reload(secret);
    const id = await world.begin(secret, { function: "SingleUser" });
    engine.wake();
    const waiting = await tried(id);
    assert.equal(waiting.state, "running");
    assert.equal(waiting.step, "testSecret");
    assert.match(waiting.error ?? "", new RegExp(`only 0 of its 1 endpoints do: 127\\.0\\.0\\.1:${replica.port}: `));
    assert.match(waiting.remedy ?? "", /follow the target, or lower endpointQuorum/);
    assert.notEqual(waiting.outcome, "refused", "the target itself takes it");
    const meanwhile = await world.reload(secret);
    assert.equal(versionWith(meanwhile, "AWSCURRENT")?.id, versionWith(before, "AWSCURRENT")?.id);
    const password = (await served(secret)) ?? "";
    assert.notEqual(password, "first");
    assert.ok(await logsIn(primary, "lagging", password));
    assert.ok(await logsIn(replica, "lagging", "first"));
    await follow("lagging");
    engine.wake();
    assert.equal((await world.ended(id)).state, "succeeded");
    const done = await world.reload(secret);
    assert.equal(versionWith(done, "AWSCURRENT")?.id, waiting.versionId);
    assert.equal((await world.credential(secret, "AWSCURRENT"))?.password, password, "set once");
    assert.ok(await logsIn(replica, "lagging", password));
  });

  test("a pooler that is down, then comes", async () => {
    const port = await freePort();
    const secret = await newSecret("pooled", { endpoints: [{ host: "127.0.0.1", port }] });
    const id = await world.begin(secret, { function: "SingleUser" });
    engine.wake();
    const waiting = await tried(id);
    assert.equal(waiting.outcome, "unreachable");
    assert.equal(waiting.waitsFor, undefined, "it is not the target that is silent");
    assert.match(waiting.error ?? "", new RegExp(`127\\.0\\.0\\.1:${port}: `));
    await using _pooler = await startProxy(place(primary), port);
    assert.equal((await world.ended(id)).state, "succeeded");
  });

  test("a quorum: one of two is enough, none is not", async () => {
    const dead = { host: "127.0.0.1", port: await freePort() };
    await using pooler = await startProxy(place(primary));
    const alive = { host: "127.0.0.1", port: pooler.port };
    const some = await newSecret("some_of_two", { endpoints: [dead, alive], endpointQuorum: 1 });
    const first = await world.begin(some, { function: "SingleUser" });
    engine.wake();
    assert.equal((await world.ended(first)).state, "succeeded");
    const none = await newSecret("none_of_two", { endpoints: [dead, { ...dead, port: await freePort() }], endpointQuorum: 1 });
    const second = await world.begin(none, { function: "SingleUser", windowMs: 1_500 });
    engine.wake();
    const ended = await world.ended(second);
    assert.equal(ended.state, "failed");
    assert.match(ended.error ?? "", /only 0 of 1 that must of its 2 endpoints do/);
    // The window is over: the label has not moved, and whoever reads still gets what logs in.
    assert.equal((await world.credential(none, "AWSCURRENT"))?.password, "first");
    assert.ok(await logsIn(primary, "none_of_two", (await served(none)) ?? ""));
  });

  test("an endpoint that only holds connections is named when time is up, while others are asked beside it", async () => {
    await using held = await startProxy(place(primary));
    const secret = await newSecret("held", {
      endpoints: [{ host: "127.0.0.1", port: held.port }, place(replica)],
      endpointQuorum: 2,
    });
    const opened = openWorldWith({ callMs: 600, claimMs: 6_000 });
    await engine.stop();
    await using short = startEngine((await opened).parts);
    const caught = held.hold(1);
    const id = await world.begin(secret, { function: "SingleUser" });
    short.wake();
    const connection = await caught;
    const waiting = await tried(id);
    assert.match(
      waiting.error ?? "",
      new RegExp(`only 0 of its 2 endpoints do: 127.0.0.1:${held.port}: .*; 127.0.0.1:${replica.port}: `),
    );
    connection.cut();
    await follow("held");
    assert.equal((await world.ended(id)).state, "succeeded");
    await short.stop();
    engine = startEngine(world.parts);
  });

  const openWorldWith = async (settings: Partial<World["parts"]["settings"]>): Promise<World> => ({
    ...world,
    parts: { ...world.parts, settings: { ...world.parts.settings, ...settings } },
  });
});
