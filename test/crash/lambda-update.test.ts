// The server dies at each point of an update of a function's code at AWS, one after another: afterwards the function runs the
// former or the newer code, what goes back was kept before, and the next start ends what was begun. CRASH_SHARE=1: all points.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { strToU8, zipSync } from "fflate";
import { newFarKeys, newPrivateJwk, publicFarKeys, publicJwk } from "../../src/crypto/message-keys.ts";
import { writeLambdaManifest } from "../../src/functions/lambda-manifest.ts";
import { nativeOk } from "../support/aws.ts";
import { type AwsAccount, startAwsAccount } from "../support/aws-account.ts";
import type { HostedFunction } from "../support/hosted-function.ts";
import { lambdaZip } from "../support/lambda-zips.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";
import { sampleOf } from "../support/sample.ts";
import { type Points, pointsOf } from "./campaign/far-points.ts";

const digest = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("base64");
const root = join(import.meta.dirname, "../..");
const folder = mkdtempSync(join(tmpdir(), "rekey-code-"));
const dataFolder = join(folder, "server");
/** Far beyond what anything here takes. */
const patienceMs = 180_000;
const keys = await newFarKeys();
const releaseKey = await newPrivateJwk("sig");
const { zip: older } = await lambdaZip("postgres", "0.0.8");
const newer = await lambdaZip("postgres", "0.0.9");
const broken = zipSync({ "app.js": strToU8(`throw new Error("broken");`) });

let aws: AwsAccount;
let server: RekeyServer | undefined;
let points: Points;
let keySet = "";
let made = 0;

