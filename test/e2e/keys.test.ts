// Ring keys under secrets: named every way, disabled, refused to others, damaged rows, and another root key.
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { readFileSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, describe, it } from "node:test";
import { SecretsManager } from "@aws-sdk/client-secrets-manager";
import { clientSettings, nativeOk, newName, newUser, refused, statement } from "../support/aws.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";

const server = await startRekey();
after(() => server[Symbol.asyncDispose]());
const root = new SecretsManager(clientSettings(server));

const noAccess = "Access to KMS is not allowed";
const cannotDecrypt = "Secrets Manager can't decrypt the protected secret text using the provided KMS key.";
const cannotEncrypt = /^Secrets Manager can't encrypt the protected secret text using the provided KMS key\./;

interface Key {
  readonly id: string;
  readonly arn: string;
  readonly alias: string;
}

async function newKey(members: object = {}): Promise<Key> {
  const alias = `alias/${newName("key")}`;
  const { keyId, arn } = await nativeOk(server, "keys/create", { alias, ...members });
  return { id: String(keyId), arn: String(arn), alias };
}

async function newClient(...statements: object[]): Promise<SecretsManager> {
  const secrets = statement("Allow", ["secretsmanager:*"], "*");
  return new SecretsManager(clientSettings(server, await newUser(server, newName("user"), secrets, ...statements)));
}

describe("KmsKeyId", () => {
  it("names a key by id, ARN, alias and alias ARN, and is shown as it was given", async () => {
    const key = await newKey();
    for (const KmsKeyId of [key.id, key.arn, key.alias, key.arn.replace(/key\/.*/, key.alias)]) {
      const SecretId = newName();
      await root.createSecret({ Name: SecretId, SecretString: "v", KmsKeyId });
      assert.equal((await root.describeSecret({ SecretId })).KmsKeyId, KmsKeyId);
      assert.equal((await root.getSecretValue({ SecretId })).SecretString, "v");
      const { Versions } = await root.listSecretVersionIds({ SecretId });
      assert.deepEqual(Versions?.[0]?.KmsKeyIds, [KmsKeyId]);
    }
  });

  it("empty or absent is the default key, which shows as no key", async () => {
    for (const KmsKeyId of [undefined, "", "alias/aws/secretsmanager"]) {
      const SecretId = newName();
      await root.createSecret({ Name: SecretId, SecretString: "v", KmsKeyId });
      assert.equal((await root.describeSecret({ SecretId })).KmsKeyId, KmsKeyId || undefined);
      const { Versions } = await root.listSecretVersionIds({ SecretId });
      assert.deepEqual(Versions?.[0]?.KmsKeyIds, ["DefaultEncryptionKey"]);
    }
  });

  it("that names nothing here is refused, and nothing is made", async () => {
    const { arn } = await newKey();
    const invalid = "The operation failed because of an invalid KMS key: ";
    const cases: [string, string, string][] = [
      ["alias/unknown", "InvalidParameterException", `${invalid}Invalid keyId`],
      ["00000000-0000-4000-8000-000000000000", "InvalidParameterException", `${invalid}Invalid keyId`],
      ["not a key", "InvalidParameterException", `${invalid}Invalid keyId`],
      ["arn:aws:sqs:us-east-1:000000000000:queue", "InvalidParameterException", `${invalid}Invalid keyId`],
      [arn.replace("us-east-1", "eu-west-1"), "InvalidParameterException", `${invalid}Invalid arn eu-west-1`],
      [arn.replace("000000000000", "111122223333"), "AccessDeniedException", noAccess],
    ];
    for (const [KmsKeyId, code, text] of cases) {
      const Name = newName();
      await refused(root.createSecret({ Name, SecretString: "v", KmsKeyId }), code, text);
      await refused(root.createSecret({ Name, KmsKeyId }), code, text);
      await root.createSecret({ Name, SecretString: "v" });
      await refused(root.updateSecret({ SecretId: Name, KmsKeyId }), code, text);
      assert.equal((await root.describeSecret({ SecretId: Name })).KmsKeyId, undefined);
    }
  });

  it("changed, seals the labelled versions anew; unlabelled ones stay where they were", async () => {
    const [one, two] = [await newKey(), await newKey()];
    const SecretId = newName();
    const { VersionId: first = "" } = await root.createSecret({ Name: SecretId, SecretString: "1", KmsKeyId: one.alias });
    for (const SecretString of ["2", "3"]) await root.putSecretValue({ SecretId, SecretString });
    await root.updateSecret({ SecretId, KmsKeyId: two.alias });
    const { Versions = [] } = await root.listSecretVersionIds({ SecretId, IncludeDeprecated: true });
    const keys = Object.fromEntries(Versions.map(({ VersionStages = ["none"], KmsKeyIds }) => [VersionStages[0], KmsKeyIds]));
    assert.deepEqual(keys, { AWSCURRENT: [two.alias], AWSPREVIOUS: [two.alias], none: [one.arn] });
    await nativeOk(server, "keys/disable", { keyId: one.id });
    assert.equal((await root.getSecretValue({ SecretId })).SecretString, "3");
    assert.equal((await root.getSecretValue({ SecretId, VersionStage: "AWSPREVIOUS" })).SecretString, "2");
    await refused(root.getSecretValue({ SecretId, VersionId: first }), "DecryptionFailure", cannotDecrypt);
    await root.updateSecret({ SecretId, KmsKeyId: "" });
    assert.equal((await root.describeSecret({ SecretId })).KmsKeyId, undefined);
    await nativeOk(server, "keys/disable", { keyId: two.id });
    assert.equal((await root.getSecretValue({ SecretId })).SecretString, "3");
  });
});

