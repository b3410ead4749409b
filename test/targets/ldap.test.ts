import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { DN } from "ldapts";
import type { DatabaseCredential } from "../../src/targets/database-secret.ts";
import { ldap } from "../../src/targets/ldap.ts";
import { type SlapdServer, slapdSkip, slapdTlsSkip, startSlapd, suffix } from "../support/slapd-server.ts";
import { failure, rotatorContract, tools } from "./contract.ts";

const freshName = (prefix: string) => `${prefix}_${randomUUID().slice(0, 8)}`;
const dnOf = (name: string): string => `${new DN({ cn: name }).toString()},${suffix}`;

/** Two entries that belong together; the credential is the first one's. */
async function newUser(server: SlapdServer, name: string, password: string, more: object = {}): Promise<DatabaseCredential> {
  const [a, b] = [dnOf(name), dnOf(`${name} b`)];
  await server.asRoot(async (client) => {
    for (const [dn, other, cn] of [
      [a, b, name],
      [b, a, `${name} b`],
    ] as const) {
      await client.add(dn, { objectClass: "person", cn, sn: "service", userPassword: password, seeAlso: other, ...more });
    }
  });
  return { engine: "ldap", host: server.host, port: server.port, username: a, usernames: [a, b], password, ssl: false };
}

const adminOf = ({ host, port, rootDn, rootPassword }: SlapdServer): DatabaseCredential => ({
  engine: "ldap",
  host,
  port,
  username: rootDn,
  password: rootPassword,
  ssl: false,
});

describe("ldap on OpenLDAP", { skip: slapdSkip }, () => {
  let server: SlapdServer;
  let trusting: SlapdServer;
  let stopped: SlapdServer;
  before(async () => {
    [server, trusting, stopped] = await Promise.all([startSlapd(), startSlapd({ trusting: true }), startSlapd()]);
    await stopped.stop();
  });
  after(async () => {
    for (const one of [server, trusting, stopped]) await one[Symbol.asyncDispose]();
  });

  rotatorContract<DatabaseCredential>(
    () => ({
      rotator: ldap,
      newUser: (name, password) => newUser(server, name, password),
      admin: adminOf(server),
      atStoppedServer: (credential) => ({ ...credential, port: stopped.port }),
      atTrustingServer: (credential) => ({ ...credential, port: trusting.port }),
      withPassword: (credential, password) => ({ ...credential, password }),
      passwordOf: ({ password }) => password,
      serverLog: () => server.log(),
    }),
    ["single-user", "alternating-users"],
  );
});
