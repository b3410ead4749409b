// What the engine does by itself beside rotations: purges and copies to other regions, on either database.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type Engine, startEngine } from "../../src/engine/loop.ts";
import { type EngineParts, engineDefaults } from "../../src/engine/parts.ts";
import { copyDueReplicas } from "../../src/engine/replicate.ts";
import type { Sql } from "../../src/store/sql.ts";
import { dataFolder } from "../support/audit.ts";
import { region } from "../support/keys.ts";
import { type Answer, type OperationsWorld, operationsWorld } from "../support/operations-world.ts";
import { forEachStore } from "../support/stores.ts";

const far = "eu-west-3";
const dayMs = 86_400_000;

function engineParts({ services, clock }: OperationsWorld): EngineParts {
  return {
    ...services,
    random: () => 0.5,
    now: () => clock.now,
    generatePassword: () => randomUUID(),
    findRotator: async () => undefined,
    findFunction: async () => undefined,
    findInvoked: async () => undefined,
    kindOfEngine: () => undefined,
    mayRun: async () => undefined,
    mayRead: async () => undefined,
    settings: { ...engineDefaults, node: "test", ownsStore: false },
  };
}

forEachStore((_dialect, open) => {
  async function opened(): Promise<{ sql: Sql; world: OperationsWorld } & AsyncDisposable> {
    const sql = await open();
    const world = await operationsWorld(sql, dataFolder());
    return { sql, world, [Symbol.asyncDispose]: () => world[Symbol.asyncDispose]() };
  }
  const create = (world: OperationsWorld, Name: string, more: object = {}, inRegion?: string) =>
    world.call("CreateSecret", { Name, SecretString: `value of ${Name}`, ClientRequestToken: randomUUID(), ...more }, inRegion);
  const eventsOf = async (sql: Sql, arn: unknown) =>
    (await sql.query<{ type: string }>("select type from events where resource = $1 order by id", [String(arn)])).map(
      ({ type }) => type,
    );
  async function until(engine: Engine, holds: () => Promise<boolean>): Promise<void> {
    while (!(await holds())) {
      engine.wake();
      await sleep(5);
    }
  }
  const status = async (world: OperationsWorld, SecretId: string): Promise<Answer> => {
    const { ReplicationStatus } = await world.call("DescribeSecret", { SecretId });
    return (ReplicationStatus as Answer[] | undefined)?.[0] ?? {};
  };

  test("old history goes, page by page; what is blocked, running or young stays", async () => {
    await using place = await opened();
    const { sql, world } = place;
    const old = world.clock.now - 401 * dayMs;
    for (let n = 0; n < 700; n++)
      await sql.query("insert into events (at, type, resource, detail) values ($1, 'old', 'r', '{}')", [old]);
    const { ARN } = await create(world, "with-history");
    const [secret] = await sql.query<{ id: string }>("select id from secrets where arn = $1", [String(ARN)]);
    const insert = (state: string, endedAt: number | null) =>
      sql.query(
        `insert into rotations (id, secret_id, version_id, generation, origin, test_only, function_arn, principal, step, state, attempt,
           step_attempt, run_at, window_ends_at, fence, started_at, ended_at)
         values ($1, $2, 'v', 1, 'request', 0, 'f', '{}', 'finishSecret', $3, 0, 0, $4, 0, 0, 0, $5)`,
        [randomUUID(), secret?.id ?? "", state, world.clock.now + dayMs, endedAt],
      );
    for (let n = 0; n < 700; n++) await insert("succeeded", old);
    await insert("blocked", old);
    await insert("running", null);
    await insert("failed", world.clock.now);
    const young = (await sql.query("select id from events where type <> 'old'")).length;
    const engine = startEngine(engineParts(world));
    const left = async () =>
      (await sql.query<{ state: string }>("select state from rotations order by state")).map(({ state }) => state);
    const told = async () => (await sql.query("select id from events")).length;
    await until(engine, async () => (await left()).length === 3 && (await told()) === young);
    assert.deepEqual(await left(), ["blocked", "failed", "running"]);
    await engine.stop();
  });

  test("a secret goes when its recovery window is over and not before, with all that is its own; one event each", async () => {
    await using place = await opened();
    const { sql, world } = place;
    const arns: unknown[] = [];
    for (let n = 0; n < 60; n++) arns.push((await create(world, `gone/${n}`, { Tags: [{ Key: "a", Value: "b" }] })).ARN);
    const kept = await create(world, "kept");
    const restored = await create(world, "restored");
    for (let n = 0; n < 60; n++) await world.call("DeleteSecret", { SecretId: `gone/${n}`, RecoveryWindowInDays: 7 });
    await world.call("DeleteSecret", { SecretId: "kept", RecoveryWindowInDays: 8 });
    await world.call("DeleteSecret", { SecretId: "restored", RecoveryWindowInDays: 7 });
    await world.call("RestoreSecret", { SecretId: "restored" });
    await using engine = startEngine(engineParts(world));
    const left = async () => Number((await sql.query<{ count: number }>("select count(*) as count from secrets"))[0]?.count);
    world.clock.now += 7 * dayMs - 1;
    engine.wake();
    await sleep(50);
    assert.equal(await left(), 62);
    world.clock.now += 1;
    await until(engine, async () => (await left()) <= 2);
    assert.equal(await left(), 2);
    for (const table of ["versions", "labels"]) {
      const [row] = await sql.query<{ count: number }>(`select count(distinct secret_id) as count from ${table}`);
      assert.equal(Number(row?.count), 2, table);
    }
    for (const arn of arns) assert.deepEqual((await eventsOf(sql, arn)).slice(-2), ["secret.deleted", "secret.removed"]);
    assert.ok((await world.call("DescribeSecret", { SecretId: kept.Name })).DeletedDate);
    assert.equal((await world.call("GetSecretValue", { SecretId: restored.Name })).SecretString, "value of restored");
    const again = await create(world, "gone/0");
    assert.notEqual(again.ARN, arns[0]);
  });

  test("values, labels, tags and policy travel, and every later change too", async () => {
    await using place = await opened();
    const { sql, world } = place;
    const Statement = [{ Effect: "Deny", Principal: "*", Action: "secretsmanager:DeleteSecret", Resource: "*" }];
    const ResourcePolicy = JSON.stringify({ Version: "2012-10-17", Statement });
    const made = await create(world, "s", { Tags: [{ Key: "team", Value: "red" }], AddReplicaRegions: [{ Region: far }] });
    await using engine = startEngine(engineParts(world));
    const inSync = () => until(engine, async () => (await status(world, "s")).Status === "InSync");
    await inSync();
    await world.call("PutResourcePolicy", { SecretId: "s", ResourcePolicy });
    await world.call("TagResource", { SecretId: "s", Tags: [{ Key: "more", Value: "tags" }] });
    const put = {
      SecretId: "s",
      SecretString: "second",
      ClientRequestToken: randomUUID(),
      VersionStages: ["MINE", "AWSCURRENT"],
    };
    await world.call("PutSecretValue", put);
    await until(engine, async () => (await world.call("GetSecretValue", { SecretId: "s" }, far)).SecretString === "second");
    const [here, there] = [
      await world.call("DescribeSecret", { SecretId: "s" }),
      await world.call("DescribeSecret", { SecretId: "s" }, far),
    ];
    assert.equal(there.ARN, String(made.ARN).replace(region, far));
    assert.deepEqual(there.VersionIdsToStages, here.VersionIdsToStages);
    assert.deepEqual(there.Tags, here.Tags);
    assert.deepEqual([there.PrimaryRegion, here.PrimaryRegion], [region, region]);
    const policy = await world.call("GetResourcePolicy", { SecretId: "s" }, far);
    assert.deepEqual(JSON.parse(String(policy.ResourcePolicy)).Statement, Statement);
    const sealed = await sql.query<{ sealed: Uint8Array }>("select sealed from versions where version_id = $1", [
      put.ClientRequestToken,
    ]);
    assert.equal(new Set(sealed.map((row) => Buffer.from(row.sealed).toString("hex"))).size, 2, "sealed anew for its own ARN");
    assert.deepEqual(await eventsOf(sql, there.ARN), ["secret.created"]);
  });

  test("a name that is taken fails until it is free or may be overwritten", async () => {
    await using place = await opened();
    const { world } = place;
    await create(world, "s", {}, far);
    await create(world, "s", { AddReplicaRegions: [{ Region: far }] });
    await using engine = startEngine(engineParts(world));
    await until(engine, async () => (await status(world, "s")).Status === "Failed");
    assert.equal((await status(world, "s")).StatusMessage, "Secret with this name already exists in this region");
    await world.call("UpdateSecret", { SecretId: "s", Description: "changed", ClientRequestToken: randomUUID() });
    await sleep(30);
    assert.equal((await world.call("DescribeSecret", { SecretId: "s" }, far)).PrimaryRegion, undefined);
    await world.call("ReplicateSecretToRegions", {
      SecretId: "s",
      AddReplicaRegions: [{ Region: far }],
      ForceOverwriteReplicaSecret: true,
    });
    await until(engine, async () => (await status(world, "s")).Status === "InSync");
    assert.equal((await world.call("DescribeSecret", { SecretId: "s" }, far)).PrimaryRegion, region);
  });

  test("a replica that is promoted or removed while it is being copied stays as its owner left it", async () => {
    await using place = await opened();
    const { sql, world } = place;
    for (const Name of ["promoted", "removed"]) await create(world, Name, { AddReplicaRegions: [{ Region: far }] });
    const parts = engineParts(world);
    while (await copyDueReplicas(parts));
    for (const SecretId of ["promoted", "removed"])
      await world.call("PutSecretValue", { SecretId, SecretString: "second", ClientRequestToken: randomUUID() });
    let meanwhile = async () => {
      meanwhile = async () => undefined;
      await world.call("StopReplicationToReplica", { SecretId: "promoted" }, far);
      await world.call("RemoveRegionsFromReplication", { SecretId: "removed", RemoveReplicaRegions: [far] });
    };
    // The values are opened and sealed before the transaction that writes the copy: others get in between.
    const seal: EngineParts["envelope"]["seal"] = async (...all) => {
      await meanwhile();
      return parts.envelope.seal(...all);
    };
    const envelope = {
      open: parts.envelope.open.bind(parts.envelope),
      rewrap: parts.envelope.rewrap.bind(parts.envelope),
      seal,
    };
    while (await copyDueReplicas({ ...parts, envelope }));
    assert.equal((await world.call("GetSecretValue", { SecretId: "promoted" }, far)).SecretString, "value of promoted");
    assert.equal((await world.call("DescribeSecret", { SecretId: "promoted" }, far)).PrimaryRegion, undefined);
    await assert.rejects(world.call("DescribeSecret", { SecretId: "removed" }, far), { code: "ResourceNotFoundException" });
    assert.deepEqual(await sql.query("select * from replicas"), []);
  });

  test("two nodes that copy at once make one replica", async () => {
    await using place = await opened();
    const { world } = place;
    for (let n = 0; n < 10; n++) await create(world, `s/${n}`, { AddReplicaRegions: [{ Region: far }] });
    const parts = engineParts(world);
    await Promise.all([copyDueReplicas(parts), copyDueReplicas(parts)]);
    while (await copyDueReplicas(parts));
    for (let n = 0; n < 10; n++) {
      assert.equal((await status(world, `s/${n}`)).Status, "InSync");
      assert.equal((await world.call("GetSecretValue", { SecretId: `s/${n}` }, far)).SecretString, `value of s/${n}`);
    }
  });
});