describe("a disabled key", () => {
  it("neither opens nor seals, changes nothing, and does both again when enabled", async () => {
    const { id, alias } = await newKey();
    const SecretId = newName();
    const { VersionId } = await root.createSecret({ Name: SecretId, SecretString: "v", KmsKeyId: alias });
    assert.equal((await root.getSecretValue({ SecretId })).SecretString, "v");
    await nativeOk(server, "keys/disable", { keyId: alias });
    await refused(root.getSecretValue({ SecretId }), "DecryptionFailure", cannotDecrypt);
    await refused(root.putSecretValue({ SecretId, SecretString: "w" }), "EncryptionFailure", cannotEncrypt);
    await refused(root.updateSecret({ SecretId, SecretString: "w" }), "EncryptionFailure", cannotEncrypt);
    await refused(root.updateSecret({ SecretId, KmsKeyId: "" }), "DecryptionFailure", cannotDecrypt);
    await refused(root.createSecret({ Name: newName(), SecretString: "v", KmsKeyId: id }), "EncryptionFailure", cannotEncrypt);
    await refused(root.createSecret({ Name: newName(), KmsKeyId: id }), "EncryptionFailure", cannotEncrypt);
    const batch = await root.batchGetSecretValue({ SecretIdList: [SecretId] });
    assert.deepEqual(batch.Errors, [{ SecretId, ErrorCode: "DecryptionFailure", Message: cannotDecrypt }]);
    const shown = await root.describeSecret({ SecretId });
    assert.deepEqual([shown.KmsKeyId, shown.VersionIdsToStages], [alias, { [VersionId ?? ""]: ["AWSCURRENT"] }]);
    await nativeOk(server, "keys/enable", { keyId: alias });
    assert.equal((await root.getSecretValue({ SecretId })).SecretString, "v");
    await root.putSecretValue({ SecretId, SecretString: "w" });
    assert.match(server.log(), /ring key [0-9a-f-]+ is disabled/);
  });

  it("cannot be the default one", async () => {
    const disabled = nativeOk(server, "keys/disable", { keyId: "alias/aws/secretsmanager" });
    await assert.rejects(disabled, /You can't disable the default key of a region\./);
  });

  it("a rotated one opens what it sealed before and seals what comes", async () => {
    const { alias } = await newKey();
    const SecretId = newName();
    await root.createSecret({ Name: SecretId, SecretString: "before", KmsKeyId: alias });
    await nativeOk(server, "keys/rotate", { keyId: alias });
    assert.equal((await root.getSecretValue({ SecretId })).SecretString, "before");
    await root.putSecretValue({ SecretId, SecretString: "after" });
    assert.equal((await root.getSecretValue({ SecretId })).SecretString, "after");
  });
});

describe("rights on a key", () => {
  it("to decrypt and to make data keys are needed beside those on the secret", async () => {
    const { arn, alias } = await newKey();
    const SecretId = newName();
    await root.createSecret({ Name: SecretId, SecretString: "v", KmsKeyId: alias });
    const none = await newClient();
    await refused(none.getSecretValue({ SecretId }), "AccessDeniedException", noAccess);
    await refused(none.putSecretValue({ SecretId, SecretString: "w" }), "AccessDeniedException", noAccess);
    await refused(none.createSecret({ Name: newName(), SecretString: "v", KmsKeyId: alias }), "AccessDeniedException", noAccess);
    await refused(none.updateSecret({ SecretId, KmsKeyId: "" }), "AccessDeniedException", noAccess);
    const { Errors } = await none.batchGetSecretValue({ SecretIdList: [SecretId] });
    assert.deepEqual(Errors, [{ SecretId, ErrorCode: "AccessDeniedException", Message: noAccess }]);
    await none.describeSecret({ SecretId });
    const reader = await newClient(statement("Allow", ["kms:Decrypt"], arn));
    assert.equal((await reader.getSecretValue({ SecretId })).SecretString, "v");
    await refused(reader.putSecretValue({ SecretId, SecretString: "w" }), "AccessDeniedException", noAccess);
    const writer = await newClient(statement("Allow", ["kms:GenerateDataKey"], arn));
    await writer.putSecretValue({ SecretId, SecretString: "w" });
    await refused(writer.getSecretValue({ SecretId }), "AccessDeniedException", noAccess);
    await refused(
      writer.createSecret({ Name: newName(), SecretString: "v", KmsKeyId: alias }),
      "AccessDeniedException",
      noAccess,
    );
    const both = await newClient(statement("Allow", ["kms:Decrypt", "kms:GenerateDataKey"], arn));
    await both.createSecret({ Name: newName(), SecretString: "v", KmsKeyId: alias });
  });

  it("without kms:Encrypt on a new key the versions stay under the old one", async () => {
    const [one, two] = [await newKey(), await newKey()];
    const SecretId = newName();
    await root.createSecret({ Name: SecretId, SecretString: "v", KmsKeyId: one.alias });
    const user = await newClient(statement("Allow", ["kms:Decrypt", "kms:GenerateDataKey"], "*"));
    await user.updateSecret({ SecretId, KmsKeyId: two.alias });
    const shown = await root.listSecretVersionIds({ SecretId });
    assert.deepEqual(shown.Versions?.[0]?.KmsKeyIds, [one.arn]);
    await user.putSecretValue({ SecretId, SecretString: "w" });
    const { Versions = [] } = await root.listSecretVersionIds({ SecretId });
    assert.deepEqual(Versions.map(({ KmsKeyIds }) => KmsKeyIds?.[0]).sort(), [two.alias, one.arn].sort());
  });

  it("may hang on the secret that it is used for, and on the service that uses it", async () => {
    const { alias } = await newKey();
    const [yes, no] = [newName("yes"), newName("no")];
    for (const Name of [yes, no]) await root.createSecret({ Name, SecretString: "v", KmsKeyId: alias });
    const secretArn = "arn:aws:secretsmanager:us-east-1:000000000000:secret:yes-*";
    const bySecret = { ArnLike: { "kms:EncryptionContext:SecretARN": secretArn } };
    const reader = await newClient(statement("Allow", ["kms:Decrypt"], "*", bySecret));
    assert.equal((await reader.getSecretValue({ SecretId: yes })).SecretString, "v");
    await refused(reader.getSecretValue({ SecretId: no }), "AccessDeniedException", noAccess);
    const via = (service: string) => ({ StringEquals: { "kms:ViaService": `${service}.us-east-1.amazonaws.com` } });
    const ours = await newClient(statement("Allow", ["kms:Decrypt"], "*", via("secretsmanager")));
    assert.equal((await ours.getSecretValue({ SecretId: yes })).SecretString, "v");
    const others = await newClient(statement("Allow", ["kms:Decrypt"], "*", via("s3")));
    await refused(others.getSecretValue({ SecretId: yes }), "AccessDeniedException", noAccess);
  });

  it("may come from the key's own policy, and be denied by it", async () => {
    const { arn, ...credentials } = await newUser(server, newName("user"), statement("Allow", ["secretsmanager:*"], "*"));
    const user = new SecretsManager(clientSettings(server, credentials));
    const policy = (Effect: "Allow" | "Deny") => {
      const Statement = [{ ...statement(Effect, ["kms:Decrypt"], "*"), Principal: { AWS: arn } }];
      return JSON.stringify({ Version: "2012-10-17", Statement });
    };
    const { alias } = await newKey({ policy: policy("Allow") });
    const SecretId = newName();
    await root.createSecret({ Name: SecretId, SecretString: "v", KmsKeyId: alias });
    assert.equal((await user.getSecretValue({ SecretId })).SecretString, "v");
    await nativeOk(server, "keys/put-policy", { keyId: alias, policy: policy("Deny") });
    await refused(user.getSecretValue({ SecretId }), "AccessDeniedException", noAccess);
  });
});

describe("on disk", () => {
  /** Stops the server, lets `change` at its folder, starts it again. */
  async function stoppedWith(
    change: (folder: string) => void,
  ): Promise<{ before: string; folder: string; start: () => Promise<RekeyServer> }> {
    const { dataFolder, stop } = server;
    await stop();
    change(dataFolder);
    return { before: digestOf(dataFolder), folder: dataFolder, start: () => startRekey({ dataFolder }) };
  }
  const digestOf = (folder: string) =>
    createHash("sha256")
      .update(readFileSync(join(folder, "rekey.db")))
      .digest("hex");

  it("a damaged value is told as AWS tells it, logged, and left as it is; others are read", async () => {
    const [hurt, whole] = [newName("hurt"), newName("whole")];
    for (const Name of [hurt, whole]) await root.createSecret({ Name, SecretString: "v" });
    const { start, folder } = await stoppedWith((data) => {
      const db = new DatabaseSync(join(data, "rekey.db"));
      const secret = "secret_id = (select id from secrets where name = ?)";
      const row = db.prepare(`select sealed from versions where ${secret}`).get(hurt) as { sealed: Uint8Array };
      row.sealed[20] = (row.sealed[20] ?? 0) ^ 1;
      db.prepare(`update versions set sealed = ? where ${secret}`).run(row.sealed, hurt);
      db.close();
    });
    await using again = await start();
    const client = new SecretsManager(clientSettings(again));
    const sealed = () => {
      const db = new DatabaseSync(join(folder, "rekey.db"), { readOnly: true });
      const rows = db.prepare("select sealed from versions order by version_id").all();
      db.close();
      return rows;
    };
    const before = sealed();
    await refused(client.getSecretValue({ SecretId: hurt }), "DecryptionFailure", cannotDecrypt);
    assert.equal((await client.getSecretValue({ SecretId: whole })).SecretString, "v");
    assert.match(again.log(), /a sealed value is damaged, or not the one of this secret and version/);
    assert.deepEqual(sealed(), before);
    await client.putSecretValue({ SecretId: hurt, SecretString: "new" });
    assert.equal((await client.getSecretValue({ SecretId: hurt })).SecretString, "new");
  });

  it("another root key, or none, is refused at start and overwrites nothing", async () => {
    const keyFile = join(server.dataFolder, "root.key");
    const rightKey = readFileSync(keyFile);
    const { before, folder, start } = await stoppedWith(() => undefined);
    const wrongKey = `${randomBytes(32).toString("base64")}\n`;
    writeFileSync(keyFile, wrongKey, { mode: 0o600 });
    await assert.rejects(start(), /is not the one that this store was made with\. Nothing was changed\./);
    assert.equal(readFileSync(keyFile, "utf8"), wrongKey);
    unlinkSync(keyFile);
    await assert.rejects(start(), /The root key file .*root\.key does not exist\. Put it back, or name the right one\./);
    assert.throws(() => readFileSync(keyFile), { code: "ENOENT" });
    assert.equal(digestOf(folder), before);
    writeFileSync(keyFile, rightKey, { mode: 0o600 });
    await using again = await start();
    const { SecretList = [] } = await new SecretsManager(clientSettings(again)).listSecrets({});
    assert.ok(SecretList.length > 0);
  });
});
