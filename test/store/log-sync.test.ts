import assert from "node:assert/strict";
import fs, { mkdtempSync, rmSync } from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import type { Sql } from "../../src/store/sql.ts";
import { openSqlite } from "../../src/store/sqlite.ts";

const folder = mkdtempSync(join(tmpdir(), "rekey-log-sync-"));
const opened: Sql[] = [];
after(async () => {
  for (const sql of opened) await sql.close();
  rmSync(folder, { recursive: true });
});

/** A disk that is as slow as the test wants: each flush waits until it is let through, or told to fail. */
class SlowDisk implements Disposable {
  readonly #flush = fs.fdatasync;
  readonly #waiting: (() => Promise<void>)[] = [];
  flushes = 0;

  constructor() {
    const slow = (file: number, done: (error: Error | null) => void): void => {
      this.flushes += 1;
      this.#waiting.push(async () => {
        await new Promise<void>((resolve) => (this.failure ? resolve() : this.#flush(file, () => resolve())));
        done(this.failure ?? null);
      });
    };
    this.#use(slow as typeof fs.fdatasync);
  }

  failure: Error | undefined;

  async letThrough(): Promise<void> {
    await this.#waiting.shift()?.();
    await turns();
  }

  [Symbol.dispose](): void {
    this.#use(this.#flush);
    for (const flush of this.#waiting) void flush();
  }

  #use(flush: typeof fs.fdatasync): void {
    fs.fdatasync = flush;
    syncBuiltinESMExports();
  }
}

let stores = 0;
async function newStore(): Promise<{ sql: Sql; path: string }> {
  const path = join(folder, `store-${++stores}.db`);
  const sql = openSqlite(path);
  opened.push(sql);
  await sql.query("create table items (id integer primary key)");
  return { sql, path };
}
const insert = (sql: Sql, id: number, durable = true) =>
  sql.transaction((tx) => tx.query("insert into items (id) values ($1)", [id]), { durable });
const count = async (sql: Sql) => (await sql.query<{ count: number }>("select count(*) as count from items"))[0]?.count;

/** What was settled so far, in order. */
function watch(): { settled: string[]; add(name: string, work: Promise<unknown>): void } {
  const settled: string[] = [];
  return {
    settled,
    add: (name, work) =>
      void work.then(
        () => settled.push(name),
        () => settled.push(`${name} failed`),
      ),
  };
}
async function turns(): Promise<void> {
  for (let i = 0; i < 20; i += 1) await turn();
}

test("a commit is told when it is durable, not before, and the next ones are made meanwhile", async () => {
  const { sql } = await newStore();
  using disk = new SlowDisk();
  const { settled, add } = watch();
  add("first", insert(sql, 1));
  await turns();
  add("second", insert(sql, 2));
  await turns();
  add("third", insert(sql, 3));
  await turns();
  assert.deepEqual(settled, []);
  await disk.letThrough();
  assert.deepEqual(settled, ["first"], "the flush began before the others were written");
  await disk.letThrough();
  assert.deepEqual(settled, ["first", "second", "third"], "one flush serves both");
  assert.equal(disk.flushes, 2);
});

test("nobody is told what is not durable yet", async () => {
  const { sql } = await newStore();
  using disk = new SlowDisk();
  const { settled, add } = watch();
  add("read before", count(sql));
  await turns();
  assert.deepEqual(settled, ["read before"]);
  add("change", insert(sql, 1));
  await turns();
  add("read", count(sql));
  add(
    "transaction that reads",
    sql.transaction((tx) => tx.query("select id from items"), { durable: false }),
  );
  await turns();
  assert.deepEqual(settled, ["read before"]);
  await disk.letThrough();
  assert.deepEqual(settled.toSorted(), ["change", "read", "read before", "transaction that reads"]);
});

test("what need not be durable does not wait for the disk", async () => {
  const { sql } = await newStore();
  using disk = new SlowDisk();
  await insert(sql, 1, false);
  assert.equal(await count(sql), 1);
  assert.equal(disk.flushes, 0);
});

test("after a flush that failed nothing is told and nothing is taken, until the store is opened again", async () => {
  const { sql, path } = await newStore();
  {
    using disk = new SlowDisk();
    disk.failure = new Error("EIO: i/o error, fdatasync");
    const waiting = [insert(sql, 1), turns().then(() => count(sql)), turns().then(() => insert(sql, 2))];
    const all = Promise.allSettled(waiting);
    await turns();
    await disk.letThrough();
    await disk.letThrough();
    for (const { status } of await all) assert.equal(status, "rejected");
    assert.equal(disk.flushes, 1, "a second flush would say nothing about what the first one lost");
  }
  await assert.rejects(insert(sql, 3), /could not be made durable/);
  await assert.rejects(count(sql), /could not be made durable/);
  await sql.close();
  const again = openSqlite(path);
  opened.push(again);
  await insert(again, 4);
  assert.ok(((await count(again)) ?? 0) >= 1);
});

test("what an earlier process left in the log is durable before anything is read", async () => {
  const { sql, path } = await newStore();
  await insert(sql, 1, false);
  const flush = fs.fdatasyncSync;
  let flushed = 0;
  fs.fdatasyncSync = (file) => {
    flushed += 1;
    flush(file);
  };
  syncBuiltinESMExports();
  try {
    const again = openSqlite(path); // as after an end without a word: the log is there
    opened.push(again);
    assert.equal(flushed, 1);
    assert.equal(await count(again), 1);
  } finally {
    fs.fdatasyncSync = flush;
    syncBuiltinESMExports();
  }
});
