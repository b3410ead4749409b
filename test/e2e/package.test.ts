// The tarball as it would be published: built, packed, laid out as npm lays it out, and used from there.
import assert from "node:assert/strict";
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, describe, it } from "node:test";
import { ListSecretsCommand, SecretsManager } from "@aws-sdk/client-secrets-manager";
import { lambdaTargets } from "../../src/core/lambda-targets.ts";
import { olderNode, olderNodeSkip } from "../support/lambda-zips.ts";

const repository = join(import.meta.dirname, "../..");
const home = mkdtempSync(join(tmpdir(), "rekey-package-"));
const tarball = join(home, "rekey.tgz");
const installed = join(home, "node_modules", "rekey");
const env = { ...process.env, PATH: [dirname(process.execPath), process.env.PATH].join(delimiter) };
const manifest = JSON.parse(readFileSync(join(repository, "package.json"), "utf8"));

before(() => {
  pack();
  install();
});
after(() => rmSync(home, { recursive: true, force: true }));

/** `npm pack` with its build, in a copy: the repository's own `dist` may be in use. */
function pack(): void {
  const copy = join(home, "repository");
  const skipped = [".git", "node_modules", "dist", ".rekey"];
  cpSync(repository, copy, { recursive: true, filter: (path) => !skipped.some((name) => path === join(repository, name)) });
  symlinkSync(join(repository, "node_modules"), join(copy, "node_modules"));
  execFileSync("npm", ["pack", "--silent", "--pack-destination", home], { cwd: copy, env, stdio: "pipe" });
  cpSync(join(home, `rekey-${manifest.version}.tgz`), tarball);
}

/** Its dependencies are those that it names: any other that the code imports would be missing. */
function install(): void {
  mkdirSync(installed, { recursive: true });
  execFileSync("tar", ["-xzf", tarball, "-C", installed, "--strip-components=1"]);
  const { dependencies = {}, peerDependencies = {} } = JSON.parse(readFileSync(join(installed, "package.json"), "utf8"));
  for (const name of Object.keys({ ...dependencies, ...peerDependencies })) {
    const place = join(home, "node_modules", name);
    mkdirSync(dirname(place), { recursive: true });
    symlinkSync(join(repository, "node_modules", name), place);
  }
  mkdirSync(join(home, "node_modules", ".bin"));
  symlinkSync("../rekey/dist/cli.js", join(home, "node_modules", ".bin", "rekey"));
}

const rekey = (...args: string[]) =>
  execFileSync(join(home, "node_modules", ".bin", "rekey"), args, { cwd: home, env, encoding: "utf8", stdio: "pipe" });

/** Starts a program that prints where it listens; stops it when disposed of. */
async function running(command: string, args: string[]) {
  const child = spawn(command, args, { cwd: home, env, stdio: ["ignore", "pipe", "inherit"] });
  let endpoint: string | undefined;
  for await (const line of createInterface(child.stdout)) {
    [, endpoint] = /^rekey: listening on (\S+)$/.exec(line) ?? [];
    if (endpoint) break;
  }
  assert.ok(endpoint, "it did not start");
  return {
    endpoint,
    async [Symbol.asyncDispose]() {
      child.kill("SIGTERM");
      if (child.exitCode === null) await once(child, "exit");
      child.stdout.destroy(); // whoever outlives it may hold the other end
      assert.equal(child.exitCode, 0);
    },
  };
}

async function keepsSecrets(endpoint: string, dataFolder: string): Promise<void> {
  const { accessKeyId, secretAccessKey, region } = JSON.parse(readFileSync(join(dataFolder, "root-credentials.json"), "utf8"));
  const secrets = new SecretsManager({ endpoint, region, credentials: { accessKeyId, secretAccessKey }, maxAttempts: 1 });
  await secrets.createSecret({ Name: "packed", SecretString: "v", Description: "from the tarball" });
  assert.equal((await secrets.getSecretValue({ SecretId: "packed" })).SecretString, "v");
  const found = await secrets.send(new ListSecretsCommand({ Filters: [{ Key: "all", Values: ["tarball"] }] }));
  assert.equal(found.SecretList?.length, 1);
}

describe("the tarball", () => {
  it("holds the built program and its papers, nothing else", (test) => {
    const files = execFileSync("tar", ["-tzf", tarball], { encoding: "utf8" }).trim().split("\n");
    const papers = ["package/package.json", "package/README.md", "package/LICENSE", "package/CHANGELOG.md"];
    const program = /^package\/dist\/.+\.(js|d\.ts)$/;
    const ofFunctions = /^package\/dist\/functions\/(python-bootstrap\.py|templates\/(node|python)\/[\w.-]+)$/;
    const ofLambda = ["manifest.json", "release-key.json", ...lambdaTargets.map((kind) => `rekey-${kind}.zip`)];
    const lambda = ofLambda.map((file) => `package/dist/lambda/${file}`);
    const known = [...papers, ...lambda];
    const strange = files.filter((file) => !(program.test(file) || known.includes(file) || ofFunctions.test(file)));
    assert.deepEqual(strange, []);
    for (const file of [...known, "package/dist/cli.js", "package/dist/index.js", "package/dist/index.d.ts"])
      assert.ok(files.includes(file), file);
    test.diagnostic(`${files.length} files, ${Math.round(statSync(tarball).size / 1024)} KiB packed`);
    const lambdaBytes = lambda.reduce((sum, file) => sum + statSync(join(installed, file.slice("package/".length))).size, 0);
    assert.ok(statSync(tarball).size < lambdaBytes + 1.5 * 1_048_576, "a mebibyte and a half beside the zips: what is in it?");
    assert.ok(lambdaBytes < 3 * 1_048_576, "the zips have grown: what is in them?");
  });

  it("declares the types of what it exports", () => {
    const own = join(home, "use.mts");
    const flags = ["--module", "nodenext", "--strict", "--noEmit", "--target", "es2024", "--skipLibCheck"];
    const text = `import { loadConfig, startServer, type RunningServer } from "rekey";
export const start = (): Promise<RunningServer> => startServer(loadConfig("server", {}, {}));
// @ts-expect-error: settings are needed
export const wrong = () => startServer();
`;
    writeFileSync(own, text);
    execFileSync(join(repository, "node_modules", ".bin", "tsc"), [...flags, own], { cwd: home, env, stdio: "pipe" });
  });
});

