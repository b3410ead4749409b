// AWS IAM access keys against an endpoint on loopback that verifies signatures and keeps IAM's rules.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { inspect } from "node:util";
import { RotatorError } from "../../src/core/error.ts";
import { awsIam } from "../../src/targets/aws-iam.ts";
import type { IamAdmin, IamCredential } from "../../src/targets/aws-iam-secret.ts";
import type { Issuer } from "../../src/targets/target.ts";
import { type FakeKey, type Fault, type IamEndpoint, startIamEndpoint } from "../support/iam-endpoint.ts";
import { failure, tools } from "./contract.ts";

let aws: IamEndpoint;
before(async () => {
  aws = await startIamEndpoint();
});
after(() => aws[Symbol.asyncDispose]());

const issuer = awsIam.issuer as Issuer<IamCredential, IamAdmin>;
const soon = (ms: number) => ({ ...tools(), deadlineAt: Date.now() + ms });

let users = 0;
function newUser(rights?: Parameters<IamEndpoint["addUser"]>[1]): IamCredential {
  const username = `deploy-${++users}`;
  return secretOf(aws.addUser(username, rights));
}

function secretOf({ id, secret, user }: FakeKey, url = aws.url): IamCredential {
  return { engine: "aws-iam", username: user, accessKeyId: id, secretAccessKey: secret, endpoint: url, note: "kept" };
}

function newAdmin(): IamAdmin {
  const actions = ["iam:CreateAccessKey", "iam:ListAccessKeys", "iam:DeleteAccessKey"];
  const { id, secret } = aws.addUser(`admin-${++users}`, { actions, on: "everybody", path: "/ops/" });
  return { accessKeyId: id, secretAccessKey: secret, endpoint: aws.url };
}

const own = (current: IamCredential) => ({ current, admin: undefined });

async function errorOf(call: Promise<unknown>): Promise<RotatorError> {
  const error = await call.then(
    () => assert.fail("the call went well"),
    (error: unknown) => error,
  );
  assert.ok(error instanceof RotatorError, inspect(error));
  return error;
}

test("a wrong key is refused, else nothing below would prove anything", async () => {
  const current = newUser();
  await awsIam.test(current, tools());
  const wrong = { ...current, secretAccessKey: "canary-wrong-secret" };
  assert.equal(await failure(awsIam.test(wrong, tools()), "canary-wrong-secret"), "refused");
  assert.equal(await awsIam.probe(wrong, tools()), "refused");
  assert.equal(await awsIam.probe({ ...current, accessKeyId: "AKIAAAAAAAAAAAAAAAAA" }, tools()), "refused");
  assert.equal(await awsIam.probe(current, tools()), "ok");
});

for (const by of ["the user itself", "a superuser"]) {
  test(`${by}: a new key beside the old one, then the old one is deleted, twice`, async () => {
    const admin = by === "a superuser" ? newAdmin() : undefined;
    const current = newUser(admin ? { actions: [] } : {});
    const pending = await issuer.issue({ current, admin }, tools());
    assert.notEqual(pending.accessKeyId, current.accessKeyId);
    assert.deepEqual({ ...pending, accessKeyId: "", secretAccessKey: "" }, { ...current, accessKeyId: "", secretAccessKey: "" });
    await awsIam.test(pending, tools());
    assert.equal(await awsIam.probe(current, tools()), "ok");
    assert.equal(awsIam.account(pending, "issuer"), awsIam.account(current, "issuer"));

    const listed = await issuer.list({ current: pending, admin }, tools());
    assert.deepEqual(listed?.map(({ id }) => id).sort(), [current.accessKeyId, pending.accessKeyId].sort());
    for (const _ of ["once", "again, as after a lost answer"])
      await issuer.delete(current.accessKeyId, { current: pending, admin }, tools());
    assert.equal(await awsIam.probe(current, tools()), "refused");
    assert.deepEqual(
      aws.keysOf(current.username).map(({ id }) => id),
      [pending.accessKeyId],
    );
  });
}

test("a new key is refused until AWS knows it everywhere, region by region", async () => {
  aws.delay = 2;
  const current = newUser();
  const pending = await issuer.issue(own(current), tools());
  aws.delay = 0;
  const answers: string[] = [];
  for (let turn = 0; turn < 3; turn++) answers.push(await awsIam.probe(pending, tools()));
  assert.deepEqual(answers, ["refused", "refused", "ok"]);
  const elsewhere = { ...pending, region: "eu-west-1" };
  assert.equal(await awsIam.probe(elsewhere, tools()), "refused");
});

test("a lost answer is unknown, and the key that was made is in the list", async () => {
  const current = newUser();
  const before = await issuer.list(own(current), tools());
  aws.faults.set("CreateAccessKey", ["lost"]);
  assert.equal(await failure(issuer.issue(own(current), tools())), "unknown");
  const after = await issuer.list(own(current), tools());
  const orphans = after?.filter(({ id }) => !before?.some((known) => known.id === id)) ?? [];
  assert.equal(orphans.length, 1);
  for (const { id } of orphans) await issuer.delete(id, own(current), tools());
  await awsIam.test(await issuer.issue(own(current), tools()), tools());
});

