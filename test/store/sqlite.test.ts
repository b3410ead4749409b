import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, readlinkSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, test } from "node:test";
import { ConfigError } from "../../src/core/error.ts";
import { backupSqlite } from "../../src/store/backup.ts";
import type { Sql } from "../../src/store/sql.ts";
import { changeCounter, openSqlite, type SqliteOptions } from "../../src/store/sqlite.ts";
import { runInScope } from "../../src/store/transaction-scope.ts";

const folder = mkdtempSync(join(tmpdir(), "rekey-sqlite-"));
const opened: Sql[] = [];
after(async () => {
  for (const sql of opened) await sql.close();
  rmSync(folder, { recursive: true });
});

let count = 0;
const newPath = () => join(folder, `store-${++count}.db`);
const open = (path: string, options?: SqliteOptions): Sql => {
  const sql = openSqlite(path, options);
  opened.push(sql);
  return sql;
};
const turn = () => new Promise((resolve) => setImmediate(resolve));
const insert = (tx: Sql, id: number) => tx.query("insert into items (id) values ($1)", [id]);
const idsIn = async (sql: Sql) => (await sql.query<{ id: number }>("select id from items order by id")).map(({ id }) => id);

/** Empty for one that is closed by now. */
function readlinkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return "";
  }
}

async function newStore(path = newPath()): Promise<Sql> {
  const sql = open(path);
  await sql.query("create table items (id integer primary key)");
  return sql;
}

test("its files are for their owner only", async () => {
  const path = newPath();
  const sql = await newStore(path);
  for (const suffix of ["", "-wal", "-shm"]) assert.equal(statSync(path + suffix).mode & 0o777, 0o600, suffix);
  const settings = await sql.transaction(async (tx) => [
    ...(await tx.query("pragma journal_mode")),
    ...(await tx.query("pragma foreign_keys")),
  ]);
  assert.deepEqual(settings, [{ journal_mode: "wal" }, { foreign_keys: 1 }]);
});

test("of a store that other processes read, commits are on disk before anybody sees them", async () => {
  const path = newPath();
  await (await newStore(path)).close();
  const sql = open(path, { shared: true });
  const level = (options?: { durable: boolean }) =>
    sql.transaction(async (tx) => (await tx.query("pragma synchronous"))[0]?.synchronous, options);
  assert.equal(await level({ durable: false }), 1);
  assert.equal(await level(), 2);
  assert.deepEqual(await Promise.all([level({ durable: false }), level()]), [2, 2]);
  assert.equal(await level({ durable: false }), 1);
});

test("concurrent transactions share one commit", async () => {
  const sql = await newStore(":memory:");
  const counter = changeCounter(sql); // in memory it counts the commits
  const before = counter() ?? 0;
  await Promise.all(Array.from({ length: 100 }, (_, id) => sql.transaction((tx) => insert(tx, id))));
  assert.equal((counter() ?? 0) - before, 1);
  await Promise.all(Array.from({ length: 1000 }, (_, id) => sql.transaction((tx) => insert(tx, 100 + id))));
  assert.equal((counter() ?? 0) - before, 3, "a batch is bounded");
  assert.equal((await idsIn(sql)).length, 1100);
});

test("what a transaction may have to undo stays out of temporary files", async (t) => {
  if (!existsSync("/proc/self/fd") && !process.env.CI)
    return t.skip("no /proc/self/fd here: the open files of a process cannot be listed");
  const sql = await newStore();
  await sql.query("create table texts (text text)");
  const large = Array.from({ length: 100 }, () => "x".repeat(4000));
  await sql.transaction(async (tx) => {
    for (const text of large) await tx.query("insert into texts values ($1)", [text]);
  });
  await sql.transaction(async (tx) => {
    await tx.query("update texts set text = upper(text)");
    const files = readdirSync("/proc/self/fd").map((fd) => readlinkOf(`/proc/self/fd/${fd}`));
    assert.deepEqual(
      files.filter((file) => file.includes("etilqs")),
      [],
    );
  });
});

test("when the commit fails, all of the batch are told so and nothing is kept", async () => {
  const sql = await newStore();
  await sql.query("create table later (parent integer references items (id) deferrable initially deferred)");
  const results = await Promise.allSettled([
    sql.transaction((tx) => insert(tx, 1)),
    sql.transaction(async () => {
      throw new Error("own reason");
    }),
    sql.transaction((tx) => tx.query("insert into later (parent) values (99)")),
    sql.transaction((tx) => insert(tx, 2)),
  ]);
  const reasons = results.map((result) => (result.status === "rejected" ? result.reason.message : "kept"));
  assert.deepEqual(
    reasons.map((reason) => /FOREIGN KEY/.test(reason)),
    [true, false, true, true],
  );
  assert.equal(reasons[1], "own reason");
  await insert(sql, 3);
  assert.deepEqual(await idsIn(sql), [3]);
});

