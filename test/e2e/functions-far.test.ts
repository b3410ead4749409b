// Rekey's own functions at AWS from the server's side: set up, used by a network, updated and taken back. AWS is an account on
// loopback that runs the functions' zips.
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { strToU8, zipSync } from "fflate";
import { releaseLambdas } from "../../scripts/lambda/release.ts";
import { type FarKeys, newFarKeys, newPrivateJwk, publicFarKeys, publicJwk } from "../../src/crypto/message-keys.ts";
import { type LambdaRelease, writeLambdaManifest } from "../../src/functions/lambda-manifest.ts";
import { native, nativeOk, newName } from "../support/aws.ts";
import { type AwsAccount, startAwsAccount } from "../support/aws-account.ts";
import { commandLine } from "../support/cli.ts";
import type { HostedFunction } from "../support/hosted-function.ts";
import { lambdaZip } from "../support/lambda-zips.ts";
import { type PostgresServer, startPostgres } from "../support/postgres-server.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";
import { functionArn, rotationWorld } from "../support/rotation-e2e.ts";

const repository = join(import.meta.dirname, "../..");
const roleArn = "arn:aws:iam::111122223333:role/rekey-invoke";
const digest = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("base64");

describe("Rekey's own functions at AWS", () => {
  let aws: AwsAccount;
  let server: RekeyServer;
  let database: PostgresServer;
  let folder: string;
  let keySet: string;
  let keys: FarKeys;
  const releaseKey = newPrivateJwk("sig");
  const role = { externalId: "7f2c", allow: new Set<string>() };
  const rights = ["lambda:InvokeFunction", "lambda:GetFunctionConfiguration", "lambda:GetFunction", "lambda:UpdateFunctionCode"];

  before(async () => {
    aws = await startAwsAccount();
    aws.roles.set(roleArn, role);
    aws.allow.clear();
    aws.allow.add("sts:AssumeRole");
    folder = mkdtempSync(join(tmpdir(), "rekey-releases-"));
    keys = await newFarKeys();
    await releaseLambdas({ root: repository, into: folder, kinds: ["postgres"], key: await releaseKey, releasedAt: new Date() });
    for (const name of ["manifest.json", "rekey-postgres.zip"]) copyFileSync(join(folder, name), join(folder, `${name}.good`));
    const key = join(folder, "release-key.json");
    const flags = ["--functions-lambda", "--functions-lambda-prefix", "rekey-", "--functions-releases", folder];
    server = await startRekey({ flags: [...flags, "--functions-release-key", key], env: { ...aws.env, REKEY_SETTLE_MS: "0" } });
    keySet = await (await fetch(`${server.endpoint}/.well-known/jwks.json`)).text();
    database = await startPostgres();
  });
  beforeEach(() => {
    for (const right of rights) role.allow.add(right);
  });
  after(async () => {
    await server[Symbol.asyncDispose]();
    await database[Symbol.asyncDispose]();
    await aws[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true, force: true });
  });

  const release = (): LambdaRelease => {
    const { payload } = JSON.parse(readFileSync(join(folder, "manifest.json"), "utf8")) as { payload: string };
    return (
      (JSON.parse(Buffer.from(payload, "base64url").toString("utf8")) as { functions: LambdaRelease[] }).functions[0] ??
      assert.fail()
    );
  };
  /** The code that the server has beside it; without words: the good one. */
  async function put(zip?: Uint8Array): Promise<void> {
    for (const name of ["manifest.json", "rekey-postgres.zip"]) copyFileSync(join(folder, `${name}.good`), join(folder, name));
    if (!zip) return;
    const build = createHash("sha256").update(zip).digest("base64url");
    const changed = { ...release(), sha256: digest(zip), bytes: zip.length, build, version: "9.9.9" };
    writeFileSync(join(folder, "rekey-postgres.zip"), zip);
    writeFileSync(join(folder, "manifest.json"), await writeLambdaManifest([changed], await releaseKey));
  }

  /** A function at AWS that is set up as it should be, with older code. */
  async function host(environment: object = {}): Promise<HostedFunction> {
    const { zip } = await lambdaZip("postgres", "0.0.9");
    const own = { REKEY_KEY_SET: keySet, REKEY_FAR_KEYS: JSON.stringify(keys), ...environment };
    return aws.createFunction({ name: newName("rekey-postgres"), zip, environment: own });
  }
  const lambdaOf = (hosted: HostedFunction, more: object = {}) => ({
    functionArn: hosted.arn,
    assumeRoleArn: roleArn,
    externalId: "7f2c",
    protocol: "rekey",
    farKey: JSON.stringify(publicFarKeys(keys)),
    ...more,
  });
  async function create(hosted: HostedFunction, more: object = {}): Promise<string> {
    await nativeOk(server, "functions/create", { functionName: hosted.name, lambda: lambdaOf(hosted, more) });
    return hosted.name;
  }
  async function refusal(hosted: HostedFunction, more: object = {}): Promise<string> {
    const { status, json } = await native(server, "functions/create", {
      functionName: hosted.name,
      lambda: lambdaOf(hosted, more),
    });
    assert.equal(status, 400, JSON.stringify(json));
    return String(json?.detail);
  }
  const codeOf = async (functionName: string) =>
    (await nativeOk(server, "functions/get", { functionName })).code as Record<string, string>;
  async function codeWhen(name: string, ...states: string[]): Promise<Record<string, string>> {
    for (;;) {
      const code = await codeOf(name);
      if (states.includes(code.state ?? "")) return code;
      await sleep(200);
    }
  }

  it("is asked for its status before it is taken, and what is wrong is told with what helps", async () => {
    const hosted = await host();
    assert.match(
      await refusal(hosted, { externalId: "other" }),
      /could not be assumed: AccessDenied.*trust policy.*external id/s,
    );
    role.allow.delete("lambda:InvokeFunction");
    assert.match(await refusal(hosted), /AccessDeniedException.*not authorized.*lambda:InvokeFunction on the function/s);
    role.allow.add("lambda:InvokeFunction");
    hosted.throttled = true;
    assert.match(await refusal(hosted), /TooManyRequestsException.*[^.]\. The function's concurrency.*tried again/s);
    hosted.throttled = false;
    const other = publicFarKeys(await newFarKeys());
    assert.match(await refusal(hosted, { farKey: JSON.stringify(other) }), /other keys.*REKEY_FAR_KEYS and --far-key/);
    assert.match(await refusal(hosted, { farKey: JSON.stringify(keys) }), /private keys.*give FILE\.pub/);
    assert.match(await refusal(hosted, { farKey: undefined }), /FarKey is missing/);
    assert.match(await refusal(hosted, { functionArn: hosted.arn.replace("rekey-", "other-") }), /begin with rekey-/);
    assert.match(await refusal(hosted, { functionArn: `${hosted.arn}x` }), /ResourceNotFoundException.*Correct the ARN/s);
    assert.match(await refusal(await host({ REKEY_KEY_SET: "" })), /no public keys of this Rekey.*rekey signing-key export/s);
    assert.match(await refusal(await host({ REKEY_KEY_SET: "{" })), /cannot read the public keys/);
    assert.match(await refusal(await host({ REKEY_FAR_KEYS: "" })), /no keys of its own.*rekey aws keys/s);
    const foreign = JSON.stringify({ keys: [publicJwk(await newPrivateJwk("sig"))] });
    assert.match(
      await refusal(await host({ REKEY_KEY_SET: foreign })),
      /refused the message \(unknown-key\).*signing-key export/s,
    );
    await create(hosted);
  });

  it("an answer that does not come is a timeout that says what to look at", async () => {
    const hosted = await host();
    const slow = aws.createFunction({
      name: newName("rekey-slow"),
      zip: zipSync({ "app.js": strToU8("exports.handler = () => new Promise(() => setInterval(() => {}, 1000));") }),
      timeoutSeconds: 1,
      environment: hosted.environment,
    });
    assert.match(await refusal(slow), /timed out after 1 s\. .*security groups/s);
  });

  it("rotates through a network, with credentials that AWS ended early, too", async () => {
    const hosted = await host();
    const functionName = await create(hosted);
    const network = newName("vpc");
    const { functionArn: far } = await nativeOk(server, "functions/get", { functionName });
    await nativeOk(server, "networks/create", { name: network, functions: { postgres: far } });
    const world = rotationWorld(server, database);
    const first = await world.newLogin({ ssl: false });
    const { SecretId } = await world.newSecret(first);
    await nativeOk(server, "rotations/put-policy", { secretId: SecretId, network });
    for (const turn of ["first", "after its credentials ended"]) {
      const before = hosted.invocations;
      await world.root.rotateSecret({ SecretId, RotationLambdaARN: functionArn(server, "SingleUser") });
      const { state, reason } = await world.rotationOf(SecretId);
      assert.equal(state, "succeeded", `${turn}: ${reason}`);
      assert.ok(hosted.invocations > before, turn);
      aws.expireSessions();
    }
    const last = await world.value(SecretId);
    assert.deepEqual([await world.logsIn(last), await world.logsIn(first)], [true, "28P01"]);
    assert.ok(!hosted.written.includes(last.password));
  });

  it("that does not answer may be described all the same, but not called in another way", async () => {
    const hosted = await host();
    const functionName = await create(hosted);
    hosted.throttled = true;
    await nativeOk(server, "functions/update", { functionName, description: "in the plant", timeout: 20 });
    await nativeOk(server, "functions/update", { functionName, lambda: { autoUpdate: false } });
    assert.equal((await nativeOk(server, "functions/get", { functionName })).description, "in the plant");
    const { status } = await native(server, "functions/update", { functionName, lambda: { externalId: "7f2c" } });
    assert.equal(status, 400);
  });

  it("answers that are forged, and messages that it refuses, end nothing and are on record", async () => {
    const hosted = await host();
    const functionName = await create(hosted);
    const { functionArn: far } = await nativeOk(server, "functions/get", { functionName });
    const network = newName("vpc");
    await nativeOk(server, "networks/create", { name: network, functions: { postgres: far } });
    const world = rotationWorld(server, database);
    const { SecretId } = await world.newSecret(await world.newLogin({ ssl: false }));
    await nativeOk(server, "rotations/put-policy", { secretId: SecretId, network });
    const good = hosted.zip;
    const forger = (answer: string) => zipSync({ "app.js": strToU8(`exports.handler = async ({ body }) => (${answer});`) });
    const refusals = async () => {
      const found = await nativeOk(server, "audit/search", { action: "lambda:InvokeFunction", resource: far, limit: 100 });
      return (found.records as { outcome: string; parameters: Record<string, unknown> }[])
        .filter(({ outcome }) => outcome === "AccessDeniedException")
        .map(({ parameters: { Reply, Refused } }) => `${Reply ?? ""}${Refused ?? ""}`);
    };
    const seen = async (zip: Uint8Array, what: string): Promise<void> => {
      hosted.update(zip);
      const { jobId } = await nativeOk(server, "rotations/check", {
        secretId: SecretId,
        rotationLambdaArn: functionArn(server, "SingleUser"),
      });
      for (let state: unknown; state !== "done"; await sleep(100))
        ({ state } = await nativeOk(server, "rotations/get-job", { jobId }));
      const before = Date.now();
      while (!(await refusals()).includes(what)) {
        assert.ok(Date.now() < before + 120_000, `${what}: ${await refusals()}`);
        await sleep(100);
      }
    };
    await seen(forger(`{ body: "forged" }`), "unreadable");
    await seen(forger(`{ body }`), "other-receiver");
    await seen(forger(`{ status: "ok", body: { ok: true } }`), "other-receiver");
    await seen(forger(`"nonsense"`), "shape");
    hosted.environment.REKEY_KEY_SET = JSON.stringify({ keys: [publicJwk(await newPrivateJwk("sig"))] });
    await seen(good, "unknown-key");
    assert.match(hosted.written, /a message was refused: unknown-key/);
  });

  it("is no rotation function, and says so", async () => {
    const functionName = await create(await host());
    const root = commandLine(server.endpoint, server.credentials.token, folder);
    assert.match(await root.ask(`function show ${functionName}`), /\nPolicy +none, and it needs none: networks call it/);
    const { leastFunctionPolicy } = await nativeOk(server, "functions/policy", { functionName });
    await nativeOk(server, "functions/put-policy", { functionName, policy: leastFunctionPolicy as string });
    const name = newName();
    await nativeOk(server, "secrets/create", { name, secretString: "{}" });
    const { functionArn: rotationLambdaArn } = await nativeOk(server, "functions/get", { functionName });
    const { json } = await native(server, "secrets/rotate", { secretId: name, rotationLambdaArn });
    assert.match(String(json?.detail), /runs built-in rotators for networks/);
  });

  it("one of Doppler's agents is asked for its status as well", async () => {
    const answering = (answer: object) =>
      aws.createFunction({
        name: newName("rekey-doppler"),
        zip: zipSync({ "app.js": strToU8(`exports.handler = async ({ body }) => (${JSON.stringify(answer)});`) }),
      });
    const more = { protocol: "doppler", farKey: undefined };
    const good = answering({ status: "ok", body: {} });
    await create(good, more);
    assert.equal(await codeOf(good.name), undefined, "its code is not Rekey's");
    const stranger = {
      status: "error",
      metadata: { name: "JWSSignatureVerificationFailed", message: "signature verification failed" },
    };
    assert.match(await refusal(answering(stranger), more), /does not take this Rekey's signature.*OVERRIDE_KEY_SET/);
    assert.match(await refusal(good, { ...more, autoUpdate: true }), /AutoUpdate and SignedCode go with Protocol rekey/);
    assert.match(await refusal(good, { farKey: JSON.stringify(publicFarKeys(keys)) }), /--protocol doppler/);
  });

  it("newer code is told, and put in place where that was asked for", async () => {
    await put();
    const hosted = await host();
    const name = await create(hosted);
    const told = await codeWhen(name, "available");
    assert.deepEqual([told.runs, told.newest], [hosted.codeSha256, release().sha256]);
    assert.match(String(told.message), /release .* is there\. To update by hand: .*--auto-update/);
    await nativeOk(server, "functions/update", { functionName: name, lambda: { autoUpdate: true } });
    const done = await codeWhen(name, "current");
    assert.deepEqual([hosted.codeSha256, done.runs], [release().sha256, release().sha256]);
  });

  it("code that does not answer its status is taken back, and not tried again", async () => {
    const hosted = await host();
    const former = hosted.codeSha256;
    await put(zipSync({ "app.js": strToU8(`throw new Error("broken");`) }));
    const name = await create(hosted, { autoUpdate: true });
    const failed = await codeWhen(name, "failed");
    assert.equal(hosted.codeSha256, former);
    assert.match(String(failed.message), /newer code did not work: .*former code runs again/s);
    await put();
    await nativeOk(server, "functions/update", { functionName: name, lambda: { autoUpdate: true } });
    await codeWhen(name, "current");
    assert.equal(hosted.codeSha256, release().sha256);
  });

  it("without the right to update it says which right is missing", async () => {
    await put();
    const hosted = await host();
    role.allow.delete("lambda:UpdateFunctionCode");
    const { message } = await codeWhen(await create(hosted, { autoUpdate: true }), "available");
    assert.match(String(message), /AccessDeniedException.*Give .* lambda:UpdateFunctionCode on the function.*by hand/s);
  });

  it("where AWS asks for signed code, the signed package in S3 is put in place", async () => {
    await put();
    const hosted = await host();
    const signed = zipSync({
      ...(await unzipped(readFileSync(join(folder, "rekey-postgres.zip")))),
      "META-INF/aws-signer": strToU8(randomBytes(8).toString("hex")),
    });
    const former = hosted.codeSha256;
    hosted.acceptsCode = (zip) => digest(zip) === digest(signed) || digest(zip) === former;
    const name = await create(hosted, { autoUpdate: true });
    const { message } = await codeWhen(name, "available");
    assert.match(String(message), /CodeVerificationFailedException.*start-signing-job.*--signed-code/s);
    aws.objects.set("code/signed.zip", signed);
    const signedCode = { bucket: "code", key: "signed.zip", sha256: digest(signed) };
    await nativeOk(server, "functions/update", { functionName: name, lambda: { signedCode } });
    await codeWhen(name, "current");
    assert.equal(hosted.codeSha256, digest(signed));
  });

  it("a manifest of another key puts nothing in place", async () => {
    await put();
    const hosted = await host();
    const former = hosted.codeSha256;
    writeFileSync(join(folder, "manifest.json"), await writeLambdaManifest([release()], await newPrivateJwk("sig")));
    const { message } = await codeWhen(await create(hosted, { autoUpdate: true }), "unreachable");
    assert.match(String(message), /none of the release keys/);
    assert.equal(hosted.codeSha256, former);
  });
});

async function unzipped(zip: Uint8Array): Promise<Record<string, Uint8Array>> {
  const { unzipSync } = await import("fflate");
  return unzipSync(zip);
}
