// Doppler's published agents as a far side, driven by their own messages and shapes; the agent itself is a stand-in.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, it } from "node:test";
import { decodeJwt, type JWK } from "jose";
import { RotatorError } from "../../src/core/error.ts";
import type { FunctionRecord } from "../../src/core/function.ts";
import { importSigningKey, newPrivateJwk, publicJwk } from "../../src/crypto/message-keys.ts";
import type { LambdaFunction } from "../../src/functions/lambda.ts";
import { type LambdaFarParts, probeLambda } from "../../src/functions/lambda-far.ts";
import { createLambdaFarSides, type LambdaFarSides } from "../../src/functions/lambda-far-sides.ts";
import { farLeaseTarget } from "../../src/targets/far-lease.ts";
import { farRotator } from "../../src/targets/far-rotator.ts";
import type { FarRotator } from "../../src/targets/far-rotator-verbs.ts";
import { findRotator } from "../../src/targets/index.ts";
import { findLeaseTarget } from "../../src/targets/lease-targets.ts";
import type { Access, RotatorTools, Versions } from "../../src/targets/target.ts";
import { dopplerAgent, type FakeAgent } from "../support/doppler-agent-fake.ts";
import { type MariaDbServer, mariadbSkip, startMariaDb } from "../support/mariadb-server.ts";
import { type PostgresServer, startPostgres } from "../support/postgres-server.ts";

type Credential = Record<string, unknown>;

const record: LambdaFunction = {
  kind: "lambda",
  lambda: { targetArn: "arn:aws:lambda:eu-central-1:111122223333:function:Doppler_rotator:live", protocol: "doppler" },
  region: "us-east-1",
  name: "doppler",
  arn: "arn:aws:lambda:us-east-1:000000000000:function:doppler",
  timeoutSeconds: 30,
  memoryMiB: 256,
  concurrency: 10,
  environmentNames: [],
  createdAt: 0,
  updatedAt: 0,
};
const tools: RotatorTools = {
  rotationId: "rotation-1",
  get deadlineAt() {
    return Date.now() + 20_000;
  },
  generatePassword: ({ length = 32 } = {}) => `${randomUUID()}${randomUUID()}`.slice(0, length),
};

