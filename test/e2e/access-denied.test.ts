// What callers are told who may not, in AWS's words; and that they learn nothing else.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, describe, it } from "node:test";
import { SecretsManager } from "@aws-sdk/client-secrets-manager";
import {
  allow,
  clientSettings,
  namedOperations,
  newName,
  newUser,
  policyOf,
  rawCall,
  refused,
  statement,
} from "../support/aws.ts";
import { startRekey } from "../support/rekey-server.ts";

const server = await startRekey();
after(() => server[Symbol.asyncDispose]());
const root = new SecretsManager(clientSettings(server));

const unnamed: Readonly<Record<string, object>> = {
  BatchGetSecretValue: { SecretIdList: ["a"] },
  GetRandomPassword: {},
  ListSecrets: {},
};

async function newSecret(): Promise<{ SecretId: string; ARN: string }> {
  const SecretId = newName();
  const { ARN = "" } = await root.createSecret({ Name: SecretId, SecretString: "v" });
  return { SecretId, ARN };
}

describe("a user without rights", async () => {
  const nobody = await newUser(server, newName("nobody"));
  const refusal = (operation: string, on: string) => ({
    __type: "AccessDeniedException",
    Message: `User: ${nobody.arn} is not authorized to perform: secretsmanager:${operation}${on} because no identity-based policy allows the secretsmanager:${operation} action`,
  });
  const ask = (operation: string, members: object) => rawCall(server, operation, members, { credentials: nobody });

  it("is refused by all 23 operations, the resource shown as it was named", async () => {
    const { SecretId, ARN } = await newSecret();
    for (const [operation, members] of Object.entries(namedOperations)) {
      for (const id of [SecretId, ARN, ARN.slice(0, -7)]) {
        const { status, json } = await ask(operation, { SecretId: id, ...members });
        assert.deepEqual([status, json], [400, refusal(operation, ` on resource: ${id}`)]);
      }
    }
    for (const [operation, members] of Object.entries(unnamed))
      assert.deepEqual((await ask(operation, members)).json, refusal(operation, ""));
    const created = await ask("CreateSecret", { Name: SecretId, ClientRequestToken: randomUUID() });
    assert.deepEqual(created.json, refusal("CreateSecret", ` on resource: ${SecretId}`));
    assert.equal(Object.keys(namedOperations).length + Object.keys(unnamed).length + 1, 23);
  });

  it("cannot tell what exists from what does not", async () => {
    const { SecretId, ARN } = await newSecret();
    const deleted = (await newSecret()).SecretId;
    await root.deleteSecret({ SecretId: deleted });
    const nowhere = newName("nowhere");
    for (const [operation, members] of Object.entries(namedOperations)) {
      const answers = [];
      for (const id of [SecretId, deleted, nowhere, ARN, ARN.replace(/......$/, "AAAAAA")]) {
        const { status, json } = await ask(operation, { SecretId: id, ...members });
        answers.push(JSON.stringify([status, json]).replace(id, "ID"));
      }
      assert.equal(new Set(answers).size, 1, operation);
    }
    const create = async (Name: string, KmsKeyId?: string) => {
      const { text } = await ask("CreateSecret", { Name, KmsKeyId, ClientRequestToken: randomUUID() });
      return text.replaceAll(Name, "ID");
    };
    assert.equal(await create(SecretId), await create(nowhere));
    assert.equal(await create(nowhere, "alias/unknown"), await create(nowhere, "alias/aws/secretsmanager"));
    const batcher = await newUser(server, newName("batcher"), allow("secretsmanager:BatchGetSecretValue"));
    const batch = { SecretIdList: [SecretId, deleted, nowhere] };
    const { json } = await rawCall(server, "BatchGetSecretValue", batch, { credentials: batcher });
    const errors = json?.Errors as { SecretId: string; ErrorCode: string; Message: string }[];
    assert.deepEqual(json?.SecretValues, []);
    assert.equal(new Set(errors.map((error) => JSON.stringify(error).replaceAll(error.SecretId, "ID"))).size, 1);
    assert.equal(errors[0]?.ErrorCode, "AccessDeniedException");
  });

  it("is told first what is wrong with the request itself", async () => {
    assert.equal((await ask("GetSecretValue", {})).json?.__type, "ValidationException");
    assert.equal((await ask("GetSecretValue", { SecretId: "a b" })).json?.__type, "ValidationException");
    assert.equal((await ask("PutSecretValue", { SecretId: "a", SecretString: "v" })).json?.__type, "InvalidRequestException");
  });
});

