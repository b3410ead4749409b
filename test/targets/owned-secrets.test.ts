// Secrets that a config owns and shows, rotated at a real PostgreSQL by an integration's user.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { ServiceError } from "../../src/core/error.ts";
import { Plaintext } from "../../src/core/plaintext.ts";
import { integrationArn } from "../../src/core/rekey-arn.ts";
import { ownService } from "../../src/core/rotated-secret.ts";
import { detach, type Secret } from "../../src/core/secret.ts";
import { type Engine, startEngine } from "../../src/engine/loop.ts";
import { insertConfig, loadConfig } from "../../src/store/configs.ts";
import { insertEnvironment } from "../../src/store/environments.ts";
import { planNext, readHeartbeat } from "../../src/store/heartbeats.ts";
import {
  insertIntegration,
  insertIntegrationVersion,
  integrationVersionContext,
  lockIntegration,
  saveIntegration,
} from "../../src/store/integrations.ts";
import { migrate } from "../../src/store/migrate.ts";
import { insertProject } from "../../src/store/projects.ts";
import { insertRotatedSecret } from "../../src/store/rotated-secrets.ts";
import { changeSecret } from "../../src/store/secrets.ts";
import type { Sql } from "../../src/store/sql.ts";
import { openSqlite } from "../../src/store/sqlite.ts";
import { postgres } from "../../src/targets/postgres.ts";
import { account, openWorld, owner, region, type World } from "../support/engine-world.ts";
import { type PostgresServer, postgresSkip, startPostgres } from "../support/postgres-server.ts";

/** Whoever made them. */
const gone = { arn: `arn:aws:iam::${account}:user/gone`, id: "AIDAGONE" };

