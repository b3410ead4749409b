// Functions of ours in an AWS account: real databases rotated through them, where their keys come from, and what goes wrong.
import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { after, before, describe, it } from "node:test";
import mysql from "mysql2/promise";
import pg from "pg";
import { newPrivateJwk, publicJwk } from "../../src/crypto/message-keys.ts";
import { farLeaseTarget } from "../../src/targets/far-lease.ts";
import { farRotator } from "../../src/targets/far-rotator.ts";
import { type AnyCredential, findRotator } from "../../src/targets/index.ts";
import { findLeaseTarget } from "../../src/targets/lease-targets.ts";
import type { Strategy } from "../../src/targets/target.ts";
import { type AwsAccount, startAwsAccount } from "../support/aws-account.ts";
import { type LambdaFarSide, lambdaFarSide } from "../support/lambda-far-side.ts";
import { olderNode } from "../support/lambda-zips.ts";
import { mariadbSkip, startMariaDb } from "../support/mariadb-server.ts";
import { postgresSkip, startPostgres } from "../support/postgres-server.ts";
import { redisSkip, startRedis } from "../support/redis-server.ts";
import { tools } from "../targets/contract.ts";

const keyObject = "keys-of-rekey/rekey/jwks.json";
let aws: AwsAccount;
before(async () => {
  aws = await startAwsAccount();
});
after(() => aws[Symbol.asyncDispose]());

/** On the oldest Node.js that is here. */
const onOldest = olderNode === undefined ? {} : { node: olderNode, runtime: "nodejs20.x" };

/** Rotates once and tells how the old and the new credential log in afterwards. */
async function rotated(kind: string, far: LambdaFarSide, strategy: Strategy, current: AnyCredential, admin?: AnyCredential) {
  const local = await findRotator(kind);
  assert.ok(local);
  const rotator = farRotator(local, far);
  const pending = await rotator.create(current, strategy, tools());
  assert.notEqual(pending.password, current.password);
  await rotator.set({ current, pending, previous: undefined, admin }, strategy, tools());
  await rotator.test(pending, tools());
  const outcomes = [await rotator.probe(current, tools()), await rotator.probe(pending, tools())];
  for (const { password } of [current, pending]) assert.ok(!far.hosted.written.includes(String(password)));
  return { pending, outcomes };
}

describe("through a function of AWS Lambda", () => {
  it("a user of PostgreSQL is rotated, and another leased", { skip: postgresSkip }, async () => {
    await using server = await startPostgres();
    const far = await lambdaFarSide(aws, "postgres", onOldest);
    const { host, port, user, password } = server;
    const admin = { engine: "postgres", host, port, username: user, password };
    const client = new pg.Client(server.url);
    client.on("error", () => undefined);
    await client.connect();
    await client.query("create role app login password 'first-password'");
    const { outcomes } = await rotated(
      "postgres",
      far,
      "single-user",
      { ...admin, username: "app", password: "first-password" },
      admin,
    );
    assert.deepEqual(outcomes, ["refused", "ok"]);

    const local = await findLeaseTarget("postgres");
    assert.ok(local);
    const leases = farLeaseTarget(local, far);
    const connection = leases.connection.parse({ host, port, username: user, password, dbname: "postgres" });
    const settings = leases.settings.parse({ roles: ["pg_read_all_data"] });
    assert.match((await leases.verify(connection, tools())).identity, /postgres/);
    const mark = { installation: "abcd1234", leaseId: crypto.randomUUID(), secretName: "reader" };
    const leased = { mark, name: leases.name(settings, mark), handle: undefined, expiresAt: Date.now() + 60_000 };
    const { fields } = await leases.create(connection, settings, leased, tools());
    const reader = new pg.Client({ host, port, database: "postgres", user: fields.USERNAME, password: fields.PASSWORD });
    await reader.connect();
    await reader.end();
    await leases.revoke(connection, settings, leased, tools());
    const { rowCount } = await client.query("select from pg_roles where rolname = $1", [fields.USERNAME]);
    assert.equal(rowCount, 0);
    await client.end();
  });

  it("two users of MariaDB take turns", { skip: mariadbSkip }, async () => {
    await using server = await startMariaDb();
    const far = await lambdaFarSide(aws, "mysql", onOldest);
    const { host, port, user, password } = server;
    const root = await server.connect();
    await root.query("create user 'app'@'%' identified by 'first-password'");
    const admin = { engine: "mariadb", host, port, username: user, password };
    const current = { ...admin, username: "app", password: "first-password" };
    const { pending, outcomes } = await rotated("mysql", far, "alternating-users", current, admin);
    assert.deepEqual(outcomes, ["ok", "ok"]);
    const other = await mysql.createConnection({
      host,
      port,
      user: String(pending.username),
      password: String(pending.password),
    });
    await other.end();
    assert.notEqual(pending.username, "app");
    await root.end();
  });

  it("a user of Redis gets its second slot", { skip: redisSkip }, async () => {
    await using server = await startRedis({ password: "password-of-default" });
    const far = await lambdaFarSide(aws, "redis", onOldest);
    await server.run(
      "ACL",
      "SETUSER",
      "app",
      "on",
      ">first-password",
      "-@all",
      "+acl|setuser",
      "+acl|getuser",
      "+acl|save",
      "+ping",
    );
    const { host, port } = server;
    const admin = { engine: "redis", host, port, ssl: false, username: "default", password: "password-of-default" };
    const { outcomes } = await rotated(
      "redis",
      far,
      "dual-slot",
      { ...admin, username: "app", password: "first-password" },
      admin,
    );
    assert.deepEqual(outcomes, ["ok", "ok"]);
  });
});

