// Credentials that break outside: told apart at real servers, repaired only where that is allowed and sure.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import type { RotationPolicy } from "../../src/core/rotation-policy.ts";
import type { Secret } from "../../src/core/secret.ts";
import { type Engine, startEngine } from "../../src/engine/loop.ts";
import { listHeartbeats, planNext, readHeartbeat } from "../../src/store/heartbeats.ts";
import { migrate } from "../../src/store/migrate.ts";
import { insertRotation, listRotations } from "../../src/store/rotations.ts";
import { openSqlite } from "../../src/store/sqlite.ts";
import { postgres } from "../../src/targets/postgres.ts";
import { account, openWorld, owner, region, type World } from "../support/engine-world.ts";
import { type MariaDbServer, mariadbSkip, startMariaDb } from "../support/mariadb-server.ts";
import { type PostgresServer, postgresSkip, startPostgres } from "../support/postgres-server.ts";
import { tools } from "./contract.ts";

const hourly: RotationPolicy = { heartbeatSeconds: 3_600 };

/** A store and an engine, and what tests of heartbeats do again and again. */
async function openBeats() {
  const folder = mkdtempSync(join(tmpdir(), "rekey-heartbeat-"));
  const sql = openSqlite(join(folder, "rekey.db"));
  await migrate(sql);
  const world: World = await openWorld(sql, { settings: { callMs: 2_000 } });
  const engine: Engine = startEngine(world.parts);
  return {
    world,
    engine,
    newSecret: (credential: object, functionName: string, rotationPolicy = hourly) =>
      world.newSecret(`db/${randomUUID()}`, credential, {
        rotationEnabled: true,
        rotationFunctionArn: `arn:aws:lambda:${region}:${account}:function:${functionName}`,
        rotationPrincipal: owner,
        rotationPolicy,
      }),

    /** One more try, and what it came to. */
    async beat({ id }: Secret) {
      const before = await readHeartbeat(sql, id);
      await planNext(sql, id, Date.now());
      engine.wake();
      for (;;) {
        const now = await readHeartbeat(sql, id);
        if (now && now.at !== before?.at) return now;
        await sleep(5);
      }
    },
    eventsOf: async ({ arn }: Secret) =>
      (await sql.query<{ type: string }>("select type from events where resource = $1 order by id", [arn])).map(
        ({ type }) => type,
      ),
    rotationsOf: ({ arn }: Secret) => listRotations(sql, { secretArn: arn, limit: 10 }),
    async [Symbol.asyncDispose]() {
      await engine.stop();
      await sql.close();
      rmSync(folder, { recursive: true });
    },
  };
}
type Beats = Awaited<ReturnType<typeof openBeats>>;

