// The real driver against a wire fake: driver-level, not run against a real server.
import { after, before, describe } from "node:test";
import type { DatabaseCredential } from "../../src/targets/database-secret.ts";
import { sqlserver } from "../../src/targets/sqlserver.ts";
import { type SqlServerWire, startSqlServerWire } from "../support/sqlserver-wire.ts";
import { rotatorContract } from "./contract.ts";

const credentialOf = ({ host, port }: SqlServerWire, username: string, password: string): DatabaseCredential => ({
  engine: "sqlserver",
  host,
  port,
  username,
  password,
  ssl: false,
});

function newLogin(server: SqlServerWire, username: string, password: string): DatabaseCredential {
  server.catalog.addLogin(username, password);
  return credentialOf(server, username, password);
}

function adminOf(server: SqlServerWire): DatabaseCredential {
  server.catalog.addLogin("sa", "admin-password").roles.add("sysadmin");
  return credentialOf(server, "sa", "admin-password");
}

describe("sqlserver on a wire fake", () => {
  let server: SqlServerWire;
  let trusting: SqlServerWire;
  let stoppedPort: number;
  before(async () => {
    [server, trusting] = await Promise.all([startSqlServerWire(), startSqlServerWire({ acceptsAnyPassword: true })]);
    await using stopped = await startSqlServerWire();
    stoppedPort = stopped.port;
  });
  after(async () => {
    for (const one of [server, trusting]) await one[Symbol.asyncDispose]();
  });

  rotatorContract<DatabaseCredential>(
    () => ({
      rotator: sqlserver,
      newUser: async (name, password) => newLogin(server, name, password),
      admin: adminOf(server),
      atStoppedServer: (credential) => ({ ...credential, port: stoppedPort }),
      atTrustingServer: (credential) => ({ ...credential, port: trusting.port }),
      withPassword: (credential, password) => ({ ...credential, password }),
      passwordOf: ({ password }) => password,
      serverLog: () => server.catalog.log(),
      passwords: ["n'e\\w\"''", "$1; -- ]", "pass wörd\u00a0x", "x".repeat(128)],
    }),
    ["single-user", "alternating-users"],
  );
});
