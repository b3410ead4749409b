// Secrets taken over from files and from AWS Secrets Manager: here, the same API of another Rekey.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { program } from "../support/cli.ts";
import { type ConfigCli, configCli } from "../support/config-cli.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";
import { openTerminal, quoted, withoutTerminal } from "../support/terminal.ts";

let cli: ConfigCli;
let old: RekeyServer;
let aws: Record<string, string>;

before(async () => {
  [cli, old] = await Promise.all([configCli(), startRekey()]);
  const { accessKeyId, secretAccessKey, region, token } = old.credentials;
  aws = {
    AWS_ACCESS_KEY_ID: accessKeyId,
    AWS_SECRET_ACCESS_KEY: secretAccessKey,
    AWS_REGION: region,
    AWS_ENDPOINT_URL_SECRETS_MANAGER: old.endpoint,
    AWS_EC2_METADATA_DISABLED: "true",
  };
  const make = async (input: object) => {
    const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
    const response = await fetch(`${old.endpoint}/rekey/v1/secrets/create`, {
      method: "POST",
      headers,
      body: JSON.stringify(input),
    });
    assert.equal(response.status, 200, await response.text());
  };
  await make({ name: "shop/prd/db", secretString: '{"username":"u","password":"p\'w","port":5432}' });
  await make({ name: "shop/prd/api-key", secretString: "key with ünicode" });
  await make({ name: "shop/prd/cert", secretBinary: Buffer.from([1, 2]).toString("base64") });
  await make({ name: "shop/prd/empty" });
  await make({ name: "other", secretString: "x" });
});
after(async () => {
  await cli[Symbol.asyncDispose]();
  await old[Symbol.asyncDispose]();
});

const values = async (config: string) => JSON.parse((await cli.rekey(["export", "--config", config, "--json"])).out);

test("a file is shown as a plan, taken over, and not again", async () => {
  writeFileSync(join(cli.folder, ".env"), "# comment\nA=1\nexport B='two words'\nC=\"x\\ny\"\n");
  const plan = await cli.rekey(["import", ".env"]);
  assert.deepEqual(
    [plan.code, /^NAME +STATE\nA +new\nB +new\nC +new\n$/.test(plan.out), /give --yes/.test(plan.err)],
    [2, true, true],
    plan.out,
  );
  const done = await cli.rekey(["import", ".env", "--yes"]);
  assert.match(done.out, /\n3 secrets are set\n$/);
  const again = await cli.rekey(["import", ".env", "--json", "--yes"]);
  assert.deepEqual(JSON.parse(again.out), {
    secrets: ["A", "B", "C"].map((name) => ({ name, state: "same" })),
    left: [],
    applied: false,
  });
  writeFileSync(join(cli.folder, "next.json"), '{"A":"2","D":"4"}');
  assert.match((await cli.rekey(["import", "next.json", "--yes"])).out, /^NAME +STATE\nA +changed\nD +new\n2 secrets are set\n$/);
  writeFileSync(join(cli.folder, "nested.json"), '{"A":{"b":1}}');
  const nested = await cli.rekey(["import", "nested.json", "--yes"]);
  assert.deepEqual([nested.code, /^rekey: Line 1 of the file: /.test(nested.err)], [1, true], nested.err);
  const yaml = await cli.rekey(["import", "-", "--format", "yaml", "--yes"], { input: "E: five\n" });
  assert.match(yaml.out, /\n1 secrets are set\n$/);
  assert.deepEqual(await values("dev"), { A: "2", B: "two words", C: "x\ny", D: "4", E: "five" });
  const bad = await cli.rekey(["import", "-", "--yes"], { input: "A=hunter2\nnot a line\n" });
  assert.deepEqual([bad.code, bad.err.includes("hunter2")], [1, false]);
});

