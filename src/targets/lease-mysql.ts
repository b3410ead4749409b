import { RotatorError } from "../core/error.ts";
import { leasePassword, loginOf, type ManagingLogin, managerSecrets, managingLogin } from "./lease-connection.ts";
import { changeEach, checkMysqlLeases } from "./lease-mysql-check.ts";
import { revokeAccount } from "./lease-mysql-revoke.ts";
import { creationOf, defaultCreationOf, type MysqlLeaseSettings, mysqlSettings, renewalOf } from "./lease-mysql-settings.ts";
import { isLeaseName, leaseName, leasePrefix, leaseSessionName, requireLeaseName } from "./lease-name.ts";
import type { LeasedUser, LeaseTarget, LeaseTools } from "./lease-target.ts";
import { type Account, accountText, confidential, identified, isMariaDb, quoted } from "./mysql-accounts.ts";
import { hold } from "./mysql-hold.ts";
import { type Session, withSession, withUnprovenSession } from "./mysql-session.ts";

/** MySQL's; MariaDB takes longer ones. */
const maxName = 32;

/**
 * Accounts of MySQL and MariaDB that live for a while. The servers end no account by the time of day: only Rekey does, and an
 * account whose server cannot be reached logs in for as long.
 */
export const mysqlLeases: LeaseTarget<ManagingLogin, MysqlLeaseSettings> = {
  kind: "mysql",
  connection: managingLogin(3306),
  secretMembers: managerSecrets,
  settings: mysqlSettings,
  fieldNames: () => ["USERNAME", "PASSWORD", "HOST", "PORT", "DATABASE"],
  revocable: true,
  renewable: true,
  target: ({ host, port }) => `mysql://${host.toLowerCase()}:${port}`,

  verify: (connection, { deadlineAt }) =>
    withSession(loginOf(connection), deadlineAt, async (db) => {
      const [row] = await db.read<{ account: string }>("select current_user() as account");
      const kind = isMariaDb(db) ? "MariaDB" : "MySQL";
      return { identity: `user ${row?.account} of ${kind} ${db.version} at ${connection.host}:${connection.port}` };
    }),

  check: (connection, settings, tools) =>
    withSession(loginOf(connection), tools.deadlineAt, (db) =>
      checkMysqlLeases(db, loginOf(connection), settings, leasePassword(tools)),
    ),

  name: (_settings, mark) => leaseName(mark, maxName),

  async create(connection, settings, user, tools) {
    const password = leasePassword(tools);
    const account = accountOf(settings, user);
    const { host, port, dbname = "" } = loginOf(connection);
    await holding(connection, user, tools, async (db) => {
      if (settings.creationStatements) {
        await changeEach(db, creationOf(settings, user, account, confidential(db, password)));
        return;
      }
      await changeEach(db, defaultCreationOf(settings, account, identified(db, password)));
      await switchOn(db, settings.roles ?? [], account, () =>
        withUnprovenSession(
          { ...loginOf(connection), username: user.name, password, dbname: undefined },
          tools.deadlineAt,
          (own) => own.change(`set default role ${quoted(settings.roles?.[0] ?? "")}`),
        ),
      );
    });
    const fields = { USERNAME: user.name, PASSWORD: password, HOST: host, PORT: String(port), DATABASE: dbname };
    return { fields, handle: account.host };
  },

  async renew(connection, settings, user, tools) {
    requireLeaseName(user.name, user.mark.installation);
    const statements = renewalOf(settings, user, accountOf(settings, user));
    if (statements.length === 0) return;
    await holding(connection, user, tools, (db) => changeEach(db, statements));
  },

  revoke: (connection, settings, user, tools) =>
    holding(connection, user, tools, (db) => revokeAccount(db, settings, user, accountOf(settings, user), tools.deadlineAt)),

  list: (connection, installation, { deadlineAt }) =>
    withUnprovenSession(loginOf(connection), deadlineAt, async (db) => {
      const beginning = leasePrefix(installation).replaceAll("_", "\\_");
      const text = `select user as name, host as handle from mysql.user where host <> '' and user like ${quoted(`${beginning}%`)}`;
      const rows = await db.read<{ name: string; handle: string }>(text).catch(notTold);
      return rows?.filter(({ name }) => isLeaseName(name, installation)).map(({ name, handle }) => ({ name, handle }));
    }),
};

function notTold(error: unknown): undefined {
  if (!(error instanceof RotatorError && error.outcome === "denied")) throw error;
}

const accountOf = ({ host }: MysqlLeaseSettings, { name, handle }: LeasedUser): Account => ({ user: name, host: handle ?? host });

/** One call at a time for a lease; what an earlier one left running is ended. */
async function holding<T>(
  connection: ManagingLogin,
  { name, mark }: LeasedUser,
  { deadlineAt }: LeaseTools,
  work: (db: Session) => Promise<T>,
): Promise<T> {
  requireLeaseName(name, mark.installation);
  return withUnprovenSession(loginOf(connection), deadlineAt, async (db) => {
    await hold(db, leaseSessionName(name), name, deadlineAt);
    return work(db);
  });
}

/** Roles that are only granted are off at login. MariaDB has others' switched on by whom it lets write its own tables: else the user does it itself. */
async function switchOn(db: Session, roles: readonly string[], account: Account, itself: () => Promise<void>): Promise<void> {
  if (roles.length === 0) return;
  if (!isMariaDb(db)) return db.change(`set default role ${roles.map(quoted).join(", ")} to ${accountText(account)}`);
  try {
    await db.change(`set default role ${quoted(roles[0] ?? "")} for ${accountText(account)}`);
  } catch (error) {
    if (!(error instanceof RotatorError && error.outcome === "denied")) throw error;
    await itself();
  }
}
