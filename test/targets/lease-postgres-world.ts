// A PostgreSQL with a managing user, group roles and two databases, for tests of leases.
import { readFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import pg from "pg";
import { postgresLeases as target } from "../../src/targets/lease-postgres.ts";
import { startPostgres } from "../support/postgres-server.ts";
import type { LeaseSubject } from "./lease-contract.ts";

const managerPassword = "canary-of-the-manager";

type Fields = Readonly<Record<string, string>>;

export type LeaseWorld = Awaited<ReturnType<typeof startLeaseWorld>>;

export async function startLeaseWorld({ older = false } = {}) {
  const silent = createServer((socket) => socket.on("error", () => undefined)).listen(0, "127.0.0.1");
  const [server, stopped] = await Promise.all([
    startPostgres({ older, settings: ["log_statement=all", "max_prepared_transactions=5"] }),
    startPostgres(),
  ]);
  await stopped.stop();

  const asRoot = async (text: string, database = "postgres"): Promise<pg.QueryResultRow[]> => {
    const client = new pg.Client({
      host: server.host,
      port: server.port,
      user: server.user,
      password: server.password,
      database,
    });
    await client.connect();
    try {
      const result = await client.query(text);
      return result.rows;
    } finally {
      await client.end();
    }
  };
  const clientOf = ({ HOST, PORT, USERNAME, PASSWORD, DATABASE }: Fields, database = DATABASE) =>
    new pg.Client({ host: HOST, port: Number(PORT), user: USERNAME, password: PASSWORD, database });
  async function asUser<T>(fields: Fields, work: (client: pg.Client) => Promise<T>, database?: string) {
    const client = clientOf(fields, database);
    client.on("error", () => undefined);
    try {
      await client.connect();
      return await work(client);
    } finally {
      await client.end();
    }
  }

  const managerAt = (port: number, username = "manager", password = managerPassword) => ({
    host: "127.0.0.1",
    port,
    username,
    password,
    dbname: "app",
    ssl: false,
  });
  const subject = (): LeaseSubject => ({
    target,
    connection: managerAt(server.port),
    settings: { roles: ["app_reader"] },
    wrongPassword: managerAt(server.port, "manager", "canary-wrong"),
    atStoppedServer: managerAt(stopped.port),
    powerless: managerAt(server.port, "powerless"),
    atSilentServer: managerAt((silent.address() as AddressInfo).port),
    logIn: (fields) =>
      asUser(fields, async (client) => {
        await client.query("select * from orders");
      }),
    oversteps: (fields) =>
      asUser(fields, (client) =>
        client.query("delete from orders").then(
          () => true,
          () => false,
        ),
      ),
    async stay(fields) {
      const client = clientOf(fields);
      client.on("error", () => undefined);
      const ended = new Promise((resolve) => client.once("end", () => resolve(undefined)));
      await client.connect();
      await client.query("begin");
      await client.query("select * from orders");
      return { ended, close: () => client.end().catch(() => undefined) };
    },
    plant: (name) => asRoot(`create role ${pg.escapeIdentifier(name)} login`).then(() => undefined),
    exists: async (name) => (await asRoot(`select 1 from pg_roles where rolname = ${pg.escapeLiteral(name)}`)).length > 0,
    serverLog: () => readFileSync(server.logFile, "utf8"),
  });

  await asRoot(`create role manager login createrole password '${managerPassword}'`);
  await asRoot(`create role powerless login password '${managerPassword}'`);
  await asRoot("create role app_reader; grant app_reader to manager with admin option");
  await asRoot("create role app_other; grant app_other to manager with admin option");
  if (!older) await asRoot("grant app_other to manager with inherit false"); // may make members, and not act for it
  await asRoot(`create role big superuser; create role boss login superuser password '${managerPassword}'`);
  for (const name of ["app", "other"]) {
    await server.newDatabase(name);
    await asRoot(
      "create table orders (id int); grant select on orders to app_reader; grant create on schema public to app_reader, app_other",
      name,
    );
  }

  return {
    server,
    subject,
    managerAt: (username: string) => managerAt(server.port, username),
    asRoot,
    asUser,
    async [Symbol.asyncDispose]() {
      silent.close();
      for (const one of [server, stopped]) await one[Symbol.asyncDispose]();
    },
  };
}
