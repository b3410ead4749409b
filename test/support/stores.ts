import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe } from "node:test";
import { migrate } from "../../src/store/migrate.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import type { Sql } from "../../src/store/sql.ts";
import { openSqlite } from "../../src/store/sqlite.ts";
import { type PostgresServer, postgresSkip, startPostgres } from "./postgres-server.ts";

/** A new database of its own, closed and removed after the suite; with Rekey's schema unless `empty`. */
export type OpenStore = (options?: { empty?: boolean }) => Promise<Sql>;

/** Runs one suite on each database: in a temporary folder, and on one PostgreSQL server for the whole test file. */
export function forEachStore(suite: (name: Sql["dialect"], open: OpenStore) => void): void {
  describe("sqlite", () => suite("sqlite", openerOf(sqliteStores())));
  describe("postgres", { skip: postgresSkip }, () => suite("postgres", openerOf(postgresStores())));
}

/** A new empty database of each kind, for tests that compare the two. */
export async function openBoth(): Promise<{ sqlite: Sql; postgres: Sql } & AsyncDisposable> {
  const [ours, theirs] = [sqliteStores(), postgresStores()];
  const [sqlite, postgres] = [await ours.create(), await theirs.create()];
  return {
    sqlite,
    postgres,
    async [Symbol.asyncDispose]() {
      await sqlite.close();
      await postgres.close();
      await ours.dispose();
      await theirs.dispose();
    },
  };
}

interface Stores {
  create(): Promise<Sql>;
  dispose(): Promise<void>;
}

function openerOf(stores: Stores): OpenStore {
  const opened: Sql[] = [];
  after(async () => {
    for (const sql of opened) await sql.close();
    await stores.dispose();
  });
  return async ({ empty = false } = {}) => {
    const sql = await stores.create();
    opened.push(sql);
    if (!empty) await migrate(sql);
    return sql;
  };
}

function sqliteStores(): Stores {
  const folders: string[] = [];
  return {
    async create() {
      const folder = mkdtempSync(join(tmpdir(), "rekey-store-"));
      folders.push(folder);
      return openSqlite(join(folder, "rekey.db"));
    },
    async dispose() {
      for (const folder of folders) rmSync(folder, { recursive: true });
    },
  };
}

function postgresStores(): Stores {
  let server: Promise<PostgresServer> | undefined;
  return {
    async create() {
      server ??= startPostgres();
      return openPostgres(await (await server).newDatabase());
    },
    async dispose() {
      await (await server)?.[Symbol.asyncDispose]();
    },
  };
}
