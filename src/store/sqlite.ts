import { closeSync, existsSync, openSync } from "node:fs";
import { dirname } from "node:path";
import { DatabaseSync, type StatementSync } from "node:sqlite";
import { ConfigError } from "../core/error.ts";
import { LogSync } from "./log-sync.ts";
import { createSearchThread, type SearchThread, setSearchThread } from "./search-thread.ts";
import type { Row, Sql, SqlValue } from "./sql.ts";
import { checkValues } from "./sql-values.ts";
import { type Execute, refuseInsideWork, runInScope } from "./transaction-scope.ts";
import { claimWriter } from "./writer-claim.ts";

const maxStatements = 500;
const maxBatch = 512;
const maxWorkMs = 30_000;
const busyTimeoutMs = 5_000;

interface Job {
  readonly durable: boolean;
  /** Never rejects; what it made of the promise is told by `settle`. */
  run(): Promise<void>;
  settle(): void;
  fail(error: unknown): void;
}

/** The transaction under a whole batch is gone (SQLite rolls back by itself when a disk is full, for example). */
class BatchLost extends Error {}

export interface SqliteOptions {
  /** Beside the process that writes. */
  readonly readOnly?: boolean;
  /** Other processes answer from this store: what they can see must be durable. */
  readonly shared?: boolean;
}

const counters = new WeakMap<Sql, () => number>();

/**
 * The embedded store in the file `path`: one writing and one read-only connection, so that reads see committed changes only
 * and wait for no transaction. What is not durable yet is told to nobody: reads that see it wait until it is. Opening for writing claims the folder (`claimWriter`). `:memory:` is a store for tests on one
 * connection. Constraints that are checked at commit (deferrable) would fail a whole batch: use none.
 * @throws ConfigError when another process writes there, or with `readOnly` when there is no such file.
 */
export function openSqlite(path: string, { readOnly = false, shared = false }: SqliteOptions = {}): Sql {
  const inMemory = path === ":memory:";
  if (readOnly && !inMemory && !existsSync(path)) throw new ConfigError([`there is no store at ${path}`]);
  const claim = readOnly || inMemory ? undefined : claimWriter(dirname(path));
  const opened: DatabaseSync[] = [];
  let log: LogSync | undefined;
  const thread = inMemory ? undefined : createSearchThread(path);
  try {
    const writer = readOnly ? undefined : openWriter(path);
    if (writer) opened.push(writer);
    const reader = inMemory ? undefined : new DatabaseSync(path, { readOnly: true, timeout: busyTimeoutMs });
    if (reader) opened.unshift(reader); // closed first, so that the writer's end can fold the log into the file
    if (writer && !inMemory && !shared) log = new LogSync(`${path}-wal`);
    const sql = connect({ writer, reader, thread, log, closeAll });
    if (thread) setSearchThread(sql, log ? onlyDurable(thread, log) : thread);
    return sql;
  } catch (error) {
    closeAll();
    throw error;
  }
  function closeAll(): void {
    log?.close();
    for (const database of opened) database.close();
    claim?.release();
  }
}

function openWriter(path: string): DatabaseSync {
  // SQLite would make the file readable for all; its own files beside it take over these rights. Never touched once there:
  // closing a file drops the locks that this process has on it.
  if (path !== ":memory:" && !existsSync(path)) closeSync(openSync(path, "a", 0o600));
  const database = new DatabaseSync(path, { timeout: busyTimeoutMs, enableForeignKeyConstraints: true });
  const mode = database.prepare("pragma journal_mode = wal").get()?.journal_mode;
  if (mode !== "wal" && mode !== "memory") {
    database.close();
    throw new ConfigError([`${path}: its file system cannot hold the store (no write-ahead log, as on network drives)`]);
  }
  database.exec("select 1 from sqlite_schema limit 1"); // makes the log
  // Each savepoint keeps the pages that it changes: without `temp_store`, in files outside of the data folder.
  database.exec(
    "pragma temp_store = memory; pragma synchronous = full; pragma journal_size_limit = 67108864; pragma wal_autocheckpoint = 16000; pragma cache_size = -32000",
  );
  return database;
}

interface Connections {
  writer: DatabaseSync | undefined;
  reader: DatabaseSync | undefined;
  thread: SearchThread | undefined;
  log: LogSync | undefined;
  closeAll(): void;
}

