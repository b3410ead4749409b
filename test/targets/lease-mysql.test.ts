import assert from "node:assert/strict";
import { type AddressInfo, createServer, type Server } from "node:net";
import { after, before, describe, test } from "node:test";
import mysql from "mysql2/promise";
import { mysqlLeases as target } from "../../src/targets/lease-mysql.ts";
import { type MariaDbServer, mariadbSkip, startMariaDb } from "../support/mariadb-server.ts";
import { type LeaseSubject, lease, leaseContract, leaseFailure, leaseTools, problemsOf } from "./lease-contract.ts";

const managerPassword = "canary-of-the-manager";

describe("leases of MariaDB", { skip: mariadbSkip }, () => {
  let server: MariaDbServer;
  let stopped: MariaDbServer;
  let silent: Server;

  const asRoot = async (...texts: string[]): Promise<mysql.RowDataPacket[]> => {
    const connection = await server.connect();
    try {
      let rows: unknown = [];
      for (const text of texts) [rows] = await connection.query(text);
      return rows as mysql.RowDataPacket[];
    } finally {
      await connection.end();
    }
  };
  const connectAs = ({ HOST = "", PORT, USERNAME = "", PASSWORD = "" }: Readonly<Record<string, string>>) =>
    mysql.createConnection({ host: HOST, port: Number(PORT), user: USERNAME, password: PASSWORD, database: "app" });
  async function asUser<T>(fields: Readonly<Record<string, string>>, work: (connection: mysql.Connection) => Promise<T>) {
    const connection = await connectAs(fields);
    try {
      return await work(connection);
    } finally {
      await connection.end();
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
      asUser(fields, async (connection) => {
        await connection.query("select * from orders");
      }),
    oversteps: (fields) =>
      asUser(fields, (connection) =>
        connection.query("delete from orders").then(
          () => true,
          () => false,
        ),
      ),
    async stay(fields) {
      const connection = await connectAs(fields);
      const ended = new Promise((resolve) => connection.on("error", resolve));
      await connection.query("begin");
      await connection.query("select * from orders");
      return { ended, close: async () => connection.destroy() };
    },
    plant: (name) => asRoot(`create user ${mysql.escape(name)}@'%'`).then(() => undefined),
    exists: async (name) => (await asRoot(`select 1 from mysql.user where user = ${mysql.escape(name)}`)).length > 0,
    serverLog: () => server.log(),
  });

  before(async () => {
    silent = createServer((socket) => socket.on("error", () => undefined)).listen(0, "127.0.0.1");
    [server, stopped] = await Promise.all([startMariaDb(), startMariaDb()]);
    await stopped.stop();
    await asRoot(
      "create database app",
      "create database `my_app`",
      "create database myxapp",
      "create table app.orders (id int)",
      "create table myxapp.t (id int)",
      "create table my_app.t (id int)",
      "create role app_reader",
      "grant select on app.* to app_reader",
      `create user manager@'%' identified by '${managerPassword}'`,
      `create user powerless@'%' identified by '${managerPassword}'`,
      "grant usage on *.* to powerless@'%'",
      "grant select on app.* to powerless@'%'",
      "grant create user, process, connection admin on *.* to manager@'%'",
      "grant select on mysql.user to manager@'%'",
      "grant select, create view, show view on app.* to manager@'%' with grant option",
      "grant select on `my\\_app`.* to manager@'%' with grant option",
      "grant app_reader to manager@'%' with admin option",
    );
  });
  after(async () => {
    silent.close();
    for (const one of [server, stopped]) await one[Symbol.asyncDispose]();
  });

  leaseContract(subject);

  test("a grant on one database gives nothing on another of a similar name", async () => {
    const settings = { grants: [{ privileges: ["SELECT"], on: "my_app.*" }] };
    const findings = await target.check(
      target.connection.parse(subject().connection),
      target.settings.parse(settings),
      leaseTools(),
    );
    assert.deepEqual(
      findings.filter(({ warning }) => !warning),
      [],
      problemsOf(findings),
    );
    const one = await lease(subject(), settings);
    const root = await server.connect();
    await root.end();
    const connection = await mysql.createConnection({
      host: server.host,
      port: server.port,
      user: one.user.name,
      password: one.fields.PASSWORD ?? "",
    });
    await connection.query("select * from my_app.t");
    await assert.rejects(connection.query("select * from myxapp.t"), /denied/);
    await connection.end();
    await one.revoke();
  });

  test("what a leased user defined is told when the user is gone", async () => {
    const one = await lease(subject(), { grants: [{ privileges: ["SELECT", "CREATE VIEW"], on: "app.*" }] });
    await asUser(one.fields, (connection) => connection.query("create view left_view as select * from orders"));
    const { outcome, message } = await leaseFailure(one.revoke());
    assert.equal(outcome, "invalid");
    assert.match(message, /is gone.*view app\.left_view/);
    assert.equal(await subject().exists(one.user.name), false);
    await one.revoke();
    await asRoot("drop view app.left_view");
  });
});
