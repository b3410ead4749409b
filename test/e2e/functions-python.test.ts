// Python functions that make the calls of AWS's published ones, with the libraries that those use, against real databases.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { functionWorld, python } from "../support/function-world.ts";
import { type MariaDbServer, mariadbSkip, startMariaDb } from "../support/mariadb-server.ts";
import { type PostgresServer, postgresSkip, startPostgres } from "../support/postgres-server.ts";
import { rotationWorld } from "../support/rotation-e2e.ts";

const hasLibraries = spawnSync(python, ["-c", "import boto3, pgdb, pymysql"]).status === 0;
const missing = `no ${python} with boto3, pgdb and pymysql: install Debian's python3-boto3, python3-pygresql and python3-pymysql`;
if (!hasLibraries && process.env.CI) throw new Error(missing);
const skip = (hasLibraries ? false : missing) || postgresSkip || mariadbSkip;
const file = "python/rotation.py";

describe("Python functions", { skip }, () => {
  let world: Awaited<ReturnType<typeof functionWorld>>;
  let postgres: PostgresServer;
  let mariadb: MariaDbServer;
  before(async () => {
    [world, postgres, mariadb] = await Promise.all([functionWorld(), startPostgres(), startMariaDb()]);
    const path = world.write(file, "");
    copyFileSync(join(import.meta.dirname, "../support/functions/rotation.py"), path);
  });
  after(async () => {
    await Promise.all([world, postgres, mariadb].map((each) => each[Symbol.asyncDispose]()));
  });

  const rotated = async (SecretId: string, name: string, arn: string): Promise<Record<string, string>> => {
    await world.rotate(SecretId, arn);
    const { state, reason } = await world.rotationOf(SecretId);
    assert.equal(state, "succeeded", `${reason}\n${await world.logs(name)}`);
    return world.value(SecretId);
  };

  it("a single user of PostgreSQL, twice", async () => {
    const database = rotationWorld(world.server, postgres);
    const login = await database.newLogin();
    const { SecretId } = await world.newSecret(login);
    const { name, arn } = await world.create({ runtime: "python", file, handler: "postgres_handler" });
    const first = await rotated(SecretId, name, arn);
    const second = await rotated(SecretId, name, arn);
    assert.equal(await database.logsIn({ ...login, password: String(second.password) }), true);
    assert.equal(await database.logsIn({ ...login, password: String(first.password) }), "28P01");
    const log = await world.logs(name);
    for (const value of [login.password, first.password, second.password]) assert.ok(!log.includes(String(value)), log);
    assert.match(log, /made .*\[secret\]/);
  });

  it("the shape of passwords by variables; the value before last logs in; labels taken away at the end", async () => {
    const database = rotationWorld(world.server, postgres);
    const login = await database.newLogin();
    const { SecretId } = await world.newSecret(login);
    const environment = {
      PASSWORD_LENGTH: "24",
      EXCLUDE_PUNCTUATION: "true",
      EXCLUDE_CHARACTERS: "abcdef",
      REMOVE_PENDING: "yes",
    };
    const { name, arn } = await world.create({ runtime: "python", file, handler: "postgres_handler", environment });
    const made = await rotated(SecretId, name, arn);
    assert.match(String(made.password), /^[A-Zg-z0-9]{24}$/);
    assert.deepEqual(Object.values(await database.labels(SecretId)).toSorted(), [["AWSCURRENT"], ["AWSPREVIOUS"]]);
    await database.sql(`alter role ${login.username} password 'first-password'`); // as AWSPREVIOUS has it
    const again = await rotated(SecretId, name, arn);
    assert.equal(await database.logsIn({ ...login, ...again }), true);
  });

  it("alternating users of PostgreSQL, with the superuser's secret", async () => {
    const database = rotationWorld(world.server, postgres);
    const master = await world.newSecret(database.superuser());
    const login = await database.newLogin({ masterarn: master.ARN });
    const { SecretId } = await world.newSecret(login);
    const options = { runtime: "python", file, handler: "postgres_handler", superuserSecretArn: master.ARN } as const;
    const { name, arn } = await world.create(options);
    const clone = await rotated(SecretId, name, arn);
    assert.equal(clone.username, `${login.username}_clone`);
    assert.equal(await database.logsIn({ ...login, ...clone }), true);
    assert.equal(await database.logsIn(login), true);
    const back = await rotated(SecretId, name, arn);
    assert.equal(back.username, login.username);
    assert.equal(await database.logsIn({ ...login, ...back }), true);
  });

  it("MariaDB: a single user, and alternating users", async () => {
    const { host, port, user, password } = mariadb;
    const superuser = await mariadb.connect();
    await superuser.query("create user app@'%' identified by 'first-password'");
    const login = { engine: "mysql", host, port, username: "app", password: "first-password" };
    const single = await world.newSecret(login);
    const options = { runtime: "python", file, handler: "mysql_handler" } as const;
    const one = await world.create(options);
    const first = await rotated(single.SecretId, one.name, one.arn);
    assert.notEqual(first.password, "first-password");
    const master = await world.newSecret({ engine: "mysql", host, port, username: user, password });
    const multi = await world.newSecret({ ...login, password: first.password, masterarn: master.ARN });
    const two = await world.create({ ...options, superuserSecretArn: master.ARN });
    assert.equal((await rotated(multi.SecretId, two.name, two.arn)).username, "app_clone");
    assert.equal((await rotated(multi.SecretId, two.name, two.arn)).username, "app");
    await superuser.end();
  });
});