describe("in a clone", () => {
  it("a signal to npm ends the server, not only the shell before it", async () => {
    const flags = ["--data", join(home, "cloned"), "--listen", "127.0.0.1:0"];
    let ended = "";
    {
      await using server = await running("npm", ["run", "--silent", "--prefix", repository, "rekey", "--", "server", ...flags]);
      ended = `${server.endpoint}/healthz`;
      assert.equal((await fetch(ended)).status, 200);
    }
    await assert.rejects(fetch(ended));
  });

  it("an install that was cut off does not hold up the next", () => {
    const clone = join(home, "cut-off");
    mkdirSync(join(clone, "scripts"), { recursive: true });
    cpSync(join(repository, "scripts", "run.mjs"), join(clone, "scripts", "run.mjs"));
    writeFileSync(join(clone, "package.json"), JSON.stringify({ name: "cut-off", version: "1.0.0", private: true }));
    writeFileSync(join(clone, "hello.mjs"), "console.log(process.argv.slice(2));");
    execFileSync("npm", ["install", "--no-audit", "--no-fund", "--offline"], { cwd: clone, env, stdio: "pipe" });
    mkdirSync(join(clone, "node_modules", ".bin"), { recursive: true });
    symlinkSync(process.execPath, join(clone, "node_modules", ".bin", "node"));
    const gone = spawnSync(process.execPath, ["--version"]).pid;
    writeFileSync(join(clone, "node_modules", ".installing"), String(gone));
    const words = execFileSync(process.execPath, ["scripts/run.mjs", "hello.mjs", "there"], {
      cwd: clone,
      env,
      encoding: "utf8",
      stdio: "pipe",
      timeout: 120_000,
    });
    assert.equal(words, "[ 'there' ]\n");
    assert.equal(existsSync(join(clone, "node_modules", ".installing")), false);
  });
});

describe("installed", () => {
  it("rekey server answers the AWS SDK, doctor finds nothing broken", async () => {
    const data = join(home, "data");
    const command = join(home, "node_modules", ".bin", "rekey");
    {
      await using server = await running(command, ["server", "--data", data, "--listen", "127.0.0.1:0"]);
      await keepsSecrets(server.endpoint, data);
      assert.match(rekey("doctor", "--data", data), /store/i);
    }
    assert.match(rekey("doctor", "--data", data), /store/i);
    assert.equal(rekey("--version").trim(), manifest.version);
  });

  it("writes a rotation function from each of its templates", () => {
    for (const [template, file] of [
      ["node", "package.json"],
      ["python", "requirements.txt"],
    ] as const) {
      const folder = join(home, `from-${template}`);
      assert.match(rekey("function", "new", "--template", template, folder), /README\.md/);
      assert.ok(existsSync(join(folder, file)));
    }
  });

  it("several processes find their files", async () => {
    const data = join(home, "several");
    const command = join(home, "node_modules", ".bin", "rekey");
    const flags = ["server", "--data", data, "--listen", "127.0.0.1:0", "--processes", "2"];
    await using server = await running(command, flags);
    await keepsSecrets(server.endpoint, data);
  });

  it("a program of somebody else's may start it", async () => {
    const data = join(home, "embedded");
    const script = `import { loadConfig, startServer } from "rekey";
      const server = await startServer(loadConfig("server", {}, ${JSON.stringify({ data, listen: "127.0.0.1:0" })}));
      console.log("rekey: listening on " + server.endpoint);
      process.once("SIGTERM", () => server.close());`;
    await using server = await running(process.execPath, ["--input-type=module", "--eval", script]);
    await keepsSecrets(server.endpoint, data);
  });

  it("the program can be run", () => {
    const file = join(installed, "dist", "cli.js");
    assert.equal(statSync(file).mode & 0o111, 0o111);
    assert.match(readFileSync(file, "utf8"), /^#!\/usr\/bin\/env node\n/);
  });

  it("says which Node.js it needs on an older one", { skip: olderNodeSkip }, () => {
    const file = join(installed, "dist", "cli.js");
    const { status, stdout, stderr } = spawnSync(olderNode ?? "", [file, "server"], { cwd: home, encoding: "utf8" });
    const oldest = manifest.engines.node.replace(">=", "");
    assert.deepEqual([status, stdout], [1, ""]);
    assert.match(stderr, new RegExp(`^rekey: needs Node\\.js ${oldest} or later, and this is 2[0-3]\\..*\\n$`));
  });
});
