import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import mysql from "mysql2/promise";
import { mysqlLeases as target } from "../../src/targets/lease-mysql.ts";
import { type LeaseServers, managerPassword, startLeaseServers } from "../support/lease-servers.ts";
import { type MariaDbServer, mariadbSkip, startMariaDb } from "../support/mariadb-server.ts";
import { type LeaseSubject, lease, leaseContract, leaseFailure, leaseTools, newUser, problemsOf } from "./lease-contract.ts";

describe("leases of MariaDB", { skip: mariadbSkip }, () => {
  let servers: LeaseServers<MariaDbServer>;
  let server: MariaDbServer;

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

  const subject = (): LeaseSubject => ({
    target,
    ...servers.connections,
    settings: { roles: ["app_reader"] },
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
    servers = await startLeaseServers({ start: startMariaDb, more: { dbname: "app" } });
    server = servers.server;
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
  after(() => servers[Symbol.asyncDispose]());

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

  const check = async (settings: object, connection: object = subject().connection) =>
    problemsOf(await target.check(target.connection.parse(connection), target.settings.parse(settings), leaseTools()));

  const statements = {
    creationStatements: ["create user {{username}} identified by {{password}}", "grant select on app.orders to {{username}}"],
    renewalStatements: ["alter user {{username}} with max_user_connections 7"],
    revocationStatements: ["revoke select on app.orders from {{username}}"],
  };

  test("statements of one's own make, renew and end an account", async () => {
    assert.equal(await check(statements), "");
    const one = await lease(subject(), statements);
    await subject().logIn(one.fields);
    await one.renew(3_600);
    const [row] = await asRoot(`show create user '${one.user.name}'@'%'`);
    assert.match(String(Object.values(row ?? {})[0]), /MAX_USER_CONNECTIONS 7/);
    await one.revoke();
    await one.revoke();
    assert.equal(await subject().exists(one.user.name), false);
  });

  test("a creation that fails half-way is named, and what it made is ended", async () => {
    const settings = { ...statements, creationStatements: [...statements.creationStatements, "grant nosuch to {{username}}"] };
    const user = newUser(subject(), settings);
    const [connection, parsed] = [target.connection.parse(subject().connection), target.settings.parse(settings)];
    const { outcome, message } = await leaseFailure(target.create(connection, parsed, user, leaseTools()));
    assert.equal(outcome, "invalid");
    assert.match(message, /^creationStatements\[2\]/);
    assert.ok(await subject().exists(user.name), "MariaDB makes each by itself");
    await target.revoke(connection, parsed, user, leaseTools());
    assert.equal(await subject().exists(user.name), false);
  });

  test("a revocation statement that fails is told once, and keeps no account alive", async () => {
    const one = await lease(subject(), { ...statements, revocationStatements: ["revoke nosuch from {{username}}"] });
    assert.match((await leaseFailure(one.revoke())).message, /^revocationStatements\[0\]/);
    assert.equal(await subject().exists(one.user.name), false);
    await one.revoke();
  });

  test("an account whose making was under way when its caller was gone is made no more", async () => {
    const slow = { creationStatements: ["select sleep(30)", "create user {{username}} identified by {{password}}"] };
    const user = newUser(subject(), slow);
    const [connection, settings] = [target.connection.parse(subject().connection), target.settings.parse(slow)];
    const making = leaseFailure(target.create(connection, settings, user, leaseTools(30_000)));
    const sleeping = "select 1 from information_schema.processlist where info like 'select sleep(30)%'";
    while ((await asRoot(sleeping)).length === 0) await new Promise((resolve) => setTimeout(resolve, 10));
    await target.revoke(connection, settings, user, leaseTools());
    assert.equal((await making).outcome, "unknown");
    assert.equal(await subject().exists(user.name), false);
  });

  test("an account is let in from where the settings say, and ended there whatever they say later", async () => {
    const one = await lease(subject(), { ...subject().settings, host: "127.0.0.%" });
    assert.equal(one.user.handle, "127.0.0.%");
    await subject().logIn(one.fields);
    const [connection, settings] = [target.connection.parse(subject().connection), target.settings.parse(subject().settings)];
    await target.revoke(connection, settings, one.user, leaseTools());
    assert.equal(await subject().exists(one.user.name), false);
  });

  test("grants are words and places, and nothing more gets in with them", () => {
    for (const grant of [
      { privileges: ["SELECT, INSERT"], on: "app.*" },
      { privileges: ["SELECT ON *.* TO x"], on: "app.*" },
      { privileges: ["SUPER"], on: "*.*" },
      { privileges: [], on: "app.*" },
      { privileges: ["SELECT"], on: "app" },
      { privileges: ["SELECT"], on: "*.app" },
      { privileges: ["SELECT"], on: "app.or*" },
      { privileges: ["SELECT"], on: "app.* TO x" },
    ])
      assert.equal(target.settings.safeParse({ grants: [grant] }).success, false, JSON.stringify(grant));
    assert.equal(target.settings.safeParse({}).success, false);
    assert.equal(target.settings.safeParse({ ...statements, roles: ["app_reader"] }).success, false);
  });

  test("names that hold quotes stay names", async () => {
    const odd = "o`d'd \\name";
    const quoted = `\`${odd.replaceAll("`", "``")}\``;
    await asRoot(`create table app.${quoted} (id int)`);
    const one = await lease(subject(), { grants: [{ privileges: ["SELECT"], on: `app.${odd}` }], host: "%" });
    await asUser(one.fields, (connection) => connection.query(`select * from ${quoted}`));
    assert.equal(await subject().oversteps(one.fields), false);
    await one.revoke();
  });

  test("what stands against leases is told in words, each with what helps", async () => {
    const powerless = servers.as("powerless");
    const told = await check(subject().settings, powerless);
    assert.match(told, /user powerless may not make users -> grant create user on \*\.\* to it/);
    assert.match(told, /cannot see the sessions of leased users.* -> grant process/);
    assert.match(told, /may not end the sessions of leased users -> grant connection admin/);
    assert.match(told, /may not give the role app_reader, or there is none/);
    assert.match(told, /warning: .*cannot list users.* -> grant select on mysql\.user/);
    assert.match(
      await check({ roles: ["app_reader", "nosuch"] }),
      /may not give the role nosuch[\s\S]*one role of a user on at a time/,
    );
    assert.match(
      await check({ grants: [{ privileges: ["SELECT", "DELETE"], on: "app.orders" }] }),
      /may not give DELETE on app\.orders \(grants\[0\]\)/,
    );
    assert.equal(await check({ grants: [{ privileges: ["SELECT"], on: "app.orders" }] }), "");
    assert.equal(await target.list?.(target.connection.parse(powerless), "abcd1234", leaseTools()), undefined);
  });

  test("who cannot see sessions ends no account while one may go on", async () => {
    await asRoot("revoke process on *.* from manager@'%'");
    const one = await lease(subject());
    const session = await connectAs(one.fields);
    session.on("error", () => undefined);
    const { outcome, message } = await leaseFailure(one.revoke());
    assert.equal(outcome, "denied");
    assert.match(message, /grant process on \*\.\* to it/);
    await assert.rejects(subject().logIn(one.fields), /locked/i);
    await asRoot("grant process on *.* to manager@'%'");
    await one.revoke();
    await assert.rejects(session.query("select 1"));
    session.destroy();
  });
});