describe("Doppler's agents", () => {
  let signing: JWK;
  let postgres: PostgresServer;
  let events: string[];
  before(async () => {
    signing = await newPrivateJwk("sig");
    postgres = await startPostgres({ tls: true });
    events = [];
  });
  after(() => postgres[Symbol.asyncDispose]());

  const keySet = () => ({ keys: [publicJwk(signing)] }) as FakeAgent["keySet"];
  const partsOf = (agent: Pick<FakeAgent, "handle">, nowMs = () => Date.now()): LambdaFarParts => ({
    async call(_record, payload) {
      events.push(payload);
      return { requestId: "1", payload: JSON.stringify(await agent.handle(JSON.parse(payload))) };
    },
    signingKeys: { current: () => importSigningKey(signing), chain: async () => [{ endorsement: "not for them" }] },
    issuer: async () => "installation",
    noteRefusal: async () => {},
    now: nowMs,
  });
  const sidesOf = (agent: Pick<FakeAgent, "handle">): LambdaFarSides =>
    createLambdaFarSides({ ...partsOf(agent), check: async () => {}, findFunction: async (): Promise<FunctionRecord> => record });
  async function rotatorOf(kind: string, agent: Pick<FakeAgent, "handle">): Promise<FarRotator> {
    const sides = sidesOf(agent);
    const local = (await findRotator(kind)) ?? assert.fail(kind);
    return sides.fit(record.arn, farRotator(local, sides.route(record.arn)));
  }
  const fails = (call: Promise<unknown>, outcome: string, message: RegExp) =>
    assert.rejects(call, (error: unknown) => {
      assert.ok(error instanceof RotatorError, String(error));
      assert.equal(error.outcome, outcome, error.message);
      assert.match(error.message, message);
      return true;
    });
  const sql = async (text: string) => {
    const { Client } = (await import("pg")).default;
    const client = new Client({
      host: postgres.host,
      port: postgres.port,
      user: postgres.user,
      password: postgres.password,
      database: "postgres",
    });
    await client.connect();
    await client.query(text).finally(() => client.end());
  };
  const versions = (
    given: Partial<Versions<Credential>> & Pick<Versions<Credential>, "current" | "pending">,
  ): Versions<Credential> => ({
    admin: undefined,
    previous: undefined,
    ...given,
  });
  const place = () => ({ host: postgres.host, port: postgres.port, dbname: "postgres", ssl: false });

  it("answer their status to what this Rekey signs, and tell whose key set it is not", async () => {
    await probeLambda(partsOf(dopplerAgent("postgres", keySet())), record);
    assert.equal(Object.keys(JSON.parse(events.at(-1) ?? "{}")).join(), "body", "nothing but the body");
    const other = { keys: [publicJwk(await newPrivateJwk("sig"))] } as FakeAgent["keySet"];
    await fails(probeLambda(partsOf(dopplerAgent("postgres", other)), record), "invalid", /OVERRIDE_KEY_SET.*signing-key export/);
    const late = partsOf(dopplerAgent("postgres", keySet()), () => Date.now() - 31_000);
    await fails(probeLambda(late, record), "invalid", /last 30 s.*clock/);
    await fails(probeLambda(partsOf({ handle: async () => ({ hello: 1 }) }), record), "unknown", /answered something else/);
  });

  for (const kind of ["postgres", "mysql"] as const)
    it(`${kind}: two named users take turns, each try may be repeated, and the old one stays until its turn`, {
      skip: kind === "mysql" && mariadbSkip,
    }, async () => {
      await using database = kind === "mysql" ? await startMariaDb() : undefined;
      const make = database ? mysqlUsers(database) : postgresUsers();
      const { first, second, admin } = await make;
      const agent = dopplerAgent(kind, keySet());
      const rotator = await rotatorOf(kind, agent);
      assert.deepEqual([...rotator.strategies].sort(), ["alternating-users", "single-user"]);
      assert.equal(rotator.retire, undefined);
      const pending = await rotator.create(first, "alternating-users", tools);
      assert.equal(pending.username, second.username);
      for (const _ of ["once", "again"])
        await rotator.set(versions({ current: first, pending, previous: second, admin }), "alternating-users", tools);
      await rotator.test(pending, tools);
      assert.deepEqual(await Promise.all([pending, first, second].map((one) => rotator.probe(one, tools))), [
        "ok",
        "ok",
        "refused",
      ]);
      const types = new Set(agent.seen.map(({ type }) => type));
      assert.deepEqual(types, new Set(["updateCredential", "testCredentials"]));
    });

  it("a single user changes its own password, whichever version is in force", async () => {
    const { first } = await postgresUsers();
    const rotator = await rotatorOf("postgres", dopplerAgent("postgres", keySet()));
    const pending = await rotator.create(first, "single-user", tools);
    for (const _ of ["once", "again"]) await rotator.set(versions({ current: first, pending }), "single-user", tools);
    await rotator.test(pending, tools);
    assert.equal(await rotator.probe(first, tools), "refused");
    const lost = { ...first, password: "nobody knows" };
    await fails(
      rotator.set(versions({ current: lost, pending: { ...lost, password: "x" } }), "single-user", tools),
      "refused",
      /every password/,
    );
  });

  it("TLS is verified unless the secret says no, and its authority travels as text", async () => {
    const { first } = await postgresUsers();
    const rotator = await rotatorOf("postgres", dopplerAgent("postgres", keySet()));
    const { ssl: _ssl, ...asked } = first;
    await fails(rotator.test(asked, tools), "tls", /does not trust the database/);
    const { readFileSync } = await import("node:fs");
    await rotator.test({ ...asked, sslrootcert: readFileSync(postgres.caFile ?? "", "utf8") }, tools);
    await fails(rotator.test({ ...asked, sslrootcert: "/etc/ssl/ca.pem" }, tools), "invalid", /PEM text/);
  });

  it("SQL Server's contained users change their own password, without a managing user", async () => {
    const users = new Map([
      ["a", "old-a"],
      ["b", "old-b"],
    ]);
    const agent = dopplerAgent("sqlserver", keySet(), users);
    const rotator = await rotatorOf("sqlserver", agent);
    const current = { host: "db", port: 1433, dbname: "app", username: "a", password: "old-a" };
    const pending = await rotator.create(current, "single-user", tools);
    await rotator.set(versions({ current, pending }), "single-user", tools);
    await rotator.test(pending, tools);
    assert.equal(users.get("a"), pending.password);
    assert.ok(!("managingUser" in (agent.seen[0]?.body ?? {})) && !("ssl" in (agent.seen[0]?.body ?? {})));
  });

  it("a target that lets everyone in is told, and one that is away is not taken for a refusal", async () => {
    const open = { handle: async () => ({ status: "ok", body: { type: "valid" } }) };
    const { first } = await postgresUsers();
    await fails((await rotatorOf("postgres", open)).test(first, tools), "invalid", /any password/);
    const away = await rotatorOf("postgres", dopplerAgent("postgres", keySet()));
    assert.equal(await away.probe({ ...first, port: 1 }, tools), "unreachable");
  });

  it("what their errors quote goes nowhere", async () => {
    const { first } = await postgresUsers();
    const message = `boom at ${first.password} host secret.internal`;
    const broken = {
      handle: async () => ({ status: "error", metadata: { name: "Error", message, inspect: message, stack: [message] } }),
    };
    await fails(
      (await rotatorOf("postgres", broken)).test(first, tools),
      "unknown",
      /^function doppler answered an error \(Error\); its log at AWS says more\.$/,
    );
  });

  it("an integration's managing user is tried", async () => {
    const { admin } = await postgresUsers();
    const local = (await findLeaseTarget("postgres")) ?? assert.fail();
    const far = farLeaseTarget(local, sidesOf(dopplerAgent("postgres", keySet())).route(record.arn));
    const verify = (more: object = {}) => {
      const connection = local.connection.parse({ ...admin, ...more });
      return far.verify(connection, { ...tools, subject: "integration" });
    };
    assert.deepEqual(await verify(), { identity: postgres.user });
    await fails(verify({ password: "wrong" }), "refused", /is refused/);
  });

  it("other verbs and kinds are refused in words, before anything is sent", async () => {
    const agent = dopplerAgent("postgres", keySet());
    const route = sidesOf(agent).route(record.arn);
    const call = {
      kind: "redis",
      verb: "rotator.set",
      subject: "s",
      fence: 1,
      input: {},
      deadlineAt: Date.now() + 5_000,
      repeatable: true,
    };
    await fails(route.call(call), "invalid", /cannot do rotator\.set at redis/);
    await fails(route.call({ ...call, kind: "postgres", verb: "lease.create" }), "invalid", /cannot do lease\.create/);
    const { first } = await postgresUsers();
    const rotator = await rotatorOf("postgres", agent);
    assert.throws(() => rotator.create({ ...first, usernames: undefined }, "alternating-users", tools), /usernames/);
    const other = { ...first, host: "elsewhere" };
    await fails(rotator.set(versions({ current: first, pending: other }), "single-user", tools), "invalid", /must be the same/);
    assert.equal(agent.seen.length, 0);
  });

  it("messages say to whom and until when, which these agents pass over", async () => {
    const { first } = await postgresUsers();
    await (await rotatorOf("postgres", dopplerAgent("postgres", keySet()))).probe(first, tools);
    const claims = decodeJwt((JSON.parse(events.at(-1) ?? "{}") as { body: string }).body);
    assert.deepEqual(
      [claims.aud, claims.iss],
      ["arn:aws:lambda:eu-central-1:111122223333:function:Doppler_rotator", "installation"],
    );
    assert.ok(claims.jti && claims.exp);
  });

  async function postgresUsers() {
    const [a, b] = [`a_${randomUUID().slice(0, 8)}`, `b_${randomUUID().slice(0, 8)}`];
    await sql(`create role ${a} login password 'pass-word-a'`);
    await sql(`create role ${b} login password 'pass-word-b'`);
    const first: Credential = { ...place(), username: a, password: "pass-word-a", usernames: [a, b] };
    const second: Credential = { ...first, username: b, password: "pass-word-b" };
    const admin: Access<Credential>["admin"] = { ...place(), username: postgres.user, password: postgres.password };
    return { first, second, admin };
  }
});

async function mysqlUsers(server: MariaDbServer) {
  const { host, port, user, password } = server;
  const connection = await server.connect();
  await connection.query("create user 'app_a'@'%' identified by 'pass-word-a'");
  await connection.query("create user 'app_b'@'%' identified by 'pass-word-b'");
  await connection.end();
  const at = { host, port, ssl: false };
  const first: Credential = { ...at, username: "app_a", password: "pass-word-a", usernames: ["app_a", "app_b"] };
  return { first, second: { ...first, username: "app_b", password: "pass-word-b" }, admin: { ...at, username: user, password } };
}
