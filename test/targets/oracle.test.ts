// At the driver's boundary: an object stands in for node-oracledb. Not run against a real server, nor its protocol.
import { describe } from "node:test";
import type { DatabaseCredential } from "../../src/targets/database-secret.ts";
import { oracleRotator } from "../../src/targets/oracle.ts";
import { type OracleDouble, oracleDouble } from "../support/oracle-driver.ts";
import { rotatorContract } from "./contract.ts";

const ports = { port: 1521, stopped: 1522, untrusted: 1523 };

const credentialOf = (username: string, password: string): DatabaseCredential => ({
  engine: "oracle",
  host: "db.example",
  port: ports.port,
  username,
  password,
  dbname: "ORCL",
  ssl: true,
});

function newUser(double: OracleDouble, username: string, password: string, rolloverDays = 0): DatabaseCredential {
  double.addUser(/^[A-Za-z]\w*$/.test(username) ? username.toUpperCase() : username, password, { rolloverDays });
  return credentialOf(username, password);
}

const dba = { roles: new Map([["DBA", { admin: true, byDefault: true }]]) };

for (const strategy of ["single-user", "alternating-users", "dual-slot"] as const) {
  describe(`oracle at its driver's boundary, ${strategy}`, () => {
    const double = oracleDouble({ port: ports.port, untrustedPort: ports.untrusted });
    double.addUser("SYSTEM", "admin-password", dba);
    rotatorContract<DatabaseCredential>(
      () => ({
        rotator: oracleRotator(async () => double),
        newUser: async (name, password) => newUser(double, name, password, strategy === "dual-slot" ? 1 : 0),
        admin: credentialOf("system", "admin-password"),
        atStoppedServer: (credential) => ({ ...credential, port: ports.stopped }),
        atTrustingServer: (credential) => ({ ...credential, port: ports.untrusted }),
        withPassword: (credential, password) => ({ ...credential, password }),
        passwordOf: ({ password }) => password,
        serverLog: () => double.log(),
        names: ["plain", "MiXed", "odd name'; drop ", "näme", "back\\slash"],
        passwords: ["n'e\\w to ''me", "$1; -- drop", "pass wörd\u00a0x", "x".repeat(30)],
        maxPasswordLength: 30,
      }),
      [strategy],
    );
  });
}
