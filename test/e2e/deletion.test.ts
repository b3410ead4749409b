// DeleteSecret, RestoreSecret, and what may be done with a secret that awaits deletion.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, describe, it } from "node:test";
import { SecretsManager } from "@aws-sdk/client-secrets-manager";
import { clientSettings, newName, policyOf, refused, statement } from "../support/aws.ts";
import { startRekey } from "../support/rekey-server.ts";

const server = await startRekey();
after(() => server[Symbol.asyncDispose]());
const secrets = new SecretsManager(clientSettings(server));

const dayMs = 86_400_000;
const missing = "Secrets Manager can't find the specified secret.";
const marked = "You can't perform this operation on the secret because it was marked for deletion.";

async function newSecret(): Promise<{ SecretId: string; ARN: string; VersionId: string }> {
  const Name = newName();
  const { ARN = "", VersionId = "" } = await secrets.createSecret({ Name, SecretString: "v" });
  return { SecretId: Name, ARN, VersionId };
}

function isIn(date: Date | undefined, ms: number): void {
  const distance = Math.abs((date?.getTime() ?? 0) - Date.now() - ms);
  assert.ok(distance < 60_000, `${date?.toISOString()} is not in ${ms / dayMs} days`);
}

describe("DeleteSecret", () => {
  it("gives thirty days, or what is asked for", async () => {
    const one = await newSecret();
    const deleted = await secrets.deleteSecret({ SecretId: one.SecretId });
    assert.deepEqual([deleted.ARN, deleted.Name], [one.ARN, one.SecretId]);
    isIn(deleted.DeletionDate, 30 * dayMs);
    for (const RecoveryWindowInDays of [7, 30]) {
      const { SecretId } = await newSecret();
      const { DeletionDate } = await secrets.deleteSecret({ SecretId, RecoveryWindowInDays, ForceDeleteWithoutRecovery: false });
      isIn(DeletionDate, RecoveryWindowInDays * dayMs);
    }
  });

  it("refuses other windows, and a window together with force", async () => {
    const { SecretId } = await newSecret();
    for (const RecoveryWindowInDays of [6, 31, 0, -1])
      await refused(
        secrets.deleteSecret({ SecretId, RecoveryWindowInDays }),
        "InvalidParameterException",
        "The RecoveryWindowInDays value must be between 7 and 30 days (inclusive).",
      );
    await refused(
      secrets.deleteSecret({ SecretId, RecoveryWindowInDays: 7, ForceDeleteWithoutRecovery: true }),
      "InvalidParameterException",
      "You can't use ForceDeleteWithoutRecovery in conjunction with RecoveryWindowInDays.",
    );
    assert.equal((await secrets.describeSecret({ SecretId })).DeletedDate, undefined);
  });

  it("by force removes at once; the name is free, the old ARN reaches nothing", async () => {
    const { SecretId, ARN } = await newSecret();
    isIn((await secrets.deleteSecret({ SecretId, ForceDeleteWithoutRecovery: true })).DeletionDate, 0);
    await refused(secrets.describeSecret({ SecretId }), "ResourceNotFoundException", missing);
    const again = await secrets.createSecret({ Name: SecretId, SecretString: "new" });
    assert.notEqual(again.ARN, ARN);
    await refused(secrets.getSecretValue({ SecretId: ARN }), "ResourceNotFoundException", missing);
  });

  it("by force also removes what awaits deletion, and succeeds where nothing is", async () => {
    const { SecretId } = await newSecret();
    await secrets.deleteSecret({ SecretId });
    await secrets.deleteSecret({ SecretId, ForceDeleteWithoutRecovery: true });
    await refused(secrets.restoreSecret({ SecretId }), "ResourceNotFoundException", missing);
    const nowhere = newName("nowhere");
    const gone = await secrets.deleteSecret({ SecretId: nowhere, ForceDeleteWithoutRecovery: true });
    assert.equal(gone.Name, nowhere);
    assert.match(gone.ARN ?? "", new RegExp(`:secret:${nowhere}-[A-Za-z0-9]{6}$`));
    isIn(gone.DeletionDate, 0);
    await refused(secrets.deleteSecret({ SecretId: nowhere }), "ResourceNotFoundException", missing);
  });

  it("keeps the name until then", async () => {
    const { SecretId } = await newSecret();
    await secrets.deleteSecret({ SecretId });
    await refused(
      secrets.createSecret({ Name: SecretId, SecretString: "new" }),
      "InvalidRequestException",
      "You can't create this secret because a secret with this name is already scheduled for deletion.",
    );
  });
});

