// A way back that was seen to work: on a real PostgreSQL, with clients, rotations and crashes beside it.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import type { Secret } from "../../src/core/secret.ts";
import { versionWith } from "../../src/core/secret.ts";
import { type Engine, startEngine } from "../../src/engine/loop.ts";
import { migrate } from "../../src/store/migrate.ts";
import { insertRetirement, openRetirements } from "../../src/store/retirements.ts";
import { cancelRotation } from "../../src/store/rotations.ts";
import { openSqlite } from "../../src/store/sqlite.ts";
import type { DatabaseCredential } from "../../src/targets/database-secret.ts";
import { postgres } from "../../src/targets/postgres.ts";
import { functionArn, openWorld, type World } from "../support/engine-world.ts";
import { type PostgresServer, postgresSkip, startPostgres } from "../support/postgres-server.ts";
import { askFor, done, jobEnded } from "../support/target-jobs.ts";
import { tools } from "./contract.ts";

describe("rollback of PostgreSQL credentials", { skip: postgresSkip }, () => {
  let server: PostgresServer;
  let admin: pg.Client;
  let world: World;
  let engine: Engine;
  const folder = mkdtempSync(join(tmpdir(), "rekey-rollback-"));

  before(async () => {
    server = await startPostgres();
    admin = new pg.Client(server.url);
    await admin.connect();
    const sql = openSqlite(join(folder, "rekey.db"));
    await migrate(sql);
    world = await openWorld(sql, { settings: { callMs: 3_000, claimMs: 8_000 } });
    engine = startEngine(world.parts);
  });
  after(async () => {
    await engine.stop();
    await world.sql.close();
    await admin.end();
    await server[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true });
  });

  const logsIn = async (credential: DatabaseCredential | undefined) =>
    credential ? postgres.probe(credential, tools()) : "absent";
  const base = () => ({ engine: "postgres", host: server.host, port: server.port });
  const master = async () =>
    (await world.newSecret(`m/${randomUUID()}`, { ...base(), username: server.user, password: server.password })).arn;
  const currentOf = async (secret: Secret) => versionWith(await world.reload(secret), "AWSCURRENT")?.id ?? "";
  const previousOf = async (secret: Secret) => versionWith(await world.reload(secret), "AWSPREVIOUS")?.id ?? "";
  const eventsOf = async ({ arn }: Secret, type: string) =>
    (await world.sql.query("select id from events where resource = $1 and type = $2", [arn, type])).length;

  /** A secret whose credential was rotated once. */
  async function rotatedSecret(how: "SingleUser" | "MultiUser", more: object = {}): Promise<Secret> {
    const username = `u_${randomUUID().slice(0, 8)}`;
    await admin.query(`create role ${username} login password 'first-password'`);
    const secret = await world.newSecret(`db/${username}`, { ...base(), username, password: "first-password", ...more });
    await rotateAgain(secret, how);
    return secret;
  }
  async function rotateAgain(secret: Secret, how: "SingleUser" | "MultiUser"): Promise<void> {
    const id = await world.begin(secret, { function: how });
    engine.wake();
    const { state, error } = await world.ended(id);
    assert.equal(state, "succeeded", error);
  }
  const rollBack = async (secret: Secret, input: object = {}) =>
    done({ world, engine }, secret, "rollback", { versionId: await previousOf(secret), setAgain: false, ...input });

  test("alternating users: the former one is current again, and nothing at the target changes", async () => {
    const secret = await rotatedSecret("MultiUser", { masterarn: await master() });
    const [was, before] = [await currentOf(secret), await previousOf(secret)];
    const hashes = "select rolname, rolpassword from pg_authid order by rolname";
    const { rows: then } = await admin.query(hashes);
    await world.sql.transaction((tx) =>
      insertRetirement(tx, {
        secretId: secret.id,
        versionId: before,
        strategy: "alternating-users",
        functionArn: functionArn("MultiUser"),
        dueAt: Date.now() + 3_600_000,
        runAt: Date.now() + 3_600_000,
        createdAt: Date.now(),
      }),
    );
    const { generation } = await world.reload(secret);
    const job = await rollBack(secret);
    assert.deepEqual([job.state, job.result], ["done", { ok: true, versionId: before, formerVersionId: was, setAgain: false }]);
    assert.deepEqual([await currentOf(secret), await previousOf(secret)], [before, was]);
    assert.equal((await world.reload(secret)).generation, generation + 1);
    assert.equal(await logsIn(await world.credential(secret, "AWSCURRENT")), "ok");
    assert.deepEqual((await admin.query(hashes)).rows, then);
    assert.deepEqual(await openRetirements(world.sql, secret.id), [], "its end was called off");
    assert.equal(await eventsOf(secret, "secret.rolled-back"), 1);
    await rotateAgain(secret, "MultiUser");
    assert.equal(await logsIn(await world.credential(secret, "AWSCURRENT")), "ok");
  });

  test("single user: refused without --set-again; with it the old password is in force again", async () => {
    const secret = await rotatedSecret("SingleUser");
    const [was, before] = [await currentOf(secret), await previousOf(secret)];
    const refused = await rollBack(secret);
    assert.equal(refused.state, "failed");
    assert.match(refused.error ?? "", /^nothing was changed: the target refuses .*--set-again/);
    assert.equal(await currentOf(secret), was);
    assert.equal(await logsIn(await world.credential(secret, "AWSCURRENT")), "ok");
    const job = await rollBack(secret, { setAgain: true });
    assert.equal(job.state, "done", job.error);
    assert.equal(await currentOf(secret), before);
    assert.equal(await logsIn(await world.credential(secret, "AWSCURRENT")), "ok");
    assert.equal(await logsIn(await world.credential(secret, "AWSPREVIOUS")), "refused");
    assert.equal((await world.reload(secret)).switchingUntil, undefined);
    assert.doesNotMatch(JSON.stringify(job), /first-password/);
  });

  test("alternating users: an old password that was ended is set again while the current one works throughout", async () => {
    const secret = await rotatedSecret("MultiUser", { masterarn: await master() });
    const old = await world.credential(secret, "AWSPREVIOUS");
    await admin.query(`alter role ${old?.username} password 'ended'`);
    let polling = true;
    const outcomes = new Set<string>();
    const poll = (async () => {
      while (polling) {
        outcomes.add(await logsIn(await world.credential(secret, "AWSCURRENT")));
        await sleep(2);
      }
    })();
    const job = await rollBack(secret, { setAgain: true });
    polling = false;
    await poll;
    assert.equal(job.state, "done", job.error);
    outcomes.delete("unreachable"); // a busy machine's server may be full for a moment: that is no refusal
    assert.deepEqual([...outcomes], ["ok"]);
    assert.equal(await logsIn(await world.credential(secret, "AWSCURRENT")), "ok");
  });

  test("the superuser may only set the secret's own account again", async () => {
    const victim = `v_${randomUUID().slice(0, 8)}`;
    await admin.query(`create role ${victim} login password 'of-somebody'`);
    const secret = await rotatedSecret("SingleUser", { masterarn: await master() });
    const foreign = randomUUID();
    await world.put(secret, { ...base(), username: victim, password: "mine-now", masterarn: await master() }, foreign);
    await world.put(secret, (await world.credential(secret, "AWSPREVIOUS")) ?? {});
    const job = await rollBack(secret, { versionId: foreign, setAgain: true });
    assert.match(job.error ?? "", /is for another account than/);
    assert.equal(await logsIn({ ...base(), username: victim, password: "of-somebody" }), "ok");
  });

  test("a target that is silent changes nothing", async () => {
    const secret = await rotatedSecret("MultiUser", { masterarn: await master() });
    const labels = (await world.reload(secret)).versions.map(({ id, stages }) => ({ id, stages }));
    const old = await world.credential(secret, "AWSPREVIOUS");
    const gone = randomUUID();
    await world.put(secret, { ...old, port: 1 }, gone);
    await world.put(secret, { ...(await world.credential(secret, "AWSPREVIOUS")) });
    const job = await rollBack(secret, { versionId: gone, setAgain: true });
    assert.match(job.error ?? "", /^nothing was changed: .*cannot be reached/);
    assert.equal(labels.length > 0, true);
    assert.notEqual(await currentOf(secret), gone);
    assert.equal(await logsIn(await world.credential(secret, "AWSCURRENT")), "ok");
  });

  test("a rotation that runs must end first, and one that comes later waits for the rollback", async () => {
    const secret = await rotatedSecret("MultiUser", { masterarn: await master() });
    const versionId = await previousOf(secret);
    const rotation = await world.begin(secret, { function: "MultiUser" }); // the engine sleeps: it is queued only
    const job = await done({ world, engine: { wake: () => undefined } }, secret, "rollback", { versionId, setAgain: false });
    if (job.state === "failed") assert.match(job.error ?? "", /a rotation is changing|changed by somebody else/);
    engine.wake();
    await world.ended(rotation);
    await world.sql.transaction((tx) => cancelRotation(tx, secret.id, Date.now()));
    assert.equal(await logsIn(await world.credential(secret, "AWSCURRENT")), "ok");
  });

  /** Several times what a rollback needs: a slow one is looked after more often. */
  const mostCalls = 400;
  for (const how of ["SingleUser", "MultiUser"] as const) {
    test(`${how}: cut off at every call of the store, a rollback comes to the same end`, async () => {
      const masterarn = await master();
      let calls = Number.POSITIVE_INFINITY;
      for (let n = how === "SingleUser" ? 1 : 2; n < Math.min(calls, mostCalls); n += 4) {
        await engine.stop();
        engine = startEngine(world.parts);
        const secret = await rotatedSecret(how, { masterarn });
        const [was, before] = [await currentOf(secret), await previousOf(secret)];
        const old = await world.credential(secret, "AWSPREVIOUS");
        if (how === "MultiUser") await admin.query(`alter role ${old?.username} password 'ended'`);
        await engine.stop();
        calls = await runCutOff(world, secret, before, n);
        engine = startEngine(world.parts);
        const left = await openJob(secret);
        if (left !== undefined) await jobEnded(world, left);
        const [now, current] = [await currentOf(secret), await logsIn(await world.credential(secret, "AWSCURRENT"))];
        assert.deepEqual([now, current], [before, "ok"], `after ${n} of ${calls} calls, from ${was}`);
        assert.equal(await eventsOf(secret, "secret.rolled-back"), 1);
      }
      assert.ok(calls < mostCalls, "the last run came to its end by itself");
    });
  }

  const openJob = async (secret: Secret) =>
    (
      await world.sql.query<{ id: string }>("select id from target_jobs where secret_id = $1 and kind = 'rollback'", [secret.id])
    )[0]?.id;
});

