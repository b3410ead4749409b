// What readers of AWSCURRENT get while a single user's password is being switched at a real PostgreSQL.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { refused } from "../support/aws.ts";
import { type PostgresServer, postgresSkip, startPostgres } from "../support/postgres-server.ts";
import { type HoldingProxy, startProxy } from "../support/proxy.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";
import { type DatabaseSecret, functionArn, rotationWorld } from "../support/rotation-e2e.ts";

describe("reads during a switch", { skip: postgresSkip }, () => {
  let server: RekeyServer;
  let database: PostgresServer;
  let proxy: HoldingProxy;
  let world: ReturnType<typeof rotationWorld>;
  before(async () => {
    const env = { REKEY_SETTLE_MS: "0", REKEY_READ_BARRIER_MS: "5000" };
    [server, database] = await Promise.all([startRekey({ env }), startPostgres()]);
    proxy = await startProxy(database);
    world = rotationWorld(server, database);
  });
  after(async () => {
    await server[Symbol.asyncDispose]();
    await proxy[Symbol.asyncDispose]();
    await database[Symbol.asyncDispose]();
  });

  /** A secret whose password is changed through the proxy: its first connection sets, its second tests. */
  async function newSecret(): Promise<{ SecretId: string; VersionId: string; login: DatabaseSecret }> {
    const login = await world.newLogin({ port: proxy.port, ssl: false });
    return { ...(await world.newSecret(login)), login };
  }
  async function rotate(SecretId: string): Promise<string> {
    const token = randomUUID();
    const RotationLambdaARN = functionArn(server, "SingleUser");
    await world.root.rotateSecret({ SecretId, ClientRequestToken: token, RotationLambdaARN });
    return token;
  }
  const read = async (SecretId: string) => {
    const { VersionId, SecretString = "", VersionStages } = await world.root.getSecretValue({ SecretId });
    return { VersionId, VersionStages, credential: JSON.parse(SecretString) as DatabaseSecret };
  };
  async function readBatch(SecretId: string) {
    const { SecretValues = [] } = await world.root.batchGetSecretValue({ SecretIdList: [SecretId] });
    return SecretValues[0]?.VersionId;
  }
  /** Which of them answers first. */
  const first = (calls: Record<string, Promise<unknown>>): Promise<string> =>
    Promise.race(Object.entries(calls).map(([name, call]) => call.then(() => name)));

  it("those of AWSCURRENT wait for the end and get the new value; those that name a version or another label do not", async () => {
    const { SecretId, VersionId, login } = await newSecret();
    const other = await newSecret();
    const setting = proxy.hold(1);
    const token = await rotate(SecretId);
    const held = await setting;
    const current = read(SecretId);
    const batch = readBatch(SecretId);
    await world.root.getSecretValue({ SecretId, VersionId });
    await world.root.getSecretValue({ SecretId, VersionId, VersionStage: "AWSCURRENT" });
    await world.value(SecretId, "AWSPENDING");
    await read(other.SecretId);
    assert.equal(await first({ current, batch, others: Promise.resolve() }), "others");
    held.release();
    assert.equal((await current).VersionId, token);
    assert.equal(await batch, token);
    assert.equal(await world.logsIn((await current).credential), true);
    assert.equal(await world.logsIn(login), "28P01");
  });

  it("one that waits while the secret is deleted gets nothing", async () => {
    const { SecretId } = await newSecret();
    const setting = proxy.hold(1);
    await rotate(SecretId);
    const held = await setting;
    const waiting = refused(read(SecretId), "InvalidRequestException", /because it was marked for deletion\.$/);
    await sleep(50);
    await world.root.deleteSecret({ SecretId });
    await waiting;
    held.cut();
  });

  it("a switch that takes longer than they wait: what they get is what is in force", async () => {
    const { SecretId, VersionId } = await newSecret();
    const setting = proxy.hold(1);
    await rotate(SecretId);
    const held = await setting;
    const [one, batch] = await Promise.all([read(SecretId), readBatch(SecretId)]);
    assert.deepEqual([one.VersionId, batch], [VersionId, VersionId]);
    assert.equal(await world.logsIn(one.credential), true);
    held.release();
    assert.equal((await world.rotationOf(SecretId)).state, "succeeded");
  });

  it("once the target has taken the new password they get that, though it is not AWSCURRENT yet", async () => {
    const { SecretId, VersionId, login } = await newSecret();
    const testing = proxy.hold(2);
    const token = await rotate(SecretId);
    const held = await testing;
    const [one, batch] = await Promise.all([read(SecretId), readBatch(SecretId)]);
    assert.deepEqual([one.VersionId, one.VersionStages, batch], [token, ["AWSPENDING"], token]);
    assert.deepEqual(await world.labels(SecretId), { [VersionId]: ["AWSCURRENT"], [token]: ["AWSPENDING"] });
    assert.equal(await world.logsIn(one.credential), true);
    assert.equal(await world.logsIn(login), "28P01");
    held.release();
    assert.equal((await world.rotationOf(SecretId)).state, "succeeded");
    assert.deepEqual((await read(SecretId)).VersionStages, ["AWSCURRENT"]);
  });

  it("the same after a test that broke off, until the next try; nobody waits any more", async () => {
    const { SecretId, login } = await newSecret();
    const testing = proxy.hold(2);
    const token = await rotate(SecretId);
    const held = await testing;
    const again = proxy.hold(1); // the next try's probe
    held.cut();
    const probing = await again;
    const [{ step, outcome } = {}] = await world.rotations(SecretId);
    assert.deepEqual([step, outcome], ["testSecret", "unreachable"]);
    const one = await read(SecretId);
    assert.equal(one.VersionId, token);
    assert.equal(await world.logsIn(one.credential), true);
    assert.equal(await world.logsIn(login), "28P01");
    // Canceled at this point: labels stay, and so does what readers get, until somebody puts a value.
    await world.root.cancelRotateSecret({ SecretId });
    assert.equal((await read(SecretId)).VersionId, token);
    probing.release();
    await sleep(100);
    assert.equal((await read(SecretId)).VersionId, token);
    const put = await world.root.putSecretValue({ SecretId, SecretString: JSON.stringify(one.credential) });
    assert.equal((await read(SecretId)).VersionId, put.VersionId);
  });

  it("two users: nobody waits, since both passwords stay good", async () => {
    await using own = await startProxy(database); // a try of the canceled rotation may yet use the other one
    const master = await world.newSecret({ ...world.superuser(), port: own.port, ssl: false });
    const login = await world.newLogin({ port: own.port, ssl: false, masterarn: master.ARN });
    const { SecretId, VersionId } = await world.newSecret(login);
    const setting = own.hold(1);
    await world.root.rotateSecret({ SecretId, RotationLambdaARN: functionArn(server, "MultiUser") });
    const held = await setting;
    assert.equal((await read(SecretId)).VersionId, VersionId);
    const [{ state } = {}] = await world.rotations(SecretId);
    assert.equal(state, "running");
    held.release();
    assert.equal((await world.rotationOf(SecretId)).state, "succeeded");
  });
});

it("--extended-schedules: rate(1 second) rotates again and again, each time to a password that works", {
  skip: postgresSkip,
}, async () => {
  await using server = await startRekey({ flags: ["--extended-schedules"], env: { REKEY_SETTLE_MS: "0" } });
  await using database = await startPostgres();
  const world = rotationWorld(server, database);
  const { SecretId } = await world.newSecret(await world.newLogin());
  await world.root.rotateSecret({
    SecretId,
    RotationLambdaARN: functionArn(server, "SingleUser"),
    RotationRules: { ScheduleExpression: "rate(1 second)" },
    RotateImmediately: false,
  });
  const passwords = new Set<string>();
  while (passwords.size < 3) {
    const current = await world.value(SecretId);
    passwords.add(current.password);
    await sleep(100);
  }
  await world.root.cancelRotateSecret({ SecretId });
  const done = (await world.rotations(SecretId)).filter(({ testOnly }) => !testOnly);
  assert.ok(done.every(({ state, origin }) => origin === "schedule" && (state === "succeeded" || state === "canceled")));
  assert.equal(await world.logsIn(await world.value(SecretId)), true);
});