describe("secrets that a config owns", { skip: postgresSkip }, () => {
  let server: PostgresServer;
  let admin: pg.Client;
  let sql: Sql;
  let world: World;
  let engine: Engine;
  const folder = mkdtempSync(join(tmpdir(), "rekey-owned-"));
  const integrationId = randomUUID();
  const configId = randomUUID();

  before(async () => {
    server = await startPostgres();
    admin = new pg.Client(server.url);
    await admin.connect();
    await admin.query("create role manager superuser login password 'manager-1'");
    sql = openSqlite(join(folder, "rekey.db"));
    await migrate(sql);
    world = await openWorld(sql, { settings: { callMs: 4_000 } });
    const times = { createdAt: Date.now(), updatedAt: Date.now() };
    const integration = { id: integrationId, name: "main", type: "postgres", version: 1, ...times };
    const first = await version(1, "manager-1");
    await sql.transaction(async (tx) => {
      await insertIntegration(tx, integration, first);
      await insertProject(tx, { id: "shop", name: "shop", description: undefined, createdAt: 1 });
      await insertEnvironment(tx, { projectId: "shop", slug: "dev", name: "dev", position: 1, createdAt: 1 });
      const flags = { isRoot: true, locked: false, inheritable: false, trustedIps: undefined };
      await insertConfig(tx, {
        id: configId,
        projectId: "shop",
        environment: "dev",
        name: "dev",
        ...flags,
        version: 0,
        generation: 1,
        createdAt: 1,
      });
    });
    engine = startEngine({
      ...world.parts,
      mayRun: async ({ arn }) => (arn === gone.arn ? new ServiceError("AccessDeniedException", "gone") : undefined),
    });
  });
  after(async () => {
    await engine?.stop();
    await sql?.close();
    await admin?.end();
    await server?.[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true });
  });

  async function version(number: number, password: string) {
    const id = `${integrationId}/${number}`;
    const key = await world.keys.resolve(undefined, region);
    const sealed = await world.parts.envelope.seal(
      new Plaintext(JSON.stringify({ password })),
      integrationVersionContext(id),
      key.id,
    );
    const settings = JSON.stringify({ host: server.host, port: server.port, username: "manager" });
    return { id, integrationId, number, settings, target: `postgres://${server.host}:${server.port}`, ...sealed };
  }

  /** Two roles, and the secret of them that the config shows. */
  async function newOwned(more: Partial<Secret> = {}): Promise<{ secret: Secret; users: string[]; name: string }> {
    const users = ["1", "2"].map((end) => `u_${randomUUID().slice(0, 8)}_${end}`);
    for (const user of users) await admin.query(`create role ${user} login password 'first-password'`);
    const { host, port } = server;
    const masterarn = integrationArn({ account, region }, integrationId);
    const value = { engine: "postgres", host, port, username: users[0], password: "first-password", usernames: users, masterarn };
    const secret = await world.newSecret(`own/${randomUUID()}`, value, {
      owningService: ownService,
      rotationEnabled: true,
      rotationFunctionArn: `arn:aws:lambda:${region}:${account}:function:SecretsManagerRDSPostgreSQLRotationMultiUser`,
      rotationPrincipal: gone,
      rotationPolicy: { heartbeatSeconds: 900 },
      ...more,
    });
    const name = `DB_${randomUUID().slice(0, 8).toUpperCase()}`;
    const row = {
      id: randomUUID(),
      configId,
      name,
      integrationId,
      secretId: secret.id,
      rotationPeriodSeconds: 86_400,
      createdAt: 1,
    };
    await sql.transaction((tx) => insertRotatedSecret(tx, row));
    return { secret, users, name };
  }

  async function rotate(secret: Secret, windowMs = 30_000) {
    const id = await world.begin(secret, { function: "MultiUser", windowMs });
    engine.wake();
    return world.ended(id);
  }

  async function beat({ id }: Secret) {
    const was = await readHeartbeat(sql, id);
    await planNext(sql, id, Date.now());
    engine.wake();
    for (;;) {
      const now = await readHeartbeat(sql, id);
      if (now && now.at !== was?.at) return now.outcome;
      await sleep(5);
    }
  }

  const logs = async () =>
    (
      await sql.query<{ text: string; principal: string; names: string | null }>(
        "select text, principal, names from activity_logs order by id desc limit 1",
      )
    )[0];
  const generation = async () => (await loadConfig(sql, configId))?.generation ?? 0;

  test("each rotation raises the config's generation, is in its log, and gives a hint; whoever made it may be gone", async () => {
    const { secret, users, name } = await newOwned();
    for (const user of [users[1], users[0]]) {
      const before = await generation();
      const hinted = world.parts.hints.wait(`config/${configId}`, 10_000);
      const { state, error } = await rotate(secret);
      assert.equal(state, "succeeded", error);
      await hinted;
      assert.ok((await generation()) > before);
      assert.equal((await world.credential(secret, "AWSCURRENT"))?.username, user);
      assert.deepEqual(await logs(), {
        text: `rotated ${name}`,
        principal: "rekey",
        names: JSON.stringify([`${name}_USERNAME`, `${name}_PASSWORD`]),
      });
    }
  });

  test("the integration's user acts as it is now, not as it was when the secret was made", async () => {
    const { secret } = await newOwned();
    await admin.query("alter role manager password 'manager-2'");
    const next = await version(2, "manager-2");
    await sql.transaction(async (tx) => {
      const locked = await lockIntegration(tx, integrationId);
      assert.ok(locked);
      await saveIntegration(tx, { ...locked, version: 2 });
      await insertIntegrationVersion(tx, next, Date.now());
    });
    assert.equal((await rotate(secret)).state, "succeeded");
  });

  test("attack: nobody else's secret has the integration's user act, whatever it names", async () => {
    const { secret, users } = await newOwned({ owningService: undefined, rotationPrincipal: owner });
    const { outcome, state } = await rotate(secret, 200);
    assert.notEqual(state, "succeeded");
    assert.equal(outcome, "denied");
    const client = new pg.Client({
      host: server.host,
      port: server.port,
      user: users[1],
      password: "first-password",
      database: "postgres",
    });
    await client.connect();
    await client.end();
  });

  test("refused twice in a row, it is rotated no more by itself, and the config's log says why", async () => {
    const { secret, users, name } = await newOwned();
    assert.equal(await beat(secret), "ok");
    await admin.query(`alter role ${users[0]} password 'by hand'`);
    assert.equal(await beat(secret), "refused");
    assert.equal((await world.reload(secret)).rotationEnabled, true, "once may be chance");
    assert.equal(await beat(secret), "refused");
    const after = await world.reload(secret);
    assert.deepEqual([after.rotationEnabled, after.rotationDueAt, after.nextRotationAt], [false, undefined, undefined]);
    assert.match((await logs())?.text ?? "", new RegExp(`^paused rotated secret ${name}: .*changed outside`));
    const types = await sql.query<{ type: string }>("select type from events where resource = $1 order by id", [secret.arn]);
    assert.deepEqual(
      types.map(({ type }) => type),
      ["credential.drifted", "rotation.paused"],
    );
  });

  async function isStopped(secret: Secret, user: string | undefined, rotation: { state: string; error?: string | undefined }) {
    assert.equal(rotation.state, "blocked", rotation.error);
    assert.match(rotation.error ?? "", new RegExp(`refuses the credential of ${user}.*changed outside`));
    const { rotationEnabled, rotationDueAt, nextRotationAt } = await world.reload(secret);
    assert.deepEqual([rotationEnabled, rotationDueAt, nextRotationAt], [false, undefined, undefined]);
  }
  const byHand = (user: string | undefined) => admin.query(`alter role ${user} password 'by hand'`);

  for (const [whose, index] of [
    ["the one that is shown", 1],
    ["the other one", 0],
  ] as const) {
    test(`a rotation by schedule stops where ${whose} was changed by hand, and changes nothing`, async () => {
      const { secret, users } = await newOwned({ rotationRules: { scheduleExpression: "rate(1 day)" } });
      assert.equal((await rotate(secret)).state, "succeeded");
      await byHand(users[index]);
      const passwords = async () =>
        (await admin.query("select rolpassword from pg_authid where rolname = any($1) order by rolname", [users])).rows;
      const before = await passwords();
      await sql.transaction((tx) => changeSecret(tx, secret.id, (was) => ({ ...was, rotationDueAt: Date.now() })));
      engine.wake();
      const [ended] = await untilStored<{ id: string }>(
        "select id from rotations where secret_id = $1 and state <> 'running' and origin = 'schedule'",
        secret.id,
      );
      await isStopped(secret, users[index], await world.rotationOf(ended?.id ?? ""));
      assert.deepEqual(await passwords(), before);
      const types = await sql.query<{ type: string }>("select type from events where resource = $1 order by id", [secret.arn]);
      assert.deepEqual(
        types.map(({ type }) => type),
        ["rotation.succeeded", "rotation.started", "rotation.blocked", "rotation.paused"],
      );
    });

    test(`a silence of ${whose} is no refusal: the rotation waits for the answer`, async () => {
      const { secret, users } = await newOwned();
      assert.equal((await rotate(secret)).state, "succeeded");
      await admin.query(`alter role ${users[index]} connection limit 0`);
      const id = await world.begin(secret, { function: "MultiUser", windowMs: 60_000 });
      engine.wake();
      await untilStored(
        "select id from rotations where secret_id = $1 and state = 'running' and outcome = 'unreachable'",
        secret.id,
      );
      assert.equal((await world.reload(secret)).rotationEnabled, true);
      await admin.query(`alter role ${users[index]} connection limit -1`);
      assert.equal((await world.ended(id)).state, "succeeded");
    });
  }

  async function untilStored<Row extends object>(text: string, ...parameters: string[]): Promise<Row[]> {
    for (;;) {
      const rows = await sql.query<Row>(text, parameters);
      if (rows.length > 0) return rows;
      await sleep(5);
    }
  }

  test("what an unfinished rotation may have set itself is nobody's change", async () => {
    const { secret, users } = await newOwned();
    assert.equal((await rotate(secret)).state, "succeeded");
    const versionId = randomUUID();
    const { username: _, password: __, ...place } = (await world.credential(secret, "AWSCURRENT")) ?? {};
    await world.putPending(secret, { ...place, username: users[0], password: "set, and never told" }, versionId);
    await admin.query(`alter role ${users[0]} password 'set, and never told'`);
    await sql.transaction((tx) => changeSecret(tx, secret.id, (was) => detach(was, "AWSPENDING")));
    const { state, error } = await rotate(secret);
    assert.equal(state, "succeeded", error);
    await byHand(users[1]); // the next in turn: by now all is known again
    await isStopped(secret, users[1], await rotate(secret));
  });

  test("what was ended after its grace period is not tried", async () => {
    const { secret, users } = await newOwned({ rotationPolicy: { retireAfterSeconds: 1 } });
    assert.equal((await rotate(secret)).state, "succeeded");
    await untilStored("select 1 as one from retirements where secret_id = $1 and state = 'done'", secret.id);
    const { state, error } = await rotate(secret);
    assert.equal(state, "succeeded", error);
    assert.equal((await world.credential(secret, "AWSCURRENT"))?.username, users[0]);
  });

  test("while other work at the account is under way, a refusal says nothing", async () => {
    const { secret, users } = await newOwned({ rotationPolicy: { retireAfterSeconds: 3_600 } });
    assert.equal((await rotate(secret)).state, "succeeded");
    const current = postgres.credential.parse(await world.credential(secret, "AWSCURRENT"));
    const held = postgres.account(current, "alternating-users") ?? "";
    await sql.query("update retirements set target_account = $1 where secret_id = $2", [held, secret.id]);
    await byHand(users[1]);
    const id = await world.begin(secret, { function: "MultiUser" });
    engine.wake();
    await untilStored("select 1 as one from rotations where id = $1 and error like 'the same account%'", id);
    assert.equal((await world.reload(secret)).rotationEnabled, true);
    await sql.query("update retirements set target_account = null where secret_id = $1", [secret.id]);
    await isStopped(secret, users[1], await world.ended(id));
  });
});
