// Newer code of Rekey's own functions at AWS: what a look does from every point at which an earlier one may have ended. AWS is
// an account on loopback that runs the functions' zips.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { strToU8, zipSync } from "fflate";
import {
  type FarKeys,
  importSigningKey,
  newFarKeys,
  newPrivateJwk,
  publicFarKeys,
  publicJwk,
} from "../../src/crypto/message-keys.ts";
import { createLambdaCaller, type LambdaCaller, type LambdaFunction } from "../../src/functions/lambda.ts";
import { createLambdaCode } from "../../src/functions/lambda-code.ts";
import { probeLambda } from "../../src/functions/lambda-far.ts";
import { writeLambdaManifest } from "../../src/functions/lambda-manifest.ts";
import { createLambdaReleases } from "../../src/functions/lambda-releases.ts";
import { type CodeKnown, lookAtCode } from "../../src/functions/lambda-update.ts";
import { type AwsAccount, startAwsAccount } from "../support/aws-account.ts";
import type { HostedFunction } from "../support/hosted-function.ts";
import { lambdaZip } from "../support/lambda-zips.ts";

const digest = (zip: Uint8Array): string => createHash("sha256").update(zip).digest("base64");
const broken = zipSync({ "app.js": strToU8(`throw new Error("broken");`) });

