// CreateSecret, PutSecretValue, UpdateSecret and GetSecretValue, as the AWS SDK sees them.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { SecretsManager } from "@aws-sdk/client-secrets-manager";
import { clientSettings, newName, rawCall, refused } from "../support/aws.ts";
import { startRekey } from "../support/rekey-server.ts";

const server = await startRekey();
after(() => server[Symbol.asyncDispose]());
const secrets = new SecretsManager(clientSettings(server));

const missing = "Secrets Manager can't find the specified secret.";
const invalidName = "Invalid name. Must be a valid name containing alphanumeric characters, or any of the following: -/_+=.@!";
const noToken = "You must provide a ClientRequestToken value. We recommend a UUID-type value.";
const noValue = "You must provide either SecretString or SecretBinary.";
const twoValues = "You can't specify both a binary secret value and a string secret value in the same secret.";
const tokenTaken = (token: string, arn: string | undefined) =>
  `You can't use ClientRequestToken ${token} because that value is already in use for a version of secret ${arn}.`;

async function stagesOf(name: string): Promise<Record<string, string[]>> {
  return (await secrets.describeSecret({ SecretId: name })).VersionIdsToStages ?? {};
}

describe("CreateSecret", () => {
  it("with a value answers ARN, name and the version named by the token", async () => {
    const [name, token] = [newName("app/db"), randomUUID()];
    const made = await secrets.createSecret({ Name: name, SecretString: "first", ClientRequestToken: token });
    assert.match(made.ARN ?? "", new RegExp(`^arn:aws:secretsmanager:us-east-1:000000000000:secret:${name}-[A-Za-z0-9]{6}$`));
    assert.deepEqual([made.Name, made.VersionId, made.ReplicationStatus], [name, token, undefined]);
    assert.deepEqual(await stagesOf(name), { [token]: ["AWSCURRENT"] });
  });

  it("without a value makes no version", async () => {
    const Name = newName();
    const made = await secrets.createSecret({ Name });
    assert.equal(made.VersionId, undefined);
    assert.equal((await secrets.describeSecret({ SecretId: Name })).VersionIdsToStages, undefined);
    await refused(
      secrets.getSecretValue({ SecretId: Name }),
      "ResourceNotFoundException",
      "Secrets Manager can't find the specified secret value for staging label: AWSCURRENT",
    );
  });

  it("answers a repeated request as the first time and refuses any other use of the name", async () => {
    const [Name, ClientRequestToken] = [newName(), randomUUID()];
    const first = await secrets.createSecret({ Name, ClientRequestToken, SecretString: "same" });
    const again = await secrets.createSecret({ Name, ClientRequestToken, SecretString: "same" });
    assert.deepEqual([again.ARN, again.Name, again.VersionId], [first.ARN, first.Name, first.VersionId]);
    const other = secrets.createSecret({ Name, ClientRequestToken, SecretString: "other" });
    await refused(other, "ResourceExistsException", tokenTaken(ClientRequestToken, first.ARN));
    const taken = `The operation failed because the secret ${Name} already exists.`;
    await refused(secrets.createSecret({ Name, SecretString: "same" }), "ResourceExistsException", taken);
    await refused(secrets.createSecret({ Name }), "ResourceExistsException", taken);
  });

  it("refuses two values, bad names and a missing token", async () => {
    const both = { Name: newName(), SecretString: "a", SecretBinary: Buffer.from("b") };
    await refused(secrets.createSecret(both), "InvalidParameterException", twoValues);
    for (const Name of ["with blank", "ümlaut", "co:lon", "semi;colon", "per%cent"])
      await refused(secrets.createSecret({ Name }), "ValidationException", invalidName);
    const { status, json } = await rawCall(server, "CreateSecret", { Name: newName(), SecretString: "x" });
    assert.deepEqual([status, json], [400, { __type: "InvalidRequestException", Message: noToken }]);
  });

  it("takes the whole alphabet of names and tokens that are no UUID", async () => {
    const Name = `${newName("Az09/_+=.@-")}`;
    const token = "not-a-uuid-but-thirty-two-characters-long";
    await secrets.createSecret({ Name, SecretString: "v", ClientRequestToken: token });
    assert.equal((await secrets.getSecretValue({ SecretId: Name })).VersionId, token);
  });

  it("is found by name, by full ARN and by the ARN without its suffix", async () => {
    const Name = newName();
    const { ARN = "" } = await secrets.createSecret({ Name, SecretString: "found" });
    for (const SecretId of [Name, ARN, ARN.slice(0, -7)])
      assert.equal((await secrets.getSecretValue({ SecretId })).SecretString, "found", SecretId);
    const wrongSuffix = `${ARN.slice(0, -6)}AAAAAA`;
    await refused(secrets.getSecretValue({ SecretId: wrongSuffix }), "ResourceNotFoundException", missing);
  });

  it("a partial ARN that looks like a full one finds nothing; name and full ARN do", async () => {
    const Name = `${newName()}-a1b2c3`;
    const { ARN = "" } = await secrets.createSecret({ Name, SecretString: "v" });
    await refused(secrets.describeSecret({ SecretId: ARN.slice(0, -7) }), "ResourceNotFoundException", missing);
    assert.equal((await secrets.describeSecret({ SecretId: Name })).ARN, ARN);
    assert.equal((await secrets.describeSecret({ SecretId: ARN })).Name, Name);
  });

  it("regions are worlds of their own", async () => {
    const Name = newName();
    const { ARN = "" } = await secrets.createSecret({ Name, SecretString: "here" });
    const elsewhere = new SecretsManager(clientSettings(server, undefined, "eu-central-1"));
    await refused(elsewhere.getSecretValue({ SecretId: Name }), "ResourceNotFoundException", missing);
    await refused(elsewhere.getSecretValue({ SecretId: ARN }), "ResourceNotFoundException", missing);
    const made = await elsewhere.createSecret({ Name, SecretString: "there" });
    assert.match(made.ARN ?? "", /^arn:aws:secretsmanager:eu-central-1:/);
    assert.equal((await secrets.getSecretValue({ SecretId: Name })).SecretString, "here");
  });
});