before(async () => {
  aws = await startAwsAccount();
  points = pointsOf(root, dataFolder);
  writeFileSync(join(folder, "key.json"), JSON.stringify(publicJwk(releaseKey)));
  await publish(newer);
  keySet = await (await fetch(`${(await start()).endpoint}/.well-known/jwks.json`)).text();
});
after(async () => {
  await server?.stop("SIGKILL");
  await aws?.[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

/** What the server has beside it. */
async function publish({ zip, build }: { readonly zip: Uint8Array; readonly build: string }): Promise<void> {
  const about = { id: "rekey-postgres", kind: "postgres", version: "0.0.9", releasedAt: new Date().toISOString() };
  const code = { sha256: digest(zip), build, bytes: zip.length, runtimes: ["nodejs22.x"], handler: "app.handler", protocol: 1 };
  writeFileSync(join(folder, "rekey-postgres.zip"), zip);
  writeFileSync(join(folder, "manifest.json"), await writeLambdaManifest([{ ...about, ...code }], releaseKey));
}

async function start(): Promise<RekeyServer> {
  const flags = ["--functions-lambda", "--functions-releases", folder, "--functions-release-key", join(folder, "key.json")];
  server = await startRekey({ dataFolder, flags, env: { ...points.env, ...aws.env } });
  return server;
}

interface Row {
  readonly state: string;
  readonly runs: string | null;
  readonly former: Uint8Array | null;
}

/** Read from the file: whoever asks the server has it come by points. */
function rowOf({ name }: HostedFunction): Row | undefined {
  using store = new DatabaseSync(join(dataFolder, "rekey.db"), { readOnly: true, timeout: 5_000 });
  return store.prepare("select state, runs, former from function_code where function_arn like ?").get(`%:${name}`) as
    | Row
    | undefined;
}

async function until(isIt: () => boolean, what: string): Promise<void> {
  const giveUpAt = Date.now() + patienceMs;
  while (!isIt()) {
    if (Date.now() > giveUpAt) throw new Error(`waited in vain for ${what}:\n${server?.log().slice(-3_000)}`);
    await sleep(50);
  }
}

/** One with the former code, at which nothing has been done. */
async function host(living: RekeyServer): Promise<HostedFunction> {
  made += 1;
  const environment = { REKEY_KEY_SET: keySet, REKEY_FAR_KEYS: JSON.stringify(keys) };
  const hosted = aws.createFunction({ name: `rekey-postgres-${made}`, zip: older, environment });
  const lambda = { functionArn: hosted.arn, protocol: "rekey", farKey: JSON.stringify(publicFarKeys(keys)) };
  await nativeOk(living, "functions/create", { functionName: hosted.name, lambda });
  await until(() => rowOf(hosted)?.state === "available", "a first look");
  return hosted;
}

const heard = (log: string): number[] => [...log.matchAll(/^points (\d+)$/gm)].map(([, count]) => Number(count));

/** From now on, points count; how many there were since the last time. */
async function countFrom(living: RekeyServer, killAt: number): Promise<number> {
  const before = heard(living.log()).length;
  writeFileSync(points.env.POINTS_FILE, String(killAt));
  process.kill(living.pid, "SIGUSR2");
  await until(() => heard(living.log()).length > before, "points to count");
  return heard(living.log()).at(-1) ?? 0;
}

const askForUpdate = (living: RekeyServer, { name: functionName }: HostedFunction): Promise<unknown> =>
  nativeOk(living, "functions/update", { functionName, lambda: { autoUpdate: true } }).catch(() => undefined); // killed

/** `end`: the state that an update comes to which nobody disturbs. */
async function killAtPoints(release: { zip: Uint8Array; build: string }, end: string, sampled: number): Promise<string[]> {
  await publish(release);
  const after = end === "current" ? digest(release.zip) : digest(older);
  const living = server ?? (await start());
  const alone = await host(living);
  await countFrom(living, 0);
  await askForUpdate(living, alone);
  await until(() => rowOf(alone)?.state === end, "an update that nobody disturbs");
  const all = Array.from({ length: await countFrom(living, 0) }, (_, index) => index + 1);
  const places: string[] = [];
  for (const asked of sampleOf(all, sampled, `points of an update that is ${end}`)) {
    const { first, hosted, point } = await killedAtOrBefore(asked, end);
    const where = `killed ${points.placeIn(first.log())}, point ${point}`;
    places.push(where);
    const left = rowOf(hosted) ?? assert.fail(where);
    assert.ok([digest(older), digest(release.zip)].includes(hosted.codeSha256), where);
    if (hosted.codeSha256 !== digest(older) && left.state !== end)
      assert.equal(left.former && digest(left.former), digest(older), `what goes back is not kept: ${where}`);
    const startedAt = performance.now();
    const second = await start();
    const { lambda } = await nativeOk(second, "functions/get", { functionName: hosted.name });
    const isAsked = (lambda as { autoUpdate?: boolean }).autoUpdate === true;
    await until(() => rowOf(hosted)?.state === (isAsked ? end : "available"), `the end of an update, ${where}`);
    const seconds = (performance.now() - startedAt) / 1_000;
    places.push(`${seconds.toFixed(1)} s`);
    const row = rowOf(hosted);
    assert.deepEqual([row?.runs, row?.former], [hosted.codeSha256, null], where);
    assert.equal(hosted.codeSha256, isAsked ? after : digest(older), where);
  }
  return places;
}

/** An update has not always as many points as the one that was counted. */
async function killedAtOrBefore(asked: number, end: string) {
  for (let point = asked; point > 0; point = Math.floor(point / 2)) {
    const first = server ?? (await start());
    const hosted = await host(first);
    if (await killedAt(point, first, hosted, end)) return { first, hosted, point };
  }
  throw new Error(`no update had a point ${asked} or half as many`);
}

/** False: it came to its end before. */
async function killedAt(point: number, living: RekeyServer, hosted: HostedFunction, end: string): Promise<boolean> {
  await countFrom(living, point);
  await askForUpdate(living, hosted);
  const isDead = () => /^killed /m.test(living.log());
  await until(() => isDead() || rowOf(hosted)?.state === end, "a death or an end");
  await living.stop("SIGKILL");
  server = undefined;
  return isDead();
}

test("killed in an update with code that works, it puts that in place", async (context) => {
  const places = await killAtPoints(newer, "current", 2);
  context.diagnostic(places.join("; "));
  assert.ok(places.length > 0);
});

test("killed in an update with code that does not work, it puts the former code back", async (context) => {
  const places = await killAtPoints({ zip: broken, build: createHash("sha256").update(broken).digest("base64url") }, "failed", 1);
  context.diagnostic(places.join("; "));
  assert.ok(places.length > 0);
});
