// The real driver against a wire fake: driver-level, not run against a real server.
import assert from "node:assert/strict";
import { type AddressInfo, createServer, type Server } from "node:net";
import { after, before, describe, test } from "node:test";
import { MongoClient } from "mongodb";
import { mongodbLeases as target } from "../../src/targets/lease-mongodb.ts";
import { type MongoDbWire, startMongoDbWire } from "../support/mongodb-wire.ts";
import {
  installation,
  type LeaseSubject,
  lease,
  leaseContract,
  leaseFailure,
  leaseTools,
  newUser,
  problemsOf,
} from "./lease-contract.ts";

const managerPassword = "canary-of-the-manager";

function addManagers(server: MongoDbWire): MongoDbWire {
  server.addUser({ user: "manager", db: "admin", roles: [{ role: "root", db: "admin" }] }, managerPassword);
  server.addUser({ user: "users_only", db: "admin", roles: [{ role: "userAdmin", db: "admin" }] }, managerPassword);
  server.addUser({ user: "powerless", db: "admin", roles: [] }, managerPassword);
  return server;
}

const managerAt = (port: number, username = "manager", password = managerPassword) => ({
  host: "127.0.0.1",
  port,
  username,
  password,
  ssl: false,
});

async function asUser<T>(
  { HOST, PORT, USERNAME = "", PASSWORD = "", DATABASE = "" }: Readonly<Record<string, string>>,
  work: (client: MongoClient) => Promise<T>,
): Promise<T> {
  const auth = { username: USERNAME, password: PASSWORD };
  const client = new MongoClient(`mongodb://${HOST}:${PORT}/`, {
    auth,
    authSource: DATABASE,
    directConnection: true,
    maxPoolSize: 1,
  });
  try {
    await client.connect();
    return await work(client);
  } finally {
    await client.close();
  }
}

const read = (client: MongoClient) => client.db("app").command({ find: "orders" });

describe("leases of mongodb on a wire fake", () => {
  let server: MongoDbWire;
  let stoppedPort: number;
  let silent: Server;
  before(async () => {
    silent = createServer((socket) => socket.on("error", () => undefined)).listen(0, "127.0.0.1");
    server = addManagers(await startMongoDbWire());
    await using stopped = await startMongoDbWire();
    stoppedPort = stopped.port;
  });
  after(async () => {
    silent.close();
    await server[Symbol.asyncDispose]();
  });

  const subject = (): LeaseSubject => ({
    target,
    connection: managerAt(server.port),
    settings: { roles: [{ role: "readWrite", db: "app" }] },
    wrongPassword: managerAt(server.port, "manager", "canary-wrong"),
    atStoppedServer: managerAt(stoppedPort),
    powerless: managerAt(server.port, "powerless"),
    atSilentServer: managerAt((silent.address() as AddressInfo).port),
    logIn: (fields) =>
      asUser(fields, async (client) => {
        await read(client);
      }),
    oversteps: (fields) =>
      asUser(fields, (client) =>
        client
          .db("admin")
          .command({ createUser: "own", pwd: "own", roles: [] })
          .then(
            () => true,
            () => false,
          ),
      ),
    plant: async (name) => server.addUser({ user: name, db: "admin", roles: [] }, "of-somebody-else"),
    exists: async (name) => server.user("admin", name) !== undefined,
    serverLog: () => server.log(),
  });

  leaseContract(subject, { sessionsEnd: false });

  test("a session that goes on has no rights any more, and what it was doing is ended", async () => {
    const one = await lease(subject());
    await asUser(one.fields, async (client) => {
      await read(client);
      await one.revoke();
      await assert.rejects(read(client), /not authorized/);
    });
    assert.ok(server.wasEnded("admin", one.user.name));
  });

  test("who may not end sessions is warned, and ends users all the same", async () => {
    const connection = managerAt(server.port, "users_only");
    const findings = await target.check(
      target.connection.parse(connection),
      target.settings.parse(subject().settings),
      leaseTools(),
    );
    assert.match(problemsOf(findings), /^warning: .*cannot end sessions/);
    const one = await lease({ ...subject(), connection });
    await one.revoke();
    assert.equal(await subject().exists(one.user.name), false);
  });

  test("a role that is not there is told before any lease", async () => {
    const settings = target.settings.parse({ roles: [{ role: "nosuch", db: "app" }] });
    const findings = await target.check(target.connection.parse(subject().connection), settings, leaseTools());
    assert.match(problemsOf(findings), /^there is no role nosuch in app/);
  });

  test("a user whose making was under way when its caller was gone is made no more", async () => {
    const [connection, settings] = [target.connection.parse(subject().connection), target.settings.parse(subject().settings)];
    const user = newUser(subject(), subject().settings);
    server.fail("stall");
    const making = leaseFailure(target.create(connection, settings, user, leaseTools()));
    while (server.stalled() === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    await target.revoke(connection, settings, user, leaseTools());
    assert.equal(server.stalled(), 0);
    assert.equal((await making).outcome, "unknown");
    assert.equal(await subject().exists(user.name), false);
  });

  test("an answer that is lost leaves nothing that revocation does not end", async () => {
    for (const fault of ["cut-before", "cut-after"] as const) {
      const [connection, settings] = [target.connection.parse(subject().connection), target.settings.parse(subject().settings)];
      const user = newUser(subject(), subject().settings);
      server.fail(fault);
      assert.equal((await leaseFailure(target.create(connection, settings, user, leaseTools()))).outcome, "unknown");
      assert.equal(await subject().exists(user.name), fault === "cut-after");
      if (fault === "cut-after") {
        server.fail(fault);
        await leaseFailure(target.revoke(connection, settings, user, leaseTools()));
      }
      await target.revoke(connection, settings, user, leaseTools());
      assert.equal(await subject().exists(user.name), false);
    }
  });

  test("Amazon DocumentDB, which knows fewer questions, is asked in its own way", async () => {
    await using documentDb = addManagers(await startMongoDbWire({ documentDb: true }));
    const connection = managerAt(documentDb.port);
    const one = await lease({ ...subject(), connection });
    const found = await target.list?.(target.connection.parse(connection), installation, leaseTools());
    assert.deepEqual(found, [{ name: one.user.name }]);
    await one.revoke();
  });
});
