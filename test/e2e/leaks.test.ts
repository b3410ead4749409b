// Marked secrets go every way through the real program, the wrong ones too; afterwards they stand nowhere.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes, randomUUID } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { AssumeRoleCommand, STSClient } from "@aws-sdk/client-sts";
import {
  allow,
  type Credentials,
  clientSettings,
  native,
  nativeOk,
  newName,
  newUser,
  type RawAnswer,
  rawCall,
  rawRequest,
} from "../support/aws.ts";
import { program } from "../support/cli.ts";
import { Marks } from "../support/marks.ts";
import { type PostgresServer, postgresSkip, startPostgres } from "../support/postgres-server.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";
import { functionArn, rotationWorld } from "../support/rotation-e2e.ts";

const marks = new Marks();
/** Bodies of refusals, and of answers that have no business with secrets. */
const bodies: string[] = [];
const logs: string[] = [];
const keptApart = ["root.key", "root-credentials.json"];
const env = { REKEY_LOG_LEVEL: "trace" };
let server: RekeyServer;

before(async () => {
  server = await startRekey({ env });
  const { secretAccessKey, token } = server.credentials;
  marks.watch("root's secret access key", secretAccessKey);
  marks.watch("root's token", token);
  const rootKey = readFileSync(join(server.dataFolder, "root.key"), "utf8").trim();
  marks.watch("root key", rootKey, Buffer.from(rootKey, "base64"));
});
after(async () => {
  await server[Symbol.asyncDispose]();
  rmSync(server.dataFolder, { recursive: true, force: true });
});

/** Keeps what was answered, unless it is a success that may hold secrets. */
async function kept(answer: Promise<RawAnswer>, mayHold = false): Promise<RawAnswer> {
  const got = await answer;
  if (got.status !== 200 || !mayHold) bodies.push(got.text, JSON.stringify([...got.headers]));
  return got;
}

const call = (operation: string, members: object, credentials?: Credentials) => {
  const mayHold = operation.includes("GetSecretValue") || operation === "GetRandomPassword";
  return kept(rawCall(server, operation, members, credentials && { credentials }), mayHold);
};
const token = () => randomUUID();

async function everywhere(running: RekeyServer): Promise<string[]> {
  const found = (place: string, text: string) => marks.foundIn(text).map((what) => `${place}: ${what}`);
  const metrics = await (await fetch(`${running.endpoint}/metrics`)).text();
  assert.match(metrics, /rekey_/);
  const trail: string[] = [];
  for (let cursor: unknown; ; ) {
    const page = await nativeOk(running, "audit/search", { limit: 1000, ...(cursor === undefined ? {} : { cursor }) });
    trail.push(JSON.stringify(page));
    cursor = page.cursor;
    if (cursor === undefined) break;
  }
  const shownOfProcess = process.platform === "linux" ? ["cmdline", "environ"] : [];
  const processList = shownOfProcess.map((name) => readFileSync(`/proc/${running.pid}/${name}`, "utf8"));
  return [
    ...found("log", [...logs, running.log()].join("\n")),
    ...found("answers", bodies.join("\n")),
    ...found("metrics", metrics),
    ...found("audit", trail.join("\n")),
    ...found("process list", processList.join("\n")),
    ...marks.foundInFolder(running.dataFolder, keptApart),
  ];
}