test("what one config exports another takes over as it is, in every format", async () => {
  for (const format of ["env", "json", "yaml"]) {
    const { out } = await cli.rekey(["export", "--format", format]);
    const name = `all.${format}`;
    writeFileSync(join(cli.folder, name), out);
    await cli.rekey(["configs", "create", `stg_${format}`]);
    assert.equal((await cli.rekey(["import", name, "--yes", "--config", `stg_${format}`])).code, 0);
    assert.deepEqual(await values(`stg_${format}`), await values("dev"), format);
  }
});

test("secrets of AWS become names, once, and what is no text is left and told", async () => {
  const args = [
    "import",
    "aws-secretsmanager",
    "--prefix",
    "shop/prd/",
    "--strip-prefix",
    "shop/prd/",
    "--config",
    "prd",
    "--yes",
  ];
  const done = await cli.rekey(args, { env: aws });
  assert.equal(done.code, 0, done.err);
  assert.match(
    done.out,
    /^NAME +STATE\nAPI_KEY +new\nDB_PASSWORD +new\nDB_PORT +new\nDB_USERNAME +new\nshop\/prd\/cert holds bytes or nothing.*\nshop\/prd\/empty .*\n4 secrets are set\n$/,
  );
  assert.deepEqual(await values("prd"), { API_KEY: "key with ünicode", DB_PASSWORD: "p'w", DB_PORT: "5432", DB_USERNAME: "u" });
  assert.match((await cli.rekey(args, { env: aws })).out, /nothing was changed\n$/);
  const whole = ["import", "aws-secretsmanager", "--secret", "shop/prd/db", "--whole", "--config", "stg", "--yes"];
  assert.equal((await cli.rekey(whole, { env: aws })).code, 0);
  assert.deepEqual(Object.keys(await values("stg")), ["SHOP_PRD_DB"]);
});

test("what goes wrong at AWS is told in its words, without a secret", async () => {
  const args = ["import", "aws-secretsmanager", "--prefix", "shop", "--yes"];
  const wrong = await cli.rekey(args, { env: { ...aws, AWS_SECRET_ACCESS_KEY: "hunter2hunter2hunter2" } });
  assert.deepEqual(
    [wrong.code, /ListSecrets: \w+Exception: /.test(wrong.err), wrong.err.includes("hunter2")],
    [1, true, false],
    wrong.err,
  );
  const missing = await cli.rekey(["import", "aws-secretsmanager", "--secret", "nope", "--yes"], { env: aws });
  assert.deepEqual([missing.code, /secret nope: GetSecretValue: ResourceNotFound/.test(missing.err)], [1, true], missing.err);
  const none = await cli.rekey(args, { env: { AWS_REGION: "us-east-1", AWS_EC2_METADATA_DISABLED: "true" } });
  assert.deepEqual([none.code, /no AWS credentials were found/.test(none.err)], [2, true], none.err);
  const regionless = await cli.rekey(args, { env: { ...aws, AWS_REGION: "" } });
  assert.deepEqual([regionless.code, /which AWS region/.test(regionless.err)], [2, true], regionless.err);
  const closed = await cli.rekey([...args, "--from-endpoint", "http://127.0.0.1:1"], { env: aws });
  assert.equal(closed.code, 3, closed.err);
});

test("on a terminal a plan is asked about; a change in between is not overwritten", { skip: withoutTerminal }, async () => {
  writeFileSync(join(cli.folder, "late.env"), "A=from-file\n");
  const terminal = openTerminal(`exec ${quoted([process.execPath, program, "import", "late.env"])}`, {
    env: cli.env,
    cwd: cli.folder,
  });
  await terminal.type(/Set 1 secrets\?/, "");
  await cli.set({ A: "changed meanwhile" });
  await terminal.type(/Set 1 secrets\?/, "y");
  assert.equal(await terminal.code, 1, terminal.shown());
  assert.equal((await values("dev")).A, "changed meanwhile");
  const no = openTerminal(`exec ${quoted([process.execPath, program, "import", "late.env"])}`, { env: cli.env, cwd: cli.folder });
  await no.type(/Set 1 secrets\?/, "n");
  assert.equal(await no.code, 1);
  assert.match(no.shown(), /nothing was changed/);
});
