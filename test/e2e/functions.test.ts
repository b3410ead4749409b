// Functions that run here as processes rotate secrets through the AWS Lambda Runtime API.
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
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
    for (const step of ["createSecret", "setSecret", "testSecret", "finishSecret"]) assert.match(log, new RegExp(`step ${step}`));
  });
});
