import { leasePassword, loginOf, type ManagingLogin, managerSecrets, managingLogin } from "./lease-connection.ts";
import { isLeaseName, leaseName, leasePrefix, leaseSessionName, requireLeaseName } from "./lease-name.ts";
import { checkPostgresLeases } from "./lease-postgres-check.ts";
import { revokeRole } from "./lease-postgres-revoke.ts";
import { changeAll, type Manager, withManager } from "./lease-postgres-session.ts";
import { creationOf, type PostgresLeaseSettings, postgresSettings, renewalOf, revocationOf } from "./lease-postgres-settings.ts";
import type { LeaseTarget, LeaseTools } from "./lease-target.ts";
import { scramVerifier } from "./scram.ts";

const maxNameBytes = 63;

/** Roles of PostgreSQL that live for a while. They join group roles, and the server is told a verifier in place of the password. */
export const postgresLeases: LeaseTarget<ManagingLogin, PostgresLeaseSettings> = {
  kind: "postgres",
  connection: managingLogin(5432, "postgres"),
  secretMembers: managerSecrets,
  settings: postgresSettings,
  fieldNames: () => ["USERNAME", "PASSWORD", "HOST", "PORT", "DATABASE"],
  revocable: true,
  renewable: true,
  target: ({ host, port }) => `postgres://${host.toLowerCase()}:${port}`,

  verify: (connection, tools) =>
    withManager(managerOf(connection, "verify", tools), async (db) => {
      const [row] = await db.read<{ role: string; version: string }>(
        "select current_user as role, current_setting('server_version') as version",
      );
      return { identity: `role ${row?.role} of PostgreSQL ${row?.version} at ${connection.host}:${connection.port}` };
    }),

  check: (connection, settings, tools) => checkPostgresLeases(managerOf(connection, "check", tools), settings),

  name: (_settings, mark) => leaseName(mark, maxNameBytes),

  async create(connection, settings, user, tools) {
    requireLeaseName(user.name, user.mark.installation);
    const password = leasePassword(tools);
    const verifier = scramVerifier(password); // made while the connection is
    verifier.catch(() => undefined); // perhaps nobody asks
    await withManager(managerOf(connection, user.name, tools), async (db) => {
      await changeAll(db, creationOf(settings, user, await verifier));
    });
    const { host, port, dbname } = loginOf(connection);
    return {
      fields: { USERNAME: user.name, PASSWORD: password, HOST: host, PORT: String(port), DATABASE: dbname ?? "postgres" },
    };
  },

  async renew(connection, settings, user, tools) {
    requireLeaseName(user.name, user.mark.installation);
    await withManager(managerOf(connection, user.name, tools), (db) => changeAll(db, renewalOf(settings, user)));
  },

  async revoke(connection, settings, user, tools) {
    requireLeaseName(user.name, user.mark.installation);
    const { roles = [], ownerRole, owned } = settings;
    await revokeRole(managerOf(connection, user.name, tools), {
      name: user.name,
      statements: revocationOf(settings, user),
      owned,
      owner: ownerRole,
      group: roles.length === 1 ? roles[0] : undefined,
    });
  },

  list: (connection, installation, tools) =>
    withManager(managerOf(connection, "list", tools), async (db) => {
      const beginning = `${leasePrefix(installation).replaceAll("_", "\\_")}%`;
      const rows = await db.read<{ name: string }>("select rolname as name from pg_roles where rolname like $1", [beginning]);
      return rows.filter(({ name }) => isLeaseName(name, installation));
    }),
};

const managerOf = (connection: ManagingLogin, work: string, { deadlineAt }: LeaseTools): Manager => ({
  login: loginOf(connection),
  sessionName: leaseSessionName(work),
  deadlineAt,
});