describe("a look at a function's code", () => {
  let aws: AwsAccount;
  let caller: LambdaCaller;
  let keys: FarKeys;
  let folder: string;
  let older: Uint8Array;
  let newer: Uint8Array;
  const signing = newPrivateJwk("sig");
  const releaseKey = newPrivateJwk("sig");
  const environment: Record<string, string | undefined> = {};

  before(async () => {
    aws = await startAwsAccount();
    // The SDK reads them with each client that it makes.
    for (const [name, value] of Object.entries(aws.env)) {
      environment[name] = process.env[name];
      process.env[name] = value;
    }
    caller = createLambdaCaller();
    keys = await newFarKeys();
    folder = mkdtempSync(join(tmpdir(), "rekey-update-"));
    const [first, second] = [await lambdaZip("postgres", "0.0.8"), await lambdaZip("postgres", "0.0.9")];
    older = first.zip;
    newer = second.zip;
    const release = {
      id: "rekey-postgres",
      kind: "postgres",
      version: "0.0.9",
      releasedAt: new Date().toISOString(),
      sha256: digest(newer),
      build: second.build,
      bytes: newer.length,
      runtimes: ["nodejs22.x"],
      handler: "app.handler",
      protocol: 1,
    };
    writeFileSync(join(folder, "manifest.json"), await writeLambdaManifest([release], await releaseKey));
    writeFileSync(join(folder, "key.json"), JSON.stringify(publicJwk(await releaseKey)));
    writeFileSync(join(folder, "rekey-postgres.zip"), newer);
  });
  after(async () => {
    caller.close();
    await aws[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true, force: true });
    for (const [name, value] of Object.entries(environment)) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  });

  let count = 0;
  async function look(zip: Uint8Array, known: CodeKnown, { begun = true }: { begun?: boolean } = {}) {
    count += 1;
    const hosted: HostedFunction = aws.createFunction({
      name: `rekey-${count}`,
      zip,
      environment: {
        REKEY_KEY_SET: JSON.stringify({ keys: [publicJwk(await signing)] }),
        REKEY_FAR_KEYS: JSON.stringify(keys),
      },
    });
    const record: LambdaFunction = {
      kind: "lambda",
      lambda: { targetArn: hosted.arn, protocol: "rekey", receiver: { ...publicFarKeys(keys) }, autoUpdate: true },
      region: "us-east-1",
      name: hosted.name,
      arn: hosted.arn,
      timeoutSeconds: 30,
      memoryMiB: 256,
      concurrency: 10,
      environmentNames: [],
      createdAt: 0,
      updatedAt: 0,
    };
    const far = {
      call: async (of: LambdaFunction, payload: string, signal: AbortSignal) => ({
        requestId: "1",
        ...(await caller.call(of, payload, signal)).end,
      }),
      signingKeys: { current: async () => importSigningKey(await signing), chain: async () => [] },
      issuer: async () => "installation",
      noteRefusal: async () => {},
      now: Date.now,
    };
    const kept: CodeKnown[] = [];
    const found = await lookAtCode(
      {
        code: createLambdaCode(caller),
        releases: createLambdaReleases({ folder, key: join(folder, "key.json") }),
        probe: (of) => probeLambda(far, of),
        async begin(before) {
          kept.push(before);
          return begun;
        },
      },
      record,
      known,
    );
    return { found, hosted, kept };
  }
  const unknown: CodeKnown = { state: "unknown" };
  const underWay = (former: Uint8Array, wanted: string): CodeKnown => ({
    state: "updating",
    runs: digest(former),
    wanted,
    former,
  });

  it("keeps the former code before it puts newer code in place", async () => {
    const { found, hosted, kept } = await look(older, unknown);
    assert.deepEqual([found.state, found.former], ["current", undefined]);
    assert.equal(hosted.codeSha256, digest(newer));
    assert.equal(kept.length, 1);
    assert.equal(digest(kept[0]?.former ?? new Uint8Array()), digest(older));
    assert.equal((await look(newer, unknown)).kept.length, 0, "what is new enough stays");
  });

  it("goes on where an earlier look ended: before the code was replaced, and after", async () => {
    const before = await look(older, underWay(older, digest(newer)));
    assert.deepEqual([before.found.state, before.hosted.codeSha256], ["current", digest(newer)]);
    const afterwards = await look(newer, underWay(older, digest(newer)));
    assert.deepEqual([afterwards.found.state, afterwards.kept.length], ["current", 0]);
  });

  it("takes back what an earlier look put in place and what does not work", async () => {
    const { found, hosted } = await look(broken, underWay(older, digest(broken)));
    assert.deepEqual([found.state, found.wanted, found.former], ["failed", digest(broken), undefined]);
    assert.equal(hosted.codeSha256, digest(older));
  });

  it("puts no older release in the place of newer code: good signatures do not end", async () => {
    const { zip } = await lambdaZip("postgres", "0.1.0");
    const { found, hosted } = await look(zip, unknown);
    assert.deepEqual([found.state, hosted.codeSha256], ["current", digest(zip)]);
    assert.match(String(found.message), /newer than release 0\.0\.9/);
  });

  it("changes nothing when somebody else has taken the look over", async () => {
    const { found, hosted } = await look(older, unknown, { begun: false });
    assert.deepEqual([found.state, hosted.codeSha256], ["unknown", digest(older)]);
  });

  it("does not try again what has failed", async () => {
    const failed: CodeKnown = { state: "failed", wanted: digest(newer), message: "it did not work" };
    const { found, hosted } = await look(older, failed);
    assert.deepEqual([found.state, found.message, hosted.codeSha256], ["failed", "it did not work", digest(older)]);
  });

  it("replaces no code by a zip that is not the one of the manifest", async () => {
    const file = join(folder, "rekey-postgres.zip");
    const good = readFileSync(file);
    writeFileSync(file, broken);
    const { found, hosted } = await look(older, unknown);
    writeFileSync(file, good);
    assert.deepEqual([found.state, hosted.codeSha256], ["unreachable", digest(older)]);
    assert.match(String(found.message), /is not the one that the manifest names/);
  });

  it("a function that does not answer before is left alone", async () => {
    const { found, hosted } = await look(broken, unknown);
    assert.deepEqual([found.state, hosted.codeSha256], ["unreachable", digest(broken)]);
  });

  it("while AWS refuses, or is away, what was kept stays kept", async () => {
    aws.allow.delete("lambda:GetFunctionConfiguration");
    const { found } = await look(newer, underWay(older, digest(newer)));
    aws.allow.add("lambda:GetFunctionConfiguration");
    assert.deepEqual([found.state, digest(found.former ?? new Uint8Array())], ["updating", digest(older)]);
    assert.match(String(found.message), /lambda:GetFunctionConfiguration/);
  });
});