describe("heartbeats of PostgreSQL credentials", { skip: postgresSkip }, () => {
  let server: PostgresServer;
  let admin: pg.Client;
  let beats: Beats;
  before(async () => {
    server = await startPostgres();
    await connectAdmin();
    beats = await openBeats();
  });
  after(async () => {
    await beats[Symbol.asyncDispose]();
    await admin.end();
    await server[Symbol.asyncDispose]();
  });
  async function connectAdmin(): Promise<void> {
    admin = new pg.Client(server.url);
    admin.on("error", () => undefined); // one test stops the server
    await admin.connect();
  }

  async function newLogin(more: object = {}) {
    const username = `u_${randomUUID().slice(0, 8)}`;
    await admin.query(`create role ${username} login password 'first-password'`);
    const base = { engine: "postgres", host: server.host, port: server.port };
    return { username, credential: { ...base, username, password: "first-password", ...more } };
  }
  const single = "SecretsManagerRDSPostgreSQLRotationSingleUser";
  const multi = "SecretsManagerRDSPostgreSQLRotationMultiUser";
  const masterarn = async () => {
    const base = { engine: "postgres", host: server.host, port: server.port };
    return (await beats.world.newSecret(`m/${randomUUID()}`, { ...base, username: server.user, password: server.password })).arn;
  };

  test("changed outside, NOLOGIN and expired are told apart; one event for each change", async () => {
    const { username, credential } = await newLogin();
    const secret = await beats.newSecret(credential, single);
    assert.equal((await beats.beat(secret)).outcome, "ok");
    assert.deepEqual(await beats.eventsOf(secret), []);
    await admin.query(`alter role ${username} password 'by hand'`);
    const first = await beats.beat(secret);
    const second = await beats.beat(secret);
    assert.deepEqual([first.outcome, second.outcome, second.since], ["refused", "refused", first.since]);
    assert.deepEqual(await beats.eventsOf(secret), ["credential.drifted"]);
    await admin.query(`alter role ${username} nologin password 'first-password'`);
    assert.equal((await beats.beat(secret)).outcome, "locked");
    await admin.query(`alter role ${username} login valid until '2001-01-01'`);
    assert.match((await beats.beat(secret)).outcome, /^(expired|refused)$/);
    await admin.query(`alter role ${username} valid until 'infinity'`);
    assert.equal((await beats.beat(secret)).outcome, "ok");
    assert.equal((await beats.eventsOf(secret)).at(-1), "credential.recovered");
    assert.deepEqual(await beats.rotationsOf(secret), [], "nothing is repaired unless asked");
    const { rowVersion } = await beats.world.reload(secret);
    assert.equal(rowVersion, secret.rowVersion, "readers' caches need not know");
  });

  test("the next try is planned, later when it is refused again; none without a policy", async () => {
    const { username, credential } = await newLogin();
    const secret = await beats.newSecret(credential, single, { heartbeatSeconds: 60 });
    await beats.beat(secret);
    const dueIn = async () => ((await beats.world.reload(secret)).heartbeatDueAt ?? 0) - Date.now();
    assert.ok((await dueIn()) > 50_000 && (await dueIn()) < 70_000);
    await admin.query(`alter role ${username} password 'by hand'`);
    for (let n = 0; n < 3; n++) await beats.beat(secret);
    assert.ok((await dueIn()) > 800_000, "a target may lock who fails too often");
  });

  test("refused twice, a superuser sets it anew where the policy says so", async () => {
    const { credential } = await newLogin({ masterarn: await masterarn() });
    const secret = await beats.newSecret(credential, multi, { heartbeatSeconds: 3_600, repair: true });
    const rotation = await beats.world.begin(secret, { function: "MultiUser" });
    beats.engine.wake();
    assert.equal((await beats.world.ended(rotation)).state, "succeeded");
    const current = await beats.world.credential(secret, "AWSCURRENT");
    await admin.query(`alter role ${current?.username} password 'by hand'`);
    assert.equal((await beats.beat(secret)).outcome, "refused");
    assert.equal((await beats.rotationsOf(secret)).length, 1);
    await beats.beat(secret);
    const [repair] = await beats.rotationsOf(secret);
    assert.equal(repair?.origin, "repair");
    assert.equal((await beats.world.ended(repair?.id ?? "")).state, "succeeded");
    assert.equal(
      await postgres.probe((await beats.world.credential(secret, "AWSCURRENT")) ?? current ?? credential, tools()),
      "ok",
    );
    assert.equal((await beats.beat(secret)).outcome, "ok");
    assert.equal((await beats.eventsOf(secret)).at(-1), "credential.recovered");
  });

  test("while a rotation runs nothing is tried, since a refusal would say nothing", async () => {
    const { username, credential } = await newLogin();
    const secret = await beats.newSecret(credential, single);
    await beats.beat(secret);
    await admin.query(`alter role ${username} password 'by hand'`);
    const later = Date.now() + 3_600_000;
    await beats.world.sql.transaction((tx) =>
      insertRotation(tx, {
        id: randomUUID(),
        secretId: secret.id,
        versionId: randomUUID(),
        generation: 1,
        origin: "request",
        testOnly: false,
        functionArn: secret.rotationFunctionArn ?? "",
        principal: owner.arn,
        runAt: later,
        windowEndsAt: later,
        startedAt: Date.now(),
      }),
    );
    await planNext(beats.world.sql, secret.id, Date.now());
    beats.engine.wake();
    while (((await beats.world.reload(secret)).heartbeatDueAt ?? 0) < Date.now() + 60_000) await sleep(5);
    await sleep(200);
    assert.equal((await readHeartbeat(beats.world.sql, secret.id))?.outcome, "ok");
  });

  test("a server that is away is never taken for a refusal, and nothing is repaired", async () => {
    const { credential } = await newLogin({ masterarn: await masterarn() });
    const secret = await beats.newSecret(credential, single, { heartbeatSeconds: 3_600, repair: true });
    await beats.beat(secret);
    await server.stop();
    for (let n = 0; n < 3; n++) assert.match((await beats.beat(secret)).outcome, /^(unreachable|timeout|unknown)$/);
    assert.deepEqual(await beats.eventsOf(secret), ["credential.drifted"]);
    assert.deepEqual(await beats.rotationsOf(secret), []);
    const listed = await listHeartbeats(beats.world.sql, { region, failing: true, limit: 100 });
    assert.ok(listed.some(({ secretArn }) => secretArn === secret.arn));
    await server.restart();
    await connectAdmin();
    assert.equal((await beats.beat(secret)).outcome, "ok");
    assert.deepEqual(await beats.eventsOf(secret), ["credential.drifted", "credential.recovered"]);
  });
});

describe("heartbeats of MariaDB credentials", { skip: mariadbSkip }, () => {
  test("a locked account and an expired password are told apart", async () => {
    const server: MariaDbServer = await startMariaDb();
    const admin = await server.connect();
    const beats = await openBeats();
    try {
      await admin.query("create user app identified by 'first-password'");
      const base = { engine: "mariadb", host: server.host, port: server.port };
      const credential = { ...base, username: "app", password: "first-password" };
      const secret = await beats.newSecret(credential, "SecretsManagerRDSMariaDBRotationSingleUser");
      assert.equal((await beats.beat(secret)).outcome, "ok");
      await admin.query("alter user app account lock");
      assert.equal((await beats.beat(secret)).outcome, "locked");
      await admin.query("alter user app account unlock password expire");
      assert.equal((await beats.beat(secret)).outcome, "expired");
      await admin.query("alter user app identified by 'other'");
      assert.equal((await beats.beat(secret)).outcome, "refused");
      assert.deepEqual(new Set(await beats.eventsOf(secret)), new Set(["credential.drifted"]));
    } finally {
      await beats[Symbol.asyncDispose]();
      await admin.end();
      await server[Symbol.asyncDispose]();
    }
  });
});
