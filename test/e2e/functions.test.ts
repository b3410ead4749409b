// Functions that run here as processes rotate secrets through the AWS Lambda Runtime API.
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { newName } from "../support/aws.ts";
import { functionWorld, nodeRotation } from "../support/function-world.ts";

type World = Awaited<ReturnType<typeof functionWorld>>;

describe("process functions", () => {
  let world: World;
  before(async () => {
    world = await functionWorld();
    world.write("rotate/index.mjs", nodeRotation);
  });
  after(() => world[Symbol.asyncDispose]());

  it("a Node handler rotates a secret with the least policies, in one warm process", async () => {
    const { name, arn } = await world.create({ file: "rotate/index.mjs" });
    const { SecretId } = await world.newSecret({ username: "app", password: "first-password" });
    const token = await world.rotate(SecretId, arn);
    const rotation = await world.rotationOf(SecretId);
    assert.equal(rotation.state, "succeeded", JSON.stringify(rotation) + (await world.logs(name)));
    const secret = await world.root.describeSecret({ SecretId });
    assert.deepEqual(secret.VersionIdsToStages?.[token]?.includes("AWSCURRENT"), true);
    assert.ok(secret.LastRotatedDate);
    assert.notEqual((await world.value(SecretId)).password, "first-password");
    const log = await world.logs(name);
    const { records } = await world.ask("audit/search", { action: "lambda:InvokeFunction", resource: arn });
    const invoked = (records as { principal: string; outcome: string }[]).map(
      ({ principal, outcome }) => `${principal} ${outcome}`,
    );
    assert.deepEqual(invoked, Array(4).fill("secretsmanager.amazonaws.com ok"));
    for (const step of ["createSecret", "setSecret", "testSecret", "finishSecret"]) assert.match(log, new RegExp(`step ${step}`));
  });

  it("under a customer key it needs the key as well, for its own secrets only", async () => {
    const { arn: keyArn } = await world.ask("keys/create", { alias: "alias/rotated" });
    const { name, arn } = await world.create({ file: "rotate/index.mjs" });
    const secret = { Name: newName("db"), SecretString: '{"password":"first"}', KmsKeyId: "alias/rotated" };
    await world.root.createSecret(secret);
    await world.rotate(secret.Name, arn);
    const failed = await world.rotationOf(secret.Name, ({ failedTries }) => failedTries > 0);
    assert.match(String(failed.reason), /AccessDeniedException/);
    const least = await world.ask("functions/policy", { functionName: name, keyArns: [keyArn] });
    const policyArn = `arn:aws:iam::${world.server.credentials.account}:policy/${name}-policy`;
    await world.ask("policies/create-version", {
      policyArn,
      policyDocument: least.leastRolePolicy as string,
      setAsDefault: true,
    });
    assert.equal((await world.rotationOf(secret.Name)).state, "succeeded", await world.logs(name));
  });
  it("two secrets of one account are not rotated at once", async () => {
    const marked = nodeRotation.replace('console.log("step", Step)', 'console.log("at", Date.now(), ClientRequestToken)');
    assert.notEqual(marked, nodeRotation);
    world.write("marked/index.mjs", marked);
    const { name, arn } = await world.create({ file: "marked/index.mjs" });
    const login = { engine: "postgres", host: "db.example", port: 5432, username: "app" };
    const others = { ...login, username: "other" };
    const secrets = [
      await world.newSecret({ ...login, password: "a" }),
      await world.newSecret({ ...login, password: "b" }),
      await world.newSecret({ ...others, password: "c" }),
    ];
    const [first, second] = await Promise.all(secrets.map(({ SecretId }) => world.rotate(SecretId, arn)));
    for (const { SecretId } of secrets)
      assert.equal((await world.rotationOf(SecretId)).state, "succeeded", await world.logs(name));
    const lines = [...(await world.logs(name)).matchAll(/at (\d+) (\S+)/g)].toSorted((a, b) => Number(a[1]) - Number(b[1]));
    const tokens = lines.map(([, , token]) => token).filter((token) => token === first || token === second);
    const [one, other] = tokens[0] === first ? [first, second] : [second, first];
    assert.deepEqual(tokens, [one, one, one, one, other, other, other, other]);
  });
});

describe("process functions of a server with several processes", () => {
  it("rotate, and are called through any of them", async () => {
    await using world = await functionWorld({ flags: ["--processes", "2"] });
    world.write("rotate.mjs", nodeRotation);
    const { name, arn } = await world.create({ file: "rotate.mjs" });
    const { SecretId } = await world.newSecret({ password: "first" });
    await world.rotate(SecretId, arn);
    assert.equal((await world.rotationOf(SecretId)).state, "succeeded", await world.logs(name));
    const calls = await Promise.all(
      [1, 2, 3, 4].map(() => world.invoke(name, { SecretId, Step: "none", ClientRequestToken: "none" })),
    );
    for (const { reason } of calls) assert.match(String(reason), /no such version/);
  });
});