test("two keys already: nothing is deleted, and the error names both", async () => {
  const current = newUser();
  const other = await issuer.issue(own(current), tools());
  const error = await errorOf(issuer.issue(own(current), tools()));
  assert.equal(error.outcome, "invalid");
  assert.match(error.message, new RegExp(`${current.accessKeyId} \\(the secret's, made`));
  assert.match(error.message, new RegExp(`${other.accessKeyId} \\(not the secret's, made`));
  assert.match(error.message, new RegExp(`Delete ${other.accessKeyId} once`));
  assert.equal(aws.keysOf(current.username).length, 2);
  assert.deepEqual(
    (await awsIam.check?.(own(current), "issuer", tools()))?.map(({ step }) => step),
    ["createSecret"],
  );
});

test("the current key is never deleted", async () => {
  const current = newUser();
  assert.equal(await failure(issuer.delete(current.accessKeyId, own(current), tools())), "invalid");
  await awsIam.test(current, tools());
});

test("each failure has its class, and no message holds what was sent or answered", async () => {
  const current = newUser();
  const cases: [Fault, string, string][] = [
    ["throttle", "unreachable", "unreachable"],
    ["error", "unknown", "unreachable"],
    ["cut", "unknown", "unreachable"],
    ["skewed", "invalid", "invalid"],
    ["not-aws", "invalid", "invalid"],
    ["garbage", "unknown", ""],
    ["endless-body", "unknown", "unreachable"],
  ];
  for (const [fault, making, asking] of cases) {
    aws.faults.set("CreateAccessKey", [fault]).set("GetCallerIdentity", []);
    const access = own(current);
    assert.equal(await failure(issuer.issue(access, tools()), current.secretAccessKey), making, fault);
    for (const { id } of aws.keysOf(current.username)) if (id !== current.accessKeyId) aws.keys.delete(id);
    if (asking === "") continue;
    aws.faults.set("GetCallerIdentity", [fault]);
    assert.equal(await failure(awsIam.test(current, tools()), current.secretAccessKey), asking, fault);
  }
  for (const fault of ["hang", "slow-body"] as const) {
    aws.faults.set("CreateAccessKey", [fault]);
    assert.equal(await failure(issuer.issue(own(current), soon(1_500)), current.secretAccessKey), "unknown", fault);
    for (const { id } of aws.keysOf(current.username)) if (id !== current.accessKeyId) aws.keys.delete(id);
    aws.faults.set("GetCallerIdentity", [fault]);
    assert.equal(await failure(awsIam.test(current, soon(700)), current.secretAccessKey), "timeout", fault);
  }
  const stopped = { ...current, endpoint: "http://127.0.0.1:1" };
  assert.equal(await failure(issuer.issue(own(stopped), tools())), "unreachable");
  assert.equal(await awsIam.probe(stopped, tools()), "unreachable");
  assert.equal(await awsIam.probe({ ...current, endpoint: aws.url.replace("http:", "https:") }, tools()), "tls");
  assert.equal(await awsIam.probe(current, { ...tools(), deadlineAt: Date.now() - 1 }), "timeout");
});

test("a key answered in a garbled answer is in no error", async () => {
  const current = newUser();
  aws.faults.set("CreateAccessKey", ["garbage"]);
  const error = await errorOf(issuer.issue(own(current), tools()));
  const made = aws.keysOf(current.username).find(({ id }) => id !== current.accessKeyId);
  assert.ok(made && !(inspect(error, { depth: 10, showHidden: true }) + error.stack).includes(made.secret));
});

test("without rights it is denied, and the check says which", async () => {
  const current = newUser({ actions: [] });
  const error = await errorOf(issuer.issue(own(current), tools()));
  assert.equal(error.outcome, "denied");
  assert.match(error.message, /^iam:CreateAccessKey: /);
  const findings = await awsIam.check?.(own(current), "issuer", tools());
  assert.match(findings?.[0]?.remedy ?? "", /iam:CreateAccessKey, iam:ListAccessKeys and iam:DeleteAccessKey/);
  const able = newUser();
  assert.deepEqual(await awsIam.check?.(own(able), "issuer", tools()), []);
});

test("a role is taken on, with its external id, for the user's keys only", async () => {
  const roleArn = aws.addRole("key-manager", "rekey-1");
  const admin = { ...newAdmin(), roleArn, externalId: "rekey-1" };
  for (const path of ["/", "/apps/ci/"]) {
    const current = newUser({ actions: [], path });
    const pending = await issuer.issue({ current, admin }, tools());
    await awsIam.test(pending, tools());
    await issuer.delete(current.accessKeyId, { current: pending, admin }, tools());
  }
  const current = newUser({ actions: [] });
  assert.match(aws.calls.findLast(({ action }) => action === "CreateAccessKey")?.accessKeyId ?? "", /^ASIA/);
  assert.equal(await failure(issuer.issue({ current, admin: { ...admin, externalId: "other" } }, tools())), "denied");
});

