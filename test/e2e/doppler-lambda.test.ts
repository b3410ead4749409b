// Integrations and rotated secrets as Doppler's Terraform provider makes them for functions of AWS Lambda: of Doppler's published
// agents (a stand-in that keeps their wire form) and of Rekey's own, at real databases. AWS is an account on loopback.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { strToU8, zipSync } from "fflate";
import { newFarKeys, publicFarKeys } from "../../src/crypto/message-keys.ts";
import { allow, native, nativeOk, newName, newUser } from "../support/aws.ts";
import { type AwsAccount, startAwsAccount } from "../support/aws-account.ts";
import { type CliAnswer, cli } from "../support/doppler.ts";
import { hostDopplerAgent } from "../support/doppler-function.ts";
import type { HostedFunction } from "../support/hosted-function.ts";
import { lambdaZip } from "../support/lambda-zips.ts";
import { type Login, type PairDatabase, pairDatabases } from "../support/pair-databases.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";

const roleARN = "arn:aws:iam::111122223333:role/doppler";
const place = "project=api&config=dev";
const here = "/v3/configs/config/rotated_secrets";
const monthly = 2_592_000;
const terraform = { "User-Agent": "terraform-provider-doppler/1.21.0" };

let aws: AwsAccount;
let server: RekeyServer;
let keySet: string;
let folder: string;
const role = { externalId: "", allow: new Set<string>() };

const asked = (endpoint: string, body?: object, token = server.credentials.token): Promise<CliAnswer> =>
  cli(server, endpoint, { token, basic: true, headers: terraform, ...(body && { body }) });
async function ok(endpoint: string, body?: object) {
  const answer = await asked(endpoint, body);
  assert.equal(answer.status, 200, `${endpoint}: ${answer.text}`);
  return answer.json;
}
async function refused(endpoint: string, message: RegExp, body?: object): Promise<void> {
  const answer = await asked(endpoint, body);
  assert.ok(answer.status >= 400 && answer.status < 500, `${endpoint}: ${answer.text}`);
  assert.match(answer.json.messages.join("\n"), message);
}
const integration = (type: string, lambdaARN: string, name = newName("it")) => ({
  name,
  type,
  data: { roleARN, lambdaARN },
});
/** Everything that an integration may bring along. */
const everything = async () => ({
  integrations: (await nativeOk(server, "integrations/list", {})).integrations,
  functions: (await nativeOk(server, "functions/list", {})).functions,
  networks: (await nativeOk(server, "networks/list", {})).networks,
});
const values = async (): Promise<Record<string, string>> =>
  ok(`GET /v3/configs/config/secrets/download?${place}&format=json&include_dynamic_secrets=true`);

/** As the provider builds them: what is left out is blank. */
function parametersOf(type: string, data: Record<string, unknown>): object {
  const { host, port, username, password } = data;
  const manager = { MANAGING_USER: { USERNAME: username, PASSWORD: password } };
  if (type === "mysql") return { HOST: host, PORT: port, DATABASE: "", ...manager };
  return { HOST: host, PORT: port, DATABASE: "postgres", SSL_CA: "", ...manager };
}
const credentialsOf = (pair: readonly Login[]) =>
  pair.map(({ username, password }) => ({ USERNAME: username, PASSWORD: password }));

async function rotate(name: string): Promise<Login> {
  const before = (await values())[`${name}_PASSWORD`];
  await nativeOk(server, "rotated-secrets/rotate", { project: "api", config: "dev", id: name });
  for (let tries = 0; ; tries++) {
    const now = await values();
    if (now[`${name}_PASSWORD`] !== before)
      return { username: now[`${name}_USERNAME`] ?? "", password: now[`${name}_PASSWORD`] ?? "" };
    const { rotatedSecret } = await nativeOk(server, "rotated-secrets/get", { project: "api", config: "dev", id: name });
    const { rotation } = rotatedSecret as { rotation: { state: string } };
    assert.ok(rotation.state !== "failed" && rotation.state !== "blocked" && tries < 1_200, JSON.stringify(rotatedSecret));
    await sleep(100);
  }
}

