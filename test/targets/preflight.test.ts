// Faults planted at real servers: the pre-flight finds each, at the step at which a real rotation then fails.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import pg from "pg";
import type { Secret } from "../../src/core/secret.ts";
import { type Engine, startEngine } from "../../src/engine/loop.ts";
import { migrate } from "../../src/store/migrate.ts";
import { cancelRotation } from "../../src/store/rotations.ts";
import { changeSecret } from "../../src/store/secrets.ts";
import { openSqlite } from "../../src/store/sqlite.ts";
import { account, openWorld, region, type World } from "../support/engine-world.ts";
import { type MariaDbServer, mariadbSkip, startMariaDb } from "../support/mariadb-server.ts";
import { type PostgresServer, postgresSkip, startPostgres } from "../support/postgres-server.ts";
import { done, type Found } from "../support/target-jobs.ts";
import { type Fault, faultsOfMariadb, faultsOfPostgres, type Place } from "./preflight-faults.ts";

function suite(name: string, faults: readonly Fault[], open: () => Promise<Place & AsyncDisposable>): void {
  let place: Place & AsyncDisposable;
  let world: World;
  let engine: Engine;
  let master: Secret;
  const folder = mkdtempSync(join(tmpdir(), "rekey-preflight-"));

  before(async () => {
    place = await open();
    const sql = openSqlite(join(folder, "rekey.db"));
    await migrate(sql);
    world = await openWorld(sql);
    engine = startEngine(world.parts);
    master = await world.newSecret("master", place.admin);
  });
  after(async () => {
    await engine.stop();
    await world.sql.close();
    await place[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true });
  });

  for (const fault of faults) {
    test(`${name}: ${fault.name}`, async (context) => {
      const user = `u_${randomUUID().slice(0, 8)}`;
      const login = { ...(await place.newUser(user)), masterarn: master.arn };
      const changed = await fault.plant(place, user, world);
      if (fault.name.includes("ADMIN option") && !(await isSince16(place)))
        return context.skip("PostgreSQL before 16 asks for none");
      try {
        const secret = await world.newSecret(`db/${user}`, { ...login, ...changed });
        const functionName = place.functionOf[fault.alternating ? "alternating" : "single"];
        const functionArn = `arn:aws:lambda:${region}:${account}:function:${functionName}`;
        const job = await done({ world, engine }, secret, "check", { functionArn });
        assert.equal(job.state, "done", job.error);
        const { ok, findings } = job.result as unknown as Found;
        const said = JSON.stringify(findings);
        assert.equal(ok, fault.works === true, said);
        if (fault.problem.source !== "^$") {
          const found = findings.filter(({ problem }) => fault.problem.test(problem));
          assert.deepEqual([found.length > 0, new Set(found.map(({ step }) => step))], [true, new Set([fault.step])], said);
          assert.ok(found.every(({ remedy }) => remedy.length > 10));
        } else assert.deepEqual(findings, []);
        assert.doesNotMatch(JSON.stringify(job), /first-password|weak-password/);
        await rotationAgrees(secret, functionName, fault);
      } finally {
        await fault.undo?.(place, user);
      }
    });
  }

  test(`${name}: a replica that does not take the credential fails testSecret, unless a quorum is enough`, async () => {
    const user = `u_${randomUUID().slice(0, 8)}`;
    const login = await place.newUser(user);
    const functionName = place.functionOf.single;
    const functionArn = `arn:aws:lambda:${region}:${account}:function:${functionName}`;
    const endpoints = [
      { host: "localhost", port: 1 },
      { host: String(login.host), port: Number(login.port) },
    ];
    for (const endpointQuorum of [undefined, 1]) {
      const secret = await world.newSecret(`db/${user}-${endpointQuorum}`, login, {
        rotationPolicy: { endpoints, endpointQuorum },
      });
      const job = await done({ world, engine }, secret, "check", { functionArn });
      const { ok, findings, passed } = job.result as unknown as Found;
      assert.deepEqual([ok, findings.map(({ step }) => step)], [endpointQuorum === 1, ["testSecret"]]);
      assert.ok(passed.includes(`the current credential logs in at ${login.host}:${login.port}`));
    }
  });

  async function rotationAgrees(secret: Secret, functionName: string, fault: Fault): Promise<void> {
    const id = await world.begin(secret, { functionName, windowMs: 0 });
    engine.wake();
    const { state, step, error } = await world.ended(id);
    if (fault.works === true) assert.equal(state, "succeeded", error);
    else assert.deepEqual([["failed", "blocked"].includes(state), step], [true, fault.step], `${state} ${error}`);
    await world.sql.transaction(async (tx) => {
      await cancelRotation(tx, secret.id, Date.now());
      await changeSecret(tx, secret.id, (before) => before);
    });
  }
}

async function isSince16({ sql }: Place): Promise<boolean> {
  const { rows } = (await sql("select current_setting('server_version_num')::int as version")) as pg.QueryResult<{
    version: number;
  }>;
  return (rows[0]?.version ?? 0) >= 160_000;
}

describe("pre-flight on PostgreSQL", { skip: postgresSkip }, () => {
  suite("postgres", faultsOfPostgres, async () => {
    const server: PostgresServer = await startPostgres();
    const admin = new pg.Client(server.url);
    await admin.connect();
    const { host, port, user: username, password } = server;
    const base = { engine: "postgres", host, port };
    return {
      sql: (text) => admin.query(text),
      admin: { ...base, username, password },
      async newUser(name) {
        await admin.query(`create role ${name} login password 'first-password'`);
        return { ...base, username: name, password: "first-password" };
      },
      functionOf: {
        single: "SecretsManagerRDSPostgreSQLRotationSingleUser",
        alternating: "SecretsManagerRDSPostgreSQLRotationMultiUser",
      },
      async [Symbol.asyncDispose]() {
        await admin.end();
        await server[Symbol.asyncDispose]();
      },
    };
  });
});

describe("pre-flight on MariaDB", { skip: mariadbSkip }, () => {
  suite("mariadb", faultsOfMariadb, async () => {
    const server: MariaDbServer = await startMariaDb();
    const admin = await server.connect();
    const { host, port, user: username, password } = server;
    const base = { engine: "mariadb", host, port };
    return {
      sql: (text) => admin.query(text),
      admin: { ...base, username, password },
      async newUser(name) {
        await admin.query(`create user ${name} identified by 'first-password'`);
        return { ...base, username: name, password: "first-password" };
      },
      functionOf: {
        single: "SecretsManagerRDSMariaDBRotationSingleUser",
        alternating: "SecretsManagerRDSMariaDBRotationMultiUser",
      },
      async [Symbol.asyncDispose]() {
        await admin.end();
        await server[Symbol.asyncDispose]();
      },
    };
  });
});
