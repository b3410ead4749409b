// Replication between regions as the AWS SDK sees it: shapes, what travels, what is refused.
import assert from "node:assert/strict";
import { after, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { SecretsManager } from "@aws-sdk/client-secrets-manager";
import { clientSettings, newName, newUser, policyOf, rawCall, refused, statement } from "../support/aws.ts";
import { startRekey } from "../support/rekey-server.ts";

const server = await startRekey();
after(() => server[Symbol.asyncDispose]());
const inRegion = (region: string) => new SecretsManager(clientSettings(server, undefined, region));
const [home, west, north] = [inRegion("us-east-1"), inRegion("eu-west-1"), inRegion("eu-north-1")];

const missing = "Secrets Manager can't find the specified secret.";
const onReplica = "Operation not permitted on a replica secret. Call must be made in primary secret's region.";
const to = (...regions: string[]) => regions.map((Region) => ({ Region }));

async function newSecret(): Promise<{ SecretId: string; ARN: string; VersionId: string }> {
  const SecretId = newName();
  const { ARN = "", VersionId = "" } = await home.createSecret({ Name: SecretId, SecretString: "v" });
  return { SecretId, ARN, VersionId };
}

/** The primary's statuses, once none is in progress any more. */
async function settled(SecretId: string): Promise<Record<string, string | undefined>> {
  for (;;) {
    const { ReplicationStatus = [] } = await home.describeSecret({ SecretId });
    if (ReplicationStatus.every(({ Status }) => Status !== "InProgress"))
      return Object.fromEntries(ReplicationStatus.map(({ Region, Status }) => [Region, Status]));
    await sleep(20);
  }
}

/** Asks until it holds: a change travels to the replicas by itself, soon. */
async function soon<T>(ask: () => Promise<T>, holds: (answer: T) => boolean): Promise<T> {
  for (;;) {
    const answer = await ask();
    if (holds(answer)) return answer;
    await sleep(20);
  }
}

async function replicated(...regions: string[]) {
  const secret = await newSecret();
  await home.replicateSecretToRegions({ SecretId: secret.SecretId, AddReplicaRegions: to(...regions) });
  await settled(secret.SecretId);
  return secret;
}

describe("ReplicateSecretToRegions", () => {
  it("starts in progress, ends in sync; the ARN differs in its region alone", async () => {
    const { SecretId, ARN, VersionId } = await newSecret();
    const asked = await home.replicateSecretToRegions({ SecretId, AddReplicaRegions: to("eu-west-1", "eu-north-1") });
    assert.equal(asked.ARN, ARN);
    const started = (Region: string) => ({ Region, KmsKeyId: "alias/aws/secretsmanager", Status: "InProgress" });
    assert.deepEqual(asked.ReplicationStatus, [started("eu-north-1"), started("eu-west-1")]);
    assert.deepEqual(await settled(SecretId), { "eu-north-1": "InSync", "eu-west-1": "InSync" });
    const copy = await west.describeSecret({ SecretId });
    const copyArn = ARN.replace("us-east-1", "eu-west-1");
    assert.deepEqual([copy.ARN, copy.Name, copy.PrimaryRegion], [copyArn, SecretId, "us-east-1"]);
    assert.deepEqual(copy.VersionIdsToStages, { [VersionId]: ["AWSCURRENT"] });
    assert.equal(copy.ReplicationStatus, undefined);
    assert.equal((await home.describeSecret({ SecretId })).PrimaryRegion, "us-east-1");
    const got = await west.getSecretValue({ SecretId: copyArn });
    assert.deepEqual([got.SecretString, got.VersionId], ["v", VersionId]);
    await refused(west.getSecretValue({ SecretId: ARN }), "ResourceNotFoundException", missing);
  });

  it("values, labels, tags, policy and description travel", async () => {
    const { SecretId } = await replicated("eu-west-1");
    const ResourcePolicy = policyOf({ ...statement("Allow", ["secretsmanager:GetSecretValue"], "*"), Principal: "*" });
    const { VersionId: v2 = "" } = await home.putSecretValue({
      SecretId,
      SecretString: "w",
      VersionStages: ["BLUE", "AWSCURRENT"],
    });
    await home.tagResource({ SecretId, Tags: [{ Key: "team", Value: "red" }] });
    await home.putResourcePolicy({ SecretId, ResourcePolicy });
    await home.updateSecret({ SecretId, Description: "d" });
    const primary = await home.describeSecret({ SecretId });
    const copy = await soon(
      () => west.describeSecret({ SecretId }),
      ({ Description }) => Description === "d",
    );
    assert.deepEqual([copy.VersionIdsToStages, copy.Tags], [primary.VersionIdsToStages, primary.Tags]);
    assert.deepEqual(copy.VersionIdsToStages?.[v2], ["AWSCURRENT", "BLUE"]);
    assert.equal((await west.getResourcePolicy({ SecretId })).ResourcePolicy, ResourcePolicy);
    assert.equal((await west.getSecretValue({ SecretId })).SecretString, "w");
    assert.equal((await west.getSecretValue({ SecretId, VersionStage: "AWSPREVIOUS" })).SecretString, "v");
  });

  it("with CreateSecret at once", async () => {
    const Name = newName();
    const made = await home.createSecret({ Name, SecretString: "v", AddReplicaRegions: to("eu-west-1") });
    assert.deepEqual(
      made.ReplicationStatus?.map(({ Region, Status }) => [Region, Status]),
      [["eu-west-1", "InProgress"]],
    );
    await settled(Name);
    assert.equal((await west.getSecretValue({ SecretId: Name })).SecretString, "v");
  });

  it("a read in a region is dated there", async () => {
    const { SecretId } = await replicated("eu-west-1");
    assert.equal((await home.describeSecret({ SecretId })).ReplicationStatus?.[0]?.LastAccessedDate, undefined);
    await west.getSecretValue({ SecretId });
    const { ReplicationStatus } = await soon(
      () => home.describeSecret({ SecretId }),
      (shown) => shown.ReplicationStatus?.[0]?.LastAccessedDate !== undefined,
    );
    assert.equal((ReplicationStatus?.[0]?.LastAccessedDate?.getTime() ?? 1) % 86_400_000, 0, "midnight UTC");
  });

  it("a name that is taken there fails, unless it may be overwritten", async () => {
    const { SecretId } = await newSecret();
    await west.createSecret({ Name: SecretId, SecretString: "of somebody else" });
    const AddReplicaRegions = to("eu-west-1");
    await home.replicateSecretToRegions({ SecretId, AddReplicaRegions });
    assert.deepEqual(await settled(SecretId), { "eu-west-1": "Failed" });
    const [status] = (await home.describeSecret({ SecretId })).ReplicationStatus ?? [];
    assert.equal(status?.StatusMessage, "Secret with this name already exists in this region");
    assert.equal((await west.getSecretValue({ SecretId })).SecretString, "of somebody else");
    await home.replicateSecretToRegions({ SecretId, AddReplicaRegions, ForceOverwriteReplicaSecret: true });
    assert.deepEqual(await settled(SecretId), { "eu-west-1": "InSync" });
    assert.equal((await west.getSecretValue({ SecretId })).SecretString, "v");
  });

  it("refuses the own region, unknown ones, one named twice, and none", async () => {
    const { SecretId } = await newSecret();
    for (const regions of [["us-east-1"], ["mars-north-1"], ["eu-west-1", "eu-west-1"]]) {
      const asked = home.replicateSecretToRegions({ SecretId, AddReplicaRegions: to(...regions) });
      await refused(asked, "InvalidParameterException", "Invalid replica region.");
      const made = home.createSecret({ Name: newName(), AddReplicaRegions: to(...regions) });
      await refused(made, "InvalidParameterException", "Invalid replica region.");
    }
    const bad = (AddReplicaRegions: object[]) => rawCall(server, "ReplicateSecretToRegions", { SecretId, AddReplicaRegions });
    for (const regions of [[], [{ Region: "nowhere" }], [{}]])
      assert.equal((await bad(regions)).json?.__type, "ValidationException");
    assert.equal((await home.describeSecret({ SecretId })).PrimaryRegion, undefined);
  });
});

describe("keys of replicas", () => {
  it("are those of their region, by name", async () => {
    await inKeyRegion("eu-west-1", "alias/west");
    const { SecretId } = await newSecret();
    await home.replicateSecretToRegions({ SecretId, AddReplicaRegions: [{ Region: "eu-west-1", KmsKeyId: "alias/west" }] });
    assert.deepEqual(await settled(SecretId), { "eu-west-1": "InSync" });
    assert.equal((await west.describeSecret({ SecretId })).KmsKeyId, "alias/west");
    const unknown = [{ Region: "eu-west-1", KmsKeyId: "alias/unknown" }];
    await refused(
      home.replicateSecretToRegions({ SecretId, AddReplicaRegions: unknown }),
      "InvalidParameterException",
      "The operation failed because of an invalid KMS key: Invalid keyId",
    );
  });

  it("and of the primary: a copy under the default key is no way around kms:Decrypt", async () => {
    await inKeyRegion("us-east-1", "alias/guarded");
    const Name = newName();
    await home.createSecret({ Name, SecretString: "guarded", KmsKeyId: "alias/guarded" });
    const credentials = await newUser(server, newName("user"), statement("Allow", ["secretsmanager:*"], "*"));
    const user = new SecretsManager(clientSettings(server, credentials));
    const kms = "Access to KMS is not allowed";
    await refused(user.getSecretValue({ SecretId: Name }), "AccessDeniedException", kms);
    const copied = user.replicateSecretToRegions({ SecretId: Name, AddReplicaRegions: to("eu-west-1") });
    await refused(copied, "AccessDeniedException", kms);
    const { SecretId } = await newSecret();
    const under = [{ Region: "eu-west-1", KmsKeyId: "alias/west" }];
    await refused(user.replicateSecretToRegions({ SecretId, AddReplicaRegions: under }), "AccessDeniedException", kms);
  });

  async function inKeyRegion(region: string, alias: string): Promise<void> {
    const headers = { authorization: `Bearer ${server.credentials.token}`, "rekey-region": region };
    const made = await fetch(`${server.endpoint}/rekey/v1/keys/create`, {
      method: "POST",
      headers,
      body: JSON.stringify({ alias }),
    });
    assert.equal(made.status, 200, await made.text());
  }
});

describe("a replica", () => {
  it("is read, described and listed, and refuses every change", async () => {
    const { SecretId, VersionId } = await replicated("eu-west-1");
    assert.deepEqual(
      (await west.listSecrets({ Filters: [{ Key: "primary-region", Values: ["us-east-1"] }] })).SecretList?.some(
        ({ Name }) => Name === SecretId,
      ),
      true,
    );
    assert.equal((await west.listSecretVersionIds({ SecretId })).Versions?.length, 1);
    const ResourcePolicy = policyOf({ ...statement("Allow", ["secretsmanager:*"], "*"), Principal: { AWS: "000000000000" } });
    const RotationLambdaARN = "arn:aws:lambda:eu-west-1:000000000000:function:SecretsManagerRDSPostgreSQLRotationSingleUser";
    const changes = {
      deleteResourcePolicy: () => west.deleteResourcePolicy({ SecretId }),
      putResourcePolicy: () => west.putResourcePolicy({ SecretId, ResourcePolicy }),
      putSecretValue: () => west.putSecretValue({ SecretId, SecretString: "w" }),
      removeRegions: () => west.removeRegionsFromReplication({ SecretId, RemoveReplicaRegions: ["eu-west-1"] }),
      replicate: () => west.replicateSecretToRegions({ SecretId, AddReplicaRegions: to("eu-north-1") }),
      rotateSecret: () => west.rotateSecret({ SecretId, RotationLambdaARN }),
      tagResource: () => west.tagResource({ SecretId, Tags: [{ Key: "a", Value: "b" }] }),
      untagResource: () => west.untagResource({ SecretId, TagKeys: ["a"] }),
      updateSecret: () => west.updateSecret({ SecretId, Description: "d" }),
      updateStage: () => west.updateSecretVersionStage({ SecretId, VersionStage: "X", MoveToVersionId: VersionId }),
    };
    for (const [name, change] of Object.entries(changes))
      await assert.doesNotReject(refused(change(), "InvalidParameterException", onReplica), name);
  });

  it("goes with RemoveRegionsFromReplication, which answers what is left", async () => {
    const { SecretId, ARN } = await replicated("eu-west-1", "eu-north-1");
    const removed = await home.removeRegionsFromReplication({ SecretId, RemoveReplicaRegions: ["eu-west-1"] });
    assert.equal(removed.ARN, ARN);
    assert.deepEqual(
      removed.ReplicationStatus?.map(({ Region }) => Region),
      ["eu-north-1"],
    );
    await refused(west.describeSecret({ SecretId }), "ResourceNotFoundException", missing);
    assert.equal((await north.getSecretValue({ SecretId })).SecretString, "v");
    const again = home.removeRegionsFromReplication({ SecretId, RemoveReplicaRegions: ["eu-west-1"] });
    await refused(again, "InvalidParameterException", "The secret has no replica in region eu-west-1.");
    await home.removeRegionsFromReplication({ SecretId, RemoveReplicaRegions: ["eu-north-1"] });
    const { PrimaryRegion, ReplicationStatus } = await home.describeSecret({ SecretId });
    assert.deepEqual([PrimaryRegion, ReplicationStatus], [undefined, undefined]);
  });

  it("becomes a secret of its own with StopReplicationToReplica, in its region only", async () => {
    const { SecretId, ARN } = await replicated("eu-west-1");
    await refused(home.stopReplicationToReplica({ SecretId }), "InvalidParameterException", /not a replica/);
    const stopped = await west.stopReplicationToReplica({ SecretId });
    assert.equal(stopped.ARN, ARN.replace("us-east-1", "eu-west-1"));
    const { PrimaryRegion } = await west.describeSecret({ SecretId });
    assert.equal(PrimaryRegion, undefined);
    await home.putSecretValue({ SecretId, SecretString: "home" });
    await west.putSecretValue({ SecretId, SecretString: "west" });
    assert.equal((await home.getSecretValue({ SecretId })).SecretString, "home");
    assert.equal((await west.getSecretValue({ SecretId })).SecretString, "west");
    assert.equal((await home.describeSecret({ SecretId })).ReplicationStatus, undefined);
  });

  it("keeps its primary from deletion; deleted itself, it goes at once and stays away", async () => {
    const { SecretId } = await replicated("eu-west-1");
    const text = `You can't delete secret ${SecretId} that still has replica regions [eu-west-1]`;
    await refused(home.deleteSecret({ SecretId }), "InvalidParameterException", text);
    await refused(home.deleteSecret({ SecretId, ForceDeleteWithoutRecovery: true }), "InvalidParameterException", text);
    const { DeletionDate } = await west.deleteSecret({ SecretId });
    assert.ok(Math.abs((DeletionDate?.getTime() ?? 0) - Date.now()) < 60_000);
    await refused(west.describeSecret({ SecretId }), "ResourceNotFoundException", missing);
    await home.putSecretValue({ SecretId, SecretString: "w" });
    assert.equal((await home.describeSecret({ SecretId })).ReplicationStatus, undefined);
    await home.deleteSecret({ SecretId, ForceDeleteWithoutRecovery: true });
  });
});

it("all three operations need rights of their own", async () => {
  const { SecretId } = await replicated("eu-west-1");
  const user = new SecretsManager(clientSettings(server, await newUser(server, newName("user"))));
  const denied = {
    name: "AccessDeniedException",
    message: /because no identity-based policy allows the secretsmanager:\w+ action$/,
  };
  await assert.rejects(user.replicateSecretToRegions({ SecretId, AddReplicaRegions: to("eu-north-1") }), denied);
  await assert.rejects(user.removeRegionsFromReplication({ SecretId, RemoveReplicaRegions: ["eu-west-1"] }), denied);
  await assert.rejects(user.stopReplicationToReplica({ SecretId }), denied);
});
