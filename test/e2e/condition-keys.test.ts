// Every condition key of the service authorization reference decides a call of the AWS SDK: one that it lets through, one that
// it refuses. Source: Service Authorization Reference, "Condition keys for AWS Secrets Manager".
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { SecretsManager } from "@aws-sdk/client-secrets-manager";
import { clientSettings, homeRegion, nativeOk, newName, newUser, statement } from "../support/aws.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";

const functionArn = "arn:aws:lambda:us-east-1:000000000000:function:SecretsManagerRDSPostgreSQLRotationSingleUser";
const otherFunctionArn = "arn:aws:lambda:us-east-1:000000000000:function:SecretsManagerRDSPostgreSQLRotationMultiUser";
const credential = JSON.stringify({ engine: "postgres", host: "127.0.0.1", port: 1, username: "u", password: "p" });
const roleArn = "arn:aws:iam::000000000000:role/partner";

let server: RekeyServer;
let root: SecretsManager;
let keyArn = "";
before(async () => {
  server = await startRekey();
  root = new SecretsManager(clientSettings(server));
  keyArn = String((await nativeOk(server, "keys/create", { alias: "alias/own" })).arn);
  await nativeOk(server, "keys/create", { alias: "alias/other" });
});
after(() => server[Symbol.asyncDispose]());

/** A secret with a tag, a type and a second version labelled BLUE. */
async function newSecret(team = "red"): Promise<string> {
  const Name = newName(team);
  await root.createSecret({ Name, SecretString: credential, Tags: [{ Key: "team", Value: team }], Type: `${team}Type` });
  await root.putSecretValue({ SecretId: Name, SecretString: "blue", ClientRequestToken: versionId, VersionStages: ["BLUE"] });
  return Name;
}
const versionId = "a-version-of-thirty-two-characters";

type Call = (user: SecretsManager, secretId: string) => Promise<unknown>;

interface Case {
  /** In IAM's form: operator, key, values. */
  readonly condition: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  readonly actions: readonly string[];
  readonly passes: Call;
  readonly refused: Call;
  /** Of the secret that `refused` is given. */
  readonly refusedTeam?: string;
}

const get =
  (members: object = {}) =>
  (user: SecretsManager, SecretId: string) =>
    user.getSecretValue({ SecretId, ...members });
const describeIt: Call = (user, SecretId) => user.describeSecret({ SecretId });
const create = (members: object) => (user: SecretsManager) =>
  user.createSecret({ Name: newName("made"), SecretString: "v", ...members });
const update = (members: object) => (user: SecretsManager, SecretId: string) => user.updateSecret({ SecretId, ...members });
const tag = (...Tags: { Key: string; Value: string }[]): Call => {
  return (user, SecretId) => user.tagResource({ SecretId, Tags });
};
const remove = (members: object) => (user: SecretsManager, SecretId: string) => user.deleteSecret({ SecretId, ...members });
const rotate = (members: object) => (user: SecretsManager, SecretId: string) =>
  user.rotateSecret({ SecretId, RotationLambdaARN: functionArn, RotateImmediately: false, ...members });
const replicate = (members: object, ...regions: string[]): Call => {
  const AddReplicaRegions = regions.map((Region) => ({ Region }));
  return (user, SecretId) => user.replicateSecretToRegions({ SecretId, AddReplicaRegions, ...members });
};
const stage = (VersionStage: string): Call => {
  return (user, SecretId) => user.updateSecretVersionStage({ SecretId, VersionStage, MoveToVersionId: versionId });
};
const policyOfRoot = JSON.stringify({
  Version: "2012-10-17",
  Statement: [{ Effect: "Allow", Principal: { AWS: "000000000000" }, Action: "secretsmanager:GetSecretValue", Resource: "*" }],
});
const putPolicy = (members: object) => (user: SecretsManager, SecretId: string) =>
  user.putResourcePolicy({ SecretId, ResourcePolicy: policyOfRoot, ...members });

const reads = ["secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"];
const creates = ["secretsmanager:CreateSecret", "secretsmanager:TagResource", "secretsmanager:ReplicateSecretToRegions"];
const updates = ["secretsmanager:UpdateSecret"];
const rotates = ["secretsmanager:RotateSecret"];
const euWest = [{ Region: "eu-west-1" }];