before(async () => {
  folder = mkdtempSync(join(tmpdir(), "rekey-doppler-"));
  aws = await startAwsAccount();
  aws.allow.clear();
  aws.allow.add("sts:AssumeRole");
  aws.roles.set(roleARN, role);
  const flags = ["--functions-lambda", "--functions-lambda-prefix", "Doppler_"];
  server = await startRekey({ flags, env: { ...aws.env, REKEY_SETTLE_MS: "0" } });
  keySet = await (await fetch(`${server.endpoint}/.well-known/jwks.json`)).text();
  await ok("POST /v3/projects", { name: "api" });
  const { pendingExternalId } = await ok("POST /v3/integrations/generate_external_id", { type: "aws_postgres" });
  role.externalId = pendingExternalId;
});
beforeEach(() => {
  for (const right of ["lambda:InvokeFunction", "lambda:GetFunctionConfiguration"]) role.allow.add(right);
});
after(async () => {
  await server?.[Symbol.asyncDispose]();
  await aws?.[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

/** Of Rekey's own functions, registered by whoever may. */
async function registerOwn(kind: string): Promise<HostedFunction> {
  const keys = await newFarKeys();
  const { zip } = await lambdaZip(kind);
  const environment = { REKEY_KEY_SET: keySet, REKEY_FAR_KEYS: JSON.stringify(keys) };
  const hosted = aws.createFunction({ name: newName("Doppler_own"), zip, environment });
  const farKey = JSON.stringify(publicFarKeys(keys));
  await nativeOk(server, "functions/create", {
    functionName: newName("own"),
    lambda: { functionArn: hosted.arn, assumeRoleArn: roleARN, externalId: role.externalId, protocol: "rekey", farKey },
  });
  return hosted;
}

async function takesTurns(name: string, pair: readonly [Login, Login], database: PairDatabase): Promise<void> {
  let before: Login = pair[0];
  for (const first of [pair[1], pair[0], pair[1]]) {
    const now = await rotate(name);
    assert.equal(now.username, first.username);
    assert.ok(await database.logsIn(now), "the one that is shown");
    assert.ok(await database.logsIn(before), "the one before it, until its next turn");
    assert.equal(await database.logsIn(first), false, "its first password");
    before = now;
  }
}

/** A secret of one's own that names the managing user gets nothing done by it. */
async function refusesToManage(secretString: string, type: PairDatabase["type"]): Promise<void> {
  const secretId = newName("stolen");
  await nativeOk(server, "secrets/create", { name: secretId, secretString });
  const template = `SecretsManagerRDS${type === "mysql" ? "MySQL" : "PostgreSQL"}RotationMultiUser`;
  const rotationLambdaArn = `arn:aws:lambda:us-east-1:${server.credentials.account}:function:${template}`;
  await nativeOk(server, "secrets/rotate", { secretId, rotationLambdaArn });
  for (let reason: string | undefined; reason === undefined; await sleep(50)) {
    const { rotations } = await nativeOk(server, "rotations/list", { secretId });
    reason = (rotations as { reason?: string }[])[0]?.reason;
    if (reason !== undefined) assert.match(reason, /managing user that masterarn names may not be used/);
  }
  await nativeOk(server, "secrets/delete", { secretId, forceDeleteWithoutRecovery: true });
}

for (const [what, start, skip] of pairDatabases)
  describe(`functions for ${what}, as Terraform names them`, { skip }, () => {
    let database: PairDatabase;
    before(async () => {
      database = await start();
    });
    after(() => database?.dispose());

    const kinds: readonly [string, () => Promise<HostedFunction>][] = [
      ["one of Doppler's agents", async () => hostDopplerAgent(aws, newName("Doppler_rotate"), { kind: database.type, keySet })],
      ["one of Rekey's own", () => registerOwn(database.type)],
    ];
    for (const [whose, host] of kinds)
      it(`${whose}: integration and rotated secret are made, rotate, change and go`, async () => {
        const former = await everything();
        const hosted = await host();
        const type = `aws_${database.type}`;
        const body = integration(type, hosted.arn);
        const made = await ok("POST /v3/integrations", body);
        const { slug } = made.integration;
        assert.deepEqual(made, { integration: { slug, name: body.name, type } });
        assert.deepEqual(await ok(`GET /v3/integrations/integration?integration=${slug}`), made);
        assert.equal((await nativeOk(server, "integrations/verify", { integration: slug })).works, true);
        const functionsNow = (await everything()).functions as { timeout: number; lambda: { protocol: string } }[];
        if (whose.includes("Doppler"))
          assert.deepEqual(functionsNow.find(({ lambda }) => lambda.protocol === "doppler")?.timeout, 20, "as AWS tells it");

        const name = `DB_${randomUUID().slice(0, 8).toUpperCase()}`;
        const pair = await database.newPair();
        const data = database.data() as Record<string, unknown>;
        const request = {
          integration: slug,
          name,
          rotation_period_sec: monthly,
          parameters: parametersOf(database.type, data),
          credentials: credentialsOf(pair),
        };
        const create = `POST ${here}?${place}`;
        const wrong = (more: object) => ({ ...request, parameters: { ...request.parameters, ...more } });
        const other = { USERNAME: data.username, PASSWORD: "canary-wrong" };
        await refused(create, /MANAGING_USER was not accepted, so nothing was made.*refused/, wrong({ MANAGING_USER: other }));
        await refused(create, /MANAGING_USER must have USERNAME and PASSWORD/, wrong({ MANAGING_USER: undefined }));
        await refused(create, /must have HOST and PORT/, wrong({ HOST: "" }));
        await refused(create, /Parameters has extra/, wrong({ EXTRA: 1 }));
        await refused(create, /MANAGING_USER was not accepted.*TLS/i, wrong({ SSL: true }));
        await refused(create, /Credentials\[1\] was not accepted/, {
          ...request,
          credentials: credentialsOf([pair[0], { ...pair[1], password: "canary-wrong" }]),
        });
        const { rotatedSecret } = await ok(create, request);
        const shown = { slug: rotatedSecret.slug, name, project: "api", config: "dev", rotation_period_sec: monthly };
        assert.deepEqual(rotatedSecret, { ...shown, integration: { slug, name: body.name, type } });
        await refused(create, /rotated already/, { ...request, name: `${name}_2` });

        const first = await values();
        assert.deepEqual(
          [first[`${name}_USERNAME`], first[`${name}_PASSWORD`], first[`${name}_HOST`], first[`${name}_PORT`]],
          [pair[0].username, pair[0].password, data.host, String(data.port)],
        );
        const calls = hosted.invocations;
        await takesTurns(name, pair, database);
        assert.ok(hosted.invocations >= calls + 3 * 2);

        const { secretArn: secretId } = (
          await nativeOk(server, "rotated-secrets/get", { project: "api", config: "dev", id: name })
        ).rotatedSecret as { secretArn: string };
        const { secretString } = await nativeOk(server, "secrets/get-value", { secretId });
        assert.ok(!String(secretString).includes("manager-password"), "the managing user's password is nobody's to read");
        assert.match(String(secretString), /"masterarn":"arn:aws:rekey:[^"]*:managing-user\//);
        for (const log of [server.log(), hosted.written]) assert.ok(!log.includes("manager-password") && !log.includes("canary"));

        await refusesToManage(String(secretString), database.type);

        const one = `${here}/rotated_secret?${place}&slug=${rotatedSecret.slug}`;
        const put = await ok(`PUT ${one}`, { name: `${name}_B`, rotation_period_sec: 86_400 });
        assert.deepEqual([put.rotatedSecret.name, put.rotatedSecret.rotation_period_sec], [`${name}_B`, 86_400]);
        await refused(`DELETE /v3/integrations/integration?integration=${slug}`, /is used by rotated secret/);
        await ok(`DELETE ${one}`);
        await ok(`DELETE /v3/integrations/integration?integration=${slug}`);
        const left = await everything();
        assert.deepEqual(left.networks, former.networks);
        assert.deepEqual(left.integrations, former.integrations);
        const mine = (left.functions as unknown[]).length - (former.functions as unknown[]).length;
        assert.equal(mine, whose.includes("Doppler") ? 0 : 1, "what was registered by hand stays");
      });
  });

describe("functions as integrations", () => {
  it("users of SQL Server change their own passwords in turn", async () => {
    const file = join(folder, "contained.json");
    writeFileSync(file, JSON.stringify({ app_1: "first-password-1", app_2: "first-password-2" }));
    const known = (): Record<string, string> => JSON.parse(readFileSync(file, "utf8"));
    const hosted = hostDopplerAgent(aws, newName("Doppler_mssql"), { kind: "sqlserver", keySet, users: file });
    const { slug } = (await ok("POST /v3/integrations", integration("aws_mssql", hosted.arn))).integration;
    const pair = [1, 2].map((end) => ({ username: `app_${end}`, password: `first-password-${end}` }));
    const parameters = { HOST: "sql.internal", PORT: 1433, DATABASE: "shop" };
    const request = {
      integration: slug,
      name: "MSSQL",
      rotation_period_sec: monthly,
      parameters,
      credentials: credentialsOf(pair),
    };
    const manager = { MANAGING_USER: { USERNAME: "a", PASSWORD: "b" } };
    await refused(`POST ${here}?${place}`, /MANAGING_USER is not taken/, {
      ...request,
      parameters: { ...parameters, ...manager },
    });
    await ok(`POST ${here}?${place}`, request);
    assert.equal((await values()).MSSQL_DATABASE, "shop");
    for (const turn of ["app_2", "app_1", "app_2"]) {
      const now = await rotate("MSSQL");
      assert.equal(now.username, turn);
      assert.equal(known()[turn], now.password);
    }
    assert.ok(!Object.values(known()).some((password) => password.startsWith("first-password")));
  });

  it("what does not answer is refused in words, and nothing of it stays", async () => {
    const before = await everything();
    const hosted = hostDopplerAgent(aws, newName("Doppler_pg"), { kind: "postgres", keySet });
    const post = (message: RegExp, lambdaARN = hosted.arn, more: object = {}, type = "aws_postgres") => {
      const body = integration(type, lambdaARN);
      return refused("POST /v3/integrations", message, { ...body, data: { ...body.data, ...more } });
    };
    const right = role.externalId;
    role.externalId = "somebody-elses";
    await post(/Nothing was kept.*could not be assumed: AccessDenied.*external id that was generated for you.*workplace's id/s);
    role.externalId = right;
    await post(/could not be assumed: AccessDenied/, hosted.arn, { roleARN: "arn:aws:iam::111122223333:role/none" });
    await post(/Data.externalId must be one that GenerateExternalId gave/, hosted.arn, { externalId: "of-my-choice" });
    role.allow.delete("lambda:InvokeFunction");
    await post(/AccessDeniedException.*lambda:InvokeFunction on the function/s);
    role.allow.add("lambda:InvokeFunction");
    hosted.throttled = true;
    await post(/TooManyRequestsException.*concurrency/s);
    hosted.throttled = false;
    await post(/ResourceNotFoundException.*Correct the ARN/s, `${hosted.arn}_gone`);
    await post(/names begin with Doppler_/, hosted.arn.replace("Doppler_", "other_"));
    const stranger = hostDopplerAgent(aws, newName("Doppler_pg"), { kind: "postgres", keySet: '{"keys":[]}' });
    await post(/does not take this Rekey's signature.*OVERRIDE_KEY_SET/s, stranger.arn);
    const { zip } = await lambdaZip("postgres");
    const environment = { REKEY_KEY_SET: keySet, REKEY_FAR_KEYS: JSON.stringify(await newFarKeys()) };
    const own = aws.createFunction({ name: newName("Doppler_own"), zip, environment });
    await post(/runs Rekey's own code.*--far-key/s, own.arn);
    const slow = "exports.handler = () => new Promise(() => setInterval(() => {}, 1000));";
    const never = aws.createFunction({
      name: newName("Doppler_slow"),
      zip: zipSync({ "app.js": strToU8(slow) }),
      timeoutSeconds: 1,
    });
    await post(/timed out/, never.arn);
    await post(/Data.roleARN: must be the ARN of a role at AWS/, hosted.arn, { roleARN: "doppler" });
    await post(/Unrecognized key: "vpc"/, hosted.arn, { vpc: "x" });
    await refused("POST /v3/integrations", /Data.roleARN and Data.lambdaARN are missing/, {
      name: "x",
      type: "aws_mssql",
      data: { host: "x" },
    });
    assert.deepEqual(await everything(), before);
  });

  it("attack: the right to make integrations has no function invoked, nor another's role assumed", async () => {
    const before = await everything();
    const hosted = hostDopplerAgent(aws, newName("Doppler_pg"), { kind: "postgres", keySet });
    const tokenOf = async (...statements: object[]) => {
      const userName = newName("maker");
      await newUser(server, userName, ...statements);
      return String((await nativeOk(server, "tokens/create", { userName, name: "t" })).token);
    };
    const functions = ["lambda:CreateFunction", "lambda:InvokeFunction"];
    const networks = ["rekey:CreateNetwork", "rekey:UseNetwork"];
    const invoked = hosted.invocations;
    const seen = aws.calls.length;
    for (const missing of [...functions, ...networks]) {
      const rights = ["rekey:CreateIntegration", ...functions, ...networks].filter((right) => right !== missing);
      const answer = await asked(
        "POST /v3/integrations",
        integration("aws_postgres", hosted.arn),
        await tokenOf(allow(...rights)),
      );
      assert.equal(answer.status, 403, answer.text);
      assert.match(answer.text, new RegExp(missing));
    }
    assert.deepEqual([hosted.invocations, aws.calls.length], [invoked, seen], "AWS is not even asked");
    // All rights, and yet not the id that was generated for another.
    const maker = await tokenOf(allow("rekey:CreateIntegration", ...functions, ...networks));
    const others = await asked("POST /v3/integrations", integration("aws_postgres", hosted.arn), maker);
    assert.match(others.text, /could not be assumed/);
    assert.equal(hosted.invocations, invoked);
    assert.deepEqual(await everything(), before);
    // With one of its own that the role asks for.
    const { pendingExternalId } = (await asked("POST /v3/integrations/generate_external_id", { type: "aws_postgres" }, maker))
      .json;
    aws.roles.set("arn:aws:iam::111122223333:role/its", { externalId: pendingExternalId, allow: role.allow });
    const data = { roleARN: "arn:aws:iam::111122223333:role/its", lambdaARN: hosted.arn };
    const made = await asked("POST /v3/integrations", { ...integration("aws_postgres", hosted.arn), data }, maker);
    assert.equal(made.status, 200, made.text);
    await ok(`DELETE /v3/integrations/integration?integration=${made.json.integration.slug}`);
    assert.deepEqual(await everything(), before);
  });

  it("integrations of one function share what was made, which goes with the last; at once, too", async () => {
    const before = await everything();
    const hosted = hostDopplerAgent(aws, newName("Doppler_pg"), { kind: "postgres", keySet });
    const made = await Promise.all([1, 2, 3].map(() => ok("POST /v3/integrations", integration("aws_postgres", hosted.arn))));
    const now = await everything();
    const added = (name: keyof typeof now) => (now[name] as unknown[]).length - (before[name] as unknown[]).length;
    assert.deepEqual([added("integrations"), added("functions"), added("networks")], [3, 1, 1]);
    const [one, two, three] = made.map(({ integration: { slug } }) => `/v3/integrations/integration?integration=${slug}`);
    await ok(`DELETE ${one}`);
    await ok(`DELETE ${two}`);
    // The same data again, as Terraform may send it, and another function where nothing is rotated yet.
    await ok(`PUT ${three}`, { data: { roleARN, lambdaARN: hosted.arn } });
    const next = hostDopplerAgent(aws, newName("Doppler_pg"), { kind: "postgres", keySet });
    await ok(`PUT ${three}`, { data: { roleARN, lambdaARN: next.arn } });
    const { integration: shown } = await nativeOk(server, "integrations/get", { integration: three?.split("=")[1] });
    assert.deepEqual((shown as { data: object }).data, { roleARN, lambdaARN: next.arn });
    const after = await everything();
    assert.deepEqual((after.functions as unknown[]).length, (before.functions as unknown[]).length + 1, "the first is gone");
    const settings = { project: "api", config: "dev", name: "LEASED", integration: three?.split("=")[1], settings: {} };
    assert.match((await native(server, "dynamic-secrets/create", settings)).text, /makes no leases/);
    await ok(`DELETE ${three}`);
    assert.deepEqual(await everything(), before);
  });
});
