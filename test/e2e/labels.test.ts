// Staging labels: UpdateSecretVersionStage, labels of PutSecretValue, ListSecretVersionIds.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, describe, it } from "node:test";
import { type ListSecretVersionIdsCommandOutput, SecretsManager } from "@aws-sdk/client-secrets-manager";
import { clientSettings, newName, rawCall, refused } from "../support/aws.ts";
import { startRekey } from "../support/rekey-server.ts";

const server = await startRekey();
after(() => server[Symbol.asyncDispose]());
const secrets = new SecretsManager(clientSettings(server));

interface Story {
  readonly name: string;
  /** Puts a value under the next of v1, v2, v3. */
  put(labels?: string[]): Promise<void>;
  move(label: string, to: number, from?: number): Promise<unknown>;
  /** Labels by version: `{v1: ["AWSPREVIOUS"]}`. */
  labels(): Promise<Record<string, string[]>>;
  id(number: number): string;
}

/** A secret whose versions are v1, v2 … in the order in which they were put; v1 is there. */
async function story(): Promise<Story> {
  const name = newName();
  const ids: string[] = [randomUUID()];
  await secrets.createSecret({ Name: name, SecretString: "v1", ClientRequestToken: ids[0] });
  const id = (number: number) => ids[number - 1] ?? "";
  return {
    name,
    id,
    async put(VersionStages) {
      const token = randomUUID();
      ids.push(token);
      const labels = VersionStages === undefined ? {} : { VersionStages };
      await secrets.putSecretValue({ SecretId: name, SecretString: `v${ids.length}`, ClientRequestToken: token, ...labels });
    },
    move: (VersionStage, to, from) =>
      secrets.updateSecretVersionStage({
        SecretId: name,
        VersionStage,
        MoveToVersionId: id(to),
        ...(from === undefined ? {} : { RemoveFromVersionId: id(from) }),
      }),
    async labels() {
      const { VersionIdsToStages = {} } = await secrets.describeSecret({ SecretId: name });
      return Object.fromEntries(
        Object.entries(VersionIdsToStages).map(([key, labels]) => [`v${ids.indexOf(key) + 1}`, [...labels].sort()]),
      );
    },
  };
}

const [C, P, N] = ["AWSCURRENT", "AWSPREVIOUS", "AWSPENDING"];

describe("recorded sequences", () => {
  it("a pending version made current; a plain put takes AWSPENDING away", async () => {
    const { put, move, labels, name } = await story();
    await put([N]);
    await move(C, 2, 1);
    assert.deepEqual(await labels(), { v1: [P], v2: [C, N] });
    assert.deepEqual([...((await secrets.getSecretValue({ SecretId: name })).VersionStages ?? [])].sort(), [C, N]);
    await put();
    assert.deepEqual(await labels(), { v2: [P], v3: [C] });
  });

  it("two cycles of pending and current", async () => {
    const { put, move, labels } = await story();
    await put([N]);
    await move(C, 2, 1);
    await put([N]);
    assert.deepEqual(await labels(), { v1: [P], v2: [C], v3: [N] });
    await move(C, 3, 2);
    assert.deepEqual(await labels(), { v2: [P], v3: [C, N] });
  });

  it("own labels stay where they are", async () => {
    const { put, move, labels } = await story();
    await put(["SOME", N, "PUT1"]);
    await move(C, 2, 1);
    await put([N, "PUT2"]);
    await move(C, 3, 2);
    assert.deepEqual(await labels(), { v2: [P, "PUT1", "SOME"], v3: [C, N, "PUT2"] });
  });

  it("labels asked for again leave their version, which goes from the default list", async () => {
    const { put, labels, name, id } = await story();
    await put(["one", "two", "three"]);
    await put(["one", "two", "three", "four"]);
    assert.deepEqual(await labels(), { v1: [C], v3: ["four", "one", "three", "two"] });
    const listed = (await secrets.listSecretVersionIds({ SecretId: name })).Versions ?? [];
    assert.deepEqual(listed.map(({ VersionId }) => VersionId).sort(), [id(1), id(3)].sort());
    const all = (await secrets.listSecretVersionIds({ SecretId: name, IncludeDeprecated: true })).Versions ?? [];
    assert.equal(all.find(({ VersionId }) => VersionId === id(2))?.VersionStages, undefined);
    assert.equal(all.length, 3);
    assert.equal((await secrets.getSecretValue({ SecretId: name, VersionId: id(2) })).SecretString, "v2");
  });

  it("moving AWSCURRENT back swaps it with AWSPREVIOUS", async () => {
    const { put, move, labels, name } = await story();
    await put();
    await move(C, 1, 2);
    assert.deepEqual(await labels(), { v1: [C], v2: [P] });
    assert.equal((await secrets.getSecretValue({ SecretId: name })).SecretString, "v1");
  });
});

