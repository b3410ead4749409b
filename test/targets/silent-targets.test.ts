// One target that does not answer and one that does, with much due at both.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import type { Secret } from "../../src/core/secret.ts";
import { startEngine } from "../../src/engine/loop.ts";
import { listHeartbeats } from "../../src/store/heartbeats.ts";
import { migrate } from "../../src/store/migrate.ts";
import { insertRetirement, type ListedRetirement, listRetirements } from "../../src/store/retirements.ts";
import { countSilentTargets, wakeWaiting } from "../../src/store/rotation-waits.ts";
import { listRotations } from "../../src/store/rotations.ts";
import { openSqlite } from "../../src/store/sqlite.ts";
import { functionArn, openWorld, owner, region, type World } from "../support/engine-world.ts";
import { type PostgresServer, postgresSkip, startPostgres } from "../support/postgres-server.ts";

/** Takes connections and says nothing, as behind a firewall that has forgotten them; counts them. Later it may pass them on. */
class Hole implements AsyncDisposable {
  connections = 0;
  readonly #sockets = new Set<Socket>();
  readonly #server: Server;
  /** Where to pass connections on to, once it is no hole any more. */
  to: { host: string; port: number } | undefined;

  constructor() {
    this.#server = createServer((socket) => {
      this.connections++;
      this.#keep(socket);
      if (!this.to) return void socket.resume();
      const far = this.#keep(connect(this.to.port, this.to.host));
      socket.pipe(far).pipe(socket);
      socket.on("close", () => far.destroy());
      far.on("close", () => socket.destroy());
    });
  }

  #keep(socket: Socket): Socket {
    this.#sockets.add(socket);
    return socket.on("error", () => socket.destroy()).on("close", () => this.#sockets.delete(socket));
  }

  async listen(): Promise<number> {
    await new Promise<void>((done) => this.#server.listen(0, "127.0.0.1", done));
    const address = this.#server.address();
    return typeof address === "object" && address ? address.port : 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((done) => this.#server.close(done));
  }
}

describe("targets that do not answer", { skip: postgresSkip }, () => {
  let server: PostgresServer;
  let admin: pg.Client;
  const folder = mkdtempSync(join(tmpdir(), "rekey-silent-"));
  let stores = 0;

  before(async () => {
    server = await startPostgres();
    admin = new pg.Client(server.url);
    await admin.connect();
  });
  after(async () => {
    await admin.end();
    await server[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true });
  });

  /** Calls at each port, and the most at once. */
  const calls = new Map<number, { now: number; most: number }>();

  async function newWorld(settings: Parameters<typeof openWorld>[1]): Promise<World> {
    const sql = openSqlite(join(folder, `rekey-${++stores}.db`));
    await migrate(sql);
    const world = await openWorld(sql, settings);
    const counted = async <T>(port: unknown, call: () => Promise<T>): Promise<T> => {
      const count = calls.get(Number(port)) ?? { now: 0, most: 0 };
      calls.set(Number(port), count);
      count.most = Math.max(count.most, ++count.now);
      return call().finally(() => count.now--);
    };
    const findRotator: typeof world.parts.findRotator = async (kind) => {
      const rotator = await world.parts.findRotator(kind);
      return (
        rotator && {
          ...rotator,
          set: (versions, ...more) => counted(versions.pending.port, () => rotator.set(versions, ...more)),
          test: (credential, tools) => counted(credential.port, () => rotator.test(credential, tools)),
          probe: (credential, tools) => counted(credential.port, () => rotator.probe(credential, tools)),
        }
      );
    };
    return { ...world, parts: { ...world.parts, findRotator } };
  }

  /** Secrets of users of the real server, reached at `port`. */
  async function newSecrets(world: World, name: string, count: number, port: number): Promise<Secret[]> {
    const secrets: Secret[] = [];
    for (let number = 0; number < count; number++) {
      const username = `${name}_${number}`;
      await admin.query(`create role ${username} login password 'first'`);
      secrets.push(
        await world.newSecret(username, { engine: "postgres", host: "127.0.0.1", port, username, password: "first", ssl: false }),
      );
    }
    return secrets;
  }

  test("200 rotations are due, half of them at a target that is silent: the others are done meanwhile, and these when it is back", async () => {
    await using hole = new Hole();
    const world = await newWorld({ settings: { callMs: 1_500, claimMs: 10_000, concurrency: 8, perTarget: 6, warmUpMs: 0 } });
    const deadPort = await hole.listen();
    const dead = await newSecrets(world, "dead", 100, deadPort);
    const live = await newSecrets(world, "live", 100, server.port);
    const begun = { function: "SingleUser", windowMs: 3_600_000 } as const;
    for (const secret of dead) await world.begin(secret, begun);
    const ids: string[] = [];
    for (const secret of live) ids.push(await world.begin(secret, begun));
    {
      await using engine = startEngine(world.parts);
      engine.wake();
      for (const id of ids) assert.equal((await world.ended(id)).state, "succeeded");
      const tried = hole.connections;
      assert.equal(calls.get(deadPort)?.most, 6);
      assert.ok(tried <= 24, `left alone after some tries: ${tried}`);
      await untilAll(world, dead.length, ({ waitsFor }) => waitsFor !== undefined);
      const waiting = await listRotations(world.sql, { state: "running", limit: 1_000 });
      const reasons = waiting.filter(({ error }) => error?.includes("has not answered since"));
      assert.ok(reasons.length >= 90);
      assert.match(
        reasons[0]?.error ?? "",
        /^postgres at postgres:\/\/127\.0\.0\.1:\d+ has not answered since \d{4}-.*; it is tried again every 30 s$/,
      );
      assert.ok(
        waiting.every(({ attempt }) => attempt <= 2),
        "waiting is not counted",
      );
      assert.equal(await countSilentTargets(world.sql), 1);
    }
    // Another process, which knows nothing of the silence: the first answer wakes all.
    hole.to = { host: server.host, port: server.port };
    await world.sql.query(
      "update rotations set run_at = $1 where id = (select id from rotations where state = 'running' limit 1)",
      [Date.now()],
    );
    await using _engine = startEngine(world.parts);
    await untilAll(world, 0, () => true);
    const ended = await listRotations(world.sql, { limit: 1_000 });
    assert.equal(ended.filter(({ state }) => state === "succeeded").length, 200);
    assert.equal(calls.get(deadPort)?.most, 6, "and the cap held when all came at once");
    assert.equal(calls.get(server.port)?.most, 6);
    assert.equal(await countSilentTargets(world.sql), 0);
    await world.sql.close();
  });

  async function untilAll(world: World, count: number, is: (rotation: { waitsFor?: string | undefined }) => boolean) {
    for (;;) {
      const running = await listRotations(world.sql, { state: "running", limit: 1_000 });
      if (running.length === count && running.every(is)) return;
      await sleep(50);
    }
  }

  test("a window that ends while the target is silent ends the rotation, with the reason", async () => {
    await using hole = new Hole();
    const world = await newWorld({ settings: { callMs: 300, claimMs: 10_000, warmUpMs: 0 } });
    const secrets = await newSecrets(world, "late", 8, await hole.listen());
    const ids: string[] = [];
    for (const secret of secrets) ids.push(await world.begin(secret, { function: "SingleUser", windowMs: 4_000 }));
    await using _engine = startEngine(world.parts);
    for (const id of ids) {
      const rotation = await world.ended(id);
      assert.equal(rotation.state, "failed");
      assert.match(rotation.outcome ?? "", /^(unreachable|timeout)$/);
      assert.equal(rotation.waitsFor, undefined);
    }
    await _engine.stop();
    await world.sql.close();
  });

  test("after a start half of the caps", async () => {
    await using hole = new Hole();
    const world = await newWorld({ settings: { callMs: 1_000, claimMs: 10_000, perTarget: 6, warmUpMs: 60_000 } });
    const port = await hole.listen();
    for (const secret of await newSecrets(world, "warm", 12, port))
      await world.begin(secret, { function: "SingleUser", windowMs: 3_600_000 });
    await using engine = startEngine(world.parts);
    await untilAll(world, 12, ({ waitsFor }) => waitsFor !== undefined);
    assert.equal(calls.get(port)?.most, 3);
    await engine.stop();
    await world.sql.close();
  });

  test("who waits is woken so many a second, and only who waits", async () => {
    const world = await newWorld({});
    const now = Date.now();
    for (let number = 0; number < 450; number++) {
      const secret = await world.newSecret(`w/${number}`, { username: "u", password: "p", host: "h" });
      const id = await world.begin(secret, { function: "SingleUser" });
      const target = number % 10 === 0 ? null : "postgres://h:1";
      await world.sql.query("update rotations set waits_for = $2, run_at = $3 where id = $1", [id, target, now + 900_000]);
    }
    assert.equal(await wakeWaiting(world.sql, "postgres://h:1", now), 405);
    const times = (await listRotations(world.sql, { limit: 1_000 })).map(({ runAt }) => runAt - now);
    const count = (ms: number) => times.filter((time) => time === ms).length;
    assert.deepEqual([count(0), count(1_000), count(2_000), count(900_000)], [200, 200, 5, 45]);
    assert.equal(await wakeWaiting(world.sql, "postgres://h:1", now), 0);
    await world.sql.close();
  });

  test("heartbeats and retirements leave a silent target alone as well, and say so", async () => {
    await using hole = new Hole();
    const world = await newWorld({ settings: { callMs: 300, claimMs: 10_000, warmUpMs: 0 } });
    const port = await hole.listen();
    const configured = {
      rotationEnabled: true,
      rotationFunctionArn: functionArn("MultiUser"),
      rotationPrincipal: owner,
      rotationPolicy: { heartbeatSeconds: 3_600 },
    };
    const nowMs = Date.now();
    const credential = (number: number) => ({
      ...{ engine: "postgres", host: "127.0.0.1", port, ssl: false, masterarn: "none" },
      ...{ username: `beat_${number}`, password: "first" },
    });
    for (let number = 0; number < 60; number++)
      await world.newSecret(`beat/${number}`, credential(number), { ...configured, heartbeatDueAt: nowMs });
    for (let number = 60; number < 100; number++) {
      const secret = await world.newSecret(`old/${number}`, credential(number), { ...configured, rotationPolicy: {} });
      const [old] = secret.versions;
      await world.put(secret, credential(number));
      const times = { dueAt: nowMs, runAt: nowMs, createdAt: nowMs };
      const about = { secretId: secret.id, versionId: old?.id ?? "", functionArn: functionArn("MultiUser"), ...times };
      await insertRetirement(world.sql, { ...about, strategy: "alternating-users" });
    }
    await using engine = startEngine(world.parts);
    engine.wake();
    const all = async () => {
      const beats = await listHeartbeats(world.sql, { region, failing: true, limit: 1_000 });
      const retirements = await listRetirements(world.sql, { limit: 1_000 });
      const told = ({ error, attempt }: ListedRetirement) => attempt > 0 || error?.includes("has not answered since");
      return { beats, retirements: retirements.filter(told) };
    };
    for (let found = await all(); found.beats.length < 60 || found.retirements.length < 40; found = await all()) await sleep(50);
    const { beats, retirements } = await all();
    assert.ok(hole.connections <= 24, `left alone after some tries: ${hole.connections}`);
    assert.ok(beats.every(({ outcome }) => outcome === "unreachable" || outcome === "timeout"));
    assert.ok(beats.filter(({ dueAt = 0 }) => dueAt < nowMs + 120_000).length >= 40, "and tried again soon");
    assert.ok(retirements.every(({ state, attempt }) => state === "waiting" && attempt <= 1));
    assert.ok(retirements.filter(({ attempt }) => attempt === 0).length >= 16, "to be left alone is no try");
    await engine.stop();
    await world.sql.close();
  });
});
