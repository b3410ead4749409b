// Databases with two users who may take turns, and a user who manages them.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { createConnection } from "mysql2/promise";
import pg from "pg";
import { type MariaDbServer, mariadbSkip, startMariaDb } from "./mariadb-server.ts";
import { type PostgresServer, postgresSkip, startPostgres } from "./postgres-server.ts";

export interface Login {
  readonly username: string;
  readonly password: string;
}

/** A database with two users who may take turns. */
export interface PairDatabase {
  readonly type: "postgres" | "mysql";
  readonly data: () => object;
  newPair(): Promise<[Login, Login]>;
  setPassword(login: Login): Promise<unknown>;
  logsIn(login: Login): Promise<boolean>;
  dispose(): Promise<void>;
}

export async function postgresDatabase(): Promise<PairDatabase> {
  const server: PostgresServer = await startPostgres();
  const root = new pg.Client(server.url);
  await root.connect();
  const { host, port } = server;
  await root.query("create role manager login superuser password 'manager-password'");
  return {
    type: "postgres",
    data: () => ({ host, port, username: "manager", password: "manager-password" }),
    async newPair() {
      const word = `app_${randomUUID().slice(0, 8)}`;
      const pair = ["1", "2"].map((end) => ({ username: `${word}_${end}`, password: `first-password-${end}` }));
      for (const { username, password } of pair) await root.query(`create role ${username} login password '${password}'`);
      return pair as [Login, Login];
    },
    setPassword: ({ username, password }) => root.query(`alter role ${username} password '${password}'`),
    async logsIn({ username: user, password }) {
      const client = new pg.Client({ host, port, user, password, database: "postgres", ssl: false });
      client.on("error", () => undefined);
      try {
        await client.connect();
        await client.end();
        return true;
      } catch (error) {
        assert.ok(error instanceof pg.DatabaseError, String(error));
        return false;
      }
    },
    async dispose() {
      await root.end();
      await server[Symbol.asyncDispose]();
    },
  };
}

async function mariaDatabase(): Promise<PairDatabase> {
  const server: MariaDbServer = await startMariaDb();
  const root = await server.connect();
  const { host, port } = server;
  await root.query("create user manager@'%' identified by 'manager-password'");
  await root.query("grant all on *.* to manager@'%' with grant option");
  return {
    type: "mysql",
    data: () => ({ host, port, username: "manager", password: "manager-password" }),
    async newPair() {
      const word = `app_${randomUUID().slice(0, 8)}`;
      const pair = ["1", "2"].map((end) => ({ username: `${word}_${end}`, password: `first-password-${end}` }));
      for (const { username, password } of pair) await root.query(`create user ${username}@'%' identified by '${password}'`);
      return pair as [Login, Login];
    },
    setPassword: ({ username, password }) => root.query(`alter user ${username}@'%' identified by '${password}'`),
    async logsIn({ username: user, password }) {
      try {
        const client = await createConnection({ host, port, user, password });
        await client.end();
        return true;
      } catch (error) {
        assert.equal((error as { code?: unknown }).code, "ER_ACCESS_DENIED_ERROR", String(error));
        return false;
      }
    },
    async dispose() {
      await root.end();
      await server[Symbol.asyncDispose]();
    },
  };
}

/** Each with its name, and why it is not here. */
export const pairDatabases: readonly (readonly [string, () => Promise<PairDatabase>, string | false])[] = [
  ["PostgreSQL", postgresDatabase, postgresSkip],
  ["MariaDB", mariaDatabase, mariadbSkip],
];
