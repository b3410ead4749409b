// How calls of process functions end: time, memory, crashes, retries, the end of the server; and what of it people are told.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { functionTools, functionWorld, nodeRotation, python } from "../support/function-world.ts";
import { startRekey } from "../support/rekey-server.ts";

type World = Awaited<ReturnType<typeof functionWorld>>;

/** Does what its event says. */
const many = `
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
let calls = 0;
export async function handler(event) {
  calls += 1;
  const kept = [];
  switch (event.do) {
    case "spin": for (;;) {}
    case "wait": await new Promise((resolve) => setTimeout(resolve, event.ms)); break;
    case "child": writeFileSync(event.file, String(spawn("sleep", ["600"], { stdio: "ignore" }).pid)); for (;;) {}
    case "heap": for (;;) kept.push(new Array(1e6).fill(Math.random()));
    case "buffers": for (;;) kept.push(Buffer.alloc(50 << 20, 1));
    case "exit": process.exit(3);
    case "abort": process.abort();
    case "throw": throw new TypeError("not so");
    case "string": throw "just text";
    case "shout": process.stdout.write("x".repeat(400_000)); break;
    case "huge": return "x".repeat(7 << 20);
  }
  return { calls, pid: process.pid, home: process.env.HOME };
}`;

describe("the life of process functions", () => {
  let world: World;
  before(async () => {
    world = await functionWorld({ flags: ["--drain-seconds", "1"] });
    world.write("many.mjs", many);
    world.write("rotate.mjs", nodeRotation);
  });
  after(() => world[Symbol.asyncDispose]());

  it("is warm between calls, and begins anew when its file or its settings change", async () => {
    const { name } = await world.create({ file: "many.mjs" });
    const call = async () => JSON.parse((await world.invoke(name, {})).payload) as { calls: number; pid: number; home: string };
    const first = await call();
    assert.deepEqual(await call(), { ...first, calls: 2 });
    world.write("many.mjs", `${many}\n// changed`);
    const second = await call();
    assert.equal(second.calls, 1);
    assert.notEqual(second.pid, first.pid);
    assert.equal(existsSync(first.home), false, "its folder went with it");
    await world.ask("functions/update", { functionName: name, timeout: 31 });
    assert.equal((await call()).calls, 1);
  });

  it("is killed at its timeout with all that it started, and the sentence names network, security group and timeout", async () => {
    const { name } = await world.create({ file: "many.mjs", timeout: 1 });
    const file = join(world.folder, "child.pid");
    const call = await world.invoke(name, { do: "child", file });
    assert.equal(call.functionError, "Unhandled");
    assert.match(call.payload, /Task timed out after 1\.00 seconds/);
    assert.equal(call.outcome, "timeout");
    assert.match(String(call.reason), /timed out after 1 s/);
    for (const word of [/network/, /security group/, /timeout is longer/]) assert.match(String(call.remedy), word);
    await gone(Number(readFileSync(file, "utf8")));
  });

  it("ends in words when it crashes, runs out of memory, answers too much or cannot be loaded", async () => {
    const { name } = await world.create({ file: "many.mjs", memorySize: 128 });
    const told = async (event: object, functionName = name) => {
      const { outcome, reason } = await world.invoke(functionName, event);
      return `${outcome}: ${reason}`;
    };
    assert.match(await told({ do: "throw" }), /^unknown: function .* failed: TypeError: not so$/);
    assert.match(await told({ do: "string" }), /^unknown: .* Error: just text$/);
    assert.match(await told({ do: "exit" }), /^unknown: .* ended before it answered: exit status 3$/);
    assert.match(await told({ do: "abort" }), /^unknown: .* ended before it answered: signal 6$/);
    assert.match(await told({ do: "heap" }), /^invalid: .* ran out of its 128 MiB of memory$/);
    assert.match(await told({ do: "buffers" }), /^invalid: .* ran out of its 128 MiB of memory$/);
    assert.match(await told({ do: "huge" }), /^unknown: .* failed: Function.ResponseSizeTooLarge: /);
    world.write("broken.mjs", "import 'nowhere';");
    const broken = await world.create({ file: "broken.mjs" });
    assert.match(await told({}, broken.name), /^invalid: .* could not begin: .*Cannot find package 'nowhere'/);
    assert.match(await told({ do: "none" }), /^undefined/, "it works again");
  });

  it("holds Python functions to their memory, and tells of their errors", async () => {
    world.write(
      "memory.py",
      "def lambda_handler(event, context):\n  if event.get('do') == 'raise': raise ValueError('wrong')\n  data = []\n  while True: data.append(b'x' * (20 << 20))\n",
    );
    const { name } = await world.create({ runtime: "python", file: "memory.py", memorySize: 128 });
    assert.match(String((await world.invoke(name, {})).reason), /ran out of its 128 MiB of memory/);
    assert.match(String((await world.invoke(name, { do: "raise" })).reason), /failed: ValueError: wrong/);
    assert.match(await world.logs(name), /Traceback/);
  });

  it("runs any executable that speaks the Runtime API", async () => {
    const code = `#!${python}
import http.client, json, os
api = "/2018-06-01/runtime/invocation/"
while True:
    asked = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    asked.request("GET", api + "next")
    answer = asked.getresponse()
    event = json.loads(answer.read())
    headers = ["Lambda-Runtime-Aws-Request-Id", "Lambda-Runtime-Deadline-Ms", "Lambda-Runtime-Invoked-Function-Arn"]
    given = [answer.headers[name] for name in headers]
    for path in ["00000000-0000-0000-0000-000000000000/response", given[0] + "/response", given[0] + "/response"]:
        asked.request("POST", api + path, json.dumps([event, given]))
        again = asked.getresponse()
        print(again.status, again.read().decode())
`;
    world.write("custom", code, 0o755);
    const { name, arn } = await world.create({ runtime: "executable", file: "custom" });
    const { payload, requestId } = await world.invoke(name, { hello: 1 });
    const [event, [id, deadline, invoked]] = JSON.parse(payload);
    assert.deepEqual([event, id, invoked], [{ hello: 1 }, requestId, arn]);
    assert.ok(Number(deadline) > Date.now());
    await world.invoke(name, {});
    assert.match(await world.logs(name), /400 .*InvalidRequestID[\s\S]*202[\s\S]*400 .*InvalidRequestID/);
  });

  it("keeps a bounded log, and no more calls at once than it may have", async () => {
    const { name } = await world.create({ file: "many.mjs", concurrency: 1 });
    await world.invoke(name, { do: "shout" });
    const shouted = await world.logs(name);
    assert.ok(shouted.length < 70_000);
    assert.match(shouted, /^START RequestId/);
    const busy = world.invoke(name, { do: "wait", ms: 1_500 });
    let second = await world.invoke(name, {});
    while (second.outcome === undefined) second = await world.invoke(name, {});
    assert.equal(second.outcome, "unreachable");
    assert.match(String(second.reason), /runs 1 times at once already/);
    assert.equal((await busy).functionError, undefined);
    for (let call = 0; call < 55; call++) await world.invoke(name, {});
    const { logs } = await world.ask("functions/logs", { functionName: name, limit: 50 });
    assert.equal((logs as unknown[]).length, 50);
  });

  it("a rotation that fails is tried again from its first step, under the same token, and says why meanwhile", async () => {
    const flag = join(world.folder, "works");
    const flaky = `
import { existsSync } from "node:fs";
import { handler as rotate } from "./rotate.mjs";
export async function handler(event) {
  if (event.Step === "testSecret" && !existsSync(${JSON.stringify(flag)})) throw new Error("the service is down");
  return rotate(event);
}`;
    world.write("flaky.mjs", flaky);
    const { name, arn } = await world.create({ file: "flaky.mjs" });
    const { SecretId, VersionId } = await world.newSecret({ password: "first" });
    const token = await world.rotate(SecretId, arn);
    const waiting = await world.rotationOf(SecretId, ({ failedTries }) => failedTries > 0);
    assert.equal(waiting.state, "running");
    assert.match(String(waiting.reason), /^during testSecret: function .* failed: Error: the service is down$/);
    assert.match(String(waiting.remedy), new RegExp(`rekey function logs ${name}`));
    const described = await world.root.describeSecret({ SecretId });
    assert.deepEqual(described.VersionIdsToStages, { [VersionId]: ["AWSCURRENT"], [token]: ["AWSPENDING"] });
    const pending = await world.value(SecretId, "AWSPENDING");
    world.write("works", "");
    assert.equal((await world.rotationOf(SecretId)).state, "succeeded");
    assert.deepEqual(await world.value(SecretId), pending);
    assert.match(await world.logs(name), /step createSecret[\s\S]*step createSecret/);
    rmSync(flag);
  });

  it("what must hold after a step is looked at: a value after createSecret, AWSCURRENT after finishSecret", async () => {
    world.write("idle.mjs", "export const handler = () => 'fine'");
    const idle = await world.create({ file: "idle.mjs" });
    const one = await world.newSecret({ password: "first" });
    await world.rotate(one.SecretId, idle.arn);
    const first = await world.rotationOf(one.SecretId, ({ failedTries }) => failedTries > 0);
    assert.match(String(first.reason), /^during createSecret: .* AWSPENDING has no value$/);
    assert.match(String(first.remedy), /PutSecretValue/);
    world.write(
      "nofinish.mjs",
      `import { handler as rotate } from "./rotate.mjs"; export const handler = (event) => event.Step === "finishSecret" ? 1 : rotate(event)`,
    );
    const lazy = await world.create({ file: "nofinish.mjs" });
    const two = await world.newSecret({ password: "first" });
    await world.rotate(two.SecretId, lazy.arn);
    const second = await world.rotationOf(two.SecretId, ({ failedTries }) => failedTries > 0);
    assert.match(String(second.reason), /^during finishSecret: .* AWSCURRENT is not at the new version$/);
    assert.equal((await world.value(two.SecretId)).password, "first");
    for (const { SecretId } of [one, two]) await world.root.cancelRotateSecret({ SecretId });
  });

  it("RotateImmediately false only tests, with a copy of the current value that goes again", async () => {
    world.write(
      "says.mjs",
      `import { handler as rotate } from "./rotate.mjs"; export const handler = (event) => { console.log("asked", event.Step); return rotate(event); }`,
    );
    const { name, arn } = await world.create({ file: "says.mjs" });
    const { SecretId, VersionId } = await world.newSecret("not JSON");
    await world.rotate(SecretId, arn, { RotateImmediately: false, RotationRules: { AutomaticallyAfterDays: 30 } });
    const rotation = await world.rotationOf(SecretId);
    assert.deepEqual([rotation.state, rotation.testOnly], ["succeeded", true], rotation.reason);
    assert.deepEqual((await world.logs(name)).match(/asked \w+/g), ["asked testSecret"]);
    const described = await world.root.describeSecret({ SecretId });
    assert.deepEqual(described.VersionIdsToStages, { [VersionId]: ["AWSCURRENT"] });
    assert.equal(described.LastRotatedDate, undefined);
  });

  it("a secret without any value gets its first from the function", async () => {
    world.write("first.mjs", nodeRotation.replace(/const \{ SecretString \}[^;]*;/, "const SecretString = '{}';"));
    const { name, arn } = await world.create({ file: "first.mjs" });
    const SecretId = `empty-${randomUUID()}`;
    await world.root.createSecret({ Name: SecretId });
    const token = await world.rotate(SecretId, arn);
    const rotation = await world.rotationOf(SecretId);
    assert.equal(rotation.state, "succeeded", rotation.reason + (await world.logs(name)));
    assert.ok((await world.root.describeSecret({ SecretId })).VersionIdsToStages?.[token]?.includes("AWSCURRENT"));
  });

  it("a rotation that is canceled ends the call under way", async () => {
    world.write(
      "long.mjs",
      `import { writeFileSync } from "node:fs";
export const handler = () => { console.log("pid", process.pid); writeFileSync("called", ""); return new Promise((done) => setTimeout(done, 100_000)); }`,
    );
    const { name, arn } = await world.create({ file: "long.mjs", timeout: 120 });
    const { SecretId } = await world.newSecret({ password: "first" });
    await world.rotate(SecretId, arn);
    while (!existsSync(join(world.folder, "called"))) await sleep(20);
    await world.root.cancelRotateSecret({ SecretId });
    let log = "";
    while (!log.includes("pid")) {
      log = await world.logs(name);
      await sleep(50);
    }
    assert.match(log, /was stopped/);
    await gone(Number(/pid (\d+)/.exec(log)?.[1]));
  });
});