describe("GetSecretValue", () => {
  it("answers strings, bytes, labels and the version's date", async () => {
    const Name = newName();
    const before = Date.now();
    const made = await secrets.createSecret({ Name, SecretBinary: Buffer.from([0, 255, 128, 10]) });
    const got = await secrets.getSecretValue({ SecretId: Name });
    assert.deepEqual(Buffer.from(got.SecretBinary ?? []), Buffer.from([0, 255, 128, 10]));
    assert.deepEqual([got.SecretString, got.ARN, got.Name, got.VersionId], [undefined, made.ARN, Name, made.VersionId]);
    assert.deepEqual(got.VersionStages, ["AWSCURRENT"]);
    const created = got.CreatedDate?.getTime() ?? 0;
    assert.ok(created >= before - 1 && created <= Date.now());
    await secrets.putSecretValue({ SecretId: Name, SecretString: "text now – ü 🔑" });
    assert.equal((await secrets.getSecretValue({ SecretId: Name })).SecretString, "text now – ü 🔑");
  });

  it("refuses unknown labels, unknown ids, and pairs that disagree", async () => {
    const [Name, id] = [newName(), randomUUID()];
    await secrets.createSecret({ Name, SecretString: "v", ClientRequestToken: id });
    const find = "Secrets Manager can't find the specified secret value for";
    const get = (more: object) => secrets.getSecretValue({ SecretId: Name, ...more });
    await refused(get({ VersionStage: "AWSPENDING" }), "ResourceNotFoundException", `${find} staging label: AWSPENDING`);
    const unknown = randomUUID();
    await refused(get({ VersionId: unknown }), "ResourceNotFoundException", `${find} VersionId: ${unknown}`);
    await refused(
      get({ VersionId: id, VersionStage: "AWSPENDING" }),
      "InvalidRequestException",
      "You provided a VersionStage that is not associated to the provided VersionId.",
    );
    assert.equal((await get({ VersionId: id, VersionStage: "AWSCURRENT" })).SecretString, "v");
  });

  it("finds no secret of an unknown name and refuses names that cannot be", async () => {
    await refused(secrets.getSecretValue({ SecretId: newName("nowhere") }), "ResourceNotFoundException", missing);
    await refused(secrets.getSecretValue({ SecretId: "no such" }), "ValidationException", invalidName);
    await refused(secrets.getSecretValue({ SecretId: "rds!cluster-1" }), "ResourceNotFoundException", missing);
  });
});

