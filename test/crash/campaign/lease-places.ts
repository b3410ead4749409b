// Where the kill campaign leases users: real servers.
import { readFileSync } from "node:fs";
import { createClient } from "@redis/client";
import mysql from "mysql2/promise";
import pg from "pg";
import { mariadbSkip, startMariaDb } from "../../support/mariadb-server.ts";
import { postgresSkip, startPostgres } from "../../support/postgres-server.ts";
import { redisSkip, startRedis } from "../../support/redis-server.ts";
import { superuserOf } from "./superuser.ts";
import type { Mortal } from "./targets.ts";

/** Somebody who has logged in and stays. */
interface Visit {
  /** Whether the server still answers it. */
  lives(): Promise<boolean>;
  close(): void;
}

export interface LeasePlace extends AsyncDisposable {
  /** Absent: it cannot be killed. */
  readonly server?: Mortal;
  /** As CreateIntegration takes it. */
  readonly integration: { readonly Type: string; readonly Data: object };
  readonly settings: object;
  /** Users with a mark. */
  users(): Promise<readonly string[]>;
  /** @throws when it is refused */
  visit(fields: Readonly<Record<string, string>>): Promise<Visit>;
  /** Everything that the server has logged. */
  log(): Promise<string>;
}

export interface LeaseScenario {
  readonly name: string;
  readonly skip: string | false;
  start(): Promise<LeasePlace>;
}

export const leaseScenarios: readonly LeaseScenario[] = [
  { name: "leases, postgres", skip: postgresSkip, start: postgresPlace },
  { name: "leases, mariadb", skip: mariadbSkip, start: mariadbPlace },
  { name: "leases, redis", skip: redisSkip, start: redisPlace },
];

const answers = (question: Promise<unknown>): Promise<boolean> =>
  question.then(
    () => true,
    () => false,
  );

async function postgresPlace(): Promise<LeasePlace> {
  const server = await startPostgres();
  const superuser = superuserOf(server.url);
  await superuser.query("create role readers");
  const { host, port, user: username, password } = server;
  return {
    server: { kill: () => server.stop("SIGKILL"), restart: () => server.restart() },
    integration: { Type: "postgres", Data: { host, port, username, password } },
    settings: { roles: ["readers"] },
    async users() {
      const { rows } = await superuser.query("select rolname from pg_roles where rolname like 'rk\\_%'");
      return rows.map(({ rolname }) => String(rolname));
    },
    async visit({ USERNAME: user, PASSWORD, DATABASE: database }) {
      const client = new pg.Client({ host, port, user, password: PASSWORD, database });
      client.on("error", () => undefined);
      await client.connect();
      return { lives: () => answers(client.query("select 1")), close: () => void client.end().catch(() => undefined) };
    },
    log: async () => readFileSync(server.logFile, "utf8"),
    async [Symbol.asyncDispose]() {
      await superuser[Symbol.asyncDispose]();
      await server[Symbol.asyncDispose]();
    },
  };
}

async function mariadbPlace(): Promise<LeasePlace> {
  const server = await startMariaDb();
  const admin = await server.connect();
  await admin.query("create database app");
  await admin.query("create role readers");
  const { host, port, user: username, password } = server;
  return {
    integration: { Type: "mysql", Data: { host, port, username, password, dbname: "app" } },
    settings: { roles: ["readers"] },
    async users() {
      const [rows] = await admin.query("select user as name from mysql.user where user like 'rk\\_%'");
      return (rows as { name: string }[]).map(({ name }) => name);
    },
    async visit({ USERNAME: user = "", PASSWORD: secret = "" }) {
      const client = await mysql.createConnection({ host, port, user, password: secret });
      client.on("error", () => undefined);
      return { lives: () => answers(client.query("select 1")), close: () => client.destroy() };
    },
    log: async () => server.log(),
    async [Symbol.asyncDispose]() {
      await admin.end();
      await server[Symbol.asyncDispose]();
    },
  };
}

async function redisPlace(): Promise<LeasePlace> {
  const root = "password-of-default";
  const server = await startRedis({ password: root });
  const { host, port } = server;
  return {
    server: { kill: () => server.stop(), restart: () => server.restart() },
    integration: { Type: "redis", Data: { host, port, username: "default", password: root, ssl: false } },
    settings: { keys: ["orders:*"], commands: ["+get", "+ping"] },
    users: async () => ((await server.run("ACL", "USERS")) as string[]).filter((name) => name !== "default"),
    async visit({ USERNAME: username = "", PASSWORD: password = "" }) {
      const socket = { host, port, reconnectStrategy: false as const };
      const client = createClient({ RESP: 2, disableClientInfo: true, username, password, socket }).on("error", () => undefined);
      await client.connect();
      return { lives: () => answers(client.ping()), close: () => client.destroy() };
    },
    log: () => server.log(),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}
