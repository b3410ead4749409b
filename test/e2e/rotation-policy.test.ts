import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { type CommandLine, commandLine } from "../support/cli.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";

const folder = mkdtempSync(join(tmpdir(), "rekey-cli-"));
let server: RekeyServer;
let root: CommandLine;

before(async () => {
  server = await startRekey();
  root = commandLine(server.endpoint, server.credentials.token, folder);
  await root.ask(
    "secret create app/db",
    JSON.stringify({ engine: "postgres", host: "127.0.0.1", port: 1, username: "a", password: "b" }),
  );
});
after(async () => {
  await server[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

async function post(verb: string, body: object, token = server.credentials.token) {
  const response = await fetch(`${server.endpoint}/rekey/v1/${verb}`, {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  // biome-ignore lint/suspicious/noExplicitAny: an answer of any shape
  return { status: response.status, body: (await response.json()) as any };
}

test("a policy is set member by member, shown with the next rotation, and cleared by name", async () => {
  assert.match(await root.ask("rotation policy app/db"), /^Secret +app\/db\nWhy +rotation is off\n$/);
  const text = await root.ask(
    "rotation policy app/db --time-zone Europe/Berlin --blackout sat,sun --retire-after 24h --replica r.internal:5432 [::1]:6432 --quorum 1 --jitter 10m --password-url-safe yes",
  );
  assert.match(text, /\nTime zone +Europe\/Berlin\nBlackouts +sat,sun\nJitter, s +600\nEnded after, s +86400\n/);
  assert.match(text, /\nReplicas +r\.internal:5432, \[::1\]:6432\nQuorum +1\nPassword +safe in URLs\n/);
  await root.ask("rotation policy app/db --retire-after 2h");
  const { rotationPolicy } = await root.askJson("rotation policy app/db");
  assert.deepEqual(rotationPolicy, {
    retireAfterSeconds: 7200,
    timeZone: "Europe/Berlin",
    blackouts: ["sat,sun"],
    jitterSeconds: 600,
    endpoints: [
      { host: "r.internal", port: 5432 },
      { host: "::1", port: 6432 },
    ],
    endpointQuorum: 1,
    password: { urlSafe: true },
  });
  const cleared = await root.askJson("rotation policy app/db --clear endpoints endpointQuorum password blackouts");
  assert.deepEqual(cleared.rotationPolicy, { retireAfterSeconds: 7200, timeZone: "Europe/Berlin", jitterSeconds: 600 });
});

test("the next window follows the policy, and one that is wholly blacked out is said to be missed", async () => {
  const rules = { scheduleExpression: "cron(0 22 ? * * *)" };
  await post("secrets/rotate", {
    secretId: "app/db",
    rotationRules: rules,
    rotateImmediately: false,
    rotationLambdaArn: await functionArn(),
  });
  const berlin = (await post("rotations/put-policy", { secretId: "app/db", timeZone: "Europe/Berlin", jitterSeconds: 0 })).body
    .nextRotation;
  const hour = new Intl.DateTimeFormat("en", { timeZone: "Europe/Berlin", hour: "numeric", hourCycle: "h23" });
  assert.equal(hour.format(new Date(berlin.startDate)), "22");
  assert.match(berlin.reason, /^cron\(0 22 \? \* \* \*\), by the clock of Europe\/Berlin; at its beginning$/);
  const dark = (await post("rotations/put-policy", { secretId: "app/db", blackouts: ["21:00-24:00"] })).body.nextRotation;
  assert.equal(dark.startDate, undefined);
  assert.match(
    dark.reason,
    /blackout 21:00-24:00 \(Europe\/Berlin\) leaves nothing of the window: it will be recorded as missed/,
  );
  const late = (await post("rotations/put-policy", { secretId: "app/db", blackouts: ["sun-sat 20:00-23:30"] })).body.nextRotation;
  assert.equal(Date.parse(late.startDate) - Date.parse(berlin.startDate), 90 * 60_000);
});

async function functionArn(): Promise<string> {
  const { account, region } = server.credentials;
  return `arn:aws:lambda:${region}:${account}:function:SecretsManagerRDSPostgreSQLRotationSingleUser`;
}

test("what is wrong is named with its rule, and nothing is changed", async () => {
  const before = (await post("rotations/get-policy", { secretId: "app/db" })).body.rotationPolicy;
  const cases: [object, RegExp][] = [
    [{ timeZone: "Europe/Atlantis" }, /timeZone Europe\/Atlantis is not known/],
    [{ timeZone: "+02:00" }, /timeZone \+02:00 is not known/],
    [{ blackouts: ["weekend"] }, /blackouts: weekend cannot be read/],
    [{ blackouts: ["2026-02-30"] }, /cannot be read/],
    [{ blackouts: ["2027-01-03..2026-12-20"] }, /cannot be read/],
    [{ endpoints: [{ host: "a" }], endpointQuorum: 2 }, /endpointQuorum is 2, but endpoints names 1/],
    [{ endpoints: [{ host: "a" }, { host: "A" }] }, /twice/],
    [{ repair: true }, /repair needs heartbeatSeconds/],
    [{ password: { exclude: "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" } }, /must leave at least 16/],
    [{ password: { length: 8 } }, /password\.length/],
    [{ retireAfterSeconds: -1 }, /retireAfterSeconds/],
    [{ heartbeatSeconds: 1 }, /heartbeatSeconds/],
    [{ retireafter: 1 }, /no member retireafter/],
    [{ clear: ["timezone"] }, /enum value set/],
    [{ timeZone: "UTC", clear: ["timeZone"] }, /both given and cleared/],
  ];
  for (const [members, message] of cases) {
    const { status, body } = await post("rotations/put-policy", { secretId: "app/db", ...members });
    assert.equal(status, 400, JSON.stringify(members));
    assert.match(body.detail, message);
  }
  assert.deepEqual((await post("rotations/get-policy", { secretId: "app/db" })).body.rotationPolicy, before);
});

test("the policy needs rights of its own, and naming hosts that are shown new values needs the right to read them", async () => {
  const arn = (await root.askJson("secret describe app/db")).arn;
  await root.ask("user create planner");
  const { token } = (await root.askJson("token create t --user planner")) as { token: string };
  assert.equal((await post("rotations/put-policy", { secretId: "app/db", jitterSeconds: 1 }, token)).status, 403);
  assert.equal((await post("rotations/get-policy", { secretId: "app/db" }, token)).status, 403);
  const document = { Version: "2012-10-17", Statement: [{ Effect: "Allow", Action: "rekey:*RotationPolicy", Resource: arn }] };
  writeFileSync(join(folder, "planner.json"), JSON.stringify(document));
  await root.ask("policy create planner planner.json");
  await root.ask("policy attach planner --user planner");
  assert.equal((await post("rotations/put-policy", { secretId: "app/db", jitterSeconds: 1 }, token)).status, 200);
  assert.equal((await post("rotations/get-policy", { secretId: "app/db" }, token)).status, 200);
  const thief = await post("rotations/put-policy", { secretId: "app/db", endpoints: [{ host: "thief.example" }] }, token);
  assert.equal(thief.status, 403);
  assert.match(thief.body.detail, /secretsmanager:GetSecretValue/);
});

test("AWS's door neither shows nor takes it", async () => {
  const described = await root.askJson("secret describe app/db");
  assert.ok(!JSON.stringify(described).includes("Policy"));
});
