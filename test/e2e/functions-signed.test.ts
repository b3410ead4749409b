// A server that runs signed code only: what is refused before it runs, stands in the audit trail, and cannot be swapped.
import assert from "node:assert/strict";
import { generateKeyPairSync, type KeyObject } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { zipSync } from "fflate";
import { signCode } from "../../src/functions/code-signature.ts";
import { native } from "../support/aws.ts";
import { run } from "../support/cli.ts";
import { functionWorld, nodeRotation } from "../support/function-world.ts";
import { startRekey } from "../support/rekey-server.ts";

type World = Awaited<ReturnType<typeof functionWorld>>;
const isRoot = process.getuid?.() === 0 && process.platform === "linux";
const home = mkdtempSync(join(tmpdir(), "rekey-signed-"));
const publishers = join(home, "publishers");
const key = join(home, "team.key");
const mark = join(home, "ran");
/** Tells which code this is, in which process, and leaves a mark where it begins. */
const telling = (text: string) => `
import { writeFileSync } from "node:fs";
try { writeFileSync(${JSON.stringify(mark)} + process.pid, ""); } catch {}
export const handler = async () => ({ text: ${JSON.stringify(text)}, pid: process.pid, file: import.meta.filename });
`;

const rekey = async (...args: string[]) => {
  const { code, out, err } = await run(args, { cwd: home });
  assert.equal(code, 0, err);
  return out;
};
const marks = () => readdirSync(home).filter((name) => name.startsWith("ran"));
const clearMarks = () => {
  for (const name of marks()) rmSync(join(home, name));
};

const team = generateKeyPairSync("ed25519");
const pem = (of: KeyObject) => of.export({ type: "spki", format: "pem" });
before(() => {
  mkdirSync(publishers);
  writeFileSync(join(publishers, "team.pem"), pem(team.publicKey));
  writeFileSync(key, team.privateKey.export({ type: "pkcs8", format: "pem" }), { mode: 0o600 });
});
after(() => rmSync(home, { recursive: true, force: true }));

const sign = async ({ folder }: World, file: string) => {
  const path = join(folder, file);
  const iat = Math.floor(Date.now() / 1000);
  const bundle = { path, kind: statSync(path).isDirectory() ? "folder" : "file" } as const;
  const { text } = await signCode(bundle, team.privateKey, team.publicKey, { iat, exp: iat + 3_600 });
  writeFileSync(`${path}.sig`, text);
};
const signing = (mode: string) => ["--code-signing", mode, "--code-publishers", publishers];
const verified = async (world: World, resource: string) => {
  const { records } = await world.ask("audit/search", { action: "rekey:VerifyFunctionCode", resource });
  return records as { outcome: string; principal: string; parameters: { Reason: string; File: string } }[];
};
const called = async (world: World, name: string) => JSON.parse((await world.invoke(name, {})).payload);