describe("functions and the end of the server", () => {
  it("processes die with a server that is killed, even one that never looks up, and the rotation goes on after the restart", async () => {
    const dataFolder = mkdtempSync(join(tmpdir(), "rekey-killed-"));
    const folder = mkdtempSync(join(tmpdir(), "rekey-functions-"));
    const started = () => startRekey({ dataFolder, flags: ["--functions-dir", folder, "--functions-users", "same"] });
    const server = await started();
    const world = functionTools(server, folder);
    const stuck = `
import { existsSync, writeFileSync } from "node:fs";
import { handler as rotate } from "./rotate.mjs";
export async function handler(event) {
  if (event.Step === "setSecret" && !existsSync(${JSON.stringify(join(folder, "pid"))})) {
    writeFileSync(${JSON.stringify(join(folder, "pid"))}, String(process.pid));
    for (;;) {}
  }
  return rotate(event);
}`;
    world.write("rotate.mjs", nodeRotation);
    world.write("stuck.mjs", stuck);
    const { arn } = await world.create({ file: "stuck.mjs", timeout: 300 });
    const { SecretId } = await world.newSecret({ password: "first" });
    const token = await world.rotate(SecretId, arn);
    while (!readdirSync(folder).includes("pid")) await sleep(20);
    await sleep(50);
    const pid = Number(readFileSync(join(folder, "pid"), "utf8"));
    process.kill(pid, 0);
    await server.stop("SIGKILL");
    await gone(pid);
    await using again = await started();
    const later = functionTools(again, folder);
    assert.equal((await later.rotationOf(SecretId)).state, "succeeded");
    assert.ok((await later.root.describeSecret({ SecretId })).VersionIdsToStages?.[token]?.includes("AWSCURRENT"));
    await again.stop();
    rmSync(dataFolder, { recursive: true });
    rmSync(folder, { recursive: true });
  });
});

/** Waits until there is no such process. */
async function gone(pid: number): Promise<void> {
  for (;;) {
    try {
      process.kill(pid, 0);
      if (/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"))) return; // ended, and nobody has asked how
    } catch {
      return;
    }
    await sleep(20);
  }
}
