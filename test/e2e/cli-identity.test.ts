import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { nativeOk } from "../support/aws.ts";
import { type CommandLine, commandLine, program, run } from "../support/cli.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";

const folder = mkdtempSync(join(tmpdir(), "rekey-cli-"));
let server: RekeyServer;
let root: CommandLine;

const file = (name: string, content: string): string => {
  writeFileSync(join(folder, name), content);
  return name;
};

before(async () => {
  server = await startRekey();
  root = commandLine(server.endpoint, server.credentials.token, folder);
});
after(async () => {
  await server[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

const statement = (action: string) =>
  JSON.stringify({ Version: "2012-10-17", Statement: [{ Sid: "One", Effect: "Allow", Action: action, Resource: "*" }] });

test("groups, and roles in projects and environments", async () => {
  await nativeOk(server, "users/create", { userName: "gina" });
  await nativeOk(server, "projects/create", { name: "till" });
  assert.match(await root.ask("group create crew --role viewer"), /^Name +crew\nId +AGPA/);
  assert.match(await root.ask("group add crew gina"), /^gina is in group crew\n$/);
  await root.ask("project-role set till crew collaborator --group --environment dev --environment stg");
  assert.match(await root.ask("project-role list till"), /\ngroup crew +collaborator +dev, stg +\d/);
  assert.match(await root.ask("group show crew"), /\nUsers +gina\n[\s\S]*\nProjects +till: collaborator in dev, stg\n/);
  assert.match(await root.ask("user set-role gina viewer"), /^gina is viewer\n$/);
  await root.ask(["policy", "create", "crew-reads", file("crew.json", statement("iam:ListUsers"))]);
  await root.ask("policy attach crew-reads --group crew");
  assert.match(await root.ask("user show gina"), /\nRole +viewer\nGroups +crew\n/);
  assert.match(await root.ask("group remove crew gina"), /not in group crew any more/);
  await root.ask("project-role remove till crew --group");
  assert.match(await root.ask("group delete crew"), /^group crew is deleted\n$/);
  await nativeOk(server, "users/delete", { userName: "gina" });
});

test("users, their keys and tokens", async () => {
  await root.ask("user create alice --tag Dept=Ops");
  assert.match(await root.ask("user list"), /^NAME .*\nalice +AIDA/);
  await root.ask("user tag alice Dept=Dev City=Bern");
  await root.ask("user untag alice City");
  assert.match(await root.ask("user show alice"), /\nTags +Dept=Dev\nPolicies +-\n/);
  const { accessKeyId, secretAccessKey } = await root.askJson("access-key create --user alice");
  assert.match(String(secretAccessKey), /^[A-Za-z0-9+/]{40}$/);
  assert.match(await root.ask("access-key create --user alice"), /^Access key +AKIA\w+\nSecret access key +\S{40}\n$/);
  await root.ask(`access-key disable ${accessKeyId} --user alice`);
  assert.match(await root.ask("access-key list --user alice"), new RegExp(`${accessKeyId} +Inactive`));
  await root.ask(`access-key enable ${accessKeyId} --user alice`);
  await root.ask(`access-key delete ${accessKeyId} --user alice`);
  assert.match(await root.ask("token create laptop --user alice --ttl-seconds 3600"), /\nToken +dp\.pt\.\w{40}\n$/);
  const { token, tokenId } = await root.askJson("token create phone --user alice");
  const denied = await run(["secret", "list"], { env: { ...root.env, REKEY_TOKEN: String(token) } });
  assert.deepEqual([denied.code, denied.err.includes("AccessDeniedException")], [1, true]);
  assert.match(await root.ask("token list --user alice"), /laptop/);
  await root.ask(`token delete ${tokenId} --user alice`);
  const ended = await run(["secret", "list"], { env: { ...root.env, REKEY_TOKEN: String(token) } });
  assert.match(ended.err, /^rekey: UnrecognizedClientException: .*Check REKEY_TOKEN/);
  await root.ask("user delete alice");
  assert.match(await root.ask("user list"), /^no users\n$/);
});

test("roles, policies and what they would allow", async () => {
  await root.ask("user create bob");
  const trust = file(
    "trust.json",
    `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole"}]}`,
  );
  await root.ask(`role create deployer --trust-file ${trust} --description deploys`);
  assert.match(await root.ask("role list"), /deployer/);
  await root.ask(`role trust deployer ${trust}`);
  assert.match(await root.ask("role show deployer"), /\nTrust +\{/);
  await root.ask(`policy create reader ${file("read.json", statement("secretsmanager:GetSecretValue"))}`);
  await root.ask("policy attach reader --user bob");
  await root.ask("policy attach reader --role deployer");
  assert.match(await root.ask("policy list"), /reader +v1/);
  assert.match(await root.ask("policy show reader"), /\nAttached to +arn:.*user\/bob/);
  assert.match(
    await root.ask("policy simulate secretsmanager:GetSecretValue --user bob"),
    /^allowed by statement One of identity policy reader\n/,
  );
  assert.match(await root.ask("policy simulate secretsmanager:DeleteSecret --user bob"), /^denied \(implicitDeny\)\nUser: /);
  const supposed = await root.askJson(
    `policy simulate secretsmanager:DeleteSecret --policy-file ${file("d.json", statement("*"))}`,
  );
  assert.equal(supposed.allowed, true);
  assert.match(
    await root.ask(`policy version reader ${file("v2.json", statement("secretsmanager:List*"))}`),
    /^Version +v2\nIn force +yes/,
  );
  await root.ask("policy use reader v1");
  await root.ask("policy detach reader --user bob");
  await root.ask("policy detach reader --role deployer");
  await root.ask("policy delete reader");
  await root.ask("role delete deployer");
  await root.ask("user delete bob");
});

test("lists of users, roles and policies are read to their last page", async () => {
  const trust = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole"}]}`;
  const headers = { authorization: `Bearer ${server.credentials.token}`, "content-type": "application/json" };
  const post = (operation: string, body: object) =>
    fetch(`${server.endpoint}/rekey/v1/${operation}`, { method: "POST", headers, body: JSON.stringify(body) });
  const names = Array.from({ length: 105 }, (_, index) => `many${index}`);
  await Promise.all([
    ...names.map((userName) => post("users/create", { userName })),
    ...names.map((roleName) => post("roles/create", { roleName, assumeRolePolicyDocument: trust })),
    ...names.map((policyName) => post("policies/create", { policyName, policyDocument: statement("s3:*") })),
  ]);
  for (const noun of ["user", "role", "policy"]) {
    const shown = await root.ask(`${noun} list`);
    assert.equal(shown.match(/^many\d+ /gm)?.length, 105, noun);
  }
});

test("keys and OIDC providers", async () => {
  const { keyId } = await root.askJson("key create --alias alias/pay --description payments");
  await root.ask("secret create under-key --key alias/pay", "v");
  assert.match(await root.ask("key list"), /alias\/pay +Enabled +1/);
  await root.ask(`key rotate ${keyId}`);
  await root.ask(`key alias ${keyId} alias/pay2`);
  await root.ask("key disable alias/pay2");
  const locked = await root.run("secret get under-key");
  assert.match(locked.err, /DecryptionFailure/);
  await root.ask("key enable alias/pay2");
  assert.equal(await root.ask("secret get under-key"), "v");
  assert.match(await root.ask("key show alias/pay2"), /\nAliases +alias\/pay, alias\/pay2\n/);
  await root.ask(["key", "policy", String(keyId), file("none.json", "\n")]);
  await root.ask("oidc-provider create https://token.example --client app web");
  assert.match(await root.ask("oidc-provider list"), /https:\/\/token\.example +app, web/);
  await root.ask("oidc-provider delete https://token.example");
  assert.match(await root.ask("oidc-provider list"), /^no OIDC providers/);
});

test("the audit trail shows and proves it", async () => {
  const shown = await root.ask("audit tail --max 3");
  assert.match(shown, /^TIME +PRINCIPAL +ACTION +OUTCOME/);
  const times = shown
    .trimEnd()
    .split("\n")
    .slice(1)
    .map((line) => line.slice(0, 20));
  assert.deepEqual(times, times.toSorted(), "the newest is last");
  const { records } = await root.askJson("audit tail --action secretsmanager:GetSecretValue --outcome ok");
  assert.ok(Array.isArray(records) && records.length > 0);
  const proof = await run(["audit", "verify", "--data", server.dataFolder]);
  assert.equal(proof.code, 0, proof.err);
  assert.match(proof.out, /records of \d+ writers are whole and in order/);
  const verdict = await run(["audit", "verify", "--data", server.dataFolder, "--json"]);
  assert.equal(JSON.parse(verdict.out).ok, true);
});

test("audit tail --follow shows the newest records and each later one once", async () => {
  await root.ask("user create before-follow");
  await root.ask("user create newest-before");
  const args = [program, "audit", "tail", "--follow", "--max", "1", "--json", "--action", "iam:CreateUser"];
  const child = spawn(process.execPath, args, {
    env: { PATH: process.env.PATH, NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE, ...root.env },
    stdio: ["ignore", "pipe", "inherit"],
  });
  try {
    const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
    const next = async () => JSON.parse(String((await lines.next()).value)).parameters.UserName;
    assert.equal(await next(), "newest-before");
    await root.ask("user create first-followed");
    await root.ask("user create second-followed");
    assert.deepEqual([await next(), await next()], ["first-followed", "second-followed"]);
  } finally {
    child.kill();
  }
});

test("a changed record is found, and told in words", async () => {
  const data = join(folder, "tampered");
  await using victim = await startRekey({ dataFolder: data });
  await commandLine(victim.endpoint, victim.credentials.token, folder).ask("user list");
  await victim.stop();
  const audit = join(data, "audit");
  const [segment = ""] = readdirSync(audit).sort();
  const path = join(audit, segment);
  writeFileSync(path, readFileSync(path, "utf8").replace("iam:ListUsers", "iam:ListRoles"));
  const { code, out, err } = await run(["audit", "verify", "--data", data]);
  assert.equal(code, 1, out);
  assert.match(out, /^problem: .*line \d+: /m);
  assert.match(err, /^rekey: the audit trail was tampered with or damaged; .*\n$/);
  const told = await run(["audit", "verify", "--data", data, "--json"]);
  assert.deepEqual([told.code, JSON.parse(told.out).ok], [1, false]);
});