/** Values, good and bad, through every operation that takes or names one. */
async function useValues(): Promise<void> {
  const SecretId = newName("leaks");
  const value = (what: string) => marks.fresh(what);
  await call("CreateSecret", { Name: SecretId, SecretString: value("created"), ClientRequestToken: token() });
  await call("CreateSecret", { Name: SecretId, SecretString: value("created again"), ClientRequestToken: token() });
  const SecretBinary = Buffer.from(value("binary")).toString("base64");
  await call("PutSecretValue", { SecretId, SecretBinary, ClientRequestToken: token() });
  const RotationToken = value("rotation token").padEnd(36, "x");
  const ClientRequestToken = token();
  await call("PutSecretValue", { SecretId, SecretString: value("put"), ClientRequestToken });
  await call("PutSecretValue", { SecretId, SecretString: value("denied"), ClientRequestToken: token(), RotationToken });
  await call("PutSecretValue", { SecretId, SecretString: value("put under the same token"), ClientRequestToken });
  await call("UpdateSecret", { SecretId, SecretString: value("updated"), ClientRequestToken: token() });
  const wrong: object[] = [
    { SecretString: value("two values"), SecretBinary: Buffer.from(value("two values, bytes")).toString("base64") },
    { SecretString: value("too long").padEnd(65_537, "x") },
    { SecretString: "ü".repeat(32_768) + value("too many bytes") },
    { SecretString: { inside: value("object") } },
    { SecretString: [value("list")] },
    { SecretString: `${value("half a character")}\ud800` },
    { SecretString: value("token too short"), ClientRequestToken: "short" },
    { SecretString: value("token missing"), ClientRequestToken: undefined },
    { SecretString: value("labels wrong"), VersionStages: [] },
    { SecretBinary: `${value("not base64")}!` },
    { SecretBinary: 5, SecretString: value("beside a number") },
    { SecretId: { SecretString: value("in the place of a name") }, SecretString: value("of no name") },
    { SecretId: "not a name", SecretString: value("of a bad name") },
    { SecretId: newName("nowhere"), SecretString: value("of a name that is nowhere") },
    { SecretId, SecretStrin: value("of an unknown member") },
    { SecretString: value("under an unknown key"), KmsKeyId: "alias/unknown" },
  ];
  for (const members of wrong)
    for (const operation of ["PutSecretValue", "UpdateSecret", "CreateSecret"])
      await call(operation, { SecretId, Name: newName(), ClientRequestToken: token(), ...members });
  const text = (what: string) => `{"SecretId":"${SecretId}","SecretString":"${value(what)}"`;
  await kept(rawRequest(server, "secretsmanager.PutSecretValue", text("broken JSON")));
  await kept(rawRequest(server, "secretsmanager.NoSuchOperation", `${text("unknown operation")}}`));
  await kept(rawRequest(server, "secretsmanager.PutSecretValue", "{}", { sentBody: `${text("not what was signed")}}` }));
  const stranger = { accessKeyId: "AKIAAAAAAAAAAAAAAAAA", secretAccessKey: value("stranger's key") };
  await call("PutSecretValue", { SecretId, SecretString: value("from a stranger") }, stranger);
  for (const operation of ["GetSecretValue", "DescribeSecret", "ListSecretVersionIds", "GetResourcePolicy", "RestoreSecret"])
    await call(operation, { SecretId, IncludeDeprecated: true });
  await call("BatchGetSecretValue", { SecretIdList: [SecretId, "nowhere"] });
  await call("ListSecrets", {});
  const ExternalSecretRotationMetadata = [{ Key: "adminSecret", Value: value("external metadata") }];
  await call("RotateSecret", { SecretId, ClientRequestToken: token(), ExternalSecretRotationMetadata });
  const { json } = await call("GetRandomPassword", {});
  marks.watch("random password", String(json?.RandomPassword));
  await call("ReplicateSecretToRegions", { SecretId, AddReplicaRegions: [{ Region: "eu-west-1" }] });
  const awaiting = newName("leaks");
  await call("CreateSecret", { Name: awaiting, SecretString: value("awaits deletion"), ClientRequestToken: token() });
  await call("DeleteSecret", { SecretId: awaiting });
  await call("PutSecretValue", { SecretId: awaiting, SecretString: value("too late"), ClientRequestToken: token() });
  await call("DeleteSecret", { SecretId: awaiting, ForceDeleteWithoutRecovery: true });
}