const cases: Readonly<Record<string, () => Case>> = {
  "secretsmanager:ResourceTag/k": () => ({
    condition: { StringEquals: { "secretsmanager:ResourceTag/team": "red" } },
    actions: reads,
    passes: get(),
    refused: get(),
    refusedTeam: "green",
  }),
  "aws:ResourceTag/k": () => ({
    condition: { StringLike: { "aws:ResourceTag/team": "r*" } },
    actions: reads,
    passes: describeIt,
    refused: describeIt,
    refusedTeam: "green",
  }),
  "secretsmanager:resource/Type": () => ({
    condition: { StringEquals: { "secretsmanager:resource/Type": "redType" } },
    actions: reads,
    passes: get(),
    refused: get(),
    refusedTeam: "green",
  }),
  "secretsmanager:SecretId": () => ({
    condition: { ArnLike: { "secretsmanager:SecretId": "arn:aws:secretsmanager:us-east-1:000000000000:secret:red-*" } },
    actions: reads,
    passes: get(),
    refused: get(),
    refusedTeam: "green",
  }),
  "secretsmanager:SecretPrimaryRegion": () => ({
    condition: { StringEquals: { "secretsmanager:SecretPrimaryRegion": homeRegion } },
    actions: [...reads, "secretsmanager:CreateSecret"],
    passes: get(),
    refused: create({}),
  }),
  "secretsmanager:resource/AllowRotationLambdaArn": () => ({
    condition: { ArnEquals: { "secretsmanager:resource/AllowRotationLambdaArn": functionArn } },
    actions: reads,
    async passes(user, SecretId) {
      await root.rotateSecret({ SecretId, RotationLambdaARN: functionArn, RotateImmediately: false });
      await user.describeSecret({ SecretId });
    },
    refused: get(),
  }),
  "aws:RequestTag/k": () => ({
    condition: { StringEquals: { "aws:RequestTag/team": ["red", "blue"] } },
    actions: ["secretsmanager:TagResource", ...creates],
    passes: tag({ Key: "team", Value: "blue" }),
    refused: create({ Tags: [{ Key: "team", Value: "green" }] }),
  }),
  "aws:TagKeys": () => ({
    condition: { "ForAllValues:StringEquals": { "aws:TagKeys": ["team", "stage"] }, Null: { "aws:TagKeys": "false" } },
    actions: ["secretsmanager:TagResource", "secretsmanager:UntagResource"],
    passes: tag({ Key: "team", Value: "red" }, { Key: "stage", Value: "x" }),
    refused: (user, SecretId) => user.untagResource({ SecretId, TagKeys: ["team", "owner"] }),
  }),
  "secretsmanager:Name": () => ({
    condition: { StringLike: { "secretsmanager:Name": "made-*" } },
    actions: creates,
    passes: create({}),
    refused: create({ Name: newName("other") }),
  }),
  "secretsmanager:Description": () => ({
    condition: { StringEquals: { "secretsmanager:Description": "as agreed" } },
    actions: [...creates, ...updates],
    passes: create({ Description: "as agreed" }),
    refused: update({ Description: "otherwise" }),
  }),
  "secretsmanager:KmsKeyId": () => ({
    condition: { StringEquals: { "secretsmanager:KmsKeyId": "alias/own" } },
    actions: [...creates, ...updates, "kms:*"],
    passes: create({ KmsKeyId: "alias/own" }),
    refused: update({ KmsKeyId: "alias/other" }),
  }),
  "secretsmanager:KmsKeyArn": () => ({
    condition: { ArnEqualsIfExists: { "secretsmanager:KmsKeyArn": keyArn } },
    actions: [...creates, ...updates, "kms:*"],
    passes: update({ KmsKeyId: "alias/own" }),
    refused: create({ KmsKeyId: "alias/other" }),
  }),
  "secretsmanager:Type": () => ({
    condition: { StringEquals: { "secretsmanager:Type": "redType" } },
    actions: [...creates, ...updates],
    passes: update({ Type: "redType" }),
    refused: create({ Type: "greenType" }),
  }),
  "secretsmanager:AddReplicaRegions": () => ({
    condition: { "ForAllValues:StringEquals": { "secretsmanager:AddReplicaRegions": ["eu-west-1", "eu-west-2"] } },
    actions: creates,
    passes: replicate({}, "eu-west-1", "eu-west-2"),
    refused: create({ AddReplicaRegions: [...euWest, { Region: "us-west-2" }] }),
  }),
  "secretsmanager:ForceOverwriteReplicaSecret": () => ({
    condition: { Bool: { "secretsmanager:ForceOverwriteReplicaSecret": "false" } },
    actions: creates,
    passes: create({ AddReplicaRegions: euWest, ForceOverwriteReplicaSecret: false }),
    refused: replicate({ ForceOverwriteReplicaSecret: true }, "eu-west-1"),
  }),
  "secretsmanager:ForceDeleteWithoutRecovery": () => ({
    condition: { BoolIfExists: { "secretsmanager:ForceDeleteWithoutRecovery": "false" } },
    actions: ["secretsmanager:DeleteSecret"],
    passes: remove({}),
    refused: remove({ ForceDeleteWithoutRecovery: true }),
  }),
  "secretsmanager:RecoveryWindowInDays": () => ({
    condition: { NumericGreaterThanEquals: { "secretsmanager:RecoveryWindowInDays": 14 } },
    actions: ["secretsmanager:DeleteSecret"],
    passes: remove({ RecoveryWindowInDays: 14 }),
    refused: remove({ RecoveryWindowInDays: 13 }),
  }),
  "secretsmanager:VersionId": () => ({
    condition: { StringEquals: { "secretsmanager:VersionId": versionId } },
    actions: reads,
    passes: get({ VersionId: versionId }),
    refused: get(),
  }),
  "secretsmanager:VersionStage of GetSecretValue, which is AWSCURRENT when nothing is asked": () => ({
    condition: { StringEquals: { "secretsmanager:VersionStage": "AWSCURRENT" } },
    actions: reads,
    passes: get(),
    refused: get({ VersionStage: "BLUE" }),
  }),
  "secretsmanager:VersionStage, absent when only an id is asked": () => ({
    condition: { StringEquals: { "secretsmanager:VersionStage": ["AWSCURRENT", "BLUE"] } },
    actions: reads,
    passes: get({ VersionStage: "BLUE", VersionId: versionId }),
    refused: get({ VersionId: versionId }),
  }),
  "secretsmanager:VersionStage of UpdateSecretVersionStage": () => ({
    condition: { StringNotEquals: { "secretsmanager:VersionStage": "AWSCURRENT" } },
    actions: ["secretsmanager:UpdateSecretVersionStage"],
    passes: stage("GREEN"),
    refused: stage("AWSCURRENT"),
  }),
  "secretsmanager:BlockPublicPolicy": () => ({
    condition: { Bool: { "secretsmanager:BlockPublicPolicy": "true" } },
    actions: ["secretsmanager:PutResourcePolicy"],
    passes: putPolicy({ BlockPublicPolicy: true }),
    refused: putPolicy({}),
  }),
  "secretsmanager:RotationLambdaARN": () => ({
    condition: { ArnEquals: { "secretsmanager:RotationLambdaARN": functionArn } },
    actions: rotates,
    passes: rotate({}),
    refused: rotate({ RotationLambdaARN: otherFunctionArn }),
  }),
  "secretsmanager:ModifyRotationRules": () => ({
    condition: { Null: { "secretsmanager:ModifyRotationRules": "true" } },
    actions: rotates,
    passes: rotate({}),
    refused: rotate({ RotationRules: { AutomaticallyAfterDays: 9 } }),
  }),
  "secretsmanager:RotateImmediately": () => ({
    condition: { Bool: { "secretsmanager:RotateImmediately": "false" } },
    actions: rotates,
    passes: rotate({}),
    refused: rotate({ RotateImmediately: true }),
  }),
  "secretsmanager:ExternalSecretRotationRoleArn": () => ({
    condition: { ArnEquals: { "secretsmanager:ExternalSecretRotationRoleArn": roleArn } },
    actions: rotates,
    passes: rotate({ ExternalSecretRotationRoleArn: roleArn }),
    refused: rotate({ ExternalSecretRotationRoleArn: `${roleArn}-other` }),
  }),
};