describe("a secret that awaits deletion", () => {
  it("can be described and its versions listed; all else is refused", async () => {
    const { SecretId, VersionId } = await newSecret();
    await secrets.deleteSecret({ SecretId });
    const described = await secrets.describeSecret({ SecretId });
    assert.ok(described.DeletedDate instanceof Date);
    assert.deepEqual(described.VersionIdsToStages, { [VersionId]: ["AWSCURRENT"] });
    assert.equal((await secrets.listSecretVersionIds({ SecretId })).Versions?.length, 1);
    const ResourcePolicy = policyOf({ ...statement("Allow", ["secretsmanager:*"], "*"), Principal: { AWS: "*" } });
    const AddReplicaRegions = [{ Region: "eu-central-1" }];
    const RotationLambdaARN = "arn:aws:lambda:us-east-1:000000000000:function:SecretsManagerRDSPostgreSQLRotationSingleUser";
    const calls = {
      cancelRotateSecret: () => secrets.cancelRotateSecret({ SecretId }),
      deleteResourcePolicy: () => secrets.deleteResourcePolicy({ SecretId }),
      deleteSecret: () => secrets.deleteSecret({ SecretId }),
      getResourcePolicy: () => secrets.getResourcePolicy({ SecretId }),
      getSecretValue: () => secrets.getSecretValue({ SecretId }),
      getByVersion: () => secrets.getSecretValue({ SecretId, VersionId }),
      putResourcePolicy: () => secrets.putResourcePolicy({ SecretId, ResourcePolicy }),
      putSecretValue: () => secrets.putSecretValue({ SecretId, SecretString: "w" }),
      removeRegions: () => secrets.removeRegionsFromReplication({ SecretId, RemoveReplicaRegions: ["eu-central-1"] }),
      replicate: () => secrets.replicateSecretToRegions({ SecretId, AddReplicaRegions }),
      rotateSecret: () => secrets.rotateSecret({ SecretId, RotationLambdaARN }),
      stopReplication: () => secrets.stopReplicationToReplica({ SecretId }),
      tagResource: () => secrets.tagResource({ SecretId, Tags: [{ Key: "a", Value: "b" }] }),
      untagResource: () => secrets.untagResource({ SecretId, TagKeys: ["a"] }),
      updateSecret: () => secrets.updateSecret({ SecretId, Description: "d" }),
      updateStage: () => secrets.updateSecretVersionStage({ SecretId, VersionStage: "X", MoveToVersionId: VersionId }),
      validatePolicy: () => secrets.validateResourcePolicy({ SecretId, ResourcePolicy }),
    };
    for (const [name, call] of Object.entries(calls))
      await assert.doesNotReject(refused(call(), "InvalidRequestException", marked), name);
  });

  it("comes back whole", async () => {
    const { SecretId, ARN } = await newSecret();
    await secrets.tagResource({ SecretId, Tags: [{ Key: "a", Value: "b" }] });
    await secrets.deleteSecret({ SecretId });
    const restored = await secrets.restoreSecret({ SecretId });
    assert.deepEqual([restored.ARN, restored.Name], [ARN, SecretId]);
    const { DeletedDate, Tags } = await secrets.describeSecret({ SecretId });
    assert.deepEqual([DeletedDate, Tags], [undefined, [{ Key: "a", Value: "b" }]]);
    assert.equal((await secrets.getSecretValue({ SecretId })).SecretString, "v");
  });
});

describe("RestoreSecret", () => {
  it("of a secret that was not deleted changes nothing; of none is refused", async () => {
    const { SecretId, ARN } = await newSecret();
    assert.equal((await secrets.restoreSecret({ SecretId })).ARN, ARN);
    await refused(secrets.restoreSecret({ SecretId: newName("nowhere") }), "ResourceNotFoundException", missing);
    await refused(secrets.restoreSecret({ SecretId: "b lank" }), "ValidationException", /^Invalid name/);
  });
});

it("a token of the removed secret means nothing to its successor", async () => {
  const [Name, ClientRequestToken] = [newName(), randomUUID()];
  await secrets.createSecret({ Name, ClientRequestToken, SecretString: "old" });
  await secrets.deleteSecret({ SecretId: Name, ForceDeleteWithoutRecovery: true });
  await secrets.createSecret({ Name, ClientRequestToken, SecretString: "new" });
  assert.equal((await secrets.getSecretValue({ SecretId: Name })).SecretString, "new");
});
