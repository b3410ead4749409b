import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { migrate } from "../../src/store/migrate.ts";
import type { Sql } from "../../src/store/sql.ts";
import { openSqlite } from "../../src/store/sqlite.ts";
import { dataFolder } from "../support/audit.ts";
import { leaseWorld } from "../support/lease-world.ts";
import { postgresSkip, startPostgres } from "../support/postgres-server.ts";

/** Tells of each transaction's end that touched leases, and whether it was durable then. */
function told(sql: Sql, seen: string[]): Sql {
  return {
    ...sql,
    async transaction(work, options) {
      let touched = "";
      const answer = await sql.transaction(
        (tx) =>
          work({
            ...tx,
            query(text, values) {
              touched ||= /^\s*(insert into|update) leases/.test(text) ? (text.trim().split(" ", 1)[0] ?? "") : "";
              return tx.query(text, values);
            },
          }),
        options,
      );
      if (touched !== "") seen.push(`${touched}, ${options?.durable === false ? "not durable" : "durable"}`);
      return answer;
    },
  };
}

test("a lease is on record for good before anything happens at its target, and before its value is told", {
  skip: postgresSkip,
}, async () => {
  const dir = dataFolder();
  const store = openSqlite(join(dir, "rekey.db"));
  await migrate(store);
  const seen: string[] = [];
  await using postgres = await startPostgres();
  {
    await using world = await leaseWorld(told(store, seen), dir, {
      wrap: (target) => ({
        ...target,
        create(...given) {
          seen.push("create");
          return target.create(...given);
        },
      }),
    });
    await world.setUp(postgres);
    world.engine();
    await world.issue({ ClientRequestToken: crypto.randomUUID() });
    seen.push("answered");
  }
  await store.close();
  const create = seen.indexOf("create");
  assert.equal(seen[create - 1], "update, durable");
  assert.ok(seen.slice(0, create).some((each) => each.startsWith("insert")));
  assert.equal(seen[seen.indexOf("answered") - 1], "update, durable");
});
