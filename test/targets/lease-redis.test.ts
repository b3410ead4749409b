import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { createClient } from "@redis/client";
import { redisLeases as target } from "../../src/targets/lease-redis.ts";
import { type LeaseServers, managerPassword, startLeaseServers } from "../support/lease-servers.ts";
import { type RedisServer, redisSkip, startRedis } from "../support/redis-server.ts";
import { type LeaseSubject, lease, leaseContract, leaseFailure, leaseTools, problemsOf } from "./lease-contract.ts";

const rootPassword = "password-of-default";
const managerRights = ["+acl|setuser", "+acl|deluser", "+acl|users", "+acl|save", "+acl|dryrun"];

describe("leases of redis", { skip: redisSkip }, () => {
  let servers: LeaseServers<RedisServer>;
  let server: RedisServer;
  let second: RedisServer;

  const clientOf = ({ HOST = "", PORT, USERNAME = "", PASSWORD = "" }: Readonly<Record<string, string>>) =>
    createClient({
      RESP: 2,
      disableClientInfo: true,
      username: USERNAME,
      password: PASSWORD,
      socket: { host: HOST, port: Number(PORT), reconnectStrategy: false },
    }).on("error", () => undefined);
  async function asUser<T>(fields: Readonly<Record<string, string>>, work: (client: ReturnType<typeof clientOf>) => Promise<T>) {
    const client = clientOf(fields);
    try {
      await client.connect();
      return await work(client);
    } finally {
      client.destroy();
    }
  }

  const subject = (): LeaseSubject => ({
    target,
    ...servers.connections,
    settings: { keys: ["orders:*"], commands: ["+get", "+set", "+multi", "+blpop"] },
    logIn: (fields) =>
      asUser(fields, async (client) => {
        assert.equal(await client.sendCommand(["SET", "orders:1", "x"]), "OK");
      }),
    oversteps: (fields) =>
      asUser(fields, async (client) => {
        for (const command of [
          ["SET", "other:1", "x"],
          ["KEYS", "*"],
          ["PUBLISH", "c", "m"],
          ["ACL", "WHOAMI"],
        ]) {
          const did = await client.sendCommand(command).then(
            () => true,
            () => false,
          );
          if (did) return true;
        }
        return false;
      }),
    async stay(fields) {
      const client = clientOf(fields);
      await client.connect();
      const ended = client.sendCommand(["BLPOP", "orders:none", "0"]).then(
        () => assert.fail("answered"),
        () => undefined,
      );
      return { ended, close: async () => client.destroy() };
    },
    plant: (name) => server.run("ACL", "SETUSER", name, "on").then(() => undefined),
    exists: async (name) => ((await server.run("ACL", "USERS")) as string[]).includes(name),
    serverLog: () => server.log(),
  });

  before(async () => {
    [servers, second] = await Promise.all([
      startLeaseServers({ start: () => startRedis({ password: rootPassword }) }),
      startRedis({ password: rootPassword, users: "config" }),
    ]);
    server = servers.server;
    for (const one of [server, second]) {
      const rights = [...managerRights, ...(one === second ? ["+config|rewrite"] : [])];
      await one.run("ACL", "SETUSER", "manager", "on", `>${managerPassword}`, "-@all", ...rights);
      await one.run("ACL", "SETUSER", "powerless", "on", `>${managerPassword}`, "-@all", "+acl|dryrun");
    }
  });
  after(async () => {
    for (const one of [servers, second]) await one[Symbol.asyncDispose]();
  });

  leaseContract(subject);

  test("users are made and ended at every node, and stay so when it starts again", async () => {
    const connection = { ...servers.as(), nodes: [`127.0.0.1:${second.port}`] };
    const one = await lease({ ...subject(), connection });
    const both = [server, second].map(({ port }) => ({ ...one.fields, PORT: String(port) }));
    await second.restart();
    for (const fields of both) await subject().logIn(fields);
    await one.revoke();
    await second.restart();
    for (const fields of both) await assert.rejects(subject().logIn(fields));
    assert.deepEqual(await target.list?.(target.connection.parse(connection), "abcd1234", leaseTools()), []);
  });

  test("rules are rules: nothing else gets in with them", () => {
    const given = subject().settings;
    for (const commands of [["allcommands"], ["+get ~*"], ["on"], [">password"], ["nopass"], ["+@all +x"], ["~*"], [""], []]) {
      assert.equal(target.settings.safeParse({ ...given, commands }).success, false, String(commands));
    }
    for (const keys of [["a b"], ["a\n"], ['"'], ["\0"], [""]])
      assert.equal(target.settings.safeParse({ ...given, keys }).success, false);
  });

  test("rights to make users are warned of", async () => {
    for (const [commands, warned] of [
      [["+@all"], true],
      [["+@all", "-@admin"], false],
      [["+get"], false],
      [["+acl"], true],
    ] as const) {
      const settings = target.settings.parse({ commands });
      const findings = await target.check(target.connection.parse(subject().connection), settings, leaseTools());
      assert.equal(
        findings.some(({ warning, problem }) => warning && problem.includes("acl")),
        warned,
        problemsOf(findings),
      );
    }
  });

  test("a command that the server does not know is told as such, and leaves no user", async () => {
    const one = lease(subject(), { commands: ["+nosuchcommand"] });
    const { outcome, message } = await leaseFailure(one);
    assert.equal(outcome, "invalid");
    assert.match(message, /unknown command or category/i);
  });
});