describe("UpdateSecretVersionStage", () => {
  it("attaches a free label and detaches it; AWSSOMETHING is free too", async () => {
    const { move, labels, name, id } = await story();
    const moved = await move("AWSSOMETHING", 1);
    assert.equal((moved as { Name?: string }).Name, name);
    assert.deepEqual(await labels(), { v1: [C, "AWSSOMETHING"] });
    await secrets.updateSecretVersionStage({ SecretId: name, VersionStage: "AWSSOMETHING", RemoveFromVersionId: id(1) });
    assert.deepEqual(await labels(), { v1: [C] });
  });

  it("refuses a move that does not name the holder", async () => {
    const { put, move, id } = await story();
    await put();
    await refused(
      move(C, 1),
      "InvalidParameterException",
      `The parameter RemoveFromVersionId can't be empty. Staging label AWSCURRENT is currently attached to version ${id(2)}, so you must explicitly reference that version in RemoveFromVersionId.`,
    );
    await refused(
      move(C, 1, 1),
      "InvalidParameterException",
      "When you move staging label AWSCURRENT, if you specify RemoveFromVersionId, it must be set to the version that currently has the staging label AWSCURRENT.",
    );
  });

  it("never removes AWSCURRENT", async () => {
    const { name, id, labels } = await story();
    await refused(
      secrets.updateSecretVersionStage({ SecretId: name, VersionStage: "AWSCURRENT", RemoveFromVersionId: id(1) }),
      "InvalidParameterException",
      "You can only move staging label AWSCURRENT to a different secret version. It can't be completely removed.",
    );
    assert.deepEqual(await labels(), { v1: [C] });
  });

  it("refuses unknown versions, unknown secrets and requests that name no version", async () => {
    const { name } = await story();
    const VersionStage = "MINE";
    const MoveToVersionId = randomUUID();
    await refused(
      secrets.updateSecretVersionStage({ SecretId: name, VersionStage, MoveToVersionId }),
      "ResourceNotFoundException",
      `Secrets Manager can't find the specified secret value for VersionId: ${MoveToVersionId}`,
    );
    await refused(
      secrets.updateSecretVersionStage({ SecretId: newName("nowhere"), VersionStage, MoveToVersionId }),
      "ResourceNotFoundException",
      "Secrets Manager can't find the specified secret.",
    );
    await refused(secrets.updateSecretVersionStage({ SecretId: name, VersionStage }), "InvalidParameterException", /VersionId/);
  });

  it("refuses the twenty-first label of a secret, and of a request", async () => {
    const { put, move, labels } = await story();
    const names = (count: number) => Array.from({ length: count }, (_, index) => `L${index}`);
    await put(names(19));
    await refused(move("ONE-MORE", 1), "LimitExceededException", /20 staging labels/);
    await refused(
      put(names(21)),
      "ValidationException",
      /'versionStages' failed to satisfy constraint: Member must have length less than or equal to 20/,
    );
    assert.deepEqual((await labels()).v1, [C]);
  });
});

describe("ListSecretVersionIds", () => {
  it("shows dates, labels and the default key", async () => {
    const { name, id } = await story();
    const answer = await secrets.listSecretVersionIds({ SecretId: name });
    assert.equal(answer.Name, name);
    const [version] = answer.Versions ?? [];
    assert.deepEqual([version?.VersionId, version?.VersionStages, version?.KmsKeyIds], [id(1), [C], ["DefaultEncryptionKey"]]);
    assert.ok(version?.CreatedDate instanceof Date);
    assert.equal(version.LastAccessedDate, undefined);
  });

  it("pages", async () => {
    const { put, name } = await story();
    for (let count = 2; count <= 5; count++) await put();
    const seen: (string | undefined)[] = [];
    let NextToken: string | undefined;
    let pages = 0;
    do {
      const page: ListSecretVersionIdsCommandOutput = await secrets.listSecretVersionIds({
        SecretId: name,
        IncludeDeprecated: true,
        MaxResults: 2,
        ...(NextToken === undefined ? {} : { NextToken }),
      });
      seen.push(...(page.Versions ?? []).map(({ VersionId }) => VersionId));
      NextToken = page.NextToken;
      pages++;
    } while (NextToken !== undefined);
    assert.deepEqual([pages, seen.length, new Set(seen).size], [3, 5, 5]);
  });

  it("refuses unknown secrets, bad tokens and page sizes out of range", async () => {
    const { name } = await story();
    const list = (more: object) => secrets.listSecretVersionIds({ SecretId: name, ...more });
    await refused(
      list({ SecretId: newName("nowhere") }),
      "ResourceNotFoundException",
      "Secrets Manager can't find the specified secret.",
    );
    await refused(list({ NextToken: "nonsense" }), "InvalidNextTokenException", /NextToken/);
    await refused(
      list({ MaxResults: 0 }),
      "ValidationException",
      /at 'maxResults' failed to satisfy constraint: Member must have value greater than or equal to 1/,
    );
    await refused(list({ MaxResults: 101 }), "ValidationException", /Member must have value less than or equal to 100/);
  });
});

describe("a pending version without value", () => {
  it("is not found, and is filled by PutSecretValue with its token", async () => {
    const { name } = await story();
    const token = randomUUID();
    const RotationLambdaARN = "arn:aws:lambda:us-east-1:000000000000:function:SecretsManagerRDSPostgreSQLRotationSingleUser";
    await secrets.rotateSecret({ SecretId: name, ClientRequestToken: token, RotationLambdaARN });
    const { json } = await rawCall(server, "GetSecretValue", { SecretId: name, VersionId: token, VersionStage: N });
    assert.equal(json?.__type, "ResourceNotFoundException");
    const put = { SecretId: name, ClientRequestToken: token, VersionStages: [N], SecretString: "made" };
    assert.deepEqual((await secrets.putSecretValue(put)).VersionStages, [N]);
    assert.equal((await secrets.getSecretValue({ SecretId: name, VersionStage: N })).SecretString, "made");
    assert.equal((await secrets.getSecretValue({ SecretId: name })).SecretString, "v1");
  });
});
