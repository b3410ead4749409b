// Entries of a test directory, as secrets name them.
import { randomUUID } from "node:crypto";
import { DN } from "ldapts";
import type { DatabaseCredential } from "../../src/targets/database-secret.ts";
import { type SlapdServer, suffix } from "./slapd-server.ts";

export const freshName = (prefix: string) => `${prefix}_${randomUUID().slice(0, 8)}`;
const dnOf = (name: string): string => `${new DN({ cn: name }).toString()},${suffix}`;

/** Two entries that belong together; the credential is the first one's. */
export async function newUser(
  server: SlapdServer,
  name: string,
  password: string,
  more: object = {},
): Promise<DatabaseCredential> {
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

export const adminOf = ({ host, port, rootDn, rootPassword }: SlapdServer): DatabaseCredential => ({
  engine: "ldap",
  host,
  port,
  username: rootDn,
  password: rootPassword,
  ssl: false,
});
