// The bounds of every member, and what happens at them. Source: AWS Secrets Manager model (2017-10-17) and quotas.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, describe, it } from "node:test";
import { SecretsManager } from "@aws-sdk/client-secrets-manager";
import { clientSettings, namedOperations, newName, rawCall, rawRequest, refused } from "../support/aws.ts";
import { startRekey } from "../support/rekey-server.ts";

const server = await startRekey();
after(() => server[Symbol.asyncDispose]());
const secrets = new SecretsManager(clientSettings(server));

const tooLong = (member: string, max: number) =>
  new RegExp(
    `^1 validation error detected: Value .*at '${member}' failed to satisfy constraint: Member must have length less than or equal to ${max}$`,
  );
const tooShort = (member: string, min: number) =>
  new RegExp(
    `^1 validation error detected: Value .*at '${member}' failed to satisfy constraint: Member must have length greater than or equal to ${min}$`,
  );

async function newSecret(): Promise<string> {
  const Name = newName();
  await secrets.createSecret({ Name, SecretString: "v" });
  return Name;
}

describe("values", () => {
  it("of 65,536 bytes come back whole, as text and as bytes", async () => {
    const SecretId = await newSecret();
    for (const text of ["x".repeat(65_536), "é".repeat(32_768), "🔑".repeat(16_384), 'a\u0000b\r\n\t"\\']) {
      await secrets.putSecretValue({ SecretId, SecretString: text });
      assert.ok((await secrets.getSecretValue({ SecretId })).SecretString === text);
    }
    const bytes = Buffer.alloc(65_536, 255);
    await secrets.putSecretValue({ SecretId, SecretBinary: bytes });
    assert.ok(bytes.equals((await secrets.getSecretValue({ SecretId })).SecretBinary ?? Buffer.of()));
  });

  it("of one byte more are refused; bytes count, not characters", async () => {
    const SecretId = await newSecret();
    for (const text of ["x".repeat(65_537), "é".repeat(32_769), "🔑".repeat(16_385)]) {
      await refused(
        secrets.putSecretValue({ SecretId, SecretString: text }),
        "ValidationException",
        tooLong("secretString", 65_536),
      );
      await refused(
        secrets.updateSecret({ SecretId, SecretString: text }),
        "ValidationException",
        tooLong("secretString", 65_536),
      );
      await refused(
        secrets.createSecret({ Name: newName(), SecretString: text }),
        "ValidationException",
        tooLong("secretString", 65_536),
      );
    }
    const SecretBinary = Buffer.alloc(65_537);
    await refused(secrets.putSecretValue({ SecretId, SecretBinary }), "ValidationException", tooLong("secretBinary", 65_536));
    assert.equal((await secrets.getSecretValue({ SecretId })).SecretString, "v");
  });

  it("that are empty are none", async () => {
    const Name = newName();
    assert.equal((await secrets.createSecret({ Name, SecretString: "" })).VersionId, undefined);
    assert.equal((await secrets.updateSecret({ SecretId: Name, SecretString: "" })).VersionId, undefined);
    assert.equal((await secrets.describeSecret({ SecretId: Name })).VersionIdsToStages, undefined);
  });
});

