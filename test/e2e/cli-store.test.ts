import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { type CommandLine, commandLine, type RunOptions, run as runAnywhere } from "../support/cli.ts";
import { startKms } from "../support/kms.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";

const folder = mkdtempSync(join(tmpdir(), "rekey-cli-"));
let server: RekeyServer;
let root: CommandLine;

const run = (args: readonly string[], options: RunOptions = {}) => runAnywhere(args, { cwd: folder, ...options });

before(async () => {
  server = await startRekey();
  root = commandLine(server.endpoint, server.credentials.token, folder);
});
after(async () => {
  await server[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

test("a server holds its store against writers, and backups are made beside it", async () => {
  for (const args of [
    ["migrate"],
    ["access-key", "create", "--root"],
    ["root-key", "rotate", "--new-root-key", "file:other.key"],
  ]) {
    const { code, err } = await run([...args, "--data", server.dataFolder]);
    assert.equal(code, 1);
    assert.match(err, new RegExp(`is in use by process ${server.pid}: `));
  }
  await root.ask("secret create kept", "in the backup");
  const nowhere = JSON.stringify({ engine: "postgres", host: "127.0.0.1", port: 9, username: "u", password: "p" });
  await root.ask("secret create rotated", nowhere);
  const rotation = ["--function", "SecretsManagerRDSPostgreSQLRotationSingleUser", "--after-days", "10", "--no-immediately"];
  await root.ask(["secret", "rotate", "rotated", ...rotation]);
  const made = await run(["backup", "--to", "online.backup", "--data", server.dataFolder]);
  assert.equal(made.code, 0, made.err);
  const { ok, findings } = JSON.parse((await run(["doctor", "--data", server.dataFolder, "--json"])).out);
  const says = (check: string) => findings.filter((one: { check: string }) => one.check === check);
  assert.deepEqual(says("server"), [{ check: "server", state: "ok", says: `a server answers at ${server.endpoint}` }]);
  assert.deepEqual([ok, says("target")[0].state], [false, "problem"]);
  assert.ok(!readFileSync(join(folder, "online.backup")).includes("in the backup"));
});

test("a restored store answers with the root key that it had", async () => {
  const data = join(folder, "restored");
  assert.equal((await run(["restore", "--from", "online.backup", "--data", data])).code, 0);
  assert.equal((await run(["restore", "--from", "online.backup", "--data", data])).code, 1);
  const without = await run(["doctor", "--data", data]);
  assert.equal(without.code, 1);
  assert.match(without.out, /problem +key +The root key file .* does not exist/);
  copyFileSync(join(server.dataFolder, "root.key"), join(data, "root.key"));
  copyFileSync(join(server.dataFolder, "root-credentials.json"), join(data, "root-credentials.json"));
  const examined = await run(["doctor", "--data", data]);
  assert.match(examined.out, /problem +target +127\.0\.0\.1:9 \(rotated\) cannot be reached: ECONNREFUSED/);
  await using again = await startRekey({ dataFolder: data });
  const env = { REKEY_ENDPOINT: again.endpoint, REKEY_TOKEN: server.credentials.token };
  assert.equal((await run(["secret", "get", "kept"], { env })).out, "in the backup");
  await again.stop();
  assert.match((await run(["audit", "verify", "--data", data])).out, /whole and in order/);
});

test("init, lost credentials, another root key", async () => {
  const data = join(folder, "fresh");
  assert.equal((await run(["init", "--data", data, "--endpoint", "http://127.0.0.1:9"])).code, 0);
  const second = await run(["init", "--data", data]);
  assert.deepEqual([second.code, /initialised already and was not changed/.test(second.err)], [1, true]);
  const modes = [data, join(data, "root.key"), join(data, "rekey.db"), join(data, "root-credentials.json")].map(
    (path) => statSync(path).mode & 0o777,
  );
  assert.deepEqual(modes, [0o700, 0o600, 0o600, 0o600]);
  const first = JSON.parse(readFileSync(join(data, "root-credentials.json"), "utf8"));
  assert.deepEqual(Object.keys(first), ["endpoint", "region", "account", "accessKeyId", "secretAccessKey", "token"]);
  assert.equal((await run(["migrate", "--data", data, "--json"])).out, '{\n  "applied": []\n}\n');
  assert.equal((await run(["access-key", "create", "--root", "--data", data])).code, 0);
  const full = await run(["access-key", "create", "--root", "--data", data]);
  assert.match(full.err, /add --replace/);
  const replaced = JSON.parse((await run(["access-key", "create", "--root", "--replace", "--data", data, "--json"])).out);
  const newKey = join(folder, "new.key");
  assert.equal((await run(["root-key", "rotate", "--data", data, "--new-root-key", `file:${newKey}`])).code, 0);
  assert.ok(existsSync(newKey));
  const old = await run(["access-key", "create", "--root", "--data", data]);
  assert.match(old.err, /is not the one that this store was made with/);
  await using running = await startRekey({ dataFolder: data, flags: ["--root-key", `file:${newKey}`] });
  const env = (token: string) => ({ env: { REKEY_ENDPOINT: running.endpoint, REKEY_TOKEN: token } });
  assert.equal((await run(["user", "list"], env(first.token))).code, 1);
  assert.equal((await run(["user", "list"], env(replaced.token))).code, 0);
  const { out } = await run(["audit", "tail", "--action", "rekey:RotateRootKey"], env(replaced.token));
  assert.match(out, /local:/);
});

test("doctor says what to do", async () => {
  const none = await run(["doctor", "--data", join(folder, "nowhere")]);
  assert.equal(none.code, 1);
  assert.match(none.out, /problem +store +There is no store in .*; rekey init makes one\./);
  const fresh = await run(["doctor", "--data", join(folder, "fresh"), "--root-key", `file:${join(folder, "new.key")}`]);
  assert.match(fresh.out, /advice +files +.*root-credentials\.json still lets/);
  assert.match(fresh.out, /advice +key +.*new\.key lies on the disk of the data/);
  assert.equal(fresh.code, 0);
});

test("the root key may be a file, a variable or AWS KMS, and an exchange that was cut off is done again", async () => {
  await using kms = await startKms();
  const data = join(folder, "exchanged");
  const variable = randomBytes(32).toString("base64");
  const aws = { AWS_ENDPOINT_URL_KMS: kms.endpoint, AWS_ACCESS_KEY_ID: "AKIAEXAMPLE", AWS_SECRET_ACCESS_KEY: "example" };
  const env = { ...aws, REKEY_DATA: data, REKEY_NEXT_KEY: variable, ROOT_KEY: variable };
  const keys = [
    `file:${join(data, "root.key")}`,
    "env:REKEY_NEXT_KEY",
    "aws-kms:arn:aws:kms:us-east-1:123456789012:key/one",
    `file:${join(folder, "back.key")}`,
  ];
  assert.equal((await run(["init"], { env: { REKEY_DATA: data } })).code, 0);
  const { token } = JSON.parse(readFileSync(join(data, "root-credentials.json"), "utf8"));
  for (const [index, to] of keys.slice(1).entries()) {
    const { REKEY_NEXT_KEY, ...others } = env;
    const given = `${keys[index]} ${to}`.includes("REKEY_NEXT_KEY") ? { ...others, REKEY_NEXT_KEY } : others;
    const args = ["root-key", "rotate", "--root-key", String(keys[index]), "--new-root-key", to];
    const first = await run(args, { env: given });
    assert.deepEqual([first.code, first.err], [0, ""], to);
    assert.match(first.out, /^the store is under \S+ now; start servers with --root-key /);
    assert.match((await run(args, { env: given })).out, /^the store is under \S+ already; /);
  }
  const same = await run(["root-key", "rotate", "--root-key", "env:ROOT_KEY", "--new-root-key", "env:ROOT_KEY"], {
    env: { ...aws, REKEY_DATA: data, ROOT_KEY: variable },
  });
  assert.equal(same.code, 2);
  const wrong = await run(["root-key", "rotate", "--root-key", "env:ROOT_KEY", "--new-root-key", "file:third.key"], {
    env: { REKEY_DATA: data, ROOT_KEY: variable },
  });
  assert.match(wrong.err, /is not the one that this store was made with\. Nothing was changed\.\n$/);
  await using running = await startRekey({ dataFolder: data, flags: ["--root-key", String(keys[3])] });
  const { out } = await run(["user", "list"], { env: { REKEY_ENDPOINT: running.endpoint, REKEY_TOKEN: token } });
  assert.equal(out, "no users\n");
});

test("what stands where the root user's file is drafted neither lends it its mode nor is written to", async () => {
  const data = join(folder, "drafted");
  const elsewhere = join(folder, "elsewhere");
  mkdirSync(data, { mode: 0o700 });
  writeFileSync(elsewhere, "", { mode: 0o644 });
  symlinkSync(elsewhere, join(data, "root-credentials.json.new"));
  await using started = await startRekey({ dataFolder: data });
  const file = lstatSync(join(data, "root-credentials.json"));
  assert.deepEqual([file.isFile(), file.mode & 0o777, readFileSync(elsewhere, "utf8")], [true, 0o600, ""]);
  await started.stop();
});

test("files that others may read are told of; an empty folder is closed to them", async () => {
  const data = join(folder, "loose");
  mkdirSync(data, { mode: 0o755 });
  await using loose = await startRekey({ dataFolder: data });
  assert.equal(statSync(data).mode & 0o777, 0o700);
  await loose.stop();
  for (const [name, mode] of [
    ["", 0o755],
    ["rekey.db", 0o644],
    ["root-credentials.json", 0o644],
  ] as const)
    chmodSync(join(data, name), mode);
  await using again = await startRekey({ dataFolder: data });
  assert.equal(again.log().match(/others may read [^"]*; run chmod [67]00 /g)?.length, 3, again.log());
  const found = await run(["doctor", "--data", data]);
  assert.equal(found.out.match(/^problem +files +others may read \S+; run chmod [67]00 /gm)?.length, 3, found.out);
  mkdirSync(join(folder, "home"));
  mkdirSync(join(folder, "home", ".rekey"));
  copyFileSync(join(data, "root-credentials.json"), join(folder, "home", ".rekey", "root-credentials.json"));
  const loosely = await run(["user", "list"], { cwd: join(folder, "home") });
  assert.equal(loosely.code, 1, "it may be somebody else's");
  assert.match(loosely.err, /^rekey: others may read .*root-credentials\.json, so it is not used: chmod 600 /);
  chmodSync(join(folder, "home", ".rekey", "root-credentials.json"), 0o600);
  const asked = await run(["user", "list"], { cwd: join(folder, "home") });
  assert.equal(asked.code, 3, "it names the address of the first start");
  assert.match(
    asked.err,
    /^rekey: the server at .* does not answer; start it with rekey server --listen 127\.0\.0\.1:\d+, or set REKEY_ENDPOINT to where it listens now\n$/,
  );
  assert.match(found.out, /^advice +server +a server runs, but none answers at .*; set REKEY_ENDPOINT/m);
  await again.stop();
  chmodSync(join(data, "root.key"), 0o640);
  const refused = await run(["server", "--data", data]);
  assert.deepEqual([refused.code, /root\.key has mode 0640; others could use it\. Run: chmod 600/.test(refused.err)], [1, true]);
});
