// What is MySQL's alone, against a wire fake: not run against a real server.
import assert from "node:assert/strict";
import { type AddressInfo, createServer, type Server } from "node:net";
import { after, before, describe, test } from "node:test";
import mysql from "mysql2/promise";
import { mysqlLeases as target } from "../../src/targets/lease-mysql.ts";
import { type MySqlWire, startMySqlWire } from "../support/mysql-wire.ts";
import { type LeaseSubject, leaseContract, leaseFailure, leaseTools, newUser } from "./lease-contract.ts";

const managerPassword = "canary-of-the-Manager-1";

function addManagers(server: MySqlWire): MySqlWire {
  const manager = server.accounts.add("manager", "%", managerPassword);
  for (const right of ["CREATE USER", "PROCESS", "CONNECTION_ADMIN", "ROLE_ADMIN", "SELECT"])
    manager.grants.set(`${right} ON *.*`, true);
  manager.roles.push("app_reader");
  server.accounts.add("powerless", "%", managerPassword);
  return server;
}

const managerAt = (port: number, username = "manager", password = managerPassword) => ({
  host: "127.0.0.1",
  port,
  username,
  password,
  ssl: false,
});

const connectAs = ({ HOST = "", PORT, USERNAME = "", PASSWORD = "" }: Readonly<Record<string, string>>) =>
  mysql.createConnection({ host: HOST, port: Number(PORT), user: USERNAME, password: PASSWORD });

describe("leases of MySQL by a wire fake", () => {
  let server: MySqlWire;
  let stopped: MySqlWire;
  let silent: Server;
  before(async () => {
    silent = createServer((socket) => socket.on("error", () => undefined)).listen(0, "127.0.0.1");
    [server, stopped] = await Promise.all([startMySqlWire(), startMySqlWire()]);
    addManagers(server);
    await stopped.stop();
  });
  after(async () => {
    silent.close();
    await server[Symbol.asyncDispose]();
  });

  const subject = (): LeaseSubject => ({
    target,
    connection: managerAt(server.port),
    settings: { roles: ["app_reader"] },
    wrongPassword: managerAt(server.port, "manager", "canary-wrong"),
    atStoppedServer: managerAt(stopped.port),
    powerless: managerAt(server.port, "powerless"),
    atSilentServer: managerAt((silent.address() as AddressInfo).port),
    async logIn(fields) {
      const connection = await connectAs(fields);
      await connection.query("select 1");
      await connection.end();
      const { roles, defaultRole } = server.accounts.find(fields.USERNAME ?? "", "%") ?? {};
      assert.deepEqual([roles, defaultRole], [["app_reader"], "app_reader"]);
    },
    async oversteps(fields) {
      const connection = await connectAs(fields);
      try {
        return await connection.query("create user own identified by 'own'").then(
          () => true,
          () => false,
        );
      } finally {
        connection.destroy();
      }
    },
    async stay(fields) {
      const connection = await connectAs(fields);
      const ended = new Promise((resolve) => connection.on("error", resolve));
      return { ended, close: async () => connection.destroy() };
    },
    plant: async (name) => void server.accounts.add(name, "%", "of-Somebody-else-1"),
    exists: async (name) => server.accounts.all.some(({ user }) => user === name),
    serverLog: () => server.log(),
  });

  leaseContract(subject);

  test("an answer that is lost leaves nothing that revocation does not end", async () => {
    const [connection, settings] = [target.connection.parse(subject().connection), target.settings.parse(subject().settings)];
    for (const when of ["before", "after"] as const) {
      for (const beginning of ["create user", "grant", "set default"]) {
        const user = newUser(subject(), subject().settings);
        server.fault = (statement) => (statement.startsWith(beginning) ? when : undefined);
        assert.equal((await leaseFailure(target.create(connection, settings, user, leaseTools()))).outcome, "unknown");
        for (const ending of ["alter user", "drop user"]) {
          server.fault = (statement) => (statement.startsWith(ending) ? when : undefined);
          await target.revoke(connection, settings, user, leaseTools()).catch(() => undefined);
        }
        server.fault = () => undefined;
        await target.revoke(connection, settings, user, leaseTools());
        assert.equal(await subject().exists(user.name), false);
      }
    }
  });
});
