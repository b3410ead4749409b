import { z } from "zod";
import { RotatorError } from "../core/error.ts";
import { loginMembers } from "./database-secret.ts";
import { distinguishedName, startTls, tlsOf } from "./ldap-names.ts";
import { isResult, type LdapLogin, type Session, withSession, withUnprovenSession } from "./ldap-session.ts";
import { leasePassword, managerSecrets } from "./lease-connection.ts";
import { checkLdapLeases } from "./lease-ldap-check.ts";
import { attributesOf, type LdapLeaseSettings, ldapSettings, memberValue } from "./lease-ldap-settings.ts";
import { isLeaseName, leaseName, leasePrefix, requireLeaseName } from "./lease-name.ts";
import type { LeasedUser, LeaseTarget } from "./lease-target.ts";

const maxName = 64;

const connectionSchema = z.strictObject({
  ...loginMembers(636),
  username: distinguishedName,
  starttls: startTls,
  /** The entry below which leased users live. */
  baseDn: distinguishedName,
  /** Which attribute names their entries. */
  rdn: z.enum(["cn", "uid"]).default("cn"),
});
type LdapConnection = z.output<typeof connectionSchema>;

/**
 * Entries of a directory that live for a while. Directories end no session of others: one that goes on after the end of its
 * entry has what is allowed to a name without entry and groups.
 */
export const ldapLeases: LeaseTarget<LdapConnection, LdapLeaseSettings> = {
  kind: "ldap",
  connection: connectionSchema,
  secretMembers: managerSecrets,
  settings: ldapSettings,
  fieldNames: () => ["USERNAME", "DN", "PASSWORD", "HOST", "PORT"],
  revocable: true,
  renewable: true,
  target: ({ host, port, baseDn, rdn }) => `ldap://${host.toLowerCase()}:${port}/${rdn}=*,${baseDn}`,

  async verify(connection, { deadlineAt }) {
    await withSession(loginOf(connection), deadlineAt, async () => undefined);
    return { identity: `${connection.username} at ${connection.host}:${connection.port}` };
  },

  check: (connection, settings, tools) =>
    withSession(loginOf(connection), tools.deadlineAt, (db) => checkLdapLeases(db, connection, settings)),

  name: (_settings, mark) => leaseName(mark, maxName),

  /** The password comes last: nobody logs in to what is half made. */
  async create(connection, settings, user, tools) {
    requireLeaseName(user.name, user.mark.installation);
    const { host, port, rdn } = connection;
    const dn = dnOf(connection, user.name);
    const password = leasePassword(tools);
    await withUnprovenSession(loginOf(connection), tools.deadlineAt, async (db) => {
      await db.add(dn, { ...withoutRdn(attributesOf(settings, user, dn), rdn), [rdn]: [user.name] });
      for (const group of settings.groups)
        await db.modify(group.dn, [{ operation: "add", attribute: group.attribute, values: [memberValue(group, user, dn)] }]);
      await db.modifyPassword(dn, password);
    });
    return { fields: { USERNAME: user.name, DN: dn, PASSWORD: password, HOST: host, PORT: String(port) }, handle: dn };
  },

  async renew(connection, settings, user, { deadlineAt }) {
    const dn = heldDn(connection, user);
    const changed = Object.entries(withoutRdn(attributesOf(settings, user, dn, true), connection.rdn));
    if (changed.length === 0) return;
    await withUnprovenSession(loginOf(connection), deadlineAt, (db) =>
      db.modify(
        dn,
        changed.map(([attribute, values]) => ({ operation: "replace", attribute, values })),
      ),
    );
  },

  async revoke(connection, settings, user, tools) {
    const dn = heldDn(connection, user);
    await withUnprovenSession(loginOf(connection), tools.deadlineAt, async (db) => {
      await db.modifyPassword(dn, leasePassword(tools)).catch(ignoreResults(noSuchEntry)); // which nobody keeps
      const failed = await leaveGroups(db, settings, user, dn);
      await db.remove(dn).catch(ignoreResults(noSuchEntry));
      if (failed) throw failed;
    });
  },

  list: (connection, installation, { deadlineAt }) =>
    withUnprovenSession(loginOf(connection), deadlineAt, async (db) => {
      const { baseDn: base, rdn } = connection;
      const beginning = { attribute: rdn, value: leasePrefix(installation) };
      const entries = await db.search({ base, scope: "sub", beginning, attributes: [rdn, "createTimestamp"] });
      return entries.flatMap((entry) => {
        const name = entry.values(rdn).find((one) => isLeaseName(one, installation));
        if (name === undefined || !entry.dn.toLowerCase().startsWith(`${rdn}=${name},`)) return [];
        const createdAt = timeOf(entry.values("createTimestamp")[0]);
        return [{ name, handle: entry.dn, ...(createdAt !== undefined && { createdAt }) }];
      });
    }),
};

const loginOf = ({ host, port, username, password, sslrootcert, ssl, starttls }: LdapConnection): LdapLogin => ({
  host,
  port,
  username,
  password,
  sslrootcert,
  tls: tlsOf({ port, ssl, starttls }),
});

/** The name holds nothing that would need an escape. */
const dnOf = ({ rdn, baseDn }: LdapConnection, name: string): string => `${rdn}=${name},${baseDn}`;

/** @throws RotatorError `invalid` for an entry that is not the lease's own */
function heldDn(connection: LdapConnection, { name, mark, handle }: LeasedUser): string {
  requireLeaseName(name, mark.installation);
  const dn = handle ?? dnOf(connection, name);
  if (dn.toLowerCase().startsWith(`${connection.rdn}=${name},`)) return dn;
  throw new RotatorError("invalid", "the entry's name is not that of the lease");
}

function withoutRdn(attributes: Readonly<Record<string, readonly string[]>>, rdn: string): Record<string, readonly string[]> {
  return Object.fromEntries(Object.entries(attributes).filter(([name]) => name.toLowerCase() !== rdn));
}

const noSuchEntry = 32;
const noSuchValue = 16;
const mustHaveMembers = 65;

const ignoreResults =
  (...codes: readonly number[]) =>
  (error: unknown): void => {
    if (!codes.some((code) => isResult(error, code))) throw error;
  };

/** A group that would be left without members keeps no entry alive: somebody must give it another one. */
async function leaveGroups(
  db: Session,
  { groups }: LdapLeaseSettings,
  user: LeasedUser,
  dn: string,
): Promise<RotatorError | undefined> {
  let failed: RotatorError | undefined;
  for (const group of groups) {
    const leave = { operation: "delete", attribute: group.attribute, values: [memberValue(group, user, dn)] } as const;
    try {
      await db.modify(group.dn, [leave]).catch(ignoreResults(noSuchEntry, noSuchValue));
    } catch (error) {
      if (!(error instanceof RotatorError && isResult(error, mustHaveMembers))) throw error;
      failed = new RotatorError("invalid", `${group.dn} has no other member, and must have one: add one to it`, {
        cause: error.cause,
      });
    }
  }
  return failed;
}

function timeOf(text: string | undefined): number | undefined {
  const [, year, month, day, hour, minute, second] = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(?:\.\d+)?Z$/.exec(text ?? "") ?? [];
  return year === undefined
    ? undefined
    : Date.UTC(+year, Number(month) - 1, Number(day), Number(hour), Number(minute), Number(second));
}
