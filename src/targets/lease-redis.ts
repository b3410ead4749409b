import { z } from "zod";
import { RotatorError } from "../core/error.ts";
import { type DatabaseLogin, loginMembers } from "./database-secret.ts";
import { leasePassword, managerSecrets } from "./lease-connection.ts";
import { isLeaseName, leaseName, requireLeaseName } from "./lease-name.ts";
import type { LeasedUser, LeaseFinding, LeaseTarget, LeaseTools } from "./lease-target.ts";
import { allNodes, atAll, nodeList, persistence } from "./redis-nodes.ts";
import { type Command, type Session, withSession } from "./redis-session.ts";
import { hashOf, lackingRights, savingCommand } from "./redis-users.ts";

const maxName = 64;

const connectionSchema = z.strictObject({ ...loginMembers(6379), nodes: nodeList, persist: persistence });
type RedisConnection = z.output<typeof connectionSchema>;

/** The server would not start again from a file with the others. */
const pattern = z
  .string()
  .max(1_024)
  .regex(/^[^\s"'\\\p{Cc}]+$/u, "may not contain blanks, quotes, backslashes or control characters");
const patterns = z.array(pattern).max(100);

const settingsSchema = z.strictObject({
  /** Patterns of keys that may be read and written, e.g. `orders:*`. */
  keys: patterns.default([]),
  /** Patterns of keys that may only be read. From Redis 7. */
  readKeys: patterns.default([]),
  /** Patterns of channels. */
  channels: patterns.default([]),
  /** Rules in their order, e.g. `+@read`, `+set`, `-keys`, `+config|get`. */
  commands: z
    .array(
      z
        .string()
        .max(128)
        .regex(
          /^[+-](@[a-z]+|[a-z][\w.-]*(\|[a-z][\w.-]*)?)$/i,
          "must be +command, -command, +command|subcommand, +@category or -@category",
        ),
    )
    .min(1)
    .max(200),
});
type RedisLeaseSettings = z.output<typeof settingsSchema>;

/** Users of Redis and Valkey that live for a while, at every node. The servers end no user by the time of day: only Rekey does. */
export const redisLeases: LeaseTarget<RedisConnection, RedisLeaseSettings> = {
  kind: "redis",
  connection: connectionSchema,
  secretMembers: managerSecrets,
  settings: settingsSchema,
  fieldNames: () => ["USERNAME", "PASSWORD", "HOST", "PORT"],
  revocable: true,
  renewable: true,
  target: ({ host, port }) => `redis://${host.toLowerCase()}:${port}`,

  async verify(connection, tools) {
    await atNodes(connection, tools, async (db) => {
      await db.read(["PING"]).catch(ignoreDenied);
    });
    return { identity: `user ${connection.username} at ${connection.host}:${connection.port}` };
  },

  async check(connection, settings, tools) {
    const found = await atNodes(connection, tools, (db) =>
      lackingRights(db, connection.username, neededRights, connection.persist),
    );
    const once = new Map(found.flat().map((one) => [one.problem, one]));
    return [...once.values(), ...findDangers(settings)];
  },

  name: (_settings, mark) => leaseName(mark, maxName),

  async create(connection, settings, user, tools) {
    const password = leasePassword(tools);
    const make: Command = [
      "ACL",
      "SETUSER",
      user.name,
      "reset",
      "resetchannels",
      `#${hashOf({ password })}`,
      ...rulesOf(settings),
      "on",
    ];
    await changeAt(connection, user, tools, [make]);
    const { host, port } = connection;
    return { fields: { USERNAME: user.name, PASSWORD: password, HOST: host, PORT: String(port) } };
  },

  /** One command ends the login, its sessions and the user. Source: Redis documentation, ACL DELUSER. */
  revoke: (connection, _settings, user, tools) => changeAt(connection, user, tools, [["ACL", "DELUSER", user.name]]),

  async list(connection, installation, tools) {
    const names = await atNodes(connection, tools, (db) => db.read<string[]>(["ACL", "USERS"]));
    return [...new Set(names.flat())].filter((name) => isLeaseName(name, installation)).map((name) => ({ name }));
  },
};

const neededRights: readonly Command[] = [
  ["ACL", "SETUSER", "x", "off"],
  ["ACL", "DELUSER", "x"],
  ["ACL", "USERS"],
];

const rulesOf = ({ keys, readKeys, channels, commands }: RedisLeaseSettings): string[] => [
  ...keys.map((one) => `~${one}`),
  ...readKeys.map((one) => `%R~${one}`),
  ...channels.map((one) => `&${one}`),
  ...commands,
];

/** Rights with which a leased user could make users of its own, or itself one that stays. */
function findDangers({ commands }: RedisLeaseSettings): LeaseFinding[] {
  const given = new Set<string>();
  for (const rule of commands.map((one) => one.toLowerCase())) {
    if (rule.startsWith("-@all")) given.clear();
    else if (/^-(@admin|@dangerous|acl)$/.test(rule)) given.delete("acl");
    else if (/^\+(@all|@admin|@dangerous|@slow|acl|acl\|setuser)$/.test(rule)) given.add("acl");
  }
  if (given.size === 0) return [];
  const problem = "leased users may run acl, and so make users that no lease ends";
  return [{ problem, remedy: "Add -@admin or -acl at the end of commands.", warning: true }];
}

/**
 * At every node, and saved there. What an earlier call sent is done before this: the server reads it before it answers this login.
 */
async function changeAt(
  connection: RedisConnection,
  { name, mark }: LeasedUser,
  tools: LeaseTools,
  commands: readonly Command[],
): Promise<void> {
  requireLeaseName(name, mark.installation);
  await atNodes(connection, tools, async (db) => {
    const failure = (await db.change(commands)).find((one) => one !== undefined);
    if (failure) throw failure;
    if (connection.persist) await savingCommand(db);
  });
}

function atNodes<T>(connection: RedisConnection, { deadlineAt }: LeaseTools, work: (db: Session) => Promise<T>): Promise<T[]> {
  const { username, password, ssl, sslrootcert } = connection;
  return atAll(allNodes(connection, connection.nodes), (node) => {
    const login: Omit<DatabaseLogin, "dbname"> = { ...node, username, password, ssl, sslrootcert };
    return withSession(login, deadlineAt, work);
  });
}

function ignoreDenied(error: unknown): void {
  if (!(error instanceof RotatorError && error.outcome === "denied")) throw error;
}
