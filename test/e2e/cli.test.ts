import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, describe, test } from "node:test";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";

const program = join(import.meta.dirname, "../../src/cli.ts");
const folder = mkdtempSync(join(tmpdir(), "rekey-cli-"));
let server: RekeyServer;

interface Ran {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** Runs `rekey` as a user would, with `input` on standard input. */
async function run(
  args: readonly string[],
  options: { input?: string; env?: NodeJS.ProcessEnv; cwd?: string } = {},
): Promise<Ran> {
  const env = { PATH: process.env.PATH, ...options.env };
  const child = spawn(process.execPath, [program, ...args], { env, cwd: options.cwd ?? folder });
  child.stdin.end(options.input ?? "");
  const [out, err] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "close")]);
  return { code: child.exitCode, out, err };
}

const asRoot = () => ({ REKEY_ENDPOINT: server.endpoint, REKEY_TOKEN: server.credentials.token });

/** Runs a client command and expects it to be done, with words or a table for people. */
async function ask(command: string | readonly string[], input = ""): Promise<string> {
  const args = typeof command === "string" ? command.split(" ") : command;
  const { code, out, err } = await run(args, { env: asRoot(), input });
  assert.equal(code, 0, `${command}: ${err}`);
  assert.equal(err, "");
  assert.throws(() => JSON.parse(out), `${command} prints JSON without --json`);
  return out;
}

/** The same with --json. */
async function askJson(command: string, input = ""): Promise<Record<string, unknown>> {
  const { code, out, err } = await run([...command.split(" "), "--json"], { env: asRoot(), input });
  assert.equal(code, 0, `${command}: ${err}`);
  return JSON.parse(out);
}

/** A port that nobody listens on, as far as one can tell. */
async function closedPort(): Promise<number> {
  const listener = createServer().listen(0, "127.0.0.1");
  await once(listener, "listening");
  const { port } = listener.address() as AddressInfo;
  listener.close();
  await once(listener, "close");
  return port;
}

const file = (name: string, content: string): string => {
  writeFileSync(join(folder, name), content);
  return name;
};

