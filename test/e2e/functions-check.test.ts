// The pre-flight of a rotation by a function of one's own: what keeps it from being called, without calling it.
import assert from "node:assert/strict";
import { once } from "node:events";
import { rmSync } from "node:fs";
import { type AddressInfo, createServer, type Server } from "node:net";
import { after, before, describe, it } from "node:test";
import { newName } from "../support/aws.ts";
import { type CommandLine, commandLine } from "../support/cli.ts";
import { functionWorld, nodeRotation } from "../support/function-world.ts";
import { type LambdaEndpoint, startLambdaEndpoint } from "../support/lambda-endpoint.ts";

interface Found {
  readonly ok: boolean;
  readonly passed: readonly string[];
  readonly findings: readonly { step: string; problem: string; remedy: string; warning?: boolean }[];
}

const targetArn = "arn:aws:lambda:eu-central-1:111122223333:function:rotate";

describe("the pre-flight of a function of one's own", () => {
  let aws: LambdaEndpoint;
  let world: Awaited<ReturnType<typeof functionWorld>>;
  let rekey: CommandLine;
  let target: Server;
  let port: number;
  before(async () => {
    aws = await startLambdaEndpoint();
    world = await functionWorld({ flags: ["--functions-lambda"], env: aws.env });
    rekey = commandLine(world.server.endpoint, world.server.credentials.token, world.folder);
    target = createServer((socket) => socket.destroy()).listen(0, "127.0.0.1");
    await once(target, "listening");
    port = (target.address() as AddressInfo).port;
    world.write("rotate.mjs", nodeRotation);
  });
  after(async () => {
    target.close();
    await world[Symbol.asyncDispose]();
    await aws[Symbol.asyncDispose]();
  });

  const check = async (secret: string, arn: string, exitCode = 0): Promise<Found> => {
    const { code, out, err } = await rekey.run(`rotation check ${secret} --function ${arn} --json`);
    assert.equal(code, exitCode, out + err);
    return JSON.parse(out);
  };
  const problems = ({ findings }: Found) => findings.filter(({ warning }) => warning !== true);
  const value = (more: object = {}) => ({ host: "127.0.0.1", port, username: "app", password: "a-password-to-keep", ...more });

  it("a good one: its file, role, rights, timeout and the way to the target; nothing is called or changed", async () => {
    const { name, arn } = await world.create({ file: "rotate.mjs" });
    const { SecretId } = await world.newSecret(value());
    const found = await check(SecretId, arn);
    assert.deepEqual(problems(found), []);
    assert.ok(found.passed.includes(`this server, which runs the function, reaches 127.0.0.1:${port}`), String(found.passed));
    assert.match(found.passed.join("\n"), /can be called from this server\n.*role.*lets it in\n.*timeout of 30 s/);
    const adopted = await rekey.ask(`rotation adopt ${SecretId} --function ${arn} --after-days 30`);
    assert.match(adopted, new RegExp(`It has ${arn} called for each of the four steps`));
    assert.equal(await world.logs(name), "");
    assert.deepEqual(Object.values((await world.root.describeSecret({ SecretId })).VersionIdsToStages ?? {}), [["AWSCURRENT"]]);
  });

  it("each fault at the step that a rotation then fails at, with what would help", async () => {
    const { name, arn } = await world.create({ file: "rotate.mjs", timeout: 3 });
    const { SecretId } = await world.newSecret(value());
    const short = (await check(SecretId, arn)).findings.find(({ problem }) => /ended after 3 s/.test(problem));
    assert.match(String(short?.remedy), /network and the security groups.*timeout/);

    const far = await world.newSecret(value({ port: 1 }));
    const [unreachable] = problems(await check(far.SecretId, arn, 1));
    assert.deepEqual(unreachable?.step, "setSecret");
    assert.match(
      `${unreachable?.problem} ${unreachable?.remedy}`,
      /does not reach 127\.0\.0\.1:1 \(ECONNREFUSED\).*security groups/,
    );

    const account = world.server.credentials.account;
    const policyArn = `arn:aws:iam::${account}:policy/${name}-policy`;
    await world.ask("policies/detach", { policyArn, roleName: `${name}-role` });
    const rights = problems(await check(SecretId, arn, 1));
    assert.deepEqual(
      rights.map(({ step, problem }) => [step, /perform: (\S+)/.exec(problem)?.[1]]),
      [
        ["createSecret", "secretsmanager:DescribeSecret"],
        ["createSecret", "secretsmanager:GetSecretValue"],
        ["createSecret", "secretsmanager:PutSecretValue"],
        ["finishSecret", "secretsmanager:UpdateSecretVersionStage"],
      ],
    );
    assert.ok(rights.every(({ remedy }) => remedy.includes(`rekey function policy ${name} --part role`)));

    await world.ask("roles/delete", { roleName: `${name}-role` });
    const [role] = problems(await check(SecretId, arn, 1));
    assert.match(`${role?.problem} ${role?.remedy}`, /role .* does not exist, or does not trust.*--part trust/);
  });

  it("a superuser's secret and customer keys need rights of their own", async () => {
    const master = await world.newSecret({ username: "root", password: "a-password-to-keep" });
    const { arn } = await world.create({ file: "rotate.mjs" });
    const { SecretId } = await world.newSecret(value({ masterarn: master.ARN }));
    const [finding, ...others] = problems(await check(SecretId, arn, 1));
    assert.deepEqual([finding?.step, others], ["setSecret", []]);
    assert.match(String(finding?.problem), new RegExp(`GetSecretValue on resource: ${master.ARN}`));
    const granted = await world.create({ file: "rotate.mjs", superuserSecretArn: master.ARN });
    assert.deepEqual(problems(await check(SecretId, granted.arn)), []);
    const { keyId } = await world.ask("keys/create", {});
    const sealed = newName("sealed");
    await world.root.createSecret({ Name: sealed, KmsKeyId: String(keyId), SecretString: JSON.stringify(value()) });
    assert.deepEqual(
      problems(await check(sealed, arn, 1)).map(({ problem }) => /perform: (\S+)/.exec(problem)?.[1]),
      ["kms:Decrypt", "kms:GenerateDataKey"],
    );
  });

  it("certificates that its program names and that this server has not: it may fail, or do without TLS", async () => {
    const [there, missing] = [world.write("ca.pem", ""), "/etc/certificates-of-nobody/ca.pem"];
    const text = `def lambda_handler(event, context):\n    connect(ca='${missing}', also=["${missing}", "${there}"])\n`;
    world.write("tls.py", text);
    const { arn } = await world.create({ runtime: "python", file: "tls.py" });
    const { SecretId } = await world.newSecret(value());
    const { findings } = await check(SecretId, arn);
    const [found, ...others] = findings.filter(({ problem }) => /\.pem/.test(problem));
    assert.deepEqual([found?.step, found?.warning, others], ["setSecret", true, []]);
    assert.match(`${found?.problem} ${found?.remedy}`, new RegExp(`${missing}.*without TLS.*ln -s .* ${missing}$`));
  });

  it("the way back from what it did is by hand, and says how", async () => {
    const { arn } = await world.create({ file: "rotate.mjs" });
    const { SecretId, VersionId } = await world.newSecret(value());
    await world.rotate(SecretId, arn);
    assert.equal((await world.rotationOf(SecretId)).state, "succeeded");
    const { code, err } = await rekey.run(`secret rollback ${SecretId}`);
    assert.deepEqual(
      [code, /nothing was changed: .* move AWSCURRENT to it with UpdateSecretVersionStage/.test(err)],
      [1, true],
      err,
    );
    const { versionIdsToStages } = await world.ask("secrets/describe", { secretId: SecretId });
    assert.deepEqual((versionIdsToStages as Record<string, string[]>)[VersionId], ["AWSPREVIOUS"]);
  });

  it("a file that is gone", async () => {
    const path = world.write("gone.mjs", nodeRotation);
    const { arn } = await world.create({ file: "gone.mjs" });
    rmSync(path);
    const { SecretId } = await world.newSecret("no JSON at all");
    const [finding] = problems(await check(SecretId, arn, 1));
    assert.equal(finding?.step, "createSecret");
    assert.match(`${finding?.problem} ${finding?.remedy}`, /gone\.mjs.*rekey function/);
  });

  it("one of AWS Lambda: AWS is asked whether it may be called, and does not call it", async () => {
    const name = newName("far");
    const create = { functionName: name, lambda: { functionArn: targetArn } };
    await world.ask("functions/create", create);
    const { leastFunctionPolicy } = await world.ask("functions/policy", { functionName: name });
    await world.ask("functions/put-policy", { functionName: name, policy: leastFunctionPolicy as string });
    const { SecretId } = await world.newSecret(value());
    const found = await check(SecretId, world.arnOf(name));
    assert.ok(found.passed.includes(`AWS Lambda lets this server invoke ${targetArn}`));
    assert.match(
      JSON.stringify(found.findings),
      /whether the function reaches 127\.0\.0\.1:\d+ from its own network is not seen/,
    );
    assert.deepEqual(
      aws.invocations.map(({ invocationType }) => invocationType),
      ["DryRun"],
    );
    aws.answer = () => ({ error: { status: 403, name: "AccessDeniedException", message: "no" } });
    const [finding] = problems(await check(SecretId, world.arnOf(name), 1));
    assert.match(
      `${finding?.step} ${finding?.problem} ${finding?.remedy}`,
      /^createSecret .*AccessDenied.*lambda:InvokeFunction/,
    );
  });
});