describe("names, ids and texts", () => {
  it("names have up to 512 characters and work at that length", async () => {
    const Name = `${newName()}${"n".repeat(512)}`.slice(0, 512);
    const { ARN } = await secrets.createSecret({ Name, SecretString: "v" });
    assert.equal((await secrets.describeSecret({ SecretId: Name })).ARN, ARN);
    assert.equal((await secrets.describeSecret({ SecretId: ARN })).Name, Name);
    await refused(secrets.createSecret({ Name: `${Name}n` }), "ValidationException", tooLong("name", 512));
    await refused(secrets.createSecret({ Name: "" }), "ValidationException", tooShort("name", 1));
    await refused(secrets.describeSecret({ SecretId: "s".repeat(2049) }), "ValidationException", tooLong("secretId", 2048));
    await refused(secrets.describeSecret({ SecretId: "" }), "ValidationException", tooShort("secretId", 1));
  });

  it("every operation refuses an id that no secret can have, before it looks", async () => {
    const SecretId = "not a name";
    const Message = "Invalid name. Must be a valid name containing alphanumeric characters, or any of the following: -/_+=.@!";
    for (const [operation, more] of Object.entries(namedOperations)) {
      const wrong = await rawCall(server, operation, { SecretId, ...more });
      assert.deepEqual(wrong.json, { __type: "ValidationException", message: Message }, operation);
      const { json } = await rawCall(server, operation, { SecretId: newName("nowhere"), ...more });
      const missing = { __type: "ResourceNotFoundException", Message: "Secrets Manager can't find the specified secret." };
      assert.deepEqual(json, missing, operation);
      if (operation === "ValidateResourcePolicy") continue;
      const none = await rawCall(server, operation, more);
      const text = "1 validation error detected: Value null at 'secretId' failed to satisfy constraint: Member must not be null";
      assert.deepEqual(none.json, { __type: "ValidationException", message: text }, operation);
    }
  });

  it("descriptions, types and key ids end where the model ends them", async () => {
    const SecretId = await newSecret();
    await secrets.updateSecret({ SecretId, Description: "d".repeat(2048), Type: "t".repeat(256) });
    const shown = await secrets.describeSecret({ SecretId });
    assert.deepEqual([shown.Description?.length, shown.Type?.length], [2048, 256]);
    const over = [
      [{ Description: "d".repeat(2049) }, "description", 2048],
      [{ Type: "t".repeat(257) }, "type", 256],
      [{ KmsKeyId: "k".repeat(2049) }, "kmsKeyId", 2048],
    ] as const;
    for (const [members, member, max] of over) {
      await refused(secrets.updateSecret({ SecretId, ...members }), "ValidationException", tooLong(member, max));
      await refused(secrets.createSecret({ Name: newName(), ...members }), "ValidationException", tooLong(member, max));
    }
  });

  it("tokens and version ids have 32 to 64 characters, of any kind", async () => {
    const SecretId = await newSecret();
    for (const ClientRequestToken of ["t".repeat(32), `ü${"!".repeat(63)}`]) {
      const put = await secrets.putSecretValue({ SecretId, SecretString: "w", ClientRequestToken });
      assert.equal(put.VersionId, ClientRequestToken);
      assert.equal((await secrets.getSecretValue({ SecretId, VersionId: ClientRequestToken })).SecretString, "w");
    }
    const [short, long] = ["t".repeat(31), "t".repeat(65)];
    for (const [token, expected] of [
      [short, tooShort("clientRequestToken", 32)],
      [long, tooLong("clientRequestToken", 64)],
    ] as const) {
      const ClientRequestToken = token;
      await refused(secrets.putSecretValue({ SecretId, SecretString: "w", ClientRequestToken }), "ValidationException", expected);
      await refused(secrets.updateSecret({ SecretId, ClientRequestToken }), "ValidationException", expected);
      await refused(secrets.createSecret({ Name: newName(), ClientRequestToken }), "ValidationException", expected);
      await refused(secrets.rotateSecret({ SecretId, ClientRequestToken }), "ValidationException", expected);
    }
    await refused(secrets.getSecretValue({ SecretId, VersionId: short }), "ValidationException", tooShort("versionId", 32));
    const move = { SecretId, VersionStage: "X", MoveToVersionId: short };
    await refused(secrets.updateSecretVersionStage(move), "ValidationException", tooShort("moveToVersionId", 32));
  });
});

describe("labels", () => {
  it("a request has 1 to 20 of 1 to 256 characters", async () => {
    const SecretId = await newSecret();
    const put = (VersionStages: string[]) => secrets.putSecretValue({ SecretId, SecretString: "w", VersionStages });
    await refused(put([]), "ValidationException", tooShort("versionStages", 1));
    await refused(put(Array.from({ length: 21 }, (_, n) => `L${n}`)), "ValidationException", tooLong("versionStages", 20));
    await refused(put([""]), "ValidationException", tooShort("versionStages.1.member", 1));
    await refused(put(["l".repeat(257)]), "ValidationException", tooLong("versionStages.1.member", 256));
    const { VersionStages } = await put(["l".repeat(256)]);
    assert.deepEqual(VersionStages, ["l".repeat(256)]);
  });

  it("all versions together have 20; nothing is changed by the one too many", async () => {
    const SecretId = await newSecret();
    const own = Array.from({ length: 19 }, (_, n) => `L${n}`);
    const { VersionId } = await secrets.putSecretValue({ SecretId, SecretString: "w", VersionStages: own });
    const before = await secrets.describeSecret({ SecretId });
    const text = "A secret can't have more than 20 staging labels across all of its versions.";
    const put = secrets.putSecretValue({ SecretId, SecretString: "x", VersionStages: ["ONEMORE"] });
    await refused(put, "LimitExceededException", text);
    const move = secrets.updateSecretVersionStage({ SecretId, VersionStage: "ONEMORE", MoveToVersionId: VersionId });
    await refused(move, "LimitExceededException", text);
    // A plain new value would bring AWSPREVIOUS as the twenty-first.
    await refused(secrets.putSecretValue({ SecretId, SecretString: "x" }), "LimitExceededException", text);
    const { VersionIdsToStages, LastChangedDate } = await secrets.describeSecret({ SecretId });
    assert.deepEqual([VersionIdsToStages, LastChangedDate], [before.VersionIdsToStages, before.LastChangedDate]);
    await secrets.updateSecretVersionStage({ SecretId, VersionStage: "L0", RemoveFromVersionId: VersionId });
    await secrets.putSecretValue({ SecretId, SecretString: "x" });
  });
});