describe("a function of ours gets Rekey's keys from a bucket", () => {
  const bucket = { REKEY_KEY_SET: "", REKEY_KEY_SET_S3_BUCKET: "keys-of-rekey" };
  const withBucket = async (more: Record<string, string> = {}) => {
    const far = await lambdaFarSide(aws, "postgres", onOldest);
    Object.assign(far.hosted.environment, bucket, more);
    return far;
  };

  it("with its own role, once in five minutes", async () => {
    const far = await withBucket();
    aws.objects.set(keyObject, Buffer.from(JSON.stringify({ keys: [publicJwk(far.signing)] })));
    const before = aws.calls.length;
    for (let each = 0; each < 3; each += 1) assert.ok(await far.ask());
    const asked = aws.calls.slice(before).filter(({ action }) => action === "s3:GetObject");
    assert.deepEqual(
      asked.map(({ by, status }) => [by.split("/")[1], status]),
      [["function", 200]],
    );
  });

  it("and not from anybody else's, nor when there are none", async () => {
    const far = await withBucket({ REKEY_KEY_SET_S3_OWNER: "444455556666" });
    aws.objects.set(keyObject, Buffer.from(JSON.stringify({ keys: [publicJwk(far.signing)] })));
    await assert.rejects(far.ask(), /UnreadableKeySet: .*AccessDenied.*s3:GetObject.*REKEY_KEY_SET_S3_OWNER/);
    const other = await withBucket();
    aws.objects.set(keyObject, Buffer.from("x".repeat(70_000)));
    await assert.rejects(other.ask(), /UnreadableKeySet: .*64 KiB/);
    aws.objects.set(keyObject, Buffer.from("no json"));
    await assert.rejects(other.ask(), /UnreadableKeySet: .*key set/);
    aws.objects.set(keyObject, Buffer.from(JSON.stringify({ keys: [publicJwk(await newPrivateJwk("sig"))] })));
    await assert.rejects(other.ask(), /MessageRefused: .*key set/);
    other.hosted.renew();
    aws.objects.delete(keyObject);
    await assert.rejects(other.ask(), /UnreadableKeySet: .*NoSuchKey.*signing-key export/);
  });

  it("and says what a network without a way out needs", async () => {
    const far = await withBucket({ AWS_ENDPOINT_URL_S3: "http://127.0.0.1:1" });
    await assert.rejects(far.ask(), /UnreadableKeySet: .*gateway endpoint/);
  });
});

describe("in an AWS account", () => {
  const silent = createServer((socket) => socket.resume());
  before(async () => {
    silent.listen(0, "127.0.0.1");
    await once(silent, "listening");
  });
  after(() => silent.close());
  const probe = (far: LambdaFarSide, deadlineAt = Date.now() + 20_000) => {
    const { port } = silent.address() as AddressInfo;
    const credential = { engine: "postgres", host: "127.0.0.1", port, username: "app", password: "p" };
    const call = { kind: "postgres", subject: "rotation-1", fence: 1, deadlineAt, repeatable: true };
    return far.call({ ...call, verb: "rotator.test", input: { credential } });
  };

  it("a function answers before its timeout ends it, and goes on to the next call", async () => {
    const far = await lambdaFarSide(aws, "postgres", { timeoutSeconds: 5 });
    await assert.rejects(probe(far), { outcome: "timeout", message: /longer timeout at AWS/ });
    assert.ok(await far.ask());
    await assert.rejects(probe(far, Date.now() + 600), { outcome: "timeout" });
  });

  it("what one execution environment has seen, it does not act on again; each starts with nothing seen", async () => {
    const far = await lambdaFarSide(aws, "postgres");
    const { text } = await far.sealed(far.request());
    assert.ok((await far.invoke(text)).body);
    assert.equal((await far.invoke(text)).metadata?.reason, "replayed");
    far.hosted.renew();
    assert.ok((await far.invoke(text)).body, "within 30 seconds, another environment cannot know: see docs/lambda.md");
  });

  it("a message to one function is of no use at another, even with the same keys", async () => {
    const [first, second] = [await lambdaFarSide(aws, "postgres"), await lambdaFarSide(aws, "postgres", { name: "rekey-other" })];
    Object.assign(second.hosted.environment, first.hosted.environment);
    const { text } = await first.sealed(first.request());
    assert.equal((await second.invoke(text)).metadata?.reason, "audience");
    assert.ok((await first.invoke(text)).body);
  });
});
