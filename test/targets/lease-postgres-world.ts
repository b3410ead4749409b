// A PostgreSQL with a managing user, group roles and two databases, for tests of leases.
import { readFileSync } from "node:fs";
import pg from "pg";
import { postgresLeases as target } from "../../src/targets/lease-postgres.ts";
import { managerPassword, startLeaseServers } from "../support/lease-servers.ts";
import { startPostgres } from "../support/postgres-server.ts";
import type { LeaseSubject } from "./lease-contract.ts";

type Fields = Readonly<Record<string, string>>;

export type LeaseWorld = Awaited<ReturnType<typeof startLeaseWorld>>;

export async function startLeaseWorld({ older = false } = {}) {
  const servers = await startLeaseServers({
    start: () => startPostgres({ older, settings: ["log_statement=all", "max_prepared_transactions=5"] }),
    startStopped: () => startPostgres(),
    more: { dbname: "app" },
  });
  const { server } = servers;

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

  const subject = (): LeaseSubject => ({
    target,
    ...servers.connections,
    settings: { roles: ["app_reader"] },
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
    managerAt: servers.as,
    asRoot,
    asUser,
    [Symbol.asyncDispose]: () => servers[Symbol.asyncDispose](),
  };
}
