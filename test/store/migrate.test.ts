import assert from "node:assert/strict";
import { test } from "node:test";
import { ConfigError } from "../../src/core/error.ts";
import { migrate, pendingMigrations } from "../../src/store/migrate.ts";
import { migrations as shipped } from "../../src/store/migrations/index.ts";
import { forEachStore } from "../support/stores.ts";

const first = {
  id: 1,
  name: "things",
  sql: ["create table things (id serial_key, data bytes not null)", "create index things_by_data on things (data)"],
};
const second = { id: 2, name: "names", sql: ["alter table things add column name text", "update things set name = 'old'"] };

test("the shipped migrations are numbered without a gap", () => {
  assert.deepEqual(
    shipped.map(({ id }) => id),
    Array.from({ length: shipped.length }, (_, index) => index + 1),
  );
});

forEachStore((_, open) => {
  test("what is missing is applied once, in order, and told", async () => {
    const sql = await open({ empty: true });
    assert.deepEqual(await pendingMigrations(sql, [first, second]), ["0001-things", "0002-names"]);
    assert.deepEqual(await migrate(sql, [first]), { applied: ["0001-things"] });
    const row = await sql.query("insert into things (data) values ($1) returning *", [new Uint8Array([1, 2])]);
    assert.deepEqual(row, [{ id: 1, data: new Uint8Array([1, 2]) }]);
    assert.deepEqual(await pendingMigrations(sql, [first, second]), ["0002-names"]);
    assert.deepEqual(await migrate(sql, [first, second]), { applied: ["0002-names"] });
    assert.deepEqual(await migrate(sql, [first, second]), { applied: [] });
    assert.deepEqual(await pendingMigrations(sql, [first, second]), []);
    assert.deepEqual(await sql.query("select id, name from things"), [{ id: 1, name: "old" }]);
  });

  test("numbers made by serial_key are never used again", async () => {
    const sql = await open({ empty: true });
    await migrate(sql, [first]);
    const add = () => sql.query<{ id: number }>("insert into things (data) values ($1) returning id", [new Uint8Array()]);
    await add();
    await add();
    await sql.query("delete from things");
    assert.deepEqual(await add(), [{ id: 3 }]);
  });

  test("byte_ordered text sorts by its bytes", async () => {
    const sql = await open({ empty: true });
    await migrate(sql, [{ id: 1, name: "words", sql: ["create table words (word byte_ordered primary key)"] }]);
    await sql.query("insert into words values ('b'), ('a'), ('B'), ('é'), ('_')");
    const rows = await sql.query<{ word: string }>("select word from words order by word");
    assert.equal(rows.map(({ word }) => word).join(""), "B_abé");
  });

  test("several starting at once apply each migration once", async () => {
    const sql = await open({ empty: true });
    const results = await Promise.all(Array.from({ length: 5 }, () => migrate(sql, [first, second])));
    assert.deepEqual(
      results.flatMap(({ applied }) => applied),
      ["0001-things", "0002-names"],
    );
  });

  test("a failing statement leaves nothing behind", async () => {
    const sql = await open({ empty: true });
    const broken = {
      id: 2,
      name: "broken",
      sql: ["create table more (id bigint primary key)", "create table things (id bigint)"],
    };
    await assert.rejects(migrate(sql, [first, broken]), /already exists/);
    assert.deepEqual(await pendingMigrations(sql, [first, broken]), ["0001-things", "0002-broken"]);
    await assert.rejects(sql.query("select * from more"), "its tables are gone");
    assert.deepEqual(await migrate(sql, [first, second]), { applied: ["0001-things", "0002-names"] });
  });

  test("a database that is newer, or another program's, is refused and kept", async () => {
    const sql = await open({ empty: true });
    await migrate(sql, [first, second]);
    const other = { ...first, name: "other" };
    for (const [ours, message] of [
      [[first], /newer version of Rekey.*0002-names/],
      [[other, second], /another program.*0001-things/],
    ] as const) {
      for (const ask of [migrate, pendingMigrations]) {
        await assert.rejects(ask(sql, ours), (error: Error) => error instanceof ConfigError && message.test(error.message));
      }
    }
    assert.deepEqual(await pendingMigrations(sql, [first, second]), []);
  });

  test("the shipped migrations apply", async () => {
    const sql = await open();
    assert.deepEqual(await pendingMigrations(sql), []);
    assert.deepEqual(await migrate(sql), { applied: [] });
  });
});