test("a full disk fails what did not fit, keeps what was told, and the store goes on", async () => {
  const sql = await newStore();
  await sql.query("create table blobs (id integer primary key, bytes blob not null)");
  const [size] = await sql.query<{ page_count: number }>("pragma page_count");
  const limit = (size?.page_count ?? 0) + 20;
  await sql.transaction((tx) => tx.query(`pragma max_page_count = ${limit}`));
  const put = (id: number) => sql.transaction((tx) => tx.query("insert into blobs values ($1, $2)", [id, new Uint8Array(8000)]));
  const results = await Promise.allSettled(Array.from({ length: 30 }, (_, id) => put(id)));
  const kept = results.flatMap((result, id) => (result.status === "fulfilled" ? [id] : []));
  const rows = await sql.query<{ id: number }>("select id from blobs order by id");
  assert.deepEqual(
    rows.map(({ id }) => id),
    kept,
  );
  const failed = results.find((result) => result.status === "rejected");
  assert.match(String(failed?.reason), /full/);
  await sql.transaction((tx) => tx.query("pragma max_page_count = 1000000"));
  await put(1000);
});

test("a work that never ends is ended, and its tx closed", async () => {
  let kept: Sql | undefined;
  const asked = runInScope({ dialect: "sqlite", execute: () => [], maxMs: 10 }, (tx) => {
    kept = tx;
    return new Promise(() => undefined);
  });
  await assert.rejects(asked, /more than 10 ms/);
  await assert.rejects(async () => kept?.query("select 1"), /has ended/);
});

test("the change counter moves with every commit, also those of others", async () => {
  const path = newPath();
  const sql = await newStore(path);
  const reader = open(path, { readOnly: true });
  const [own, other] = [changeCounter(sql), changeCounter(reader)];
  const seen = [own(), other()];
  await turn();
  assert.deepEqual([own(), other()], seen, "nothing changed");
  await insert(sql, 1);
  assert.notEqual(own(), seen[0], "in the committing turn");
  await turn();
  assert.notEqual(other(), seen[1], "at the next turn");
  const afterFirst = own();
  await assert.rejects(insert(sql, 1));
  assert.deepEqual(await idsIn(reader), [1]);
  await insert(sql, 2);
  assert.notEqual(own(), afterFirst);
  const memory = open(":memory:");
  const inMemory = changeCounter(memory);
  const before = inMemory();
  await memory.query("create table items (id integer)");
  assert.notEqual(inMemory(), before);
});

test("a store in memory answers as one in a file", async () => {
  const sql = await newStore(":memory:");
  await Promise.all([insert(sql, 1), assert.rejects(insert(sql, 1)), insert(sql, 2)]);
  assert.deepEqual(await idsIn(sql), [1, 2]);
});

test("opened for reading it changes nothing, and needs a store to be there", async () => {
  const path = newPath();
  assert.throws(() => open(path, { readOnly: true }), ConfigError);
  const sql = await newStore(path);
  const reader = open(path, { readOnly: true });
  await assert.rejects(insert(reader, 1), /reading only/);
  await assert.rejects(
    reader.transaction(async () => 1),
    /reading only/,
  );
  await assert.rejects(reader.query("pragma user_version = 5"), /readonly/);
  await insert(sql, 1);
  assert.deepEqual(await idsIn(reader), [1]);
});

test("what cannot be opened frees the claim again", () => {
  const own = mkdtempSync(join(folder, "broken-"));
  writeFileSync(join(own, "rekey.db"), "this is no database, and long enough to be sure of it ".repeat(20));
  assert.throws(() => open(join(own, "rekey.db")), /not a database/);
  const lock = new DatabaseSync(join(own, "rekey.lock"), { timeout: 50 });
  lock.exec("begin immediate");
  lock.close();
});

test("a backup is one moment of a store in use", async () => {
  const path = newPath();
  const sql = await newStore(path);
  await sql.query("create table pairs (a integer, b integer)");
  let going = true;
  const write = async () => {
    for (let n = 0; going; n++) {
      await sql.transaction(async (tx) => {
        await tx.query("insert into pairs values ($1, 0)", [n]);
        await tx.query("update pairs set b = a");
      });
    }
  };
  const writing = write();
  const copy = newPath();
  for (let n = 0; n < 20; n++) await turn();
  await backupSqlite(path, copy);
  going = false;
  await writing;
  assert.equal(statSync(copy).mode & 0o777, 0o600);
  const copied = open(copy, { readOnly: true });
  assert.deepEqual(await copied.query("pragma integrity_check"), [{ integrity_check: "ok" }]);
  const [row] = await copied.query<{ n: number; torn: number }>(
    "select count(*) as n, coalesce(sum(a <> b), 0) as torn from pairs",
  );
  assert.ok(row && row.n > 0 && row.torn === 0, JSON.stringify(row));
  await assert.rejects(backupSqlite(path, copy), /already/);
  await assert.rejects(backupSqlite(newPath(), newPath()), /no store/);
});