/** An engine whose store fails for good at the n-th change that is made for a rollback: as if it had been killed there. */
async function runCutOff(world: World, secret: Secret, versionId: string, n: number): Promise<number> {
  let calls = 0;
  let begun = false;
  const { sql } = world;
  const dead = new Error("killed");
  const cut: World["sql"] = {
    dialect: sql.dialect,
    async query(text, values) {
      if (begun && calls >= n) throw dead;
      if (begun) calls += 1;
      return sql.query(text, values);
    },
    async transaction(work, options) {
      if (begun && calls >= n) throw dead;
      return sql.transaction(async (tx) => {
        const result = await work(tx);
        if (begun) calls += 1;
        // Killed before the commit: nothing of it is there.
        if (begun && calls >= n) throw dead;
        return result;
      }, options);
    },
    close: () => sql.close(),
  };
  const id = await askFor(world, secret, "rollback", { versionId, setAgain: true });
  begun = true;
  const engine = startEngine({ ...world.parts, sql: cut });
  engine.wake();
  for (;;) {
    const [row] = await sql.query<{ ended_at: number | null }>("select ended_at from target_jobs where id = $1", [id]);
    if (calls >= n || row?.ended_at) break;
    await sleep(2);
  }
  await sleep(150); // what was on its way to the target arrives, unheard
  await engine.stop();
  return calls >= n ? Number.POSITIVE_INFINITY : calls;
}