/** Lets them rotate and use keys where the condition, which is on the statement of `actions` alone, lets them. */
const further = statement("Allow", ["lambda:InvokeFunction", "kms:Decrypt", "kms:GenerateDataKey", "kms:Encrypt"], "*");

const principalTag = (key: string): string => `\${aws:PrincipalTag/${key}}`;

async function clientOf(...statements: object[]): Promise<SecretsManager> {
  return new SecretsManager(clientSettings(server, await newUser(server, newName("user"), ...statements)));
}

async function denied(call: Promise<unknown>, why: RegExp): Promise<void> {
  await assert.rejects(call, (error: Error) => {
    assert.equal(error.name, "AccessDeniedException", error.message);
    assert.match(error.message, why);
    return true;
  });
}

describe("keys of Secrets Manager", () => {
  for (const [key, caseOf] of Object.entries(cases)) {
    it(key, async () => {
      const { condition, actions, passes, refused, refusedTeam } = caseOf();
      const user = await clientOf(statement("Allow", actions, "*", condition), further);
      await passes(user, await newSecret());
      await denied(refused(user, await newSecret(refusedTeam)), /because no identity-based policy allows/);
    });
  }

  it("a Deny on a parameter sees only what is sent", async () => {
    const all = statement("Allow", ["secretsmanager:*"], "*");
    const condition = { StringLike: { "secretsmanager:Description": "*" } };
    const user = await clientOf(all, statement("Deny", ["secretsmanager:UpdateSecret"], "*", condition));
    const SecretId = await newSecret();
    await user.updateSecret({ SecretId, SecretString: "other" });
    await denied(user.updateSecret({ SecretId, Description: "d" }), /with an explicit deny in an identity-based policy$/);
  });
});

