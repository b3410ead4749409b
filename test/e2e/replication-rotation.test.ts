// Rotation belongs to a primary: its replicas follow, and begin nothing of their own, also after they were promoted.
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { newName, refused } from "../support/aws.ts";
import { type PostgresServer, postgresSkip, startPostgres } from "../support/postgres-server.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";
import { functionArn, rotationWorld } from "../support/rotation-e2e.ts";

const away = "eu-west-1";
const onReplica = "Operation not permitted on a replica secret. Call must be made in primary secret's region.";

describe("rotation of a secret with a replica", { skip: postgresSkip }, () => {
  let server: RekeyServer;
  let database: PostgresServer;
  let world: ReturnType<typeof rotationWorld>;
  before(async () => {
    [server, database] = await Promise.all([startRekey({ env: { REKEY_SETTLE_MS: "0" } }), startPostgres()]);
    world = rotationWorld(server, database);
  });
  after(async () => {
    await server[Symbol.asyncDispose]();
    await database[Symbol.asyncDispose]();
  });

  async function call(path: string, body: object, region: string) {
    const headers = { authorization: `Bearer ${server.credentials.token}`, "rekey-region": region };
    const response = await fetch(`${server.endpoint}/rekey/v1/${path}`, { method: "POST", headers, body: JSON.stringify(body) });
    // biome-ignore lint/suspicious/noExplicitAny: an answer of any shape
    return { status: response.status, body: (await response.json()) as any };
  }

  it("its replica has no heartbeat, no retirement and no rotation of its own, and follows", async () => {
    const west = world.secretsAs(undefined, away);
    const { ARN: masterarn } = await world.newSecret(world.superuser(), newName("master"));
    const { SecretId, VersionId } = await world.newSecret(await world.newLogin({ masterarn }));
    await call("rotations/put-policy", { secretId: SecretId, heartbeatSeconds: 60, retireAfterSeconds: 86_400 }, "us-east-1");
    await world.root.replicateSecretToRegions({ SecretId, AddReplicaRegions: [{ Region: away }] });
    const rotation = await world.rotated(SecretId, "MultiUser");
    assert.equal(rotation.state, "succeeded");
    const current = async () => (await west.getSecretValue({ SecretId }).catch(() => undefined))?.VersionId;
    while ((await current()) !== rotation.versionId) await sleep(20);
    while ((await call("rotations/heartbeats", { secretId: SecretId }, "us-east-1")).body.heartbeats.length === 0)
      await sleep(20);

    assert.deepEqual((await call("rotations/heartbeats", {}, away)).body.heartbeats, []);
    assert.deepEqual((await call("rotations/list", { secretId: SecretId }, away)).body.rotations, []);
    assert.deepEqual((await call("retirements/list", { secretId: SecretId }, away)).body.retirements, []);
    const own = (await call("retirements/list", { secretId: SecretId }, "us-east-1")).body.retirements;
    assert.deepEqual([own.length, own[0].versionId, own[0].state], [1, VersionId, "waiting"]);
    const { RotationEnabled, NextRotationDate } = await west.describeSecret({ SecretId });
    assert.deepEqual([RotationEnabled, NextRotationDate], [undefined, undefined]);
    for (const [path, body] of [
      ["rotations/put-policy", { heartbeatSeconds: 60 }],
      ["rotations/check", { rotationLambdaArn: functionArn(server, "MultiUser", away) }],
      ["rotations/adopt", { rotationLambdaArn: functionArn(server, "MultiUser", away) }],
      ["rotations/rollback", {}],
      ["rotations/parity", {}],
    ] as const) {
      const { status, body: answer } = await call(path, { secretId: SecretId, ...body }, away);
      assert.deepEqual([status, answer.detail], [400, onReplica], path);
    }
    await refused(
      west.rotateSecret({ SecretId, RotationLambdaARN: functionArn(server, "MultiUser", away) }),
      "InvalidParameterException",
      onReplica,
    );

    await west.stopReplicationToReplica({ SecretId });
    const promoted = await call("rotations/get-policy", { secretId: SecretId }, away);
    assert.equal(promoted.body.heartbeatSeconds, undefined);
    assert.equal((await west.describeSecret({ SecretId })).RotationEnabled, undefined);
    assert.deepEqual((await call("rotations/heartbeats", {}, away)).body.heartbeats, []);
    assert.deepEqual((await call("retirements/list", { secretId: SecretId }, away)).body.retirements, []);
    const kept = (await call("retirements/list", { secretId: SecretId }, "us-east-1")).body.retirements;
    assert.equal(kept[0].state, "waiting", "the primary's own goes on");
    assert.equal((await call("rotations/put-policy", { secretId: SecretId, heartbeatSeconds: 60 }, away)).status, 200);
  });
});
