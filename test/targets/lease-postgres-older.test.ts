import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { postgresLeases as target } from "../../src/targets/lease-postgres.ts";
import { olderPostgresSkip } from "../support/postgres-server.ts";
import { lease, leaseContract, leaseTools, problemsOf } from "./lease-contract.ts";
import { type LeaseWorld, startLeaseWorld } from "./lease-postgres-world.ts";

describe("leases of a PostgreSQL before 16, where CREATEROLE alone grants roles", { skip: olderPostgresSkip }, () => {
  let world: LeaseWorld;
  before(async () => {
    world = await startLeaseWorld({ older: true });
  });
  after(() => world[Symbol.asyncDispose]());

  leaseContract(() => world.subject());

  test("what the user owns in two databases goes to the group role", async () => {
    const one = await lease(world.subject());
    for (const database of ["app", "other"])
      await world.asUser(one.fields, (client) => client.query("create table made as select 7 as n"), database);
    await one.revoke();
    for (const database of ["app", "other"]) {
      const [row] = await world.asRoot("select tableowner from pg_tables where tablename = 'made'", database);
      assert.equal(row?.tableowner, "app_reader");
    }
  });

  test("a managing user that inherits nothing is warned of", async () => {
    await world.asRoot("alter role manager noinherit");
    const connection = target.connection.parse(world.subject().connection);
    const findings = await target.check(connection, target.settings.parse(world.subject().settings), leaseTools());
    assert.match(problemsOf(findings), /warning: role manager does not inherit rights/);
    await world.asRoot("alter role manager inherit");
  });
});
