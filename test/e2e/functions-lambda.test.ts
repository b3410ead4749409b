// Functions of AWS Lambda, called through an assumed role; AWS itself is a stand-in on loopback that keeps its wire form.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { native, newName } from "../support/aws.ts";
import { functionWorld } from "../support/function-world.ts";
import { type LambdaAnswer, type LambdaEndpoint, type SeenInvocation, startLambdaEndpoint } from "../support/lambda-endpoint.ts";
import { startRekey } from "../support/rekey-server.ts";

const targetArn = "arn:aws:lambda:eu-central-1:111122223333:function:rotate";
const assumeRoleArn = "arn:aws:iam::111122223333:role/rekey";

describe("functions of AWS Lambda", () => {
  let aws: LambdaEndpoint;
  let world: Awaited<ReturnType<typeof functionWorld>>;
  before(async () => {
    aws = await startLambdaEndpoint();
    world = await functionWorld({ flags: ["--functions-lambda", "--drain-seconds", "1"], env: aws.env });
  });
  after(async () => {
    await world[Symbol.asyncDispose]();
    await aws[Symbol.asyncDispose]();
  });

  async function create(lambda: object = {}, more: object = {}): Promise<{ name: string; arn: string }> {
    const name = newName("far");
    await world.ask("functions/create", { functionName: name, lambda: { functionArn: targetArn, ...lambda }, ...more });
    const { leastFunctionPolicy } = await world.ask("functions/policy", { functionName: name });
    await world.ask("functions/put-policy", { functionName: name, policy: leastFunctionPolicy as string });
    return { name, arn: world.arnOf(name) };
  }

  /** What a function at AWS would do with credentials of Rekey of its own. */
  async function rotate({ event }: SeenInvocation): Promise<LambdaAnswer> {
    const { Step, SecretId, ClientRequestToken, RotationToken } = event as Record<string, string>;
    if (Step === "createSecret")
      await world.root.putSecretValue({
        SecretId,
        ClientRequestToken,
        RotationToken,
        SecretString: '{"password":"made far away"}',
        VersionStages: ["AWSPENDING"],
      });
    if (Step === "finishSecret") {
      const { VersionId } = await world.root.getSecretValue({ SecretId });
      await world.root.updateSecretVersionStage({
        SecretId,
        VersionStage: "AWSCURRENT",
        MoveToVersionId: ClientRequestToken,
        RemoveFromVersionId: VersionId,
      });
    }
    return { payload: null, log: `did ${Step} with made far away` };
  }

  it("one that networks call is not deleted, and they are named", async () => {
    const { name, arn } = await create();
    const networks = [newName("vpc-a"), newName("vpc-b")].map((one) => one.toLowerCase());
    for (const network of networks) await world.ask("networks/create", { name: network, functions: { postgres: name } });
    const refused = await native(world.server, "functions/delete", { functionName: name });
    assert.equal(refused.status, 400);
    assert.match(refused.text, new RegExp(`networks ${networks.join(", ")} are reached through.*--remove-function`));
    await world.ask("networks/delete", { name: networks[0] ?? "" });
    assert.match((await native(world.server, "functions/delete", { functionName: name })).text, /network vpc-b\S* is reached/);
    assert.equal((await world.ask("functions/get", { functionName: name })).functionArn, arn);
    await world.ask("networks/update", { name: networks[1] ?? "", removeFunctions: ["postgres"] });
    await world.ask("functions/delete", { functionName: name });
    const gone = await native(world.server, "networks/update", { name: networks[1], functions: { postgres: name } });
    assert.match(gone.text, /Function not found/);
  });

  it("a server that was not told to calls none", async () => {
    await using server = await startRekey({ env: aws.env });
    const lambda = { functionArn: targetArn };
    const { status, json } = await native(server, "functions/create", { functionName: "far", lambda });
    assert.equal(status, 400);
    assert.match(String(json?.detail), /calls no functions of AWS Lambda.*--functions-lambda/);
  });

  it("rotates a secret through an assumed role with its external id", async () => {
    aws.externalId = "7f2c";
    aws.answer = rotate;
    const { name, arn } = await create({ functionArn: `${targetArn}:live`, assumeRoleArn, externalId: "7f2c" });
    const { SecretId, ARN } = await world.newSecret({ password: "first" });
    const token = await world.rotate(SecretId, arn);
    const rotation = await world.rotationOf(SecretId);
    assert.equal(rotation.state, "succeeded", rotation.reason);
    assert.equal((await world.value(SecretId)).password, "made far away");
    const seen = aws.invocations.filter(({ event }) => event.ClientRequestToken === token);
    assert.deepEqual(
      seen.map(({ event }) => event.Step),
      ["createSecret", "setSecret", "testSecret", "finishSecret"],
    );
    for (const one of seen) {
      assert.deepEqual([one.accessKeyId, one.region, one.hasSessionToken], ["ASIAASSUMEDASSUMEDAS", "eu-central-1", true]);
      assert.deepEqual([one.functionName, one.invocationType], [`${targetArn}:live`, "RequestResponse"]);
      assert.equal(one.event.SecretId, ARN);
      assert.ok(String(one.event.RotationToken).length >= 36);
    }
    const asked = aws.assumed.at(-1);
    assert.deepEqual([asked?.RoleArn, asked?.ExternalId], [assumeRoleArn, "7f2c"]);
    assert.equal(aws.assumed.length, 1, "its credentials are kept for the calls that follow");
    const log = await world.logs(name);
    assert.match(log, /did setSecret with \[secret\]/);
  });

  it("a wrong external id, a missing right and what AWS says else end in a class, a sentence and a remedy", async () => {
    aws.externalId = "7f2c";
    const wrong = await create({ assumeRoleArn, externalId: "wrong" });
    const refusedRole = await world.invoke(wrong.name, {});
    assert.equal(refusedRole.outcome, "denied");
    assert.match(String(refusedRole.reason), /role arn:aws:iam::111122223333:role\/rekey could not be assumed: AccessDenied/);
    assert.match(String(refusedRole.remedy), /trust policy.*external id/);
    const { name } = await create();
    const told = async (answer: LambdaAnswer | "reset") => {
      aws.answer = () => answer;
      const { outcome, reason, remedy } = await world.invoke(name, {});
      return `${outcome}: ${reason} (${remedy})`;
    };
    const error = (status: number, errorName: string) => told({ error: { status, name: errorName, message: "because" } });
    assert.match(
      await error(403, "AccessDeniedException"),
      /^denied: .* AccessDeniedException: because \(.*lambda:InvokeFunction/,
    );
    assert.match(await error(404, "ResourceNotFoundException"), /^invalid: .*\(Correct the ARN/);
    assert.match(await error(429, "TooManyRequestsException"), /^unreachable: .*\(.*concurrency/);
    assert.match(await error(502, "EC2AccessDeniedException"), /^invalid: .*\(.*security groups/);
    assert.match(await error(500, "ServiceException"), /^unknown: .*ServiceException/);
    assert.match(await told("reset"), /^unknown: /);
    const failed = (payload: object) => told({ functionError: "Unhandled", payload });
    assert.match(await failed({ errorType: "ValueError", errorMessage: "no" }), /^unknown: function .* failed: ValueError: no/);
    const late = { errorMessage: "2026-01-02T03:04:05.678Z 1c9d Task timed out after 3.00 seconds" };
    assert.match(await failed(late), /^timeout: .* timed out .*\(.*network, the security groups/);
    aws.externalId = undefined;
  });

  it("an answer that does not come ends in time, and a server that is not there is unreachable", async () => {
    const nowhere = await startLambdaEndpoint();
    await nowhere[Symbol.asyncDispose]();
    await using server = await functionWorld({
      flags: ["--functions-lambda"],
      env: { ...aws.env, AWS_ENDPOINT_URL_LAMBDA: nowhere.url },
    });
    await server.ask("functions/create", { functionName: "far", lambda: { functionArn: targetArn } });
    const { outcome, remedy } = await server.invoke("far", {});
    assert.equal(outcome, "unreachable");
    assert.match(String(remedy), /way to AWS/);
  });

  it("a rotation whose call may still run at AWS waits it out, also after a restart, and says until when", async () => {
    let calls = 0;
    aws.answer = (seen) => {
      calls += 1;
      return calls === 1 ? "hang" : rotate(seen);
    };
    const dataFolder = mkdtempSync(join(tmpdir(), "rekey-lambda-"));
    const started = () => functionWorld({ dataFolder, flags: ["--functions-lambda"], env: aws.env });
    await using first = await started();
    await first.ask("functions/create", { functionName: "far", lambda: { functionArn: targetArn }, timeout: 5 });
    const { leastFunctionPolicy } = await first.ask("functions/policy", { functionName: "far" });
    await first.ask("functions/put-policy", { functionName: "far", policy: leastFunctionPolicy as string });
    const { SecretId } = await first.newSecret({ password: "first" });
    await first.rotate(SecretId, first.arnOf("far"));
    while (calls === 0) await sleep(20);
    await first.server.stop("SIGKILL");
    await using again = await started();
    const waits = ({ startedDate = "", nextTryDate = "" }: { startedDate?: string; nextTryDate?: string }) =>
      Date.parse(nextTryDate) - Date.parse(startedDate) >= 35_000;
    await again.rotationOf(SecretId, waits);
    // Asking again does not hurry what may be under way.
    await assert.rejects(
      again.root.rotateSecret({ SecretId, ClientRequestToken: randomUUID() }),
      /previous rotation isn't complete/,
    );
    await sleep(500);
    assert.equal(calls, 1);
    await again.root.cancelRotateSecret({ SecretId });
    await again.server.stop();
    rmSync(dataFolder, { recursive: true });
  });
});