function onlyDurable(thread: SearchThread, log: LogSync): SearchThread {
  return {
    async ask<T>(name: string, ...args: readonly unknown[]): Promise<T> {
      const found = await thread.ask<T>(name, ...args);
      await log.durable();
      return found;
    },
    close: () => thread.close(),
  };
}

function connect({ writer, reader, thread, log, closeAll }: Connections): Sql {
  const read = reader && readExecutor(reader, writer);
  const group = writer && groupCommit(writer, log, () => counter.forget());
  let closed = false;

  const transaction: Sql["transaction"] = async (work, options) => {
    refuseInsideWork();
    if (closed) throw new Error("the store is closed");
    if (!group) throw new Error("this store is open for reading only");
    return group.transaction(work, options);
  };
  const sql: Sql = {
    dialect: "sqlite",
    async query<R extends object = Row>(text: string, values: readonly SqlValue[] = []): Promise<R[]> {
      if (!read || !isRead(text)) return transaction((tx) => tx.query<R>(text, values));
      refuseInsideWork();
      if (closed) throw new Error("the store is closed");
      const rows = read(text, values);
      const durable = log?.durable();
      if (durable) await durable;
      return rows as R[];
    },
    transaction,
    async close() {
      if (closed) return;
      closed = true;
      await group?.idle();
      await thread?.close();
      closeAll();
    },
  };
  const counter = changeCounterOf(reader);
  counters.set(sql, counter.get);
  return sql;
}

/**
 * Where no transaction is under way, the writing connection knows as much, and has its pages at hand: the reading one drops
 * its own after every commit.
 */
function readExecutor(reader: DatabaseSync, writer: DatabaseSync | undefined): ReturnType<typeof executor> {
  const fromReader = executor(reader);
  const fromWriter = writer && executor(writer);
  return (text, values) =>
    fromWriter && !writer.isTransaction && /^\s*select\b/i.test(text) ? fromWriter(text, values) : fromReader(text, values);
}

/** Anything not surely a read goes to the writing connection, which answers it as well, only later. */
function isRead(text: string): boolean {
  if (/^\s*(select|values|explain|pragma)\b/i.test(text)) return true;
  return /^\s*with\b/i.test(text) && !/\b(insert|update|delete|replace)\b/i.test(text);
}

interface Prepared {
  readonly statement: StatementSync;
  /** The number of each placeholder, in the order of the text. */
  readonly order: readonly number[];
  readonly placeholders: number;
  columns: readonly string[];
}

/** `$2 … $1 … $2` becomes `? … ? … ?`: values bound by place take a fraction of the time of values bound by name. */
function prepareStatement(database: DatabaseSync, text: string): Prepared {
  const order = Array.from(text.matchAll(/\$(\d+)/g), (match) => Number(match[1]));
  const statement = database.prepare(text.replaceAll(/\$\d+/g, "?"));
  statement.setReturnArrays(true); // rows as plain objects are made faster here than from the driver's own objects
  return { statement, order, placeholders: Math.max(0, ...order), columns: columnNames(statement) };
}

const columnNames = (statement: StatementSync): string[] => statement.columns().map(({ name }) => name);

function executor(database: DatabaseSync): (text: string, values: readonly SqlValue[]) => Row[] {
  const statements = new Map<string, Prepared>();
  const prepare = (text: string) => {
    const known = statements.get(text);
    if (known) return known;
    const made = prepareStatement(database, text);
    statements.set(text, made);
    // The one made longest ago goes, in use or not: to make it anew costs less than to follow the uses of all.
    const oldest = statements.keys().next();
    if (statements.size > maxStatements && !oldest.done) statements.delete(oldest.value);
    return made;
  };
  return (text, values) => {
    checkValues(values);
    const prepared = prepare(text);
    const { statement, order, placeholders } = prepared;
    if (values.length !== placeholders) throw new TypeError(`${placeholders} placeholders, but ${values.length} values`);
    const bound = order.map((number) => {
      const value = values[number - 1] ?? null;
      return typeof value === "number" ? BigInt(value) : value; // a number would be bound as a real, 5 as "5.0"
    });
    const rows = statement.all(...bound) as unknown as SqlValue[][];
    // A column added since the text was prepared is answered, too.
    if (rows[0] && rows[0].length !== prepared.columns.length) prepared.columns = columnNames(statement);
    return rows.map((row) => toObject(prepared.columns, row));
  };
}

