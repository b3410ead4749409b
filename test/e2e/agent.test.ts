// Rotations and leases in a network whose names only its agents know: the server has no way to the targets but through them.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { type AgentProcess, startAgent } from "../support/agent-process.ts";
import { nativeOk } from "../support/aws.ts";
import { type CommandLine, commandLine } from "../support/cli.ts";
import { type PostgresServer, postgresSkip, startPostgres } from "../support/postgres-server.ts";
import { type HoldingProxy, startProxy } from "../support/proxy.ts";
import { type RedisServer, redisSkip, startRedis } from "../support/redis-server.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";
import { type DatabaseSecret, functionArn, rotationWorld, type SeenRotation } from "../support/rotation-e2e.ts";
import { freePort } from "../support/server-process.ts";

const host = "db.plant.internal";
const names = import.meta.resolve("../support/private-names.ts");

describe("agents of a network", { skip: postgresSkip || redisSkip }, () => {
  let server: RekeyServer;
  let database: PostgresServer;
  let redis: RedisServer;
  let way: HoldingProxy;
  let world: ReturnType<typeof rotationWorld>;
  let cli: CommandLine;
  let port: number;
  const agents: AgentProcess[] = [];

  const startServer = async (dataFolder?: string) =>
    startRekey({
      env: { REKEY_SETTLE_MS: "0", NODE_OPTIONS: `--import=${names}`, PLANT_NAMES: "unknown" },
      flags: ["--listen", `127.0.0.1:${port}`],
      ...(dataFolder === undefined ? {} : { dataFolder }),
    });
  before(async () => {
    port = await freePort();
    [server, database, redis] = await Promise.all([startServer(), startPostgres(), startRedis({ password: "of-default" })]);
    way = await startProxy(database);
    world = rotationWorld(server, database);
    cli = commandLine(server.endpoint, server.credentials.token, server.dataFolder);
    await cli.ask("network create plant");
  });
  after(async () => {
    await Promise.all(agents.map((agent) => agent[Symbol.asyncDispose]()));
    await server?.[Symbol.asyncDispose]();
    await way?.[Symbol.asyncDispose]();
    await database?.[Symbol.asyncDispose]();
    await redis?.[Symbol.asyncDispose]();
  });

  /** As an operator does it: a token from the server, the program in the network. */
  async function newAgent(name: string): Promise<AgentProcess> {
    const { token } = await cli.askJson("agent enroll-token --network plant");
    const rules = [`postgres://*.plant.internal:${way.port}`, `redis://${host}:${redis.port}`];
    const flags = ["--server", server.endpoint, "--name", name, ...rules.flatMap((rule) => ["--allow", rule])];
    const env = { REKEY_ENROLL: String(token), NODE_OPTIONS: `--import=${names}` };
    const agent = await startAgent({ flags, env });
    agents.push(agent);
    return agent;
  }
  const agentIds = async (): Promise<Record<string, string>> => {
    const { agents: rows } = (await cli.askJson("agent list")) as { agents: { name: string; agentId: string }[] };
    return Object.fromEntries(rows.map(({ name, agentId }) => [name, agentId]));
  };

  /** A secret as the network's people write it, and one that this test can log in with. */
  const near = (secret: DatabaseSecret): DatabaseSecret => ({ ...secret, host: "127.0.0.1", port: database.port });
  const far = (secret: DatabaseSecret): DatabaseSecret => ({ ...secret, host, port: way.port });

  async function newSecret(more: object = {}, network: string | null = "plant"): Promise<string> {
    const { SecretId } = await world.newSecret(far(await world.newLogin(more)));
    if (network !== null) await cli.ask(`rotation policy ${SecretId} --network ${network}`);
    return SecretId;
  }
  async function begin(SecretId: string, name: "SingleUser" | "MultiUser" = "SingleUser"): Promise<() => Promise<SeenRotation>> {
    const token = randomUUID();
    await world.root.rotateSecret({ SecretId, RotationLambdaARN: functionArn(server, name), ClientRequestToken: token });
    return () => world.rotationOf(SecretId, ({ versionId, state }) => versionId === token && state !== "running");
  }
  async function succeeds(SecretId: string, name: "SingleUser" | "MultiUser" = "SingleUser"): Promise<void> {
    const { state, reason } = await (await begin(SecretId, name))();
    assert.equal(state, "succeeded", reason);
    assert.equal(await world.logsIn(near(await world.value(SecretId))), true);
  }

  it("without an agent, and without the network, a rotation says what is missing", async () => {
    const here = await newSecret({}, null);
    await begin(here);
    const unreachable = ({ outcome }: SeenRotation) => outcome === "unreachable";
    await world.rotationOf(here, unreachable);
    const there = await newSecret();
    await begin(there);
    const waits = await world.rotationOf(there, unreachable);
    assert.match(`${waits.reason} ${waits.remedy}`, /plant/);
    assert.equal(await world.logsIn(near(await world.value(there))), true);
    for (const SecretId of [here, there]) await world.root.cancelRotateSecret({ SecretId });
  });

  it("a single user's password is changed through an agent, and the old one is dead", async () => {
    const agent = await newAgent("one");
    const SecretId = await newSecret();
    await succeeds(SecretId);
    assert.equal(await world.logsIn(near(await world.value(SecretId, "AWSPREVIOUS"))), "28P01");
    const { password } = await world.value(SecretId);
    assert.doesNotMatch(agent.log(), new RegExp(password));
    assert.match(agent.log(), /a job is done/);
  });

  it("users take turns, with a superuser that is there as well", async () => {
    const master = await world.newSecret(far(world.superuser()));
    await cli.ask(`rotation policy ${master.ARN} --network plant`);
    const SecretId = await newSecret({ masterarn: master.ARN });
    for (const _ of ["clone", "first"]) {
      await succeeds(SecretId, "MultiUser");
      assert.equal(await world.logsIn(near(await world.value(SecretId, "AWSPREVIOUS"))), true);
    }
  });

  it("a password of Redis is changed as well", async () => {
    await redis.run("ACL", "SETUSER", "app", "on", ">first-password", "+get", "~*");
    const place = { engine: "redis", host, port: redis.port, ssl: false };
    const master = await world.newSecret({ ...place, username: "default", password: "of-default" });
    const { SecretId } = await world.newSecret({ ...place, username: "app", password: "first-password", masterarn: master.ARN });
    for (const moved of [master.ARN, SecretId]) await cli.ask(`rotation policy ${moved} --network plant`);
    const RotationLambdaARN = functionArn(server, "SingleUser").replace(/[^:]*$/, "RekeyRedisRotation");
    await world.root.rotateSecret({ SecretId, RotationLambdaARN });
    const { state, reason } = await world.rotationOf(SecretId);
    assert.equal(state, "succeeded", reason);
    const { password } = await world.value(SecretId);
    assert.equal(await redis.run("AUTH", "app", password), "OK");
    await redis.run("AUTH", "default", "of-default");
  });

  it("leases are issued, renewed and revoked through an agent", async () => {
    await nativeOk(server, "projects/create", { name: "shop" });
    await world.sql("create role readers");
    const { username, password } = world.superuser();
    const data = { host, port: way.port, username, password };
    await nativeOk(server, "integrations/create", { name: "plant-db", type: "postgres", data, network: "plant" });
    const at = { project: "shop", config: "dev" };
    await nativeOk(server, "dynamic-secrets/create", {
      ...at,
      name: "DB",
      integration: "plant-db",
      settings: { roles: ["readers"] },
    });
    const { lease, fields } = (await nativeOk(server, "leases/issue", { ...at, dynamicSecret: "DB" })) as never as {
      lease: { id: string; user: string };
      fields: Record<string, string>;
    };
    const logsIn = async () => {
      const login = { host: "127.0.0.1", port: database.port, user: fields.USERNAME, password: fields.PASSWORD };
      const client = new pg.Client({ ...login, database: "postgres", ssl: false });
      client.on("error", () => undefined);
      return client.connect().then(
        async () => client.end().then(() => true),
        () => false,
      );
    };
    assert.equal(fields.HOST, host);
    assert.equal(await logsIn(), true);
    await nativeOk(server, "leases/renew", { leaseId: lease.id });
    assert.equal((await nativeOk(server, "leases/revoke", { leaseId: lease.id })).revoked, true);
    assert.equal(await logsIn(), false);
  });

  it("the server is started again: the agent works on, and nobody enrols it anew", async () => {
    const { dataFolder } = server;
    await server.stop();
    server = await startServer(dataFolder);
    world = rotationWorld(server, database);
    await succeeds(await newSecret());
  });

  it("an agent that is killed in the middle of a job is taken over from by another one", async () => {
    const [first] = agents;
    const SecretId = await newSecret();
    const held = way.hold(1);
    const ended = await begin(SecretId);
    const connection = await held;
    await newAgent("two");
    await first?.stop("SIGKILL");
    connection.cut();
    const { state, reason } = await ended();
    assert.equal(state, "succeeded", reason);
    assert.equal(await world.logsIn(near(await world.value(SecretId))), true);
    const again = await startAgent({
      ...(first && { dataFolder: first.dataFolder }),
      env: { NODE_OPTIONS: `--import=${names}` },
    });
    agents.push(again);
    await again.logged(/the agent starts/);
  });

  it("a revoked agent's work moves on, and it ends", async () => {
    const [, second, again] = agents;
    const ids = await agentIds();
    second?.suspend();
    const secrets = await Promise.all(Array.from({ length: 3 }, async () => newSecret()));
    const ends = await Promise.all(secrets.map(async (SecretId) => begin(SecretId)));
    await sleep(500);
    await cli.ask(`agent revoke ${ids.two} --yes`);
    for (const end of ends) {
      const { state, reason } = await end();
      assert.equal(state, "succeeded", reason);
    }
    for (const SecretId of secrets) assert.equal(await world.logsIn(near(await world.value(SecretId))), true);
    second?.resume();
    assert.equal(await second?.exited, 1);
    assert.match(second?.log() ?? "", /does not know this agent, or no more/);
    assert.deepEqual(Object.keys(await agentIds()), ["one"]);
    assert.equal(await again?.stop(), 0);
  });
});