before(async () => {
  server = await startRekey();
});
after(async () => {
  await server[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

describe("secrets", () => {
  test("from the first value to deletion, in tables and in JSON", async () => {
    assert.match(
      await ask("secret create app/db --description database --tag Team=Data Stage=prod", "first\n"),
      /^Name +app\/db\nARN +arn:aws:/,
    );
    assert.equal(await ask("secret get app/db"), "first\n");
    await ask(`secret put app/db --value-file ${file("value.json", '{"username":"u","password":"p w"}\n')}`);
    assert.equal(await ask("secret get app/db --field password"), "p w\n");
    assert.equal(await ask("secret get app/db --stage AWSPREVIOUS"), "first\n");
    assert.equal((await askJson("secret get app/db")).secretString, '{"username":"u","password":"p w"}\n');
    assert.match(await ask("secret list"), /^NAME +ROTATION .*\napp\/db +off/);
    assert.match(await ask("secret list --filter name=nothing"), /^no secrets\n$/);
    const { secretList } = await askJson("secret list --max 1");
    assert.equal(Array.isArray(secretList) && secretList.length, 1);
    assert.match(await ask("secret describe app/db"), /\nTags +Team=Data, Stage=prod\n/);
    assert.match(await ask("secret versions app/db"), /AWSCURRENT.*\n.*AWSPREVIOUS/);
    const { versions } = await askJson("secret versions app/db --all");
    assert.equal(Array.isArray(versions) && versions.length, 2);
    await ask("secret tag app/db Owner=me");
    await ask("secret untag app/db Team Stage");
    assert.match(await ask("secret describe app/db"), /\nTags +Owner=me\n/);
    assert.match(
      await ask("secret delete app/db --days 7"),
      /^app\/db will be deleted on \d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ; rekey secret restore/,
    );
    assert.match(await ask("secret list --deleted"), /app\/db/);
    await ask("secret restore app/db");
    assert.match(await ask("secret delete app/db --now"), /is deleted/);
    assert.equal((await run(["secret", "get", "app/db"], { env: asRoot() })).code, 1);
  });

  test("bytes come back as they were, and text that is none is refused", async () => {
    const bytes = join(folder, "bytes");
    writeFileSync(bytes, Buffer.from([0, 255, 10]));
    const refused = await run(["secret", "create", "bytes", "--value-file", bytes], { env: asRoot() });
    assert.deepEqual([refused.code, refused.err], [2, "rekey: the value is not UTF-8 text; add --binary to keep it as bytes\n"]);
    await ask(`secret create bytes --binary --value-file ${bytes}`);
    assert.equal((await askJson("secret get bytes")).secretBinary, "AP8K");
    assert.match(await ask("secret create empty --no-value"), /^Name +empty\n/);
  });

  test("a value is never an argument, and what was typed is not repeated", async () => {
    for (const args of [
      ["secret", "put", "bytes", "hunter2"],
      ["secret", "create", "x", "hunter2"],
      ["secret", "put", "bytes", "--value=hunter2"],
      ["secret", "put", "bytes", "--secret-string=hunter2"],
    ]) {
      const { code, err } = await run(args, { env: asRoot(), input: "v" });
      assert.equal(code, 2, args.join(" "));
      assert.equal(err.trimEnd().split("\n").length, 1);
      assert.ok(!err.includes("hunter2"), err);
    }
  });

  test("rotation is set and refused as the API does", async () => {
    await ask("secret create rotated", '{"engine":"postgres","host":"127.0.0.1","port":9,"username":"u","password":"p"}');
    const { code, err } = await run(["secret", "rotate", "rotated", "--function", "NoSuchFunction"], { env: asRoot() });
    assert.equal(code, 1);
    assert.match(err, /^rekey: AccessDeniedException: Secrets Manager cannot invoke the specified Lambda function\./);
    const single = "SecretsManagerRDSPostgreSQLRotationSingleUser";
    const set = ["secret", "rotate", "rotated", "--function", single, "--schedule", "rate(10 days)", "--window", "3h"];
    await ask([...set, "--no-immediately"]);
    assert.match(
      await ask("secret describe rotated"),
      /\nRotation +on\nFunction +arn:aws:lambda:.*\nSchedule +rate\(10 days\) within 3h\n/,
    );
    assert.match(await ask("rotation status rotated"), /^Secret +rotated\nVersion +\S+\nState +\w+\n/);
    assert.match(await ask("rotation status"), /^(SECRET +STATE|no rotation runs)/);
    assert.match(await ask("rotation history rotated"), /^BEGUN .*\n.* rotated +\w+ /);
    const { rotations } = await askJson("rotation history --max 5");
    assert.equal(Array.isArray(rotations) && rotations.length, 1);
    assert.match(await ask("rotation cancel rotated"), /^rotation of rotated is off/);
    await ask([...set, "--no-immediately"]);
  });
});

describe("identity, keys and audit", () => {
  const statement = (action: string) =>
    JSON.stringify({ Version: "2012-10-17", Statement: [{ Sid: "One", Effect: "Allow", Action: action, Resource: "*" }] });

  test("users, their keys and tokens", async () => {
    await ask("user create alice --tag Dept=Ops");
    assert.match(await ask("user list"), /^NAME .*\nalice +AIDA/);
    await ask("user tag alice Dept=Dev City=Bern");
    await ask("user untag alice City");
    assert.match(await ask("user show alice"), /\nTags +Dept=Dev\nPolicies +-\n/);
    const { accessKeyId, secretAccessKey } = await askJson("access-key create --user alice");
    assert.match(String(secretAccessKey), /^[A-Za-z0-9+/]{40}$/);
    assert.match(await ask("access-key create --user alice"), /^Access key +AKIA\w+\nSecret access key +\S{40}\n$/);
    await ask(`access-key disable ${accessKeyId} --user alice`);
    assert.match(await ask("access-key list --user alice"), new RegExp(`${accessKeyId} +Inactive`));
    await ask(`access-key enable ${accessKeyId} --user alice`);
    await ask(`access-key delete ${accessKeyId} --user alice`);
    assert.match(await ask("token create laptop --user alice --ttl-seconds 3600"), /\nToken +dp\.pt\.\w{40}\n$/);
    const { token, tokenId } = await askJson("token create phone --user alice");
    const denied = await run(["secret", "list"], { env: { ...asRoot(), REKEY_TOKEN: String(token) } });
    assert.deepEqual([denied.code, denied.err.includes("AccessDeniedException")], [1, true]);
    assert.match(await ask("token list --user alice"), /laptop/);
    await ask(`token delete ${tokenId} --user alice`);
    const ended = await run(["secret", "list"], { env: { ...asRoot(), REKEY_TOKEN: String(token) } });
    assert.match(ended.err, /^rekey: UnrecognizedClientException: .*Check REKEY_TOKEN/);
    await ask("user delete alice");
    assert.match(await ask("user list"), /^no users\n$/);
  });

  test("roles, policies and what they would allow", async () => {
    await ask("user create bob");
    const trust = file(
      "trust.json",
      `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole"}]}`,
    );
    await ask(`role create deployer --trust-file ${trust} --description deploys`);
    assert.match(await ask("role list"), /deployer/);
    await ask(`role trust deployer ${trust}`);
    assert.match(await ask("role show deployer"), /\nTrust +\{/);
    await ask(`policy create reader ${file("read.json", statement("secretsmanager:GetSecretValue"))}`);
    await ask("policy attach reader --user bob");
    await ask("policy attach reader --role deployer");
    assert.match(await ask("policy list"), /reader +v1/);
    assert.match(await ask("policy show reader"), /\nAttached to +arn:.*user\/bob/);
    assert.match(
      await ask("policy simulate secretsmanager:GetSecretValue --user bob"),
      /^allowed by statement One of identity policy reader\n/,
    );
    assert.match(await ask("policy simulate secretsmanager:DeleteSecret --user bob"), /^denied \(implicitDeny\)\nUser: /);
    const supposed = await askJson(`policy simulate secretsmanager:DeleteSecret --policy-file ${file("d.json", statement("*"))}`);
    assert.equal(supposed.allowed, true);
    assert.match(
      await ask(`policy version reader ${file("v2.json", statement("secretsmanager:List*"))}`),
      /^Version +v2\nIn force +yes/,
    );
    await ask("policy use reader v1");
    await ask("policy detach reader --user bob");
    await ask("policy detach reader --role deployer");
    await ask("policy delete reader");
    await ask("role delete deployer");
    await ask("user delete bob");
  });

  test("keys and OIDC providers", async () => {
    const { keyId } = await askJson("key create --alias alias/pay --description payments");
    await ask("secret create under-key --key alias/pay", "v");
    assert.match(await ask("key list"), /alias\/pay +Enabled +1/);
    await ask(`key rotate ${keyId}`);
    await ask(`key alias ${keyId} alias/pay2`);
    await ask("key disable alias/pay2");
    const locked = await run(["secret", "get", "under-key"], { env: asRoot() });
    assert.match(locked.err, /DecryptionFailure/);
    await ask("key enable alias/pay2");
    assert.equal(await ask("secret get under-key"), "v\n");
    assert.match(await ask("key show alias/pay2"), /\nAliases +alias\/pay, alias\/pay2\n/);
    await ask(["key", "policy", String(keyId), file("none.json", "\n")]);
    await ask("oidc-provider create https://token.example --client app web");
    assert.match(await ask("oidc-provider list"), /https:\/\/token\.example +app, web/);
    await ask("oidc-provider delete https://token.example");
    assert.match(await ask("oidc-provider list"), /^no OIDC providers/);
  });

  test("the audit trail shows and proves it", async () => {
    assert.match(await ask("audit tail --max 3"), /^TIME +PRINCIPAL +ACTION +OUTCOME/);
    const { records } = await askJson("audit tail --action secretsmanager:GetSecretValue --outcome ok");
    assert.ok(Array.isArray(records) && records.length > 0);
    const proof = await run(["audit", "verify", "--data", server.dataFolder]);
    assert.equal(proof.code, 0, proof.err);
    assert.match(proof.out, /records of \d+ writers are whole and in order/);
    const verdict = await run(["audit", "verify", "--data", server.dataFolder, "--json"]);
    assert.equal(JSON.parse(verdict.out).ok, true);
  });
});

describe("how it ends", () => {
  test("usage is 2, one line, and says what to do", async () => {
    for (const args of [
      ["nonsense"],
      ["secret", "nonsense"],
      ["secret", "get"],
      ["secret", "get", "a", "--nonsense"],
      ["backup"],
    ]) {
      const { code, out, err } = await run(args);
      assert.deepEqual([code, out], [2, ""], args.join(" "));
      assert.match(err, /^rekey: .*\n$/);
    }
    const both = await run(["secret", "list"], { env: { ...asRoot(), REKEY_TOKENS: "x", REKEY_ENDPOINT: "nowhere" } });
    assert.equal(both.code, 2);
    assert.match(
      both.err,
      /^rekey: REKEY_ENDPOINT must be .*\nrekey: REKEY_TOKENS is not a setting; did you mean REKEY_TOKEN\?\n$/,
    );
    const nobody = await run(["secret", "list"]);
    assert.deepEqual([nobody.code, nobody.err.includes("set REKEY_ENDPOINT and REKEY_TOKEN")], [2, true]);
  });

  test("nobody there is 3, help is 0", async () => {
    const endpoint = `http://127.0.0.1:${await closedPort()}`;
    const env = { ...asRoot(), REKEY_ENDPOINT: endpoint };
    const { code, err } = await run(["secret", "list"], { env });
    assert.deepEqual(
      [code, err],
      [3, `rekey: the server at ${endpoint} does not answer; start it with rekey server, or set REKEY_ENDPOINT\n`],
    );
    assert.equal((await run(["migrate", "--database-url", "postgres://127.0.0.1:1/x"])).code, 3);
    for (const args of [["--help"], ["secret", "--help"], ["secret", "put", "--help"], ["server", "--help"], ["--version"]]) {
      const shown = await run(args);
      assert.deepEqual([shown.code, shown.err], [0, ""]);
      assert.notEqual(shown.out, "");
    }
  });

  test("a server does not start with wrong settings, and tells all of them", async () => {
    const { code, err } = await run(["server", "--listen", "0.0.0.0:1x", "--engine", "maybe"], { env: { REKEY_PORT: "1" } });
    assert.equal(code, 2);
    assert.deepEqual(err.match(/^rekey: \S+/gm), ["rekey: --listen", "rekey: --engine", "rekey: REKEY_PORT"]);
  });
});

describe("commands on the store itself", () => {
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
    await ask("secret create kept", "in the backup");
    const made = await run(["backup", "--to", "online.backup", "--data", server.dataFolder]);
    assert.equal(made.code, 0, made.err);
    const checked = await run(["doctor", "--data", server.dataFolder, "--json"]);
    assert.equal(checked.code, 0, checked.out);
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
    assert.equal((await run(["secret", "get", "kept"], { env })).out, "in the backup\n");
    await again.stop();
    assert.match((await run(["audit", "verify", "--data", data])).out, /whole and in order/);
  });

  test("init, lost credentials, another root key", async () => {
    const data = join(folder, "fresh");
    assert.equal((await run(["init", "--data", data, "--endpoint", "http://127.0.0.1:9"])).code, 0);
    assert.equal((await run(["init", "--data", data])).code, 1);
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
});
