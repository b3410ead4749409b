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
  const [sqlite, postgres] = [await ours.create({ empty: true }), await theirs.create({ empty: true })];
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
  create(options: { empty: boolean }): Promise<Sql>;
  dispose(): Promise<void>;
}

function openerOf(stores: Stores): OpenStore {
  const opened: Sql[] = [];
  after(async () => {
    for (const sql of opened) await sql.close();
    await stores.dispose();
  });
  return async ({ empty = false } = {}) => {
    const sql = await stores.create({ empty });
    opened.push(sql);
    return sql;
  };
}

function sqliteStores(): Stores {
  const folders: string[] = [];
  return {
    async create({ empty }) {
      const folder = mkdtempSync(join(tmpdir(), "rekey-store-"));
      folders.push(folder);
      const sql = openSqlite(join(folder, "rekey.db"));
      if (!empty) await migrate(sql);
      return sql;
    },
    async dispose() {
      for (const folder of folders) rmSync(folder, { recursive: true });
    },
  };
}

function postgresStores(): Stores {
  let server: Promise<PostgresServer> | undefined;
  let template: Promise<string> | undefined;
  const makeTemplate = async ({ newDatabase }: PostgresServer): Promise<string> => {
    const sql = openPostgres(await newDatabase("migrated"));
    await migrate(sql);
    await sql.close();
    return "migrated";
  };
  return {
    async create({ empty }) {
      server ??= startPostgres();
      const running = await server;
      if (empty) return openPostgres(await running.newDatabase());
      template ??= makeTemplate(running); // copied faster than migrated
      return openPostgres(await running.newDatabase(undefined, await template));
    },
    async dispose() {
      await (await server)?.[Symbol.asyncDispose]();
    },
  };
}