/** The same through the native API, with good and bad bearer tokens. */
async function useNative(): Promise<void> {
  const secretId = newName("leaks");
  const cases: [string, object][] = [
    ["secrets/create", { name: secretId, secretString: marks.fresh("native") }],
    ["secrets/put-value", { secretId, secretString: marks.fresh("native put") }],
    ["secrets/put-value", { secretId, secretstring: marks.fresh("native, unknown member") }],
    ["secrets/put-value", { secretId, secretString: [marks.fresh("native, list")] }],
    ["secrets/put-value", { secretId, secretBinary: `${marks.fresh("native, not base64")}!` }],
    ["secrets/describe", { secretId }],
  ];
  for (const [path, members] of cases) await kept(native(server, path, members));
  await kept(native(server, "secrets/list", {}, marks.fresh("no token")));
  await kept(native(server, "secrets/list", {}, `dp.pt.${marks.fresh("unknown token").slice(0, 40)}`));
  const headers = { authorization: `Bearer ${server.credentials.token}` };
  const send = (body: string) => fetch(`${server.endpoint}/rekey/v1/secrets/create`, { method: "POST", headers, body });
  bodies.push(await (await send(`{"secretString":"${marks.fresh("native, broken JSON")}"`)).text());
  const query = await fetch(`${server.endpoint}/rekey/v1/secrets/list?token=${marks.fresh("token in a URL")}`, { headers });
  bodies.push(await query.text());
  const basic = {
    authorization: `Bearer ${marks.fresh("bearer at the AWS door")}`,
    "x-amz-target": "secretsmanager.ListSecrets",
  };
  bodies.push(await (await fetch(server.endpoint, { method: "POST", headers: basic, body: "{}" })).text());
}

/** Keys, tokens and sessions, good ones and spoilt ones. */
async function useIdentities(): Promise<void> {
  const userName = newName("leaks");
  const user = await newUser(server, userName, allow("secretsmanager:*", "sts:AssumeRole"));
  marks.watch("user's secret access key", user.secretAccessKey);
  marks.watch("user's token", String((await nativeOk(server, "tokens/create", { userName, name: "t" })).token));
  await call("ListSecrets", {}, user);
  const trust = JSON.stringify({
    Version: "2012-10-17",
    Statement: [{ Effect: "Allow", Principal: { AWS: user.arn }, Action: "sts:AssumeRole" }],
  });
  const roleName = newName("leaks");
  const role = await nativeOk(server, "roles/create", { roleName, assumeRolePolicyDocument: trust });
  const sts = new STSClient(clientSettings(server, user));
  const { Credentials: session } = await sts.send(new AssumeRoleCommand({ RoleArn: String(role.arn), RoleSessionName: "leaks" }));
  const temporary = {
    accessKeyId: session?.AccessKeyId ?? "",
    secretAccessKey: marks.watch("session's secret access key", session?.SecretAccessKey ?? ""),
    sessionToken: marks.watch("session token", session?.SessionToken ?? ""),
  };
  await call("ListSecrets", {}, temporary);
  await call("ListSecrets", {}, { ...temporary, sessionToken: `${temporary.sessionToken.slice(0, -8)}AAAAAAAA` });
  await call("ListSecrets", {}, { ...temporary, sessionToken: marks.fresh("no session token") });
  const form = (WebIdentityToken: string) =>
    new URLSearchParams({
      Action: "AssumeRoleWithWebIdentity",
      Version: "2011-06-15",
      RoleArn: String(role.arn),
      RoleSessionName: "leaks",
      WebIdentityToken,
    });
  for (const what of ["web identity token", "web identity token, spoilt"]) {
    const secret = what.endsWith("spoilt") ? `e30.${marks.fresh(what)}.x` : marks.fresh(what);
    bodies.push(await (await fetch(server.endpoint, { method: "POST", body: form(secret) })).text());
  }
  await nativeOk(server, "users/list", {});
  await kept(native(server, "access-keys/list", { userName }));
  await kept(native(server, "tokens/list", { userName }));
}

