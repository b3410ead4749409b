import assert from "node:assert/strict";
import { AsyncLocalStorage } from "node:async_hooks";
import { before, test } from "node:test";
import type { Sql, SqlValue } from "../../src/store/sql.ts";
import { forEachStore } from "../support/stores.ts";

/** Runs something as if it had not been called from inside a transaction. */
const elsewhere = AsyncLocalStorage.snapshot();
const failsWith = (pattern: RegExp) => (error: Error) =>
  pattern.test(`${error.message} ${(error.cause as Error)?.message ?? ""}`);

forEachStore((name, open) => {
  let sql: Sql;
  const bytesType = name === "sqlite" ? "blob" : "bytea";
  const idsIn = async (table: string) =>
    (await sql.query<{ id: number }>(`select id from ${table} order by id`)).map(({ id }) => id);
  const insert = (tx: Sql, id: number) => tx.query("insert into items (id) values ($1)", [id]);

  before(async () => {
    sql = await open({ empty: true });
    await sql.query(`create table items (id bigint primary key, words text, bytes ${bytesType}, flag integer)`);
    await sql.query("create table parents (id bigint primary key)");
    await sql.query(
      "create table children (id bigint primary key, parent bigint not null references parents (id) on delete cascade)",
    );
  });

  test("every kind of value comes back as it was, in the same shape", async () => {
    const now = 1_785_000_000_123;
    const bytes = new Uint8Array([0, 1, 127, 128, 255]);
    const cases: SqlValue[][] = [
      [Number.MAX_SAFE_INTEGER, "plain", bytes, 1],
      [Number.MIN_SAFE_INTEGER, "", new Uint8Array(0), 0],
      [now, `quotes ' " \\ $1 ? % and \u{1F511} \r\n`, Buffer.from("a view of something larger").subarray(2, 6), -1],
      [17n, null, null, null],
    ];
    for (const [id, words, blob, flag] of cases) {
      const values = [id, words, blob, flag] as SqlValue[];
      const [row] = await sql.query("insert into items (id, words, bytes, flag) values ($1, $2, $3, $4) returning *", values);
      const plain = blob instanceof Uint8Array ? new Uint8Array(blob) : blob;
      assert.deepEqual(row, { id: Number(id), words, bytes: plain, flag });
      assert.deepEqual(await sql.query("select * from items where id = $1", [id as SqlValue]), [row]);
    }
    await sql.query("delete from items");
  });

  test("counts, sums and comparisons are numbers", async () => {
    await sql.query("insert into parents (id) values ($1), ($2)", [1, 2]);
    assert.deepEqual(await sql.query("select count(*) as n, sum(id) as total, max(id) as top from parents"), [
      { n: 2, total: 3, top: 2 },
    ]);
    assert.deepEqual(await sql.query("select id = 1 as first from parents order by id"), [{ first: 1 }, { first: 0 }]);
    assert.deepEqual(await sql.query("select sum(id) as total from parents where id > $1", [5]), [{ total: null }]);
    await sql.query("delete from parents");
  });

  test("a number given for text is its digits", async () => {
    assert.deepEqual(await sql.query("insert into items (id, words) values (1, $1) returning words", [5]), [{ words: "5" }]);
    await sql.query("delete from items");
  });

  test("values that the two would keep differently are refused, without being shown", async () => {
    for (const value of [1.5, Number.NaN, 2 ** 53, true, undefined, new Date(0), "secret\0text"]) {
      const asked = sql.query("insert into items (id, words) values (1, $1)", [value as SqlValue]);
      await assert.rejects(
        asked,
        (error: Error) => error instanceof TypeError && /^\$1 is /.test(error.message) && !/secret/.test(error.message),
      );
    }
    await assert.rejects(sql.query("select $1, $2", [1]), "a placeholder without value");
  });

  test("an integer too large to be exact is refused when read, not rounded", async () => {
    await sql.query("insert into items (id) values ($1)", [2n ** 62n]);
    await assert.rejects(sql.query("select id from items"), RangeError);
    await sql.query("delete from items");
  });

  test("placeholders may be used twice and out of order", async () => {
    const text =
      "insert into items (id, words) values ($2, $1) on conflict (id) do update set words = $1 where items.id = $2 returning id, words";
    assert.deepEqual(await sql.query(text, ["one", 7]), [{ id: 7, words: "one" }]);
    assert.deepEqual(await sql.query(text, ["two", 7]), [{ id: 7, words: "two" }]);
    const many = Array.from({ length: 12 }, (_, index) => 100 + index);
    const places = many.map((_, index) => `($${12 - index})`).join(", ");
    const rows = await sql.query<{ id: number }>(`insert into items (id) values ${places} returning id`, many);
    assert.deepEqual(
      rows.map(({ id }) => id),
      many.toReversed(),
    );
    await sql.query("delete from items");
  });

  test("upserts and common table expressions answer on both", async () => {
    const upsert =
      "insert into items (id, words) values ($1, $2) on conflict (id) do update set words = excluded.words returning words";
    assert.deepEqual(await sql.query(upsert, [1, "a"]), [{ words: "a" }]);
    assert.deepEqual(await sql.query(upsert, [1, "b"]), [{ words: "b" }]);
    const keep = "insert into items (id) values ($1) on conflict do nothing returning id";
    assert.deepEqual(await sql.query(keep, [1]), []);
    assert.deepEqual(await sql.query("with found as (select words from items) select * from found"), [{ words: "b" }]);
    await sql.query("delete from items");
  });

  test("foreign keys hold and cascade", async () => {
    await assert.rejects(sql.query("insert into children (id, parent) values (1, 1)"), /foreign key/i);
    await sql.query("insert into parents (id) values (1)");
    await sql.query("insert into children (id, parent) values (1, 1)");
    await sql.query("delete from parents");
    assert.deepEqual(await idsIn("children"), []);
  });

  test("concurrent transactions all commit, and only the failing ones are undone", async () => {
    const results = await Promise.allSettled(
      Array.from({ length: 210 }, (_, id) =>
        sql.transaction(async (tx) => {
          await insert(tx, id);
          if (id % 7 === 3) throw new Error(`no ${id}`);
          if (id % 7 === 5) await insert(tx, id); // the statement itself fails
          return id;
        }),
      ),
    );
    const good = results.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
    assert.deepEqual(
      good,
      Array.from({ length: 210 }, (_, id) => id).filter((id) => id % 7 !== 3 && id % 7 !== 5),
    );
    assert.equal((results[3] as PromiseRejectedResult).reason.message, "no 3");
    assert.deepEqual(await idsIn("items"), good);
    await sql.query("delete from items");
  });

  test("increments from many transactions are not lost", async () => {
    await sql.query("insert into items (id, flag) values (1, 0)");
    const forUpdate = name === "postgres" ? " for update" : "";
    const increment = (tx: Sql) =>
      tx.query<{ flag: number }>(`select flag from items where id = 1${forUpdate}`).then(async ([row]) => {
        await tx.query("update items set flag = $1 where id = 1", [(row?.flag ?? 0) + 1]);
      });
    await Promise.all(Array.from({ length: 60 }, () => sql.transaction(increment)));
    assert.deepEqual(await sql.query("select flag from items"), [{ flag: 60 }]);
    await sql.query("delete from items");
  });

  test("a transaction sees its own changes, others only once it has committed, its caller at once", async () => {
    const inside = await sql.transaction(async (tx) => {
      await insert(tx, 1);
      const outside = await elsewhere(() => idsIn("items"));
      assert.deepEqual(outside, []);
      return tx.query("select id from items");
    });
    assert.deepEqual(inside, [{ id: 1 }]);
    assert.deepEqual(await idsIn("items"), [1]);
    await sql.query("delete from items");
  });

  test("after a statement failed, the transaction is undone even when its work went on", async () => {
    let later: unknown;
    const caught = sql.transaction(async (tx) => {
      await insert(tx, 1);
      await insert(tx, 1).catch(() => undefined);
      await insert(tx, 2).catch((error) => {
        later = error;
      });
      return "done";
    });
    await assert.rejects(caught, /unique/i);
    assert.match(String(later), /earlier statement/);
    assert.deepEqual(await idsIn("items"), []);
  });

  test("nesting, and leaving the transaction from inside, are refused at once", async () => {
    const nested = [
      sql.transaction((tx) => tx.transaction(async () => 1)),
      sql.transaction(() => sql.transaction(async () => 1)),
      sql.transaction(() => sql.query("select 1")),
      sql.transaction(() => sql.query("delete from items")),
    ];
    for (const result of await Promise.allSettled(nested)) {
      assert.ok(result.status === "rejected" && failsWith(/nested/)(result.reason), "it was let through");
    }
    await sql.transaction((tx) => insert(tx, 1));
    assert.deepEqual(await idsIn("items"), [1], "the next one works");
    await sql.query("delete from items");
  });

  test("a tx kept past its work is refused, and its caller may begin another", async () => {
    const kept = await sql.transaction(async (tx) => ({ tx }));
    await assert.rejects(insert(kept.tx, 1), /has ended/);
    let late: Promise<unknown> | undefined;
    await sql.transaction(async () => {
      late = new Promise((resolve) => setTimeout(resolve, 20)).then(() => sql.transaction((tx) => insert(tx, 2)));
    });
    await late;
    assert.deepEqual(await idsIn("items"), [2]);
    await sql.query("delete from items");
  });

  test("a work that waits for something else mixes with nobody's", async () => {
    const slow = sql.transaction(async (tx) => {
      await insert(tx, 1);
      await new Promise((resolve) => setTimeout(resolve, 50));
      throw new Error("slow one fails");
    });
    const quick = Array.from({ length: 5 }, (_, id) => sql.transaction((tx) => insert(tx, 10 + id)));
    await assert.rejects(slow, /slow one fails/);
    await Promise.all(quick);
    assert.deepEqual(await idsIn("items"), [10, 11, 12, 13, 14]);
    await sql.query("delete from items");
  });

  test("more different statements than are kept prepared", async () => {
    for (let number = 0; number < 1100; number++) {
      assert.deepEqual(await sql.query(`select ${number} as n where 1 = $1`, [1]), [{ n: number }]);
    }
  });

  test("a closed store refuses, after finishing what was under way", async () => {
    const own = await open({ empty: true });
    await own.query("create table items (id bigint primary key)");
    const underWay = own.transaction((tx) => insert(tx, 1));
    if (name === "postgres") await underWay;
    await own.close();
    await underWay;
    await assert.rejects(own.query("select 1"), /closed/);
    await assert.rejects(
      own.transaction(async () => 1),
      /closed/,
    );
    await own.close();
  });
});
