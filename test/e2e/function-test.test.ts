// `rekey function new` and `rekey function test`: the templates get the full score, and each planted fault loses its points.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, symlinkSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join, resolve } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, describe, it } from "node:test";
import { newName } from "../support/aws.ts";
import { type CommandLine, commandLine } from "../support/cli.ts";
import { functionWorld, python } from "../support/function-world.ts";
import { sampleOf } from "../support/sample.ts";

const faulty = resolve(import.meta.dirname, "../support/functions/faulty.mjs");
const hasBoto = spawnSync(python, ["-c", "import boto3"]).status === 0;
if (!hasBoto && process.env.CI) throw new Error(`no ${python} with boto3`);

interface Score {
  readonly score: number;
  readonly of: number;
  readonly points: readonly { readonly id: string; readonly result: string; readonly reason?: string; readonly remedy: string }[];
}

/** Like the templates' demo target, for any number of users: each begins with the password that it first shows. */
async function startTarget(): Promise<Server & { url: string }> {
  const passwords = new Map<string, string>();
  const server = createServer(async (request, response) => {
    const given = Buffer.from((request.headers.authorization ?? "").slice(6), "base64").toString();
    const [user = "", password = ""] = given.split(":");
    const body = await text(request);
    const known = passwords.get(user) ?? "first-password";
    if (password !== known) response.writeHead(401);
    else if (request.method === "PUT") {
      passwords.set(user, JSON.parse(body).password);
      response.writeHead(204);
    }
    response.end();
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  return Object.assign(server, { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` });
}

describe("rekey function test", { concurrency: 3 }, () => {
  let world: Awaited<ReturnType<typeof functionWorld>>;
  let target: Awaited<ReturnType<typeof startTarget>>;
  let rekey: CommandLine;
  before(async () => {
    [world, target] = await Promise.all([functionWorld(), startTarget()]);
    rekey = commandLine(world.server.endpoint, world.server.credentials.token, world.folder);
    symlinkSync(resolve(import.meta.dirname, "../../node_modules"), join(world.folder, "node_modules"));
  });
  after(async () => {
    target.close();
    target.closeAllConnections();
    await world[Symbol.asyncDispose]();
  });
  const newSecret = async (more: object = {}) => {
    const username = newName("user").replaceAll("/", "-");
    return (await world.newSecret({ url: target.url, username, password: "first-password", ...more })).SecretId;
  };
  const tested = async (file: string, secret: string, more: readonly string[] = []) => {
    const args = ["function", "test", file, "--secret", secret, "--yes", "--json", ...more];
    const { code, out, err } = await rekey.run(args);
    assert.notEqual(out, "", err);
    const score = JSON.parse(out) as Score;
    assert.equal(code, score.score === score.of ? 0 : 1);
    return score;
  };
  const lostOf = ({ points }: Score) => points.filter(({ result }) => result === "lost").map(({ id }) => id);
  const why = ({ points }: Score) => points.filter(({ result }) => result !== "won").map(({ id, reason }) => `${id}: ${reason}`);

  it("a function that keeps the contract gets the full score, and the secret works at the end", async () => {
    const secret = await newSecret();
    const score = await tested(faulty, secret);
    assert.deepEqual([why(score), score.score, score.of], [[], 47, 47]);
    const value = await world.value(secret);
    assert.equal(value.url, target.url, "the kit's own addresses are not in it");
    const authorization = `Basic ${btoa(`${value.username}:${value.password}`)}`;
    assert.equal((await fetch(target.url, { headers: { authorization } })).status, 200);
    const labels = (await world.root.describeSecret({ SecretId: secret })).VersionIdsToStages ?? {};
    assert.ok(Object.values(labels).every((stages) => !stages.includes("AWSPENDING") || stages.includes("AWSCURRENT")));
  });

  /** The points that each fault must lose; `only`: and no others. */
  const faults: readonly { readonly fault: string; readonly loses: readonly string[]; readonly only?: boolean }[] = [
    { fault: "value made anew", loses: ["again-createSecret", "lost-createSecret", "again-all", "one-version"] },
    { fault: "set once", loses: ["again-setSecret", "lost-setSecret", "again-all"] },
    { fault: "finish once", loses: ["again-finishSecret", "lost-finishSecret", "kill-answer-finishSecret", "cut-label"] },
    { fault: "nothing tested", loses: ["test-refuses", "unreachable-testSecret", "silent-testSecret"], only: true },
    { fault: "value logged", loses: ["secrecy"], only: true },
    { fault: "value in an error", loses: ["secrecy"], only: true },
    { fault: "token ignored", loses: ["plain-createSecret"] },
    { fault: "current at once", loses: ["untouched"] },
    { fault: "no answer is a refusal", loses: ["unreachable-setSecret", "silent-setSecret"], only: true },
    { fault: "no timeout", loses: ["silent-setSecret", "silent-testSecret"], only: true },
    { fault: "labels not looked at", loses: ["unknown-token", "not-pending"] },
    { fault: "current for pending", loses: ["no-value"] },
    { fault: "any step", loses: ["unknown-step"], only: true },
  ];
  for (const { fault, loses, only = false } of sampleOf(faults, 2, "faults of functions"))
    it(`finds: ${fault}`, async () => {
      const score = await tested(faulty, await newSecret(), ["--env", `FAULT=${fault}`, "--timeout-seconds", "10"]);
      const lost = lostOf(score);
      assert.deepEqual(
        loses.filter((id) => !lost.includes(id)),
        [],
        why(score).join("\n"),
      );
      if (only) assert.deepEqual(lost, loses, why(score).join("\n"));
      for (const { result, remedy, reason } of score.points)
        assert.ok(result !== "lost" || (remedy.length > 20 && reason), remedy);
      assert.doesNotMatch(JSON.stringify(score), /first-password/);
    });

  for (const template of ["node", "python"] as const)
    it(`the ${template} template is complete: made, tested, set up`, { skip: template === "python" && !hasBoto }, async () => {
      const name = `from-${template}`;
      const { files, file } = await rekey.askJson(`function new --template ${template} ${name}`);
      for (const path of files as string[]) {
        const written = readFileSync(join(world.folder, path), "utf8");
        assert.ok(!/\bNAME\b/.test(written), path);
      }
      const secret = await newSecret();
      const printed = await rekey.ask(`function test ${file} --secret ${secret} --python ${python} --yes`);
      assert.match(printed, /\n47\/47\n$/);
      assert.match(printed, /ok +createSecret stores a new value/);
      const setUp = `rotation setup ${secret} --function ${name} --runtime ${template} --file ${file} --yes`;
      assert.match(await rekey.ask(setUp), /is set up; it was rotated/);
    });

  it("without a target leaves out what only a target shows; a registered function is found in the server's folder", async () => {
    const file = world.write("kit/plain.mjs", readFileSync(faulty, "utf8"));
    const { name } = await world.create({ file: "kit/plain.mjs" });
    const secret = (await world.newSecret({ password: "first-password" })).SecretId;
    assert.ok(existsSync(file));
    const noTarget = ["--no-target", "--functions-dir", world.folder, "--env", "FAULT=nothing tested"];
    const { points } = await tested(name, secret, noTarget);
    const skipped = points.filter(({ result }) => result === "skipped").map(({ id }) => id);
    assert.ok(["test-refuses", "unreachable-setSecret", "target-lost", "current-works"].every((id) => skipped.includes(id)));
  });

  it("does nothing without a yes, to a secret that is being rotated, or with a wrong call", async () => {
    const secret = await newSecret();
    const before = (await world.root.describeSecret({ SecretId: secret })).VersionIdsToStages;
    world.write("taken/file.txt", "somebody else's");
    for (const [command, code, message] of [
      [`${faulty} --secret ${secret}`, 1, /nothing was done; --yes/],
      [`${faulty} --yes`, 2, /--secret/],
      [`none.mjs --secret ${secret} --yes`, 1, /Function not found/],
      [`${faulty} --secret ${secret} --yes --env PATH=x`, 2, /PATH is kept/],
      [`${faulty} --secret ${secret} --yes --timeout-seconds 0`, 2, /from 1 to 900/],
    ] as const) {
      const ran = await rekey.run(`function test ${command}`);
      assert.match(ran.err, message, command);
      assert.equal(ran.code, code, command);
    }
    assert.deepEqual((await world.root.describeSecret({ SecretId: secret })).VersionIdsToStages, before);
    await world.root.rotateSecret({ SecretId: secret, RotationLambdaARN: world.arnOf("RekeyRandomRotation") });
    const { code: refused, err: why } = await rekey.run(`function test ${faulty} --secret ${secret} --yes`);
    assert.deepEqual([refused, /rotation of \S+ is on: take another secret/.test(why)], [1, true], why);
    for (const [command, code, message] of [
      ["--template cobol x", 2, /node or python/],
      ["--template node .bad!", 2, /cannot be a function's name/],
      ["--template node taken", 1, /is not empty/],
    ] as const) {
      const ran = await rekey.run(`function new ${command}`);
      assert.match(ran.err, message, command);
      assert.equal(ran.code, code, command);
    }
  });
});
