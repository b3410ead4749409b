// Requests at the same time, and requests again: each ends as if it had been alone, and nothing is done twice.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, describe, it } from "node:test";
import { SecretsManager } from "@aws-sdk/client-secrets-manager";
import { clientSettings, newName } from "../support/aws.ts";
import { startRekey } from "../support/rekey-server.ts";

const server = await startRekey();
after(() => server[Symbol.asyncDispose]());
const secrets = new SecretsManager(clientSettings(server));

const times = <T>(count: number, ask: (n: number) => Promise<T>): Promise<PromiseSettledResult<T>[]> =>
  Promise.allSettled(Array.from({ length: count }, (_, n) => ask(n)));
const answered = <T>(results: PromiseSettledResult<T>[]): T[] =>
  results.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
const refusals = (results: PromiseSettledResult<unknown>[]): string[] =>
  results.flatMap((result) => (result.status === "rejected" ? [(result.reason as Error).name] : []));

async function newSecret(): Promise<string> {
  const Name = newName();
  await secrets.createSecret({ Name, SecretString: "first" });
  return Name;
}

describe("CreateSecret", () => {
  it("the same request twenty times makes one secret and gives one answer", async () => {
    const [Name, ClientRequestToken] = [newName(), randomUUID()];
    const results = await times(20, () => secrets.createSecret({ Name, ClientRequestToken, SecretString: "v" }));
    assert.deepEqual(refusals(results), []);
    assert.equal(new Set(answered(results).map(({ ARN, VersionId }) => `${ARN} ${VersionId}`)).size, 1);
    assert.deepEqual((await secrets.describeSecret({ SecretId: Name })).VersionIdsToStages, {
      [ClientRequestToken]: ["AWSCURRENT"],
    });
  });

  it("twenty requests of their own for one name: one succeeds", async () => {
    const Name = newName();
    const results = await times(20, (n) => secrets.createSecret({ Name, SecretString: `v${n}` }));
    assert.equal(answered(results).length, 1);
    assert.deepEqual(new Set(refusals(results)), new Set(["ResourceExistsException"]));
    const { VersionId } = await secrets.getSecretValue({ SecretId: Name });
    assert.equal(VersionId, answered(results)[0]?.VersionId);
  });
});

describe("PutSecretValue", () => {
  it("one token and one value: all succeed with one version; other values: one wins", async () => {
    const SecretId = await newSecret();
    const ClientRequestToken = randomUUID();
    const same = await times(20, () => secrets.putSecretValue({ SecretId, ClientRequestToken, SecretString: "w" }));
    assert.deepEqual(refusals(same), []);
    const token = randomUUID();
    const others = await times(20, (n) => secrets.putSecretValue({ SecretId, ClientRequestToken: token, SecretString: `w${n}` }));
    assert.equal(answered(others).length, 1);
    assert.deepEqual(new Set(refusals(others)), new Set(["ResourceExistsException"]));
    const { Versions } = await secrets.listSecretVersionIds({ SecretId, IncludeDeprecated: true });
    assert.equal(Versions?.length, 3);
  });

  it("twenty values at once are all kept; one is current, one was before it", async () => {
    const SecretId = await newSecret();
    const results = await times(20, (n) => secrets.putSecretValue({ SecretId, SecretString: `w${n}` }));
    const made = answered(results).map(({ VersionId }) => VersionId);
    assert.equal(new Set(made).size, 20);
    const { VersionIdsToStages = {} } = await secrets.describeSecret({ SecretId });
    assert.deepEqual(Object.values(VersionIdsToStages).flat().sort(), ["AWSCURRENT", "AWSPREVIOUS"]);
    for (const [n, VersionId] of made.entries())
      assert.equal((await secrets.getSecretValue({ SecretId, VersionId })).SecretString, `w${n}`);
  });
});

it("UpdateSecretVersionStage: of twenty moves of a label from the same holder one succeeds", async () => {
  const SecretId = await newSecret();
  const versions = answered(
    await times(20, (n) => secrets.putSecretValue({ SecretId, SecretString: `w${n}`, VersionStages: [`L${n % 10}`] })),
  );
  const { VersionId: RemoveFromVersionId } = await secrets.getSecretValue({ SecretId });
  const results = await times(20, (n) =>
    secrets.updateSecretVersionStage({
      SecretId,
      VersionStage: "AWSCURRENT",
      RemoveFromVersionId,
      MoveToVersionId: versions[n]?.VersionId,
    }),
  );
  assert.equal(answered(results).length, 1);
  assert.deepEqual(new Set(refusals(results)), new Set(["InvalidParameterException"]));
  const { VersionIdsToStages = {} } = await secrets.describeSecret({ SecretId });
  assert.deepEqual(VersionIdsToStages[RemoveFromVersionId ?? ""], ["AWSPREVIOUS"]);
});

it("TagResource: fifty tags at once are all there, the next is refused", async () => {
  const SecretId = await newSecret();
  const tag = (n: number) => secrets.tagResource({ SecretId, Tags: [{ Key: `k${n}`, Value: `${n}` }] });
  assert.deepEqual(refusals(await times(50, tag)), []);
  assert.equal((await secrets.describeSecret({ SecretId })).Tags?.length, 50);
  await assert.rejects(tag(50), { name: "LimitExceededException" });
});

it("DeleteSecret: with and without force, many at once, and the name is free", async () => {
  const SecretId = await newSecret();
  const scheduled = await times(10, () => secrets.deleteSecret({ SecretId }));
  assert.equal(answered(scheduled).length, 1);
  const forced = await times(10, () => secrets.deleteSecret({ SecretId, ForceDeleteWithoutRecovery: true }));
  assert.deepEqual(refusals(forced), []);
  await secrets.createSecret({ Name: SecretId, SecretString: "again" });
});
