// SIGKILL at every call that a rotation makes of its ports, for both strategies, on a real PostgreSQL; then a restart.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import pg from "pg";
import { startEngine } from "../../src/engine/loop.ts";
import { migrate } from "../../src/store/migrate.ts";
import { listRotations } from "../../src/store/rotations.ts";
import { openSqlite } from "../../src/store/sqlite.ts";
import type { DatabaseCredential } from "../../src/targets/database-secret.ts";
import { postgres } from "../../src/targets/postgres.ts";
import type { Strategy } from "../../src/targets/target.ts";
import { newRootKey, openWorld, type World } from "../support/engine-world.ts";
import { type PostgresServer, postgresSkip, startPostgres } from "../support/postgres-server.ts";
import { seeded } from "../support/random.ts";
import { sampleSeed, share } from "../support/sample.ts";
import { tools } from "../targets/contract.ts";

const worker = fileURLToPath(new URL("rotation-worker.ts", import.meta.url));
const mostPoints = 200;
/** Of the points, each run tries so many apart, another part of them each time. */
const stride = share === 1 ? 1 : 4;

describe("a rotation killed at any point", { skip: postgresSkip, concurrency: 2 }, () => {
  for (const strategy of ["single-user", "alternating-users"] as const) {
    test(`${strategy}: it ends after a restart, one version is current, and its password is in force`, async (context) => {
      await using place = await newPlace();
      let point = Math.ceil(seeded(`${sampleSeed} ${strategy}`)() * stride);
      for (let word = ""; word !== "not killed"; point += stride) {
        assert.ok(point < mostPoints, "the worker goes on for ever");
        word = await killAndRecover(place, strategy, point);
      }
      context.diagnostic(`killed at points up to ${point - 2 * stride}`);
      assert.ok(point > 20, `only ${point} points: the worker counts nothing`);
    });
  }
});

interface Place extends AsyncDisposable {
  readonly folder: string;
  readonly rootKey: string;
  readonly server: PostgresServer;
  readonly admin: pg.Client;
}

async function newPlace(): Promise<Place> {
  const folder = mkdtempSync(join(tmpdir(), "rekey-crash-"));
  const server = await startPostgres();
  const admin = new pg.Client(server.url);
  await admin.connect();
  const sql = openSqlite(join(folder, "rekey.db"));
  await migrate(sql);
  await sql.close();
  return {
    folder,
    rootKey: newRootKey(),
    server,
    admin,
    async [Symbol.asyncDispose]() {
      await admin.end();
      await server[Symbol.asyncDispose]();
      rmSync(folder, { recursive: true });
    },
  };
}

/** Gives what the worker said last: where it was killed, or that it was not. */
async function killAndRecover(place: Place, strategy: Strategy, point: number): Promise<string> {
  const name = `user_${point}`;
  const { host, port, user, password } = place.server;
  await place.admin.query(`create role ${name} login password 'first-password'`);
  const login = { engine: "postgres", host, port };
  await withWorld(place, async (world) => {
    const master = await world.newSecret(`master_${point}`, { ...login, username: user, password });
    await world.newSecret(name, { ...login, username: name, password: "first-password", masterarn: master.arn });
  });

  const child = spawn(
    process.execPath,
    ["--disable-warning=ExperimentalWarning", worker, place.folder, String(point), name, strategy],
    {
      env: { ...process.env, ROOT_KEY: place.rootKey },
      stdio: ["ignore", "pipe", "inherit"],
    },
  );
  let word = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    word += text;
  });
  const [code, signal] = await once(child, "close");
  word = word.trim();
  const where = `killed at ${point}, ${word}`;
  if (word === "not killed") assert.equal(code, 0);
  else assert.equal(signal, "SIGKILL", where);

  await withWorld(place, (world) => check(world, name, strategy, where));
  return word;
}

async function check(world: World, name: string, strategy: Strategy, where: string): Promise<void> {
  const [rotation] = (await listRotations(world.sql, { limit: 1 })).filter(({ secretName }) => secretName === name);
  assert.ok(rotation, where);
  const secret = { id: rotation.secretId } as Parameters<World["reload"]>[0];
  const logsIn = async (label: string) => {
    const credential: DatabaseCredential | undefined = await world.credential(secret, label);
    return credential ? postgres.probe(credential, tools()) : "absent";
  };
  // Before anything is repaired: some stored value works, and with two users the current one does (I1, I2).
  const labels = strategy === "single-user" ? ["AWSCURRENT", "AWSPENDING", "AWSPREVIOUS"] : ["AWSCURRENT"];
  const before = await Promise.all(labels.map(logsIn));
  assert.ok(before.includes("ok"), `${where}: no stored value logs in (${before})`);

  const engine = startEngine(world.parts);
  const ended = await world.ended(rotation.id);
  await engine.stop();
  assert.equal(ended.state, "succeeded", `${where}: ${ended.error}`);
  assert.equal(await logsIn("AWSCURRENT"), "ok", where);
  assert.equal(await logsIn("AWSPREVIOUS"), strategy === "single-user" ? "refused" : "ok", where);
  const after = await world.reload(secret);
  const stages = after.versions.flatMap((version) => version.stages).sort();
  assert.deepEqual(stages, ["AWSCURRENT", "AWSPREVIOUS"], where);
  assert.equal(after.versions.find((version) => version.stages.includes("AWSCURRENT"))?.id, rotation.versionId, where);
  assert.equal(after.generation, 2, where);
  assert.equal(after.switchingUntil, undefined, where);
  const events = await world.sql.query<{ type: string }>("select type from events where resource = $1", [after.arn]);
  assert.deepEqual(
    events.map(({ type }) => type),
    ["rotation.succeeded"],
    where,
  );
}

async function withWorld(place: Place, work: (world: World) => Promise<void>): Promise<void> {
  const sql = openSqlite(join(place.folder, "rekey.db"));
  try {
    await work(await openWorld(sql, { rootKey: place.rootKey }));
  } finally {
    await sql.close();
  }
}