describe("PutSecretValue", () => {
  it("makes the new version current and the old one previous", async () => {
    const [Name, v1, v2, v3] = [newName(), randomUUID(), randomUUID(), randomUUID()];
    await secrets.createSecret({ Name, SecretString: "1", ClientRequestToken: v1 });
    const put = await secrets.putSecretValue({ SecretId: Name, SecretString: "2", ClientRequestToken: v2 });
    assert.deepEqual([put.Name, put.VersionId, put.VersionStages], [Name, v2, ["AWSCURRENT"]]);
    await secrets.putSecretValue({ SecretId: Name, SecretString: "3", ClientRequestToken: v3 });
    assert.deepEqual(await stagesOf(Name), { [v2]: ["AWSPREVIOUS"], [v3]: ["AWSCURRENT"] });
    assert.equal((await secrets.getSecretValue({ SecretId: Name, VersionStage: "AWSPREVIOUS" })).SecretString, "2");
    assert.equal((await secrets.getSecretValue({ SecretId: Name, VersionId: v1 })).SecretString, "1");
  });

  it("the first value of a secret is current, whatever labels were asked for", async () => {
    const Name = newName();
    await secrets.createSecret({ Name });
    const put = await secrets.putSecretValue({ SecretId: Name, SecretString: "v", VersionStages: ["MINE"] });
    assert.deepEqual([...(put.VersionStages ?? [])].sort(), ["AWSCURRENT", "MINE"]);
  });

  it("the same token and value again moves nothing; another value is refused", async () => {
    const [SecretId, v1, v2] = [newName(), randomUUID(), randomUUID()];
    const { ARN } = await secrets.createSecret({ Name: SecretId, SecretString: "1", ClientRequestToken: v1 });
    await secrets.putSecretValue({ SecretId, SecretString: "2", ClientRequestToken: v2 });
    const again = await secrets.putSecretValue({ SecretId, SecretString: "1", ClientRequestToken: v1 });
    assert.deepEqual(again.VersionStages, ["AWSPREVIOUS"]);
    assert.deepEqual(await stagesOf(SecretId), { [v1]: ["AWSPREVIOUS"], [v2]: ["AWSCURRENT"] });
    const other = secrets.putSecretValue({ SecretId, SecretString: "3", ClientRequestToken: v1 });
    await refused(other, "ResourceExistsException", tokenTaken(v1, ARN));
    const otherKind = secrets.putSecretValue({ SecretId, SecretBinary: Buffer.from("1"), ClientRequestToken: v1 });
    await refused(otherKind, "ResourceExistsException", tokenTaken(v1, ARN));
  });

  it("needs a value and a token, and the token is missed before the secret is", async () => {
    const SecretId = newName();
    await secrets.createSecret({ Name: SecretId, SecretString: "v" });
    await refused(secrets.putSecretValue({ SecretId }), "InvalidRequestException", noValue);
    await refused(secrets.putSecretValue({ SecretId, SecretString: "" }), "InvalidRequestException", noValue);
    const both = { SecretId, SecretString: "a", SecretBinary: Buffer.from("b") };
    await refused(secrets.putSecretValue(both), "InvalidParameterException", twoValues);
    const { json } = await rawCall(server, "PutSecretValue", { SecretId: newName("nowhere"), SecretString: "v" });
    assert.deepEqual(json, { __type: "InvalidRequestException", Message: noToken });
    await refused(
      secrets.putSecretValue({ SecretId: newName("nowhere"), SecretString: "v" }),
      "ResourceNotFoundException",
      missing,
    );
  });
});

