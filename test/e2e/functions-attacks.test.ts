// What a function, or somebody who may make functions, must not get: a shell, other secrets, other roles, values in logs.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { chmodSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { SecretsManager } from "@aws-sdk/client-secrets-manager";
import { allow, clientSettings, native, newName, newUser, refused, statement } from "../support/aws.ts";
import { functionWorld, nodeRotation } from "../support/function-world.ts";
import { startRekey } from "../support/rekey-server.ts";

type World = Awaited<ReturnType<typeof functionWorld>>;

/** Tells what it is given; with `secret` reads one, with `put` writes one. */
const curious = `
import { SecretsManager } from ${JSON.stringify(import.meta.resolve("@aws-sdk/client-secrets-manager"))};
export async function handler(event) {
  const secrets = new SecretsManager({ endpoint: process.env.SECRETS_MANAGER_ENDPOINT });
  const { AWS_ACCESS_KEY_ID: key, AWS_SECRET_ACCESS_KEY: secret, AWS_SESSION_TOKEN: token } = process.env;
  if (event.environment) return { names: Object.keys(process.env).sort(), path: process.env.PATH, cwd: process.cwd() };
  if (event.credentials) return { key, secret, token, endpoint: process.env.SECRETS_MANAGER_ENDPOINT };
  if (event.print) { console.log(token, secret); console.error(JSON.stringify(await secrets.getSecretValue(event.print))); return; }
  return secrets[event.call](event.input).then(() => "done", (error) => error.name);
}
export const notMine = "text";
`;