describe("global keys", () => {
  const globals: Readonly<Record<string, readonly [yes: object, no: object]>> = {
    "aws:SourceIp": [{ IpAddress: { "aws:SourceIp": "127.0.0.0/8" } }, { IpAddress: { "aws:SourceIp": "10.0.0.0/8" } }],
    "aws:RequestedRegion": [
      { StringEquals: { "aws:RequestedRegion": homeRegion } },
      { StringEquals: { "aws:RequestedRegion": "eu-central-1" } },
    ],
    "aws:SecureTransport": [{ Bool: { "aws:SecureTransport": "false" } }, { Bool: { "aws:SecureTransport": "true" } }],
    "aws:PrincipalTag/k": [
      { StringEquals: { "aws:PrincipalTag/Dept": "data" } },
      { StringEquals: { "aws:PrincipalTag/Dept": "sales" } },
    ],
    "aws:ResourceTag/k against aws:PrincipalTag/k": [
      { StringEquals: { "aws:ResourceTag/team": principalTag("Team") } },
      { StringEquals: { "aws:ResourceTag/team": principalTag("Dept") } },
    ],
    "aws:PrincipalArn": [
      { ArnLike: { "aws:PrincipalArn": "arn:aws:iam::*:user/tagged-*" } },
      { ArnLike: { "aws:PrincipalArn": "arn:aws:iam::*:role/*" } },
    ],
    "aws:PrincipalAccount": [
      { StringEquals: { "aws:PrincipalAccount": "000000000000" } },
      { StringNotEquals: { "aws:PrincipalAccount": "000000000000" } },
    ],
    "aws:PrincipalType": [
      { StringEquals: { "aws:PrincipalType": "User" } },
      { StringEquals: { "aws:PrincipalType": "Account" } },
    ],
    "aws:username": [{ StringLike: { "aws:username": "tagged-*" } }, { StringEquals: { "aws:username": "root" } }],
    "aws:userid": [{ StringLike: { "aws:userid": "AIDA*" } }, { StringLike: { "aws:userid": "AROA*" } }],
    "aws:CurrentTime": [
      { DateGreaterThan: { "aws:CurrentTime": "2020-01-01T00:00:00Z" } },
      { DateLessThan: { "aws:CurrentTime": "2020-01-01T00:00:00Z" } },
    ],
    "aws:EpochTime": [{ NumericGreaterThan: { "aws:EpochTime": 1_600_000_000 } }, { NumericLessThan: { "aws:EpochTime": 9 } }],
    "aws:UserAgent": [{ StringLike: { "aws:UserAgent": "*aws-sdk-js*" } }, { StringLike: { "aws:UserAgent": "curl*" } }],
    "aws:ResourceAccount": [
      { StringEquals: { "aws:ResourceAccount": "000000000000" } },
      { StringEquals: { "aws:ResourceAccount": "111122223333" } },
    ],
    "aws:ViaAWSService": [{ Bool: { "aws:ViaAWSService": "false" } }, { Bool: { "aws:ViaAWSService": "true" } }],
    "aws:PrincipalIsAWSService": [
      { Bool: { "aws:PrincipalIsAWSService": "false" } },
      { Bool: { "aws:PrincipalIsAWSService": "true" } },
    ],
    "aws:SourceVpc, which no request has": [
      { StringEqualsIfExists: { "aws:SourceVpc": "vpc-1" } },
      { StringEquals: { "aws:SourceVpc": "vpc-1" } },
    ],
    "aws:SourceVpce, which no request has": [
      { Null: { "aws:SourceVpce": "true" } },
      { StringEquals: { "aws:SourceVpce": "vpce-1" } },
    ],
    "aws:SourceAccount and aws:SourceArn, which only services bring": [
      { Null: { "aws:SourceAccount": "true", "aws:SourceArn": "true" } },
      { StringEquals: { "aws:SourceAccount": "000000000000" } },
    ],
    "aws:MultiFactorAuthPresent, which long-term keys do not have": [
      { BoolIfExists: { "aws:MultiFactorAuthPresent": "true" } },
      { Bool: { "aws:MultiFactorAuthPresent": "true" } },
    ],
  };

  /** A user with the tags Dept=data and Team=red. */
  async function tagged(condition: object): Promise<SecretsManager> {
    const userName = newName("tagged");
    const credentials = await newUser(server, userName, statement("Allow", reads, "*", condition));
    const tags = [
      { key: "Dept", value: "data" },
      { key: "Team", value: "red" },
    ];
    await nativeOk(server, "users/tag", { userName, tags });
    return new SecretsManager(clientSettings(server, credentials));
  }

  for (const [key, [yes, no]] of Object.entries(globals)) {
    it(key, async () => {
      const SecretId = await newSecret();
      await (await tagged(yes)).getSecretValue({ SecretId });
      await denied((await tagged(no)).getSecretValue({ SecretId }), /because no identity-based policy allows/);
    });
  }
});