/** Rotations that end well, and in every way badly. Passwords that Rekey made are watched in the database's log, too. */
async function useRotations(database: PostgresServer, made: Marks): Promise<void> {
  const world = rotationWorld(server, database);
  marks.watch("superuser's password", database.password);
  const login = async (what: string, more: object = {}) => {
    const password = marks.fresh(what);
    const username = `app_${randomBytes(4).toString("hex")}`;
    await world.sql(`create role ${username} login password '${password}'`);
    return { ...world.superuser(), username, password, ...more };
  };
  const watchMade = async (SecretId: string, label: string) => {
    const { password } = await world.value(SecretId, label);
    for (const list of [marks, made]) list.watch(`password labelled ${label} of ${SecretId}`, password);
  };

  const single = await world.newSecret(await login("first password"));
  assert.equal((await world.rotated(single.SecretId, "SingleUser")).state, "succeeded");
  await watchMade(single.SecretId, "AWSCURRENT");
  const { ARN: masterarn } = await world.newSecret(world.superuser());
  const multi = await world.newSecret(await login("first password of two", { masterarn }));
  for (const _ of [1, 2]) {
    assert.equal((await world.rotated(multi.SecretId, "MultiUser")).state, "succeeded");
    await watchMade(multi.SecretId, "AWSCURRENT");
  }
  const refused = await login("password changed by hand");
  const blocked = await world.newSecret(refused);
  await world.sql(`alter role ${refused.username} password '${marks.fresh("by hand")}'`);
  assert.equal((await world.rotated(blocked.SecretId, "SingleUser")).state, "blocked");
  await watchMade(blocked.SecretId, "AWSPENDING");

  const wrong: [string, string][] = [
    ["unreachable", JSON.stringify({ ...refused, port: 1, password: marks.fresh("unreachable") })],
    ["not JSON", `${marks.fresh("not JSON")} {`],
    ["of the wrong shape", JSON.stringify({ ...refused, password: [marks.fresh("list for a password")] })],
    ["of another engine", JSON.stringify({ ...refused, engine: marks.fresh("engine") })],
    ["with a bad certificate", JSON.stringify({ ...refused, ssl: true, password: marks.fresh("over TLS") })],
  ];
  for (const [what, SecretString] of wrong) {
    const Name = newName("leaks");
    await world.root.createSecret({ Name, SecretString });
    const asked = { SecretId: Name, ClientRequestToken: token(), RotationLambdaARN: functionArn(server, "SingleUser") };
    const { status } = await call("RotateSecret", asked);
    if (status !== 200) continue;
    await world.rotationOf(Name, ({ state, failedTries }) => state !== "running" || failedTries > 0);
    const shown = await nativeOk(server, "rotations/list", { secretId: Name });
    bodies.push(JSON.stringify(shown), what);
  }
}

describe("marked secrets", () => {
  it("of values, native calls and identities stand nowhere", async () => {
    await useValues();
    await useNative();
    await useIdentities();
    assert.deepEqual(await everywhere(server), []);
  });

  it("of rotations stand nowhere, and new passwords reach the database as verifiers only", { skip: postgresSkip }, async () => {
    const made = new Marks();
    await using database = await startPostgres({ settings: ["log_statement=all", "log_min_messages=debug1"] });
    await useRotations(database, made);
    assert.deepEqual(await everywhere(server), []);
    const log = readFileSync(database.logFile, "utf8");
    assert.match(log, /SCRAM-SHA-256\$/);
    assert.deepEqual(made.foundIn(log), []);
  });

  it("stand in no backup", async () => {
    const folder = mkdtempSync(join(tmpdir(), "rekey-leaks-"));
    const args = [program, "backup", "--to", join(folder, "copy"), "--data", server.dataFolder];
    bodies.push(execFileSync(process.execPath, args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] }));
    assert.deepEqual(marks.foundInFolder(folder), []);
    rmSync(folder, { recursive: true });
  });

  it("stand nowhere after a crash, a start with another root key, a restart and an orderly end", async () => {
    const { dataFolder } = server;
    const writes = Array.from({ length: 20 }, (_, n) => {
      const SecretString = marks.fresh(`written while it was killed, ${n}`);
      return call("CreateSecret", { Name: newName("leaks"), SecretString, ClientRequestToken: token() }).catch(() => undefined);
    });
    await Promise.race(writes);
    await server.stop("SIGKILL");
    await Promise.all(writes);
    logs.push(server.log());
    assert.deepEqual(marks.foundInFolder(dataFolder, keptApart), []);
    const keyFile = join(dataFolder, "root.key");
    const rightKey = readFileSync(keyFile);
    writeFileSync(keyFile, `${marks.watch("another root key", randomBytes(32).toString("base64"))}\n`, { mode: 0o600 });
    await assert.rejects(startRekey({ dataFolder, env }), (error: Error) => logs.push(error.message) > 0);
    writeFileSync(keyFile, rightKey, { mode: 0o600 });
    server = await startRekey({ dataFolder, env });
    await call("ListSecrets", {});
    assert.deepEqual(await everywhere(server), []);
    await server.stop();
    logs.push(server.log());
    assert.deepEqual([...marks.foundIn(logs.join("\n")), ...marks.foundInFolder(dataFolder, keptApart)], []);
  });
});