function toObject(columns: readonly string[], values: readonly SqlValue[]): Row {
  const row: Row = {};
  for (let at = 0; at < columns.length; at += 1) row[columns[at] ?? ""] = values[at] ?? null;
  return row;
}

const failAll = (jobs: readonly Job[], error: unknown): void => {
  for (const job of jobs) job.fail(error);
};

/**
 * Concurrent transactions as savepoints of one; `onCommit` runs before any of them is told. With `log`, the next ones run
 * while the disk writes.
 */
function groupCommit(database: DatabaseSync, log: LogSync | undefined, onCommit: () => void) {
  const execute: Execute = executor(database);
  const command = (text: string) => {
    const statement = database.prepare(text);
    return () => void statement.run();
  };
  const [begin, commit, rollback] = [command("begin immediate"), command("commit"), command("rollback")];
  const [savepoint, release, undo] = [command("savepoint work"), command("release work"), command("rollback to work")];
  const queue: Job[] = [];
  let waitsForDisk = true;
  let draining: Promise<void> | undefined;

  async function runJob<T>(work: (tx: Sql) => Promise<T>): Promise<{ value: T } | { error: unknown }> {
    savepoint();
    try {
      const value = await runInScope({ dialect: "sqlite", execute, maxMs: maxWorkMs }, work);
      release();
      return { value };
    } catch (error) {
      if (!database.isTransaction) throw new BatchLost("the batch of transactions was rolled back", { cause: error });
      undo();
      release();
      return { error };
    }
  }

  function setDurable(durable: boolean): void {
    if (durable !== waitsForDisk) database.exec(`pragma synchronous = ${durable ? "full" : "normal"}`);
    waitsForDisk = durable;
  }

  async function runBatch(jobs: readonly Job[]): Promise<void> {
    const durable = jobs.some((job) => job.durable);
    try {
      setDurable(durable && !log);
      begin();
      for (const job of jobs) await job.run();
      commit();
    } catch (error) {
      if (database.isTransaction) rollback();
      failAll(jobs, error instanceof BatchLost ? error.cause : error);
      return;
    }
    onCommit();
    if (durable) log?.written();
    settle(jobs);
  }

  function settle(jobs: readonly Job[]): void {
    const settleAll = () => {
      for (const job of jobs) job.settle();
    };
    // Also one that need not be durable may have seen what is not yet.
    const written = log?.durable();
    if (written) void written.then(settleAll, (error: unknown) => failAll(jobs, error));
    else settleAll();
  }

  async function drain(): Promise<void> {
    while (queue.length > 0) {
      // Whatever the event loop brings goes along, until a turn brings nothing more: one commit costs as much as many jobs.
      for (let gathered = 0; gathered < queue.length && queue.length < maxBatch; ) {
        gathered = queue.length;
        await new Promise<void>((resolve) => setImmediate(resolve));
      }
      await runBatch(queue.splice(0, maxBatch));
    }
    draining = undefined;
  }

  return {
    async transaction<T>(work: (tx: Sql) => Promise<T>, { durable = true } = {}): Promise<T> {
      log?.requireSound();
      return new Promise<T>((resolve, reject) => {
        let outcome: { value: T } | { error: unknown } | undefined;
        queue.push({
          durable,
          run: async () => {
            outcome = await runJob(work);
          },
          settle: () => (outcome && "value" in outcome ? resolve(outcome.value) : reject(outcome?.error)),
          fail: (error) => reject(outcome && "error" in outcome ? outcome.error : error),
        });
        draining ??= drain();
      });
    },
    async idle(): Promise<void> {
      await draining;
      await log?.durable()?.catch(() => undefined);
    },
  };
}

function changeCounterOf(reader: DatabaseSync | undefined): { get(): number; forget(): void } {
  const pragma = reader?.prepare("pragma data_version");
  let commits = 0;
  let known: number | undefined;
  const forget = () => {
    known = undefined;
  };
  return {
    get() {
      if (!pragma) return commits;
      if (known !== undefined) return known;
      setImmediate(forget);
      known = Number(pragma.get()?.data_version);
      return known;
    },
    forget() {
      commits += 1;
      forget();
    },
  };
}

/**
 * A number that is another one after any commit to the store, by this or another process (the latter seen at the next turn
 * of the event loop); undefined on PostgreSQL, where a row's version must be asked for. What was read stays fresh while the
 * number taken **before** that reading is unchanged.
 */
export function changeCounter(sql: Sql): () => number | undefined {
  return counters.get(sql) ?? (() => undefined);
}