describe("the request itself", () => {
  it("members that the model does not have are ignored; null is absence", async () => {
    const Name = newName();
    const ClientRequestToken = randomUUID();
    const made = await rawCall(server, "CreateSecret", {
      Name,
      ClientRequestToken,
      SecretString: "v",
      Colour: "red",
      Tags: null,
    });
    assert.equal(made.status, 200, made.text);
    const put = { SecretId: Name, ClientRequestToken: randomUUID(), SecretString: "w", Description: "x", RotationToken: null };
    assert.equal((await rawCall(server, "PutSecretValue", put)).status, 200);
    assert.equal((await secrets.describeSecret({ SecretId: Name })).Description, undefined);
  });

  it("several faults are told at once", async () => {
    const members = { Name: "", Description: "d".repeat(2049), ClientRequestToken: "short" };
    const { json } = await rawCall(server, "CreateSecret", members);
    assert.equal(json?.__type, "ValidationException");
    assert.match(String(json?.message), /^3 validation errors detected: Value .*; Value .*; Value .*$/);
  });

  it("that is no JSON object, of another type, or of no operation is refused", async () => {
    const cases: [string | undefined, string, string, RegExp][] = [
      ["secretsmanager.ListSecrets", "{", "SerializationException", /^The request body is not a JSON object\.$/],
      ["secretsmanager.ListSecrets", "[]", "SerializationException", /^The request body is not a JSON object\.$/],
      ["secretsmanager.ListSecrets", '"text"', "SerializationException", /^The request body is not a JSON object\.$/],
      [
        "secretsmanager.DescribeSecret",
        '{"SecretId":1}',
        "SerializationException",
        /^secretId has a JSON value of the wrong type/,
      ],
      ["secretsmanager.ListSecrets", '{"MaxResults":"1"}', "SerializationException", /^maxResults has a JSON value/],
      ["secretsmanager.NoSuchThing", "{}", "UnknownOperationException", /./],
      ["kms.ListKeys", "{}", "UnknownOperationException", /./],
      [undefined, "{}", "UnknownOperationException", /./],
    ];
    for (const [target, body, code, message] of cases) {
      const { status, json } = await rawRequest(server, target, body);
      assert.deepEqual([status, json?.__type], [400, code], `${target} ${body}`);
      assert.match(String(json?.message), message);
    }
  });

  it("success and failure have AWS's headers and shapes", async () => {
    const made = await rawCall(server, "ListSecrets", {});
    assert.equal(made.headers.get("content-type"), "application/x-amz-json-1.1");
    assert.match(made.headers.get("x-amzn-requestid") ?? "", /^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$/);
    assert.ok(made.headers.get("date"));
    const SecretId = await newSecret();
    const tagged = await rawCall(server, "TagResource", { SecretId, Tags: [{ Key: "a", Value: "b" }] });
    assert.deepEqual([tagged.status, tagged.text, tagged.headers.get("content-length")], [200, "", "0"]);
    const failed = await rawCall(server, "DescribeSecret", { SecretId: newName("nowhere") });
    assert.equal(failed.status, 400);
    assert.equal(
      failed.text,
      `{"__type":"ResourceNotFoundException","Message":"Secrets Manager can't find the specified secret."}`,
    );
  });
});

describe("versions", () => {
  it("about a hundred; unlabelled ones of a day ago make room, younger ones never", async () => {
    const { dataFolder, stop } = server;
    const SecretId = await newSecret();
    const ids: string[] = [];
    for (let n = 1; n < 100; n++) ids.push((await secrets.putSecretValue({ SecretId, SecretString: `v${n}` })).VersionId ?? "");
    await refused(
      secrets.putSecretValue({ SecretId, SecretString: "one too many" }),
      "LimitExceededException",
      "A secret can't have more than 100 versions that have staging labels or are younger than 24 hours.",
    );
    const { NextToken, Versions = [] } = await secrets.listSecretVersionIds({ SecretId, IncludeDeprecated: true });
    assert.deepEqual([Versions.length, NextToken], [100, undefined]);
    assert.equal((await secrets.getSecretValue({ SecretId, VersionId: ids[5] })).SecretString, "v6");
    await stop();
    const db = new DatabaseSync(join(dataFolder, "rekey.db"));
    db.exec("update versions set created_at = created_at - 86400001");
    db.close();
    await using again = await startRekey({ dataFolder });
    const later = new SecretsManager(clientSettings(again));
    await later.putSecretValue({ SecretId, SecretString: "has room" });
    const kept = await later.listSecretVersionIds({ SecretId, IncludeDeprecated: true });
    assert.equal(kept.Versions?.length, 100);
    assert.equal((await later.getSecretValue({ SecretId, VersionStage: "AWSPREVIOUS" })).SecretString, "v99");
  });
});
