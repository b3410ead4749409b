// A superuser's own secret: rotated as others are, and read by rotations of others while it is.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import mysql2 from "mysql2/promise";
import pg from "pg";
import type { Secret } from "../../src/core/secret.ts";
import { type Engine, startEngine } from "../../src/engine/loop.ts";
import { migrate } from "../../src/store/migrate.ts";
import { openSqlite } from "../../src/store/sqlite.ts";
import type { DatabaseCredential } from "../../src/targets/database-secret.ts";
import { mysql } from "../../src/targets/mysql.ts";
import { postgres } from "../../src/targets/postgres.ts";
import { openWorld, type World } from "../support/engine-world.ts";
import { mariadbSkip, startMariaDb } from "../support/mariadb-server.ts";
import { postgresSkip, startPostgres } from "../support/postgres-server.ts";
import { tools } from "./contract.ts";

/** Runs a statement as its first superuser, whatever becomes of the others. */
interface Target extends AsyncDisposable {
  readonly host: string;
  readonly port: number;
  run(statement: string): Promise<unknown>;
}

async function postgresTarget(): Promise<Target> {
  const server = await startPostgres();
  const { host, port } = server;
  const run = async (statement: string) => {
    const client = new pg.Client(server.url);
    await client.connect();
    await client.query(statement).finally(() => client.end());
  };
  return { host, port, run, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
}

async function mariadbTarget(): Promise<Target> {
  const server = await startMariaDb();
  const { host, port, user, password } = server;
  const run = async (statement: string) => {
    const connection = await mysql2.createConnection({ host, port, user, password, multipleStatements: true });
    await connection.query(statement).finally(() => connection.end());
  };
  return { host, port, run, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
}

const kinds = [
  {
    kind: "PostgreSQL",
    skip: postgresSkip,
    start: postgresTarget,
    rotator: postgres,
    create: (name: string, word: string) => `create role ${name} login password '${word}'`,
    elevate: (name: string) => `alter role ${name} superuser`,
    reset: (name: string, word: string) => `alter role ${name} password '${word}'`,
  },
  {
    kind: "MariaDB",
    skip: mariadbSkip,
    start: mariadbTarget,
    rotator: mysql,
    create: (name: string, word: string) => `create user ${name} identified by '${word}'`,
    elevate: (name: string) => `grant all on *.* to ${name} with grant option`,
    reset: (name: string, word: string) => `alter user ${name} identified by '${word}'`,
  },
];

for (const { kind, skip, start, rotator, create, elevate, reset } of kinds) {
  describe(`a superuser of ${kind}`, { skip }, () => {
    const functionName = (users: "SingleUser" | "MultiUser") => `SecretsManagerRDS${kind}Rotation${users}`;
    const folder = mkdtempSync(join(tmpdir(), "rekey-superuser-"));
    let target: Target;
    let world: World;
    let engine: Engine;
    before(async () => {
      target = await start();
      const sql = openSqlite(join(folder, "rekey.db"));
      await migrate(sql);
      world = await openWorld(sql);
      engine = startEngine(world.parts);
    });
    after(async () => {
      await engine.stop();
      await world.sql.close();
      await target[Symbol.asyncDispose]();
      rmSync(folder, { recursive: true });
    });

    const newSecret = async (prefix: string, more: object = {}): Promise<Secret> => {
      const username = `${prefix}_${randomUUID().slice(0, 8)}`;
      await target.run(create(username, "first"));
      return world.newSecret(`db/${username}`, { host: target.host, port: target.port, username, password: "first", ...more });
    };
    const newSuperuser = async (): Promise<Secret> => {
      const secret = await newSecret("super");
      await target.run(elevate(secret.name.slice(3)));
      return secret;
    };
    const rotate = async (secret: Secret, users: "SingleUser" | "MultiUser", windowMs = 60_000) => {
      const id = await world.begin(secret, { functionName: functionName(users), windowMs });
      engine.wake();
      return world.ended(id);
    };
    const logsIn = async (secret: Secret, label: string) => {
      const credential = await world.credential(secret, label);
      return credential && rotator.probe(credential, tools());
    };
    const nameMaster = async (secret: Secret, masterarn: string) => {
      const current = await world.credential(secret, "AWSCURRENT");
      await world.put(secret, { ...current, masterarn });
    };

    test("is rotated by itself, whether its secret names itself or nobody", async () => {
      for (const itself of [false, true]) {
        const secret = await newSuperuser();
        if (itself) await nameMaster(secret, secret.arn);
        for (let turn = 0; turn < 2; turn++) {
          const { state, error } = await rotate(secret, "SingleUser");
          assert.equal(state, "succeeded", error);
          assert.equal(await logsIn(secret, "AWSCURRENT"), "ok");
          assert.equal(await logsIn(secret, "AWSPREVIOUS"), "refused");
        }
      }
    });

    test("alternates with its own clone, which is the superuser of the next turn", async () => {
      const secret = await newSuperuser();
      await nameMaster(secret, secret.arn);
      const names = new Set<string | undefined>();
      for (let turn = 0; turn < 3; turn++) {
        const { state, error } = await rotate(secret, "MultiUser");
        assert.equal(state, "succeeded", error);
        for (const label of ["AWSCURRENT", "AWSPREVIOUS"]) assert.equal(await logsIn(secret, label), "ok");
        names.add((await world.credential(secret, "AWSCURRENT"))?.username);
      }
      assert.equal(names.size, 2);
    });

    test("whose password was changed by hand cannot help itself: blocked, with words, and nothing is set", async () => {
      const secret = await newSuperuser();
      await nameMaster(secret, secret.arn);
      assert.equal((await rotate(secret, "SingleUser")).state, "succeeded");
      const current = await world.credential(secret, "AWSCURRENT");
      await target.run(reset(secret.name.slice(3), "by-hand"));
      const { state, remedy = "" } = await rotate(secret, "SingleUser");
      assert.equal(state, "blocked");
      assert.match(remedy, /put the one that is in force/);
      assert.equal(await rotator.probe({ ...current, password: "by-hand" } as DatabaseCredential, tools()), "ok");
      await world.put(secret, { ...current, password: "by-hand" });
      assert.equal((await rotate(secret, "SingleUser")).state, "succeeded", "and the remedy helps");
    });

    test("is of use to other secrets while it is being rotated itself", async () => {
      const master = await newSuperuser();
      const others = await Promise.all([1, 2, 3, 4].map(() => newSecret("other", { masterarn: master.arn })));
      let done = false;
      const turns = async () => {
        for (let turn = 0; turn < 5; turn++) assert.equal((await rotate(master, "SingleUser")).state, "succeeded");
        done = true;
      };
      const alternate = async (secret: Secret) => {
        do {
          const { state, error } = await rotate(secret, "MultiUser");
          assert.equal(state, "succeeded", error);
          for (const label of ["AWSCURRENT", "AWSPREVIOUS"]) assert.equal(await logsIn(secret, label), "ok");
        } while (!done);
      };
      await Promise.all([turns(), ...others.map(alternate)]);
    });
  });
}