describe("the reason", () => {
  const clientOf = async (...statements: object[]) => {
    const credentials = await newUser(server, newName("user"), ...statements);
    return { arn: credentials.arn, user: new SecretsManager(clientSettings(server, credentials)) };
  };
  const text = (arn: string, on: string, why: string) =>
    `User: ${arn} is not authorized to perform: secretsmanager:GetSecretValue${on} ${why}`;

  it("is an explicit deny of the caller's policy", async () => {
    const { SecretId } = await newSecret();
    const { user, arn } = await clientOf(allow("*"), statement("Deny", ["secretsmanager:Get*"], "*"));
    const why = "with an explicit deny in an identity-based policy";
    const denied = text(arn, ` on resource: ${SecretId}`, why);
    await refused(user.getSecretValue({ SecretId }), "AccessDeniedException", denied);
    await refused(user.getRandomPassword({}), "AccessDeniedException", new RegExp(`GetRandomPassword ${why}$`));
  });

  it("is an explicit deny of the secret's policy", async () => {
    const { SecretId, ARN } = await newSecret();
    const { user, arn } = await clientOf(allow("*"));
    const Deny = { ...statement("Deny", ["secretsmanager:GetSecretValue"], "*"), Principal: { AWS: arn } };
    await root.putResourcePolicy({ SecretId, ResourcePolicy: policyOf(Deny) });
    const denied = text(arn, ` on resource: ${ARN}`, "with an explicit deny in a resource-based policy");
    await refused(user.getSecretValue({ SecretId: ARN }), "AccessDeniedException", denied);
  });

  it("is another account's secret, which only its own policy could open", async () => {
    const { ARN } = await newSecret();
    const foreign = ARN.replace(":000000000000:", ":111122223333:");
    const why = "because no resource-based policy allows the secretsmanager:GetSecretValue action";
    const rootArn = "arn:aws:iam::000000000000:root";
    const denied = text(rootArn, ` on resource: ${foreign}`, why);
    await refused(root.getSecretValue({ SecretId: foreign }), "AccessDeniedException", denied);
  });

  it("names the further action that lacks", async () => {
    const { user } = await clientOf(allow("secretsmanager:CreateSecret", "secretsmanager:RotateSecret"));
    const Tags = [{ Key: "a", Value: "b" }];
    const lacks = (action: string) => new RegExp(`is not authorized to perform: ${action} on resource: `);
    const tagged = user.createSecret({ Name: newName(), Tags });
    await refused(tagged, "AccessDeniedException", lacks("secretsmanager:TagResource"));
    const replicated = user.createSecret({ Name: newName(), AddReplicaRegions: [{ Region: "eu-west-1" }] });
    await refused(replicated, "AccessDeniedException", lacks("secretsmanager:ReplicateSecretToRegions"));
    const { SecretId } = await newSecret();
    const RotationLambdaARN = "arn:aws:lambda:us-east-1:000000000000:function:SecretsManagerRDSPostgreSQLRotationSingleUser";
    await refused(
      user.rotateSecret({ SecretId, RotationLambdaARN }),
      "AccessDeniedException",
      new RegExp(`lambda:InvokeFunction on resource: ${RotationLambdaARN} because no identity-based policy allows`),
    );
  });

  it("lets policies by name and suffix through, also for what is not there yet", async () => {
    const prefix = newName("app");
    const scope = `arn:aws:secretsmanager:us-east-1:000000000000:secret:${prefix}/*`;
    const { user } = await clientOf(statement("Allow", ["secretsmanager:*"], scope));
    const Name = `${prefix}/db`;
    const { ARN } = await user.createSecret({ Name, SecretString: "v" });
    for (const SecretId of [Name, ARN, ARN?.slice(0, -7)])
      assert.equal((await user.getSecretValue({ SecretId })).SecretString, "v");
    const missing = "Secrets Manager can't find the specified secret.";
    await refused(user.getSecretValue({ SecretId: `${prefix}/none` }), "ResourceNotFoundException", missing);
    await refused(
      user.createSecret({ Name: `${prefix}-other` }),
      "AccessDeniedException",
      /on resource: app-[^/]+-other because/,
    );
    const exact = `arn:aws:secretsmanager:us-east-1:000000000000:secret:${Name}-??????`;
    const one = await clientOf(statement("Allow", ["secretsmanager:GetSecretValue"], exact));
    assert.equal((await one.user.getSecretValue({ SecretId: Name })).SecretString, "v");
    // The old ARN's grant does not reach the new secret of the same name.
    const grant = await clientOf(statement("Allow", ["secretsmanager:GetSecretValue"], ARN ?? ""));
    assert.equal((await grant.user.getSecretValue({ SecretId: Name })).SecretString, "v");
    await user.deleteSecret({ SecretId: Name, ForceDeleteWithoutRecovery: true });
    await user.createSecret({ Name, SecretString: "new" });
    await refused(grant.user.getSecretValue({ SecretId: Name }), "AccessDeniedException", /no identity-based policy/);
  });
});