for (const users of isRoot ? ["same", "61284-61287"] : ["same"])
  describe(`enforced signatures, functions as users ${users}`, () => {
    let world: World;
    // What is the same whoever runs the code is tried once.
    const once = users === "same" ? it : (): void => undefined;
    before(async () => {
      world = await functionWorld({ users, flags: signing("enforce") });
    });
    after(() => world[Symbol.asyncDispose]());

    it("a signed bundle rotates a secret, as a file and as a zip", async () => {
      const sdk = import.meta.resolve("@aws-sdk/client-secrets-manager");
      const contents = nodeRotation.replace(sdk, fileURLToPath(sdk));
      const entry = { contents, loader: "js" as const, resolveDir: import.meta.dirname };
      const { outputFiles } = await build({ stdin: entry, bundle: true, write: false, platform: "node", format: "cjs" });
      const [code] = outputFiles ?? [];
      assert.ok(code);
      world.write("rotate.cjs", code.text);
      writeFileSync(join(world.folder, "rotate.zip"), zipSync({ "src/index.cjs": code.contents }));
      for (const [bundle, file] of [
        ["rotate.cjs", "rotate.cjs"],
        ["rotate.zip", "rotate.zip/src/index.cjs"],
      ] as const) {
        await sign(world, bundle);
        const { arn } = await world.create({ file });
        const { SecretId } = await world.newSecret({ password: "first" });
        await world.rotate(SecretId, arn);
        const { state, reason } = await world.rotationOf(SecretId);
        assert.equal(state, "succeeded", reason);
      }
    });

    it("code that is not signed, or no longer, is refused where it is registered and where it is called, and never begins", async () => {
      world.write("plain.mjs", telling("plain"));
      const process = { runtime: "node", file: "plain.mjs" };
      const role = world.roleOf("nobody");
      const refused = await native(world.server, "functions/create", { functionName: "plain", role, process });
      assert.equal(refused.status, 400);
      assert.match(String(refused.json?.detail), /plain\.mjs is not trusted: it has no signature/);
      await sign(world, "plain.mjs");
      const { name, arn } = await world.create({ file: "plain.mjs" });
      assert.equal((await called(world, name)).text, "plain");
      clearMarks();
      world.write("plain.mjs", telling("evil!"));
      const call = await world.invoke(name, {});
      assert.equal(call.outcome, "denied");
      assert.match(String(call.reason), /plain\.mjs is not as it was signed/);
      assert.deepEqual(marks(), []);
      const [newest] = await verified(world, arn);
      assert.equal(newest?.outcome, "AccessDeniedException");
      assert.equal(newest?.principal, "lambda.amazonaws.com");
      assert.match(newest?.parameters.Reason ?? "", /is not as it was signed/);
      assert.equal(newest?.parameters.File, "plain.mjs");
    });

    once("a rotation fails with the reason, and the value stays", async () => {
      world.write("late.mjs", telling("late"));
      await sign(world, "late.mjs");
      const { arn } = await world.create({ file: "late.mjs" });
      rmSync(join(world.folder, "late.mjs.sig"));
      const { SecretId } = await world.newSecret({ password: "first" });
      await world.rotate(SecretId, arn);
      const tried = await world.rotationOf(SecretId, ({ reason }) => reason !== undefined);
      assert.match(String(tried.reason), /late\.mjs is not trusted: it has no signature/);
      assert.equal((await world.value(SecretId)).password, "first");
    });

    once(
      "a process that waits for calls is not called again once its code was swapped, and what waits was verified",
      async () => {
        world.write("warm/index.mjs", telling("good"));
        await sign(world, "warm");
        const { name } = await world.create({ file: "warm/index.mjs" });
        const first = await called(world, name);
        assert.ok(!first.file.startsWith(world.folder));
        assert.equal((await called(world, name)).pid, first.pid);
        world.write("warm/index.mjs", telling("evil"));
        assert.equal((await world.invoke(name, {})).outcome, "denied");
        world.write("warm/index.mjs", telling("good"));
        assert.equal((await called(world, name)).text, "good");
        world.write("warm/index.mjs", telling("next"));
        await sign(world, "warm");
        const next = await called(world, name);
        assert.equal(next.text, "next");
        assert.notEqual(next.pid, first.pid);
        // A publisher who is trusted no more, with a process of theirs still waiting.
        renameSync(join(publishers, "team.pem"), join(home, "away.pem"));
        writeFileSync(join(publishers, "others.pem"), pem(generateKeyPairSync("ed25519").publicKey));
        assert.match(String((await world.invoke(name, {})).reason), /publisher is unknown/);
        renameSync(join(home, "away.pem"), join(publishers, "team.pem"));
        rmSync(join(publishers, "others.pem"));
        assert.equal((await called(world, name)).pid, next.pid);
      },
    );

    once("code in folders above its bundle is not loaded with it, by import or by require", async () => {
      world.write("node_modules/unsigned/index.js", "module.exports = 'unsigned'");
      const data = join(world.server.dataFolder, "code", "node_modules", "unsigned");
      mkdirSync(data, { recursive: true });
      writeFileSync(join(data, "index.js"), "module.exports = 'unsigned'");
      const above = join(world.folder, "above.cjs");
      writeFileSync(above, "module.exports = 'above'");
      const tries = [
        "import('unsigned')",
        "require('unsigned')",
        `import(${JSON.stringify(above)})`,
        `require(${JSON.stringify(above)})`,
      ];
      const body = `import { createRequire } from "node:module"; const require = createRequire(import.meta.url);
        import own from "./own.cjs";
        const attempt = async (work) => { try { return await work(); } catch (error) { return error.message; } };
        export const handler = async () => [own, ${tries.map((one) => `await attempt(async () => String(await ${one}))`).join(", ")}];`;
      world.write("deps/index.mjs", body);
      world.write("deps/own.cjs", "module.exports = require('inner')");
      world.write("deps/node_modules/inner/index.js", "module.exports = 'inner'");
      await sign(world, "deps");
      const { name } = await world.create({ file: "deps/index.mjs" });
      const [own, ...others] = await called(world, name);
      assert.equal(own, "inner");
      for (const answer of others) assert.match(answer, /is not in the function's bundle|Cannot find (module|package)/);
      world.write("deps/node_modules/inner/index.js", "module.exports = 'evil!'");
      assert.match(String((await world.invoke(name, {})).reason), /node_modules\/inner\/index\.js is not as it was signed/);
    });

    it("Python and programs of their own run from their copies, too", async () => {
      world.write("py/lambda_function.py", "import part\ndef lambda_handler(event, context): return part.text\n");
      world.write("py/part.py", "text = 'from python'\n");
      await sign(world, "py");
      const { name } = await world.create({ runtime: "python", file: "py/lambda_function.py" });
      assert.equal(await called(world, name), "from python");
      assert.equal(await called(world, name), "from python");
      world.write("py/part.py", "text = 'from nowhere'\n");
      assert.equal((await world.invoke(name, {})).outcome, "denied");
      const program = `#!/bin/sh
id=$(curl -sD - -o /dev/null "http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation/next" | tr -d '\\r' | awk 'tolower($1)=="lambda-runtime-aws-request-id:"{print $2}')
curl -s -o /dev/null -d '"from a program"' "http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation/$id/response"
`;
      world.write("program.sh", program, 0o755);
      await sign(world, "program.sh");
      const other = await world.create({ runtime: "executable", file: "program.sh" });
      if (existsSync("/usr/bin/curl")) assert.equal(await called(world, other.name), "from a program");
    });

    once("links out of the folder and within it are refused", async () => {
      world.write("real/index.mjs", telling("real"));
      await sign(world, "real");
      const { name } = await world.create({ file: "real/index.mjs" });
      renameSync(join(world.folder, "real"), join(world.folder, "moved"));
      symlinkSync("moved", join(world.folder, "real"));
      assert.match(String((await world.invoke(name, {})).reason), /real is a link/);
    });

    it("copies end with the server", async () => {
      const copies = users === "same" ? join(world.server.dataFolder, "code") : tmpdir();
      const own = () => readdirSync(copies).filter((name) => name.startsWith(`rekey-code-${world.server.pid}-`));
      assert.equal(own().length, 1);
      await world.server.stop();
      for (let asked = 0; own().length > 0; asked += 1) {
        assert.ok(asked < 100, "they are still there");
        await sleep(20);
      }
    });
  });

describe("other settings of code signing", () => {
  it("warn runs what is not signed, and has it on record", async () => {
    await using world = await functionWorld({ flags: signing("warn") });
    world.write("plain.mjs", telling("plain"));
    const { name, arn } = await world.create({ file: "plain.mjs" });
    assert.equal((await called(world, name)).text, "plain");
    const [newest] = await verified(world, arn);
    assert.equal(newest?.outcome, "ok");
    assert.match(newest?.parameters.Reason ?? "", /plain\.mjs is not trusted: it has no signature/);
    await sign(world, "plain.mjs");
    const before = (await verified(world, arn)).length;
    assert.equal((await called(world, name)).text, "plain");
    assert.equal((await verified(world, arn)).length, before);
  });

  it("a server without publishers does not start where signatures count", async () => {
    await assert.rejects(startRekey({ flags: ["--code-signing", "enforce"] }), /--code-signing needs --code-publishers/);
    const flags = ["--code-signing", "warn", "--code-publishers", join(home, "nowhere")];
    await assert.rejects(startRekey({ flags }), /code publishers cannot be used: .*nowhere cannot be read/);
  });

  it("doctor advises signatures where programs may run, and says what keys are wrong", async () => {
    const doctor = (env: NodeJS.ProcessEnv) => run(["doctor", "--json"], { cwd: home, env });
    const dir = { REKEY_FUNCTIONS_DIR: home, REKEY_FUNCTIONS_USERS: "same" };
    const settingsIn = ({ out }: { out: string }) =>
      (JSON.parse(out).findings as { check: string; state: string; says: string }[]).filter(({ check }) => check === "settings");
    const [, advice] = settingsIn(await doctor(dir));
    assert.equal(advice?.state, "advice");
    assert.match(advice?.says ?? "", /--code-signing/);
    const good = { ...dir, REKEY_CODE_SIGNING: "enforce", REKEY_CODE_PUBLISHERS: publishers };
    assert.deepEqual(
      settingsIn(await doctor(good)).map(({ state }) => state),
      ["ok"],
    );
    const [bad] = settingsIn(await doctor({ ...good, REKEY_CODE_PUBLISHERS: key }));
    assert.equal(bad?.state, "problem");
    assert.match(bad?.says ?? "", /holds a private key/);
  });
});

describe("rekey function sign and verify", () => {
  it("sign a folder or a file, and find what was changed since", async () => {
    mkdirSync(join(home, "app"));
    writeFileSync(join(home, "app/index.mjs"), "export const handler = () => 1");
    assert.match(await rekey("function", "new-publisher-key", "second", "--out", publishers), /second\.key signs code: keep it/);
    const second = join(publishers, "second.key");
    assert.equal(statSync(second).mode & 0o777, 0o600);
    assert.match(
      await rekey("function", "sign", "app", "--key", second, "--expires", "90"),
      /^app\.sig: index\.mjs, good until 20/,
    );
    assert.match(
      await rekey("function", "verify", "app", "--publishers", publishers),
      /^app is as second signed it: index\.mjs, good until/,
    );
    const { publisher, files, name } = JSON.parse(await rekey("function", "verify", "app", "--publishers", publishers, "--json"));
    assert.deepEqual([publisher, files.length, name], ["second", 1, "app"]);
    writeFileSync(join(home, "app/index.mjs"), "export const handler = () => 2");
    const failing = await run(["function", "verify", "app", "--publishers", publishers], { cwd: home });
    assert.deepEqual([failing.code, failing.out], [1, ""]);
    assert.match(failing.err, /index\.mjs is not as it was signed/);
  });

  it("say what is wrong with what they are given", async () => {
    const fails = async (args: string[], why: RegExp) => {
      const { code, err } = await run(["function", ...args], { cwd: home });
      assert.notEqual(code, 0);
      assert.match(err, why);
      assert.doesNotMatch(err, /\n\s+at /);
    };
    writeFileSync(join(home, "loose.key"), readFileSync(key), { mode: 0o644 });
    writeFileSync(join(home, "bad.key"), "nonsense", { mode: 0o600 });
    await Promise.all([
      fails(["sign", "app", "--key", "loose.key"], /others may read loose\.key.*chmod 600/),
      fails(["sign", "app", "--key", "none.key"], /none\.key is not there: rekey function new-publisher-key/),

      fails(["sign", "app", "--key", "bad.key"], /bad\.key is no private key/),
      fails(["sign", "app", "--key", key, "--expires", "0"], /--expires must be from 1 to 3650/),
      fails(["sign", "nowhere", "--key", key], /nowhere is not there/),
      fails(["verify", "app", "--publishers", "nowhere"], /nowhere cannot be read/),
      fails(["new-publisher-key", "../x"], /publisher's name/),
      fails(["new-publisher-key", "team"], /team\.key is there already/),
    ]);
  });
});
