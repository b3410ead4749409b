import { z } from "zod";
import { RotatorError } from "../core/error.ts";
import { loginMembers } from "./database-secret.ts";
import { leasePassword, loginOf, managerSecrets } from "./lease-connection.ts";
import { isLeaseName, leaseName, leasePrefix, leaseSessionName, requireLeaseName } from "./lease-name.ts";
import type { LeaseFinding, LeaseTarget, LeaseTools } from "./lease-target.ts";
import { isAnswer } from "./mongodb-errors.ts";
import { type Session, type SessionOptions, withSession, withUnprovenSession } from "./mongodb-session.ts";
import { durable, endEarlierCalls, ignoreAnswer, mayDo, setPassword } from "./mongodb-users.ts";

/** Amazon DocumentDB's; MongoDB's own bound is far above. */
const maxName = 63;

const databaseName = z
  .string()
  .min(1)
  .max(63)
  .regex(/^[^/\\. "$*<>:|?\0]+$/, "must be the name of a database");

const connectionSchema = z.strictObject({
  ...loginMembers(27_017),
  /** Where the managing user and leased users log in to. */
  dbname: databaseName.default("admin"),
  replicaSet: z.string().min(1).max(128).optional(),
});
type MongoConnection = z.output<typeof connectionSchema>;

const settingsSchema = z.strictObject({
  roles: z
    .array(z.strictObject({ role: z.string().min(1).max(256), db: databaseName }))
    .min(1)
    .max(100),
});
type MongoLeaseSettings = z.output<typeof settingsSchema>;

/** Users of MongoDB and Amazon DocumentDB that live for a while. The servers end no user by the time of day: only Rekey does. */
export const mongodbLeases: LeaseTarget<MongoConnection, MongoLeaseSettings> = {
  kind: "mongodb",
  connection: connectionSchema,
  secretMembers: managerSecrets,
  settings: settingsSchema,
  fieldNames: () => ["USERNAME", "PASSWORD", "HOST", "PORT", "DATABASE"],
  revocable: true,
  renewable: true,
  target: ({ host, port, dbname }) => `mongodb://${host.toLowerCase()}:${port}/${dbname}`,

  async verify(connection, tools) {
    await withSession(loginOf(connection), options(connection, "verify", tools), (db) => db.read(connection.dbname, { ping: 1 }));
    return { identity: `user ${connection.username} of database ${connection.dbname} at ${connection.host}:${connection.port}` };
  },

  check: (connection, settings, tools) =>
    withSession(loginOf(connection), options(connection, "check", tools), async (db) => [
      ...(await checkManager(db, connection)),
      ...(await checkRoles(db, settings)),
    ]),

  name: (_settings, mark) => leaseName(mark, maxName),

  async create(connection, { roles }, user, tools) {
    requireLeaseName(user.name, user.mark.installation);
    const { host, port, dbname } = connection;
    const password = leasePassword(tools);
    await withUnprovenSession(loginOf(connection), options(connection, user.name, tools), (db) =>
      db.change(dbname, { createUser: user.name, pwd: password, roles, ...durable }),
    );
    return { fields: { USERNAME: user.name, PASSWORD: password, HOST: host, PORT: String(port), DATABASE: dbname } };
  },

  /** Sessions that go on have no rights any more when their user is gone. */
  async revoke(connection, _settings, { name, mark }, tools) {
    requireLeaseName(name, mark.installation);
    const { dbname } = connection;
    await withUnprovenSession(loginOf(connection), options(connection, name, tools), async (db) => {
      await endEarlierCalls(db, leaseSessionName(name), tools.deadlineAt);
      await setPassword(db, dbname, name, leasePassword(tools)).catch(ignoreGone); // which nobody keeps
      await db.read("admin", { killAllSessions: [{ user: name, db: dbname }] }).catch(ignoreAnswer);
      await db.change(dbname, { dropUser: name, ...durable }).catch(ignoreGone);
    });
  },

  list: (connection, installation, tools) =>
    withUnprovenSession(loginOf(connection), options(connection, "list", tools), async (db) => {
      const filter = { user: { $regex: `^${leasePrefix(installation)}` } };
      const { users } = await db.read(connection.dbname, { usersInfo: 1, filter }).catch((error: unknown) => {
        if (error instanceof RotatorError && error.outcome === "invalid") return db.read(connection.dbname, { usersInfo: 1 });
        throw error; // Amazon DocumentDB knows no filter
      });
      const names: string[] = users.map(({ user }: { user: string }) => user);
      return names.filter((name) => isLeaseName(name, installation)).map((name) => ({ name }));
    }),
};

const options = ({ replicaSet }: MongoConnection, work: string, { deadlineAt }: LeaseTools): SessionOptions => ({
  appName: leaseSessionName(work),
  deadlineAt,
  replicaSet,
});

function ignoreGone(error: unknown): void {
  if (!isAnswer(error, 11)) throw error; // UserNotFound
}

async function checkManager(db: Session, { username, dbname }: MongoConnection): Promise<LeaseFinding[]> {
  const may = await mayDo(db, dbname);
  if (!may) return [];
  const findings: LeaseFinding[] = [];
  const missing = ["createUser", "dropUser", "grantRole", "changePassword"].filter((action) => !may(action));
  if (missing.length > 0) {
    findings.push({
      problem: `user ${username} may not ${missing.join(", ")} on ${dbname}`,
      remedy: `Grant it userAdmin on ${dbname}, or a role with these actions.`,
    });
  }
  if (!may("viewUser")) {
    const problem = `user ${username} cannot list users: users that no lease knows are not found`;
    findings.push({ problem, remedy: `Grant it viewUser on ${dbname}.`, warning: true });
  }
  if (!may("killAnySession")) {
    const problem = `user ${username} cannot end sessions: what a leased user's operation is doing at the end of the lease goes on`;
    findings.push({
      problem,
      remedy: "Grant it a role with killAnySession on the cluster, as hostManager has it.",
      warning: true,
    });
  }
  return findings;
}

async function checkRoles(db: Session, { roles }: MongoLeaseSettings): Promise<LeaseFinding[]> {
  const findings: LeaseFinding[] = [];
  for (const wanted of roles) {
    const found = await db.read(wanted.db, { rolesInfo: { ...wanted } }).catch(ignoreAnswer);
    if (found?.roles.length !== 0) continue;
    findings.push({
      problem: `there is no role ${wanted.role} in ${wanted.db}`,
      remedy: "Create the role, or name another one.",
    });
  }
  return findings;
}
