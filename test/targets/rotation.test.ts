// The engine rotates real credentials of a real PostgreSQL.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { planRotation } from "../../src/core/rotation-schedule.ts";
import { type Secret, versionWith } from "../../src/core/secret.ts";
import { type Engine, startEngine } from "../../src/engine/loop.ts";
import { removeHistory } from "../../src/store/due.ts";
import { migrate } from "../../src/store/migrate.ts";
import { abandonRotation, cancelRotation, listRotations } from "../../src/store/rotations.ts";
import { changeSecret } from "../../src/store/secrets.ts";
import { openSqlite } from "../../src/store/sqlite.ts";
import type { DatabaseCredential } from "../../src/targets/database-secret.ts";
import { postgres } from "../../src/targets/postgres.ts";
import { functionArn, openWorld, owner, type World } from "../support/engine-world.ts";
import { type PostgresServer, postgresSkip, startPostgres } from "../support/postgres-server.ts";
import { tools } from "./contract.ts";

describe("rotation of PostgreSQL credentials", { skip: postgresSkip }, () => {
  let server: PostgresServer;
  let admin: pg.Client;
  let world: World;
  let engine: Engine;
  const folder = mkdtempSync(join(tmpdir(), "rekey-engine-"));

  before(async () => {
    server = await startPostgres();
    await connectAdmin();
    const sql = openSqlite(join(folder, "rekey.db"));
    await migrate(sql);
    world = await openWorld(sql);
    engine = startEngine(world.parts);
  });
  after(async () => {
    await engine.stop();
    await world.sql.close();
    await admin.end();
    await server[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true });
  });

  async function connectAdmin(): Promise<void> {
    admin = new pg.Client(server.url);
    admin.on("error", () => undefined); // one test stops the server
    await admin.connect();
  }
  const run = (text: string) => admin.query(text);
  const logsIn = (credential: DatabaseCredential | undefined) => (credential ? postgres.probe(credential, tools()) : "absent");
  const adminCredential = () => ({
    engine: "postgres",
    host: server.host,
    port: server.port,
    username: server.user,
    password: server.password,
  });

  async function newUser(more: object = {}): Promise<{ secret: Secret; credential: DatabaseCredential }> {
    const username = `user_${randomUUID().slice(0, 8)}`;
    await run(`create role ${username} login password 'first-password'`);
    const credential = {
      engine: "postgres",
      host: server.host,
      port: server.port,
      username,
      password: "first-password",
      ...more,
    };
    return { secret: await world.newSecret(`db/${username}`, credential), credential };
  }
  async function finished(secret: Secret, how: Parameters<World["begin"]>[1]) {
    const id = await world.begin(secret, how);
    engine.wake();
    return world.ended(id);
  }
  const stagesOf = async (secret: Secret) => (await world.reload(secret)).versions.flatMap(({ stages }) => stages).sort();
  const eventsOf = async ({ arn }: Secret) =>
    (await world.sql.query<{ type: string }>("select type from events where resource = $1 order by id", [arn])).map(
      ({ type }) => type,
    );

  test("single user: the new password is current and works, the old one is dead", async () => {
    const { secret, credential } = await newUser({ note: "kept" });
    const rotation = await finished(secret, { function: "SingleUser" });
    assert.equal(rotation.state, "succeeded", rotation.error);
    const current = await world.credential(secret, "AWSCURRENT");
    assert.equal(await logsIn(current), "ok");
    assert.deepEqual({ ...current, password: "" }, { ...credential, password: "" });
    assert.equal(await logsIn(await world.credential(secret, "AWSPREVIOUS")), "refused");
    assert.deepEqual(await stagesOf(secret), ["AWSCURRENT", "AWSPREVIOUS"]);
    const now = await world.reload(secret);
    assert.equal(now.generation, secret.generation + 1);
    assert.equal(now.switchingUntil, undefined);
    assert.ok(now.lastRotatedAt !== undefined);
    assert.deepEqual(await eventsOf(secret), ["rotation.succeeded"]);
  });

  test("alternating users: both users work after each of three turns", async () => {
    const master = await world.newSecret(`master/${randomUUID()}`, adminCredential());
    const { secret } = await newUser({ masterarn: master.arn });
    const names = new Set<string | undefined>();
    for (let turn = 0; turn < 3; turn++) {
      assert.equal((await finished(secret, { function: "MultiUser" })).state, "succeeded");
      for (const label of ["AWSCURRENT", "AWSPREVIOUS"]) assert.equal(await logsIn(await world.credential(secret, label)), "ok");
      names.add((await world.credential(secret, "AWSCURRENT"))?.username);
    }
    assert.equal(names.size, 2);
  });

  test("a superuser's secret that the configuring principal may not read is of no use", async () => {
    const master = await world.newSecret(`master/${randomUUID()}`, adminCredential());
    world.forbidden.add(master.arn);
    const { secret } = await newUser({ masterarn: master.arn });
    const denied = await finished(secret, { function: "MultiUser", windowMs: 0 });
    assert.deepEqual([denied.state, denied.outcome], ["failed", "denied"]);
    const { rowCount } = await run(`select from pg_roles where rolname = '${secret.name.slice(3)}_clone'`);
    assert.equal(rowCount, 0);
    const absent = await newUser({ masterarn: `${master.arn.slice(0, -1)}x` });
    const alike = await finished(absent.secret, { function: "MultiUser", windowMs: 0 });
    assert.equal(alike.error, denied.error, "whether the secret is there or not");
    // Nor does a single user's rotation use it when its passwords are refused.
    const single = await newUser({ masterarn: master.arn });
    await run(`alter role ${single.credential.username} password 'changed-by-hand'`);
    assert.equal((await finished(single.secret, { function: "SingleUser" })).state, "blocked");
  });

  test("a password changed by hand: blocked with a remedy, or healed by a superuser", async () => {
    const { secret, credential } = await newUser();
    await run(`alter role ${credential.username} password 'changed-by-hand'`);
    const blocked = await finished(secret, { function: "SingleUser" });
    assert.deepEqual([blocked.state, blocked.outcome], ["blocked", "refused"]);
    assert.match(blocked.remedy ?? "", /masterarn/);
    assert.deepEqual(await stagesOf(secret), ["AWSCURRENT", "AWSPENDING"]);
    assert.equal((await eventsOf(secret)).at(-1), "rotation.blocked");

    const master = await world.newSecret(`master/${randomUUID()}`, adminCredential());
    const healed = await newUser({ masterarn: master.arn });
    assert.equal((await finished(healed.secret, { function: "SingleUser" })).state, "succeeded");
    // That the account is the secret's is known for longer than how it came to be.
    while ((await removeHistory(world.sql, Date.now() + 1, 1_000)) > 0);
    assert.deepEqual(await listRotations(world.sql, { secretArn: healed.secret.arn, limit: 10 }), []);
    await run(`alter role ${healed.credential.username} password 'changed-by-hand'`);
    assert.equal((await finished(healed.secret, { function: "SingleUser" })).state, "succeeded");
    assert.equal(await logsIn(await world.credential(healed.secret, "AWSCURRENT")), "ok");
  });

  test("whoever may write a secret cannot have the superuser change a login that never was the secret's", async () => {
    const master = await world.newSecret(`master/${randomUUID()}`, adminCredential());
    for (const name of ["MultiUser", "SingleUser"] as const) {
      const { secret, credential } = await newUser({ masterarn: master.arn });
      assert.equal((await finished(secret, { function: name })).state, "succeeded");
      const victim = (await newUser()).credential;
      for (const username of [victim.username, `${victim.username}_clone`])
        for (const _ of ["AWSCURRENT", "AWSPREVIOUS"]) {
          await world.put(secret, { ...credential, username, password: "a-guess" });
          const { state } = await finished(secret, { function: name });
          assert.equal(state, "blocked", `${name} ${username}`);
          assert.equal(await logsIn(victim), "ok");
        }
    }
    // Nor under the id of a version that a rotation made, once that version is gone.
    const { secret, credential } = await newUser({ masterarn: master.arn });
    const { versionId } = await finished(secret, { function: "SingleUser" });
    const victim = (await newUser()).credential;
    await world.put(secret, credential);
    await world.put(secret, credential);
    await world.sql.query("delete from versions where secret_id = $1 and version_id = $2", [secret.id, versionId]);
    await world.put(secret, { ...credential, username: victim.username, password: "a-guess" }, versionId);
    assert.equal((await finished(secret, { function: "SingleUser" })).state, "blocked");
    assert.equal(await logsIn(victim), "ok");
    const { rowCount } = await run("select from pg_roles where rolname like '%_clone_clone'");
    assert.equal(rowCount, 0);
  });

  test("nor one that another kind of function rotated to: it has not logged in there", async () => {
    const master = await world.newSecret(`master/${randomUUID()}`, adminCredential());
    for (const name of ["MultiUser", "SingleUser"] as const) {
      const victim = (await newUser()).credential;
      const guess = { ...victim, password: "a-guess", masterarn: master.arn };
      const secret = await world.newSecret(`attack/${randomUUID()}`, guess);
      assert.equal((await finished(secret, { functionName: "RekeyRandomRotation" })).state, "succeeded");
      assert.equal((await world.credential(secret, "AWSCURRENT"))?.username, victim.username);
      const { state, error } = await finished(secret, { function: name });
      assert.equal(state, "blocked", `${name} ${error}`);
      assert.equal(await logsIn(victim), "ok", name);
      const { rowCount } = await run(`select from pg_roles where rolname = '${victim.username}_clone'`);
      assert.equal(rowCount, 0);
    }
  });

  test("a target that cannot be reached: AWSCURRENT stays, the same token is tried again, and it heals", async () => {
    const { secret } = await newUser();
    const id = await world.begin(secret, { function: "SingleUser" });
    await server.stop();
    engine.wake();
    let tried = await world.rotationOf(id);
    while (tried.attempt < 2) {
      await sleep(20);
      tried = await world.rotationOf(id);
    }
    assert.deepEqual([tried.state, tried.outcome], ["running", "unreachable"]);
    assert.equal((await world.credential(secret, "AWSCURRENT"))?.password, "first-password");
    const pending = versionWith(await world.reload(secret), "AWSPENDING")?.id;
    await server.restart();
    await connectAdmin();
    const done = await world.ended(id);
    assert.deepEqual([done.state, done.versionId], ["succeeded", pending]);
    assert.deepEqual(await eventsOf(secret), ["rotation.retrying", "rotation.succeeded"], "the same failure again is no news");
    assert.equal(await logsIn(await world.credential(secret, "AWSCURRENT")), "ok");
  });

  test("RotateImmediately=false only logs in with a copy, and leaves nothing behind", async () => {
    const { secret } = await newUser();
    assert.equal((await finished(secret, { function: "SingleUser", testOnly: true })).state, "succeeded");
    const after = await world.reload(secret);
    assert.deepEqual(
      after.versions.map(({ stages }) => stages),
      [["AWSCURRENT"]],
    );
    assert.equal(after.lastRotatedAt, undefined);
    assert.equal(await logsIn(await world.credential(secret, "AWSCURRENT")), "ok");
    await run(`alter role ${secret.name.slice(3)} password 'changed-by-hand'`);
    const failed = await finished(secret, { function: "SingleUser", testOnly: true });
    assert.deepEqual([failed.state, failed.outcome], ["failed", "refused"]);
    assert.deepEqual(await stagesOf(secret), ["AWSCURRENT"]);
    assert.deepEqual(await eventsOf(secret), ["rotation.test-succeeded", "rotation.test-failed"]);
  });

  test("what is ended by a request is fenced out: no label moves", async () => {
    for (const end of [cancelRotation, abandonRotation]) {
      const { secret } = await newUser();
      const id = await world.begin(secret, { function: "SingleUser" });
      await world.sql.transaction(async (tx) => void (await end(tx, secret.id, Date.now())));
      engine.wake();
      await sleep(50);
      assert.notEqual((await world.ended(id)).state, "succeeded");
      assert.equal(await logsIn(await world.credential(secret, "AWSCURRENT")), "ok");
    }
    const { secret } = await newUser();
    const id = await world.begin(secret, { function: "SingleUser" });
    await world.put(secret, { ...(await world.credential(secret, "AWSCURRENT")), note: "put by hand" });
    engine.wake();
    assert.equal((await world.ended(id)).state, "abandoned");
    assert.equal((await world.credential(secret, "AWSCURRENT"))?.note, "put by hand");
  });

  test("a value put by hand just when the target has taken the new password: what is in force is found under no label", async () => {
    const { secret, credential } = await newUser();
    const id = await world.begin(secret, { function: "SingleUser" });
    const { versionId } = await world.rotationOf(id);
    await world.putPending(secret, { ...credential, password: "taken by the target" }, versionId);
    await run(`alter role ${credential.username} password 'taken by the target'`);
    await world.put(secret, { ...credential, note: "put by hand" });
    await world.sql.transaction((tx) => abandonRotation(tx, secret.id, Date.now()));
    const next = await finished(secret, { function: "SingleUser" });
    assert.deepEqual([next.state, next.attempt], ["succeeded", 1], next.error);
    const current = await world.credential(secret, "AWSCURRENT");
    assert.deepEqual([await logsIn(current), current?.note], ["ok", "put by hand"]);
  });

  test("two secrets of one account are never rotated at once, and both end", async () => {
    const { secret, credential } = await newUser();
    const twin = await world.newSecret(`twin/${randomUUID()}`, credential);
    const ids = [await world.begin(secret, { function: "SingleUser" }), await world.begin(twin, { function: "SingleUser" })];
    engine.wake();
    const states = await Promise.all(ids.map(async (id) => (await world.ended(id)).state));
    assert.deepEqual(states.sort(), ["blocked", "succeeded"], "the second finds that its password was changed");
  });

  test("a schedule starts one rotation in its window, and plans the next", async () => {
    const { secret } = await newUser();
    await world.sql.transaction((tx) =>
      changeSecret(tx, secret.id, (before) => {
        const rules = { scheduleExpression: "rate(10 minutes)" };
        const configured = {
          ...before,
          rotationEnabled: true,
          rotationFunctionArn: functionArn("SingleUser"),
          rotationPrincipal: owner,
          rotationRules: rules,
        };
        return { ...planRotation(configured, Date.now(), 0), rotationDueAt: Date.now() };
      }),
    );
    engine.wake();
    let runs = await listRotations(world.sql, { secretArn: secret.arn, limit: 10 });
    while (runs[0]?.state !== "succeeded") {
      await sleep(10);
      runs = await listRotations(world.sql, { secretArn: secret.arn, limit: 10 });
    }
    assert.equal(runs.length, 1);
    assert.equal(runs[0].origin, "schedule");
    const after = await world.reload(secret);
    assert.ok((after.rotationDueAt ?? 0) > Date.now());
    assert.deepEqual(await eventsOf(secret), ["rotation.started", "rotation.succeeded"]);
  });

  test("a window that was missed is recorded once, and the next one planned", async () => {
    const { secret } = await newUser();
    await world.sql.transaction((tx) =>
      changeSecret(tx, secret.id, (before) => {
        const past = { nextRotationAt: Date.now() - 60_000, rotationDueAt: Date.now() - 120_000 };
        return {
          ...before,
          rotationEnabled: true,
          rotationFunctionArn: functionArn("SingleUser"),
          rotationRules: { automaticallyAfterDays: 3 },
          ...past,
        };
      }),
    );
    engine.wake();
    while ((await eventsOf(secret)).length === 0) await sleep(10);
    engine.wake();
    await sleep(50);
    assert.deepEqual(await eventsOf(secret), ["rotation.missed"]);
    assert.ok(((await world.reload(secret)).rotationDueAt ?? 0) > Date.now());
    assert.deepEqual(await stagesOf(secret), ["AWSCURRENT"]);
  });

  test("readers wait while a single user's password is switched, never with two users", async () => {
    const master = await world.newSecret(`master/${randomUUID()}`, adminCredential());
    const { secret } = await newUser({ masterarn: master.arn });
    for (const [name, expected] of [
      ["SingleUser", true],
      ["MultiUser", false],
    ] as const) {
      let seen = false;
      const id = await world.begin(secret, { function: name });
      const rotator = await world.parts.findRotator("postgres");
      assert.ok(rotator);
      const watched = startEngine({
        ...world.parts,
        findRotator: async () => ({
          ...rotator,
          async set(...all: Parameters<typeof rotator.set>) {
            await all[2].ready; // from here on it may change something
            seen = ((await world.reload(secret)).switchingUntil ?? 0) > Date.now();
            await rotator.set(...all);
          },
        }),
        settings: { ...world.parts.settings, ownsStore: false },
      });
      await engine.stop();
      assert.equal((await world.ended(id)).state, "succeeded");
      await watched.stop();
      engine = startEngine(world.parts);
      assert.equal(seen, expected, name);
      assert.equal((await world.reload(secret)).switchingUntil, undefined);
    }
  });

  test("no password reaches the log, the events or the rotation rows", async () => {
    const { secret } = await newUser();
    await finished(secret, { function: "SingleUser" });
    const passwords = [await world.credential(secret, "AWSCURRENT"), await world.credential(secret, "AWSPREVIOUS")].map(
      (each) => each?.password ?? "absent",
    );
    const rows = JSON.stringify([
      await world.sql.query("select * from events"),
      await world.sql.query("select * from rotations"),
      world.log,
    ]);
    for (const password of [...passwords, server.password]) assert.ok(!rows.includes(password));
  });

  test("secrets whose recovery window is over go for good; replicas follow their primary", async () => {
    const gone = await world.newSecret(`gone/${randomUUID()}`, { a: 1 }, { deletedAt: Date.now() - 10, purgeAt: Date.now() - 5 });
    const kept = await world.newSecret(
      `kept/${randomUUID()}`,
      { a: 1 },
      { deletedAt: Date.now() - 10, purgeAt: Date.now() + 3_600_000 },
    );
    engine.wake();
    while ((await eventsOf(gone)).length === 0) await sleep(10);
    await assert.rejects(world.reload(gone));
    await world.reload(kept);
  });
});