test("attack: a secret that names another user gets no key of that user", async () => {
  const victim = newUser();
  const attacker = newUser();
  const admin = newAdmin();
  const claims = { ...attacker, username: victim.username };
  assert.equal(await failure(awsIam.test(claims, tools())), "invalid");
  assert.equal(await awsIam.probe(claims, tools()), "invalid");
  assert.equal(await failure(issuer.issue({ current: claims, admin }, tools())), "invalid");
  assert.equal(aws.keysOf(victim.username).length, 1);
  assert.equal(await failure(awsIam.test({ ...attacker, account: "210987654321" }, tools())), "invalid");
});

test("attack: a superuser of another AWS account makes no key", async () => {
  await using elsewhere = await startIamEndpoint("210987654321");
  const current = newUser();
  elsewhere.addUser(current.username);
  const { id, secret } = elsewhere.addUser("boss", { on: "everybody" });
  const admin = { accessKeyId: id, secretAccessKey: secret, endpoint: elsewhere.url };
  assert.equal(await failure(issuer.issue({ current, admin }, tools())), "invalid"); // another endpoint
  assert.equal(elsewhere.calls.length, 0);
  // One endpoint, two accounts, as AWS itself is: the accounts are told apart by what STS says.
  const stranger = { ...current, endpoint: elsewhere.url, account: aws.account };
  const error = await errorOf(issuer.issue({ current: stranger, admin }, tools()));
  assert.equal(error.outcome, "denied");
  assert.equal(elsewhere.keysOf(current.username).length, 1);
});

test("a superuser helps when the key itself is refused, if the secret says which AWS account", async () => {
  const current: IamCredential = { ...newUser(), secretAccessKey: "lost" };
  const admin = newAdmin();
  const error = await errorOf(issuer.issue({ current, admin }, tools()));
  assert.match(error.message, /add "account"/);
  const pending = await issuer.issue({ current: { ...current, account: aws.account }, admin }, tools());
  await awsIam.test(pending, tools());
  assert.match(awsIam.account(pending, "issuer") ?? "", /^aws-iam:\/\/127\.0\.0\.1:\d+\/123456789012\/deploy-\d+$/);
});

test("attack: the server's own AWS identity and settings are never used", async () => {
  const { id, secret } = aws.addUser("the-server", { on: "everybody" });
  await using other = await startIamEndpoint();
  const env = {
    AWS_ACCESS_KEY_ID: id,
    AWS_SECRET_ACCESS_KEY: secret,
    AWS_ENDPOINT_URL: other.url,
    AWS_ENDPOINT_URL_IAM: other.url,
    AWS_ENDPOINT_URL_STS: other.url,
    AWS_PROFILE: "nobody",
    AWS_MAX_ATTEMPTS: "5",
  };
  const saved = Object.fromEntries(Object.keys(env).map((name) => [name, process.env[name]]));
  Object.assign(process.env, env);
  try {
    const seen = aws.calls.length;
    const current = { ...newUser(), secretAccessKey: "wrong" };
    assert.equal(await failure(issuer.issue(own(current), tools())), "refused");
    assert.equal(await awsIam.probe(current, tools()), "refused");
    assert.deepEqual(
      aws.calls.slice(seen).map(({ accessKeyId }) => accessKeyId),
      [current.accessKeyId, current.accessKeyId],
    );
    const nowhere: IamCredential = { ...newUser(), endpoint: undefined, region: "xx-nowhere-1" };
    assert.equal(await awsIam.probe(nowhere, tools()), "unreachable");
    assert.equal(other.calls.length, 0);
  } finally {
    for (const [name, value] of Object.entries(saved)) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  }
});

test("a value that does not suit is refused by key and rule", () => {
  const good = { username: "deploy", accessKeyId: "AKIAAAAAAAAAAAAAAAAA", secretAccessKey: "x" };
  assert.ok(awsIam.credential.safeParse(good).success);
  const bad: Record<string, unknown>[] = [
    { username: "a/b" },
    { username: "" },
    { accessKeyId: "short" },
    { accessKeyId: "AKIA\r\nX-Header: yes11" },
    { secretAccessKey: "two\nlines" },
    { endpoint: "http://example.com" },
    { endpoint: "https://user:pass@example.com" },
    { endpoint: "https://example.com/path" },
    { endpoint: "file:///etc/passwd" },
    { stsEndpoint: "http://169.254.169.254" },
    { region: "us-east-1.evil.example" },
    { account: "12" },
    { engine: "postgres" },
  ];
  for (const change of bad) {
    const { error } = awsIam.credential.safeParse({ ...good, ...change });
    assert.deepEqual(
      error?.issues.map(({ path }) => path[0]),
      Object.keys(change),
      inspect(change),
    );
  }
});

test("the STS of another region is asked in that region", async () => {
  const current = newUser();
  const there = awsIam.at?.(current, { host: "localhost", port: Number(new URL(aws.url).port) });
  assert.ok(there);
  await awsIam.test(there, tools());
  const real = awsIam.at?.({ ...current, endpoint: undefined }, { host: "sts.ap-south-1.amazonaws.com" });
  assert.equal(real?.stsEndpoint, "https://sts.ap-south-1.amazonaws.com");
  assert.equal(real?.region, "ap-south-1");
});
