// SIGKILL at every call that issuing, renewing and revoking a lease makes of its ports, on a real PostgreSQL; then a restart.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { openRootKey } from "../../src/crypto/key-provider.ts";
import { migrate } from "../../src/store/migrate.ts";
import { openSqlite } from "../../src/store/sqlite.ts";
import { newRootKey } from "../support/engine-world.ts";
import { type LeaseWorld, leasedUsers, leaseWorld, liveNames, until } from "../support/lease-world.ts";
import { type PostgresServer, postgresSkip, startPostgres } from "../support/postgres-server.ts";
import { seeded } from "../support/random.ts";
import { sampleSeed, share } from "../support/sample.ts";

const worker = fileURLToPath(new URL("lease-worker.ts", import.meta.url));
const mostPoints = 300;

const shards = 2;
/** Of the points, each run tries so many apart, another part of them each time. */
const stride = share === 1 ? 1 : 5;

describe("leases killed at any point", { skip: postgresSkip, concurrency: shards }, () => {
  for (let shard = 1; shard <= shards; shard += 1) {
    test(`users at the target are the live leases, none outlives its time or dies before a confirmed renewal: part ${shard}`, async (context) => {
      await using place = await newPlace();
      let point = shard + shards * Math.floor(seeded(`${sampleSeed} leases ${shard}`)() * stride);
      for (let said: readonly string[] = []; !said.includes("not killed"); point += shards * stride) {
        assert.ok(point < mostPoints, "the worker goes on for ever");
        said = await runWorker(place, point);
        await check(place, said);
      }
      context.diagnostic(`killed at points up to ${point - 2 * shards * stride}`);
      assert.ok(point > 40, `only ${point} points: the worker counts nothing`);
    });
  }
});

interface Place extends AsyncDisposable {
  readonly folder: string;
  readonly rootKey: string;
  readonly server: PostgresServer;
}

async function newPlace(): Promise<Place> {
  const folder = mkdtempSync(join(tmpdir(), "rekey-crash-"));
  const server = await startPostgres();
  const place = {
    folder,
    rootKey: newRootKey(),
    server,
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]();
      rmSync(folder, { recursive: true });
    },
  };
  const sql = openSqlite(join(folder, "rekey.db"));
  await migrate(sql);
  await sql.close();
  await inWorld(place, (world) => world.setUp(server));
  return place;
}

async function inWorld(place: Place, work: (world: LeaseWorld) => Promise<void>): Promise<void> {
  const sql = openSqlite(join(place.folder, "rekey.db"));
  try {
    const rootKey = await openRootKey("env:KEY", { env: { KEY: place.rootKey } });
    await using world = await leaseWorld(sql, place.folder, { rootKey });
    await work(world);
  } finally {
    await sql.close();
  }
}

/** What the worker said, line by line. */
async function runWorker(place: Place, point: number): Promise<readonly string[]> {
  const args = ["--disable-warning=ExperimentalWarning", worker, place.folder, String(point)];
  const child = spawn(process.execPath, args, {
    env: { ...process.env, ROOT_KEY: place.rootKey },
    stdio: ["ignore", "pipe", "inherit"],
  });
  let text = "";
  child.stdout.setEncoding("utf8").on("data", (part: string) => {
    text += part;
  });
  const [code, signal] = await once(child, "close");
  const said = text.trim().split("\n");
  if (said.includes("not killed")) assert.equal(code, 0);
  else assert.equal(signal, "SIGKILL", `point ${point}: ${text}`);
  return said;
}

async function check({ folder, server, rootKey }: Place, said: readonly string[]): Promise<void> {
  const where = said.join(", ");
  const named = (word: string) => said.filter((line) => line.startsWith(`${word} `)).map((line) => line.split(" ")[1] ?? "");
  const [issued, renewed, revoked] = [named("issued"), named("renewed"), named("revoked")];
  const sure = issued.filter((user) => !revoked.includes(user) && user === issued[0]);
  await inWorld({ folder, server, rootKey } as Place, async (world) => {
    world.engine();
    const settle = (what: string) =>
      until(`${where}: ${what}`, async () => {
        const [users, live] = [await leasedUsers(server), await liveNames(world.sql)];
        const busy = await world.sql.query(
          "select id from leases where state in ('creating', 'revoking') or renew_to is not null",
        );
        return busy.length === 0 && users.join() === live.join();
      });
    await settle("users are not the live leases");
    // What was handed out works; what was not is given a minute, in which its caller may ask again.
    for (const user of sure) assert.ok((await leasedUsers(server)).includes(user), `${where}: ${user} was ended`);
    world.clock.offsetMs = 61_000;
    await until(`${where}: what nobody took is still there`, async () => {
      const rows = await world.sql.query("select id from leases where state <> 'ended' and answered_at is null");
      return rows.length === 0;
    });
    await settle("users are not the live leases after a minute");
    for (const user of sure) assert.ok((await leasedUsers(server)).includes(user), `${where}: ${user} was ended after a minute`);
    // Past the first end, and before that of the renewal.
    world.clock.offsetMs = 700_000;
    await settle("users are not the live leases after their time");
    for (const user of renewed)
      assert.ok((await leasedUsers(server)).includes(user), `${where}: ${user} was ended though it was renewed`);
    world.clock.offsetMs = 1_300_000;
    await until(`${where}: leases outlive their time`, async () => (await leasedUsers(server)).length === 0);
    await settle("something is left");
    assert.deepEqual(await liveNames(world.sql), [], where);
    assert.deepEqual(await world.sql.query("select id from leases where sealed is not null"), [], where);
  });
}
