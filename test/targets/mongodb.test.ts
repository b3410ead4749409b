// The real driver against a wire fake: driver-level, not run against a real server.
import { after, before, describe } from "node:test";
import type { DatabaseCredential } from "../../src/targets/database-secret.ts";
import { mongodb } from "../../src/targets/mongodb.ts";
import { type MongoDbWire, ordinaryUser, startMongoDbWire } from "../support/mongodb-wire.ts";
import { rotatorContract } from "./contract.ts";

const root = { user: "root", db: "admin", roles: [{ role: "root", db: "admin" }] };

function newUser(server: MongoDbWire, username: string, password: string): DatabaseCredential {
  server.addUser(ordinaryUser(username), password);
  return { engine: "mongo", host: server.host, port: server.port, username, password, ssl: false };
}

function adminOf(server: MongoDbWire): DatabaseCredential {
  server.addUser(root, "root-password");
  return { engine: "mongo", host: server.host, port: server.port, username: "root", password: "root-password", ssl: false };
}

describe("mongodb on a wire fake", () => {
  let server: MongoDbWire;
  let open: MongoDbWire;
  let stoppedPort: number;
  before(async () => {
    [server, open] = await Promise.all([startMongoDbWire(), startMongoDbWire({ acceptsAnyProof: true })]);
    await using stopped = await startMongoDbWire();
    stoppedPort = stopped.port;
  });
  after(async () => {
    for (const one of [server, open]) await one[Symbol.asyncDispose]();
  });

  rotatorContract<DatabaseCredential>(
    () => ({
      rotator: mongodb,
      newUser: async (name, password) => newUser(server, name, password),
      admin: adminOf(server),
      atStoppedServer: (credential) => ({ ...credential, port: stoppedPort }),
      atTrustingServer: (credential) => ({ ...credential, port: open.port }),
      withPassword: (credential, password) => ({ ...credential, password }),
      passwordOf: ({ password }) => password,
      serverLog: () => server.log(),
    }),
    ["single-user", "alternating-users"],
  );
});
