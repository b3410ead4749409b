// While the next password is made durable its rotator logs in already: what that must not change.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { startEngine } from "../../src/engine/loop.ts";
import { migrate } from "../../src/store/migrate.ts";
import type { Sql } from "../../src/store/sql.ts";
import { openSqlite } from "../../src/store/sqlite.ts";
import { openWorld, type World } from "../support/engine-world.ts";
import { type PostgresServer, postgresSkip, startPostgres } from "../support/postgres-server.ts";

describe("a rotation logs in while its intent is made durable", { skip: postgresSkip }, () => {
  let server: PostgresServer;
  let admin: pg.Client;
  let world: World;
  const folder = mkdtempSync(join(tmpdir(), "rekey-early-"));
  before(async () => {
    server = await startPostgres();
    admin = new pg.Client(server.url);
    await admin.connect();
    const sql = openSqlite(join(folder, "rekey.db"));
    await migrate(sql);
    world = await openWorld(sql);
  });
  after(async () => {
    await world.sql.close();
    await admin.end();
    await server[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true });
  });

  const verifierOf = async (username: string): Promise<unknown> =>
    (await admin.query("select rolpassword from pg_authid where rolname = $1", [username])).rows[0]?.rolpassword;
  /** Users of sessions that rotations have open. */
  const sessions = async (): Promise<string[]> => {
    const { rows } = await admin.query("select usename from pg_stat_activity where application_name like 'rekey %'");
    return rows.map(({ usename }) => usename);
  };
  async function newUser(): Promise<{ username: string; credential: object }> {
    const username = `early_${randomUUID().slice(0, 8)}`;
    await admin.query(`create role ${username} login password 'first-password'`);
    const master = await world.newSecret(`master/${username}`, {
      ...placeOf(),
      username: server.user,
      password: server.password,
    });
    return { username, credential: { ...placeOf(), username, password: "first-password", masterarn: master.arn } };
  }
  const placeOf = () => ({ engine: "postgres", host: server.host, port: server.port });
  const until = async (holds: () => Promise<boolean>): Promise<void> => {
    for (let asked = 0; !(await holds()); asked += 1) {
      assert.ok(asked < 1_000, "waited in vain");
      await sleep(10);
    }
  };
  /** The engine over the store, each durable commit of which goes through `commit`. */
  const engineOver = (commit: <T>(write: () => Promise<T>) => Promise<T>) => {
    const sql: Sql = {
      ...world.sql,
      transaction: (work, options) => {
        const write = () => world.sql.transaction(work, options);
        return options?.durable === false ? write() : commit(write);
      },
    };
    return startEngine({ ...world.parts, sql });
  };

  for (const name of ["SingleUser", "MultiUser"] as const) {
    const loggedIn = (username: string) => (name === "SingleUser" ? username : server.user);
    const changed = (username: string) => (name === "SingleUser" ? username : `${username}_clone`);

    test(`${name}: nothing is changed while the disk is slow, and then it goes on in that session`, async () => {
      const { username, credential } = await newUser();
      const secret = await world.newSecret(`db/${username}`, credential);
      const before = await verifierOf(changed(username));
      const slow = Promise.withResolvers<void>();
      const id = await world.begin(secret, { function: name });
      await using _engine = engineOver(async (write) => {
        const done = await write();
        await slow.promise;
        return done;
      });
      await until(async () => (await sessions()).includes(loggedIn(username)));
      await sleep(100);
      assert.equal(await verifierOf(changed(username)), before);
      assert.deepEqual(await sessions(), [loggedIn(username)]);
      slow.resolve();
      assert.equal((await world.ended(id)).state, "succeeded");
      assert.notEqual(await verifierOf(changed(username)), before);
    });

    test(`${name}: nothing is changed when the disk is full`, async () => {
      const { username, credential } = await newUser();
      const secret = await world.newSecret(`db/${username}`, credential);
      const before = await verifierOf(changed(username));
      let full = true;
      const id = await world.begin(secret, { function: name });
      await using _engine = engineOver(async (write) => {
        if (!full) return write();
        await until(async () => (await sessions()).includes(loggedIn(username)));
        full = false;
        throw new Error("database or disk is full");
      });
      await until(async () => (await world.rotationOf(id)).outcome === "unknown");
      assert.equal(await verifierOf(changed(username)), before);
      assert.equal((await world.rotationOf(id)).step, "createSecret");
      await until(async () => (await sessions()).length === 0);
      assert.equal((await world.credential(await world.reload(secret), "AWSCURRENT"))?.password, "first-password");
      await world.sql.query("update rotations set run_at = 0 where id = $1", [id]);
      assert.equal((await world.ended(id)).state, "succeeded");
    });
  }
});