describe("UpdateSecret", () => {
  it("of details alone answers no version; empty texts clear", async () => {
    const SecretId = newName();
    await secrets.createSecret({ Name: SecretId, SecretString: "v", Description: "old" });
    const updated = await secrets.updateSecret({ SecretId, Description: "new" });
    assert.deepEqual([updated.Name, updated.VersionId], [SecretId, undefined]);
    assert.equal((await secrets.describeSecret({ SecretId })).Description, "new");
    await secrets.updateSecret({ SecretId, Description: "" });
    assert.equal((await secrets.describeSecret({ SecretId })).Description, undefined);
    assert.equal((await secrets.getSecretValue({ SecretId })).SecretString, "v");
  });

  it("with a value makes it current; the same value again too", async () => {
    const [SecretId, v1] = [newName(), randomUUID()];
    await secrets.createSecret({ Name: SecretId, SecretString: "1", ClientRequestToken: v1 });
    const first = await secrets.describeSecret({ SecretId });
    const { VersionId: v2 = "" } = await secrets.updateSecret({ SecretId, SecretString: "1" });
    assert.deepEqual(await stagesOf(SecretId), { [v1]: ["AWSPREVIOUS"], [v2]: ["AWSCURRENT"] });
    const second = await secrets.describeSecret({ SecretId });
    assert.ok((second.LastChangedDate ?? 0) > (first.LastChangedDate ?? 0));
    assert.deepEqual(second.CreatedDate, first.CreatedDate);
  });

  it("a token again: same value succeeds, another is refused", async () => {
    const [SecretId, ClientRequestToken] = [newName(), randomUUID()];
    const { ARN } = await secrets.createSecret({ Name: SecretId, SecretString: "1" });
    for (const _ of [1, 2])
      assert.equal(
        (await secrets.updateSecret({ SecretId, SecretString: "2", ClientRequestToken })).VersionId,
        ClientRequestToken,
      );
    const other = secrets.updateSecret({ SecretId, SecretString: "3", ClientRequestToken });
    await refused(other, "ResourceExistsException", tokenTaken(ClientRequestToken, ARN));
  });

  it("refuses as the other writing operations do", async () => {
    await refused(secrets.updateSecret({ SecretId: newName("nowhere") }), "ResourceNotFoundException", missing);
    await refused(secrets.updateSecret({ SecretId: "a b" }), "ValidationException", invalidName);
    const both = { SecretId: newName(), SecretString: "a", SecretBinary: Buffer.from("b") };
    await refused(secrets.updateSecret(both), "InvalidParameterException", twoValues);
    const { json } = await rawCall(server, "UpdateSecret", { SecretId: newName("nowhere"), SecretString: "v" });
    assert.deepEqual(json, { __type: "InvalidRequestException", Message: noToken });
  });
});

describe("DescribeSecret", () => {
  it("of a new secret shows exactly five members, and the date of the first read later", async () => {
    const SecretId = newName();
    await secrets.createSecret({ Name: SecretId, SecretString: "v" });
    const { json = {} } = await rawCall(server, "DescribeSecret", { SecretId });
    const members = ["ARN", "CreatedDate", "LastChangedDate", "Name", "VersionIdsToStages"];
    assert.deepEqual(Object.keys(json).sort(), members);
    assert.match(JSON.stringify(json.CreatedDate), /^\d{10}(\.\d{1,3})?$/);
    await secrets.getSecretValue({ SecretId });
    const read = async () => (await secrets.describeSecret({ SecretId })).LastAccessedDate;
    while ((await read()) === undefined) await sleep(50);
    assert.equal((await read())?.toISOString(), `${new Date().toISOString().slice(0, 10)}T00:00:00.000Z`);
    const { Versions } = await secrets.listSecretVersionIds({ SecretId });
    assert.deepEqual(Versions?.[0]?.LastAccessedDate, await read());
    await refused(secrets.describeSecret({ SecretId: newName("nowhere") }), "ResourceNotFoundException", missing);
    await refused(secrets.describeSecret({ SecretId: "?" }), "ValidationException", invalidName);
  });

  it("shows all that was set; ListSecrets the same, but that it calls the versions otherwise", async () => {
    const Name = newName("full");
    const set = { Description: "d", KmsKeyId: "alias/aws/secretsmanager", Type: "partner", Tags: [{ Key: "a", Value: "b" }] };
    await secrets.createSecret({ Name, SecretString: "v", ...set });
    const RotationLambdaARN = "arn:aws:lambda:us-east-1:000000000000:function:SecretsManagerRDSPostgreSQLRotationSingleUser";
    const RotationRules = { ScheduleExpression: "cron(0 8 1 * ? *)", Duration: "2h" };
    await secrets.rotateSecret({ SecretId: Name, RotationLambdaARN, RotationRules, RotateImmediately: false });
    await secrets.cancelRotateSecret({ SecretId: Name });
    const { $metadata: _, VersionIdsToStages, ...shown } = await secrets.describeSecret({ SecretId: Name });
    const { Description, KmsKeyId, Type, Tags } = shown;
    assert.deepEqual({ Description, KmsKeyId, Type, Tags }, set);
    assert.deepEqual(
      [shown.RotationEnabled, shown.RotationLambdaARN, shown.RotationRules],
      [false, RotationLambdaARN, RotationRules],
    );
    assert.equal(shown.NextRotationDate, undefined);
    const { SecretList } = await secrets.listSecrets({ Filters: [{ Key: "name", Values: [Name] }] });
    assert.deepEqual(SecretList, [{ ...shown, SecretVersionsToStages: VersionIdsToStages }]);
  });
});