describe("attacks on and by functions", () => {
  let world: World;
  before(async () => {
    world = await functionWorld({ env: { MARK_OF_THE_SERVER: "seen", AWS_PROFILE: "operator" } });
    world.write("curious.mjs", curious);
    world.write("rotate.mjs", nodeRotation);
  });
  after(() => world[Symbol.asyncDispose]());

  const tryCreate = async (members: object) => {
    const role = world.roleOf("nobody");
    const { status, json } = await native(world.server, "functions/create", { functionName: newName("f"), role, ...members });
    return { status, detail: String(json?.detail) };
  };

  it("a server that names no folder runs nothing", async () => {
    await using server = await startRekey();
    const process = { runtime: "node", file: "a.mjs" };
    const role = `arn:aws:iam::${server.credentials.account}:role/any`;
    const { status, json } = await native(server, "functions/create", { functionName: "f", role, process });
    assert.equal(status, 400);
    assert.match(String(json?.detail), /runs no process functions.*--functions-dir/);
  });

  it("files outside the folder, by whatever way, are refused", async () => {
    const outside = mkdtempSync(join(tmpdir(), "rekey-outside-"));
    writeFileSync(join(outside, "evil.mjs"), "export const handler = () => 1");
    symlinkSync(join(outside, "evil.mjs"), join(world.folder, "link.mjs"));
    symlinkSync(outside, join(world.folder, "links"));
    const files = ["../evil.mjs", "a/../../evil.mjs", "..\\evil.mjs", join(outside, "evil.mjs"), "link.mjs", "links/evil.mjs"];
    for (const file of [...files, "missing.mjs", ".", "", "a\0.mjs", "curious.txt"]) {
      const { status, detail } = await tryCreate({ process: { runtime: "node", file } });
      assert.equal(status, 400, `${file}: ${detail}`);
    }
    chmodSync(world.write("open.mjs", curious), 0o666);
    assert.match((await tryCreate({ process: { runtime: "node", file: "open.mjs" } })).detail, /written by every user/);
    world.write("plain.sh", "#!/bin/sh\n");
    assert.match((await tryCreate({ process: { runtime: "executable", file: "plain.sh" } })).detail, /not executable/);
    // One that was good when it was made may be a link by now.
    world.write("swapped.mjs", curious);
    const { name } = await world.create({ file: "swapped.mjs" });
    assert.equal((await world.invoke(name, { environment: true })).functionError, undefined);
    rmSync(join(world.folder, "swapped.mjs"));
    symlinkSync(join(outside, "evil.mjs"), join(world.folder, "swapped.mjs"));
    const call = await world.invoke(name, {});
    assert.equal(call.outcome, "denied");
    assert.match(String(call.reason), /leads out of the functions folder/);
    rmSync(outside, { recursive: true });
  });

  it("variables and handlers cannot bring other code in; there are no arguments", async () => {
    const process = { runtime: "node", file: "curious.mjs" };
    const names = ["NODE_OPTIONS", "LD_PRELOAD", "LD_LIBRARY_PATH", "PATH", "PYTHONSTARTUP", "BASH_ENV", "ENV", "HOME", "TMPDIR"];
    const more = ["AWS_ENDPOINT_URL", "AWS_LAMBDA_RUNTIME_API", "HTTPS_PROXY", "SSL_CERT_FILE", "PGHOST", "node_options", "A=B"];
    for (const name of [...names, ...more]) {
      const environment = JSON.parse(`{${JSON.stringify(name)}:"x"}`);
      const { status, detail } = await tryCreate({ process, environment });
      assert.equal(status, 400, name);
      assert.match(detail, new RegExp(`Environment variable ${name} `));
    }
    for (const handler of ["a.b", "x;y", "--eval", ""])
      assert.equal((await tryCreate({ process: { ...process, handler } })).status, 400, handler);
    const withArguments = await tryCreate({ process: { ...process, arguments: ["--eval", "1"] } });
    assert.match(withArguments.detail, /no member process.arguments/);
    for (const handler of ["constructor", "notMine", "missing"]) {
      const { name } = await world.create({ file: "curious.mjs", handler });
      const call = await world.invoke(name, {});
      assert.equal(call.outcome, "invalid", JSON.stringify(call));
      assert.match(String(call.reason), /could not begin: Runtime.HandlerNotFound/);
    }
  });

  it("the environment is clean, and a folder of its own is its home", async () => {
    const { name } = await world.create({ file: "curious.mjs", environment: { GREETING: "hello" } });
    const { names, path, cwd } = JSON.parse((await world.invoke(name, { environment: true })).payload);
    for (const known of ["GREETING", "AWS_SESSION_TOKEN", "SECRETS_MANAGER_ENDPOINT", "AWS_ENDPOINT_URL_STS"])
      assert.ok(names.includes(known));
    const strange = names.filter((one: string) => /^(REKEY|NODE|MARK|npm)|PROFILE/.test(one));
    assert.deepEqual(strange, []);
    assert.equal(path, "/usr/local/bin:/usr/bin:/bin");
    assert.ok(cwd.endsWith(world.folder.split("/").at(-1) ?? ""));
  });

  it("its role can do no more than the least policies say", async () => {
    const { name, arn } = await world.create({ file: "curious.mjs" });
    const own = await world.newSecret({ password: "of this function" });
    const master = await world.newSecret({ password: "of a superuser" });
    const others = await world.newSecret({ password: "of another function" });
    const other = await world.create({ file: "rotate.mjs" });
    await world.rotate(others.SecretId, other.arn);
    assert.equal((await world.rotationOf(others.SecretId)).state, "succeeded");
    const attempt = async (call: string, input: object) => JSON.parse((await world.invoke(name, { call, input })).payload);
    const denied = "AccessDeniedException";
    for (const { SecretId } of [own, master, others]) assert.equal(await attempt("getSecretValue", { SecretId }), denied);
    const put = { SecretId: others.SecretId, SecretString: "x", ClientRequestToken: randomUUID() };
    assert.equal(await attempt("putSecretValue", put), denied);
    assert.equal(await attempt("deleteSecret", { SecretId: own.SecretId }), denied);
    assert.equal(await attempt("rotateSecret", { SecretId: own.SecretId, RotationLambdaARN: arn }), denied);
    assert.equal(await attempt("listSecrets", {}), denied);
    assert.equal(await attempt("getRandomPassword", {}), "done");
    // From the moment that the secret names it, that one and no other.
    await world.rotate(own.SecretId, arn, { RotateImmediately: false, RotationRules: { AutomaticallyAfterDays: 30 } });
    assert.equal(await attempt("getSecretValue", { SecretId: own.SecretId }), "done");
    assert.equal(await attempt("getSecretValue", { SecretId: others.SecretId }), denied);
    await world.ask("functions/policy", { functionName: name });
    const least = await world.ask("functions/policy", { functionName: name, superuserSecretArn: master.ARN });
    const policyArn = `arn:aws:iam::${world.server.credentials.account}:policy/${name}-policy`;
    await world.ask("policies/create-version", {
      policyArn,
      policyDocument: least.leastRolePolicy as string,
      setAsDefault: true,
    });
    assert.equal(await attempt("getSecretValue", { SecretId: master.SecretId }), "done");
    assert.equal(await attempt("putSecretValue", { ...put, SecretId: master.SecretId }), denied);
  });

  it("the service invokes only what the function's policy lets it", async () => {
    const { name, arn } = await world.create({ file: "rotate.mjs" });
    const { SecretId, ARN } = await world.newSecret({ password: "first" });
    const { account } = world.server.credentials;
    const setPolicy = (Condition: object, Service = "secretsmanager.amazonaws.com") => {
      const Statement = [{ Effect: "Allow", Principal: { Service }, Action: "lambda:InvokeFunction", Resource: "*", Condition }];
      return world.ask("functions/put-policy", {
        functionName: name,
        policy: JSON.stringify({ Version: "2012-10-17", Statement }),
      });
    };
    const text = /^Secrets Manager cannot invoke the specified Lambda function\./;
    const refusedNow = () => refused(world.rotate(SecretId, arn), "AccessDeniedException", text);
    await setPolicy({ StringEquals: { "aws:SourceAccount": "999999999999" } });
    await refusedNow();
    await setPolicy({ ArnEquals: { "aws:SourceArn": ARN.replace(SecretId, "another") } });
    await refusedNow();
    await setPolicy({}, "events.amazonaws.com");
    await refusedNow();
    await world.ask("functions/put-policy", { functionName: name, policy: "" });
    await refusedNow();
    assert.equal((await world.root.describeSecret({ SecretId })).RotationLambdaARN, undefined);
    await setPolicy({ ArnEquals: { "aws:SourceArn": ARN }, StringEquals: { "aws:SourceAccount": account } });
    await world.rotate(SecretId, arn);
    assert.equal((await world.rotationOf(SecretId)).state, "succeeded");
    // Asked again at every run.
    await refused(world.rotate((await world.newSecret({ password: "x" })).SecretId, arn), "AccessDeniedException", text);
    await world.root.rotateSecret({
      SecretId,
      RotationRules: { ScheduleExpression: "rate(1 second)" },
      RotateImmediately: false,
    });
    await world.ask("functions/put-policy", { functionName: name, policy: "" });
    const { outcome, reason } = await world.rotationOf(SecretId, (seen) => seen.outcome === "denied");
    assert.equal(outcome, "denied");
    assert.match(String(reason), text);
    await world.root.cancelRotateSecret({ SecretId });
  });

  it("making, changing and calling functions are rights of their own, and a role must be handed on", async () => {
    const process = { runtime: "node", file: "curious.mjs" };
    const { name } = await world.create({ file: "curious.mjs" });
    const member = async (...statements: object[]): Promise<string> => {
      const userName = newName("user");
      await newUser(world.server, userName, ...statements);
      return String((await world.ask("tokens/create", { userName, name: "test" })).token);
    };
    const maker = await member(allow("lambda:CreateFunction", "lambda:UpdateFunctionConfiguration"));
    const nobody = await member(allow("secretsmanager:*"));
    const as = async (token: string, path: string, members: object) => {
      const { status, json } = await native(world.server, path, members, token);
      return `${status} ${json?.code ?? ""} ${json?.detail ?? ""}`;
    };
    const role = world.roleOf(`${name}-role`);
    assert.match(
      await as(maker, "functions/create", { functionName: newName("f"), process, role }),
      /AccessDenied.*iam:PassRole/,
    );
    assert.match(await as(maker, "functions/update", { functionName: name, timeout: 5 }), /AccessDenied.*iam:PassRole/);
    for (const [path, members] of [
      ["functions/invoke", {}],
      ["functions/create", { process, role }],
      ["functions/delete", {}],
      ["functions/logs", {}],
      ["functions/get", {}],
      ["functions/put-policy", { policy: "" }],
      ["functions/policy", {}],
    ] as const)
      assert.match(await as(nobody, path, { functionName: name, ...members }), /^403 AccessDenied/, path);
    const passing = { StringEquals: { "iam:PassedToService": "lambda.amazonaws.com" } };
    const passer = await member(allow("lambda:CreateFunction"), statement("Allow", ["iam:PassRole"], role, passing));
    assert.match(await as(passer, "functions/create", { functionName: newName("f"), process, role }), /^200/);
    assert.match(
      await as(passer, "functions/create", { functionName: newName("f"), process, role: world.roleOf("other") }),
      /iam:PassRole/,
    );
  });

  it("a function's policy may keep a caller from rotating with it, whatever else that one may do", async () => {
    const { name, arn } = await world.create({ file: "rotate.mjs" });
    const user = await newUser(world.server, newName("user"), allow("secretsmanager:*", "lambda:*"));
    const { SecretId } = await world.newSecret({ password: "first" });
    const { policy } = await world.ask("functions/get", { functionName: name });
    const { Statement } = JSON.parse(String(policy));
    Statement.push({ Effect: "Deny", Principal: { AWS: user.arn }, Action: "lambda:InvokeFunction", Resource: "*" });
    await world.ask("functions/put-policy", { functionName: name, policy: JSON.stringify({ Version: "2012-10-17", Statement }) });
    const asked = world.secretsAs(user).rotateSecret({ SecretId, RotationLambdaARN: arn });
    await refused(asked, "AccessDeniedException", /lambda:InvokeFunction .*with an explicit deny in a resource-based policy/);
    await world.rotate(SecretId, arn);
    assert.equal((await world.rotationOf(SecretId)).state, "succeeded");
  });

  it("a role that does not trust functions, or is gone, gives none of its rights", async () => {
    const { name, role } = await world.create({ file: "curious.mjs" });
    const foreign = { Effect: "Allow", Principal: { AWS: world.server.credentials.account }, Action: "sts:AssumeRole" };
    const policyDocument = JSON.stringify({ Version: "2012-10-17", Statement: [foreign] });
    await world.ask("roles/set-trust", { roleName: role, policyDocument });
    const untrusted = await world.invoke(name, {});
    assert.equal(untrusted.outcome, "denied");
    assert.match(String(untrusted.reason), /does not trust lambda.amazonaws.com/);
    await world.ask("roles/delete", { roleName: role });
    assert.equal((await world.invoke(name, {})).outcome, "denied");
  });

  it("credentials, values and tokens are cut out of logs and reasons, and never on record", async () => {
    const secret = await world.newSecret({ username: "app", password: "pass'word\"with\\signs" });
    const reader = await world.create({ file: "curious.mjs", environment: { SETTING: "value-of-a-variable" } });
    await world.rotate(secret.SecretId, reader.arn, { RotateImmediately: false });
    assert.equal((await world.rotationOf(secret.SecretId)).state, "failed", "it is no rotation function");
    const { key, secret: secretKey, token } = JSON.parse((await world.invoke(reader.name, { credentials: true })).payload);
    await world.invoke(reader.name, { print: { SecretId: secret.SecretId } });
    world.write(
      "throws.mjs",
      "export const handler = (event) => { throw new Error('no ' + event.RotationToken + ' ' + process.env.SETTING); }",
    );
    const throwing = await world.create({ file: "throws.mjs", environment: { SETTING: "value-of-a-variable" } });
    await world.rotate(secret.SecretId, throwing.arn);
    const failed = await world.rotationOf(secret.SecretId, ({ reason }) => /throws|failed/.test(reason ?? ""));
    assert.match(String(failed.reason), /during createSecret: function .* failed: Error: no \[secret\] \[secret\]/);
    const told =
      (await world.logs(reader.name)) + (await world.logs(throwing.name)) + JSON.stringify(failed) + world.server.log();
    for (const value of [key, secretKey, token, "pass'word", "value-of-a-variable", "with\\\\signs"])
      assert.ok(!told.includes(value), value);
    assert.match(told, /\[secret\]/);
    await world.root.cancelRotateSecret({ SecretId: secret.SecretId });
  });

  it("a RotationToken is good for its own rotation, version and secret only", async () => {
    const tokens = `
      import { writeFileSync } from "node:fs";
      export async function handler(event) { writeFileSync(process.env.WHERE, JSON.stringify(event)); await new Promise((r) => setTimeout(r, 60_000)); }`;
    world.write("tokens.mjs", tokens);
    const where = join(world.folder, "event.json");
    const { arn } = await world.create({ file: "tokens.mjs", environment: { WHERE: where } });
    const { SecretId } = await world.newSecret({ password: "first" });
    const ClientRequestToken = await world.rotate(SecretId, arn);
    const event = await eventIn(where);
    assert.equal(event.ClientRequestToken, ClientRequestToken);
    const writer = await newUser(world.server, newName("user"), allow("secretsmanager:PutSecretValue"));
    const client = new SecretsManager(clientSettings(world.server, writer));
    const put = (more: object) =>
      client.putSecretValue({ SecretId, ClientRequestToken, SecretString: "{}", VersionStages: ["AWSPENDING"], ...more });
    const text = /^The RotationToken is not that of a rotation under way/;
    await refused(put({ RotationToken: randomUUID() + randomUUID() }), "AccessDeniedException", text);
    await refused(put({ RotationToken: event.RotationToken, ClientRequestToken: randomUUID() }), "AccessDeniedException", text);
    const another = await world.newSecret({ password: "another" });
    await refused(put({ RotationToken: event.RotationToken, SecretId: another.SecretId }), "AccessDeniedException", text);
    await put({ RotationToken: event.RotationToken });
    await world.root.cancelRotateSecret({ SecretId });
    await refused(put({ RotationToken: event.RotationToken, SecretString: "[]" }), "AccessDeniedException", text);
    const trail = JSON.stringify(await world.ask("audit/search", { limit: 1000 }));
    assert.ok(!trail.includes(event.RotationToken ?? "-") && !world.server.log().includes(event.RotationToken ?? "-"));
  });
});

async function eventIn(path: string): Promise<Record<string, string>> {
  for (;;) {
    const text = await readFile(path, "utf8").catch(() => "");
    if (text !== "") return JSON.parse(text);
    await sleep(20);
  }
}
