// Leased IAM users against an endpoint on loopback that verifies signatures and lets policies decide.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, beforeEach, test } from "node:test";
import { inspect } from "node:util";
import { RotatorError } from "../../src/core/error.ts";
import type { AwsConnection } from "../../src/targets/lease-aws-connection.ts";
import { type AwsIamSettings, awsIamLease } from "../../src/targets/lease-aws-iam.ts";
import { groupActions, type ManagingPolicyOptions, managingPolicy, userActions } from "../../src/targets/lease-aws-iam-policy.ts";
import type { LeasedUser, LeaseTools } from "../../src/targets/lease-target.ts";
import { type Fault, type IamEndpoint, startIamEndpoint } from "../support/iam-endpoint.ts";
import { failure } from "./contract.ts";

let aws: IamEndpoint;
before(async () => {
  aws = await startIamEndpoint();
});
after(() => aws[Symbol.asyncDispose]());
beforeEach(() => {
  aws.faults.clear();
  Object.assign(aws, { delay: 0, listDelay: 0, userDelay: 0, pageSize: 100 });
  aws.groups.add("readers");
});

const installation = "abcd1234";
const s3 = { Version: "2012-10-17", Statement: [{ Effect: "Allow", Action: "s3:GetObject", Resource: "*" }] };
const tools = (ms = 120_000): LeaseTools => ({ deadlineAt: Date.now() + ms, generatePassword: () => "unused" });
const settingsOf = (more: object = {}): AwsIamSettings => awsIamLease.settings.parse({ policy: s3, ...more });

let managers = 0;
/** With the very rights that the printed policy gives. */
function manager(options: Partial<ManagingPolicyOptions> = {}, name = `manager-${++managers}`): AwsConnection {
  const policy = JSON.stringify(managingPolicy({ path: "/rekey/", ...options }));
  const { id, secret } = aws.addUser(name, { policy });
  return { accessKeyId: id, secretAccessKey: secret, endpoint: aws.url };
}

function newUser(settings: AwsIamSettings, handle?: string): LeasedUser {
  const mark = { installation, leaseId: randomUUID(), secretName: "AWS_USER" };
  return { mark, name: awsIamLease.name(settings, mark), handle, expiresAt: Date.now() + 1_800_000 };
}

const identityOf = async (fields: Readonly<Record<string, string>>): Promise<string> => {
  const { ACCESS_KEY_ID: accessKeyId = "", SECRET_ACCESS_KEY: secretAccessKey = "" } = fields;
  return (await awsIamLease.verify({ accessKeyId, secretAccessKey, endpoint: aws.url }, tools())).identity;
};

const leftOf = (name: string): unknown[] => [...(aws.users.has(name) ? [name] : []), ...aws.keysOf(name)];

for (const path of ["/rekey/", "/doppler/"] as const) {
  test(`${path}: a user with its policy and a key that works; then nothing is left of it`, async () => {
    const connection = manager({ path, groups: ["readers"] });
    const settings = settingsOf({ path, groups: ["readers"], tags: { team: "shop" } });
    const user = newUser(settings);
    const { fields, handle } = await awsIamLease.create(connection, settings, user, tools());
    assert.deepEqual(Object.keys(fields), awsIamLease.fieldNames(settings));
    const [named, policyNamed] =
      path === "/rekey/" ? ["Rekey-Dynamic-", "rekey-policy-"] : ["Doppler-Dynamic-", "doppler-policy-"];
    assert.equal(fields.ARN, `arn:aws:iam::${aws.account}:user${path}${fields.USERNAME}`);
    assert.equal(handle, fields.ARN);
    assert.match(fields.USERNAME ?? "", new RegExp(`^${named}abcd1234-[0-9a-z]{25}$`));
    assert.ok((fields.USERNAME ?? "").length <= 64);
    assert.match(fields.POLICY_NAME ?? "", new RegExp(`^${policyNamed}abcd1234-`));
    assert.equal(await identityOf(fields), fields.ARN);
    const made = aws.users.get(user.name);
    assert.deepEqual([...(made?.inline ?? [])], [[fields.POLICY_NAME, JSON.stringify(s3)]]);
    assert.deepEqual([...(made?.groups ?? [])], ["readers"]);
    assert.deepEqual(Object.fromEntries(made?.tags ?? []), {
      team: "shop",
      "rekey:installation": installation,
      "rekey:lease": user.mark.leaseId,
      "rekey:dynamic-secret": "AWS_USER",
    });
    const listed = await awsIamLease.list?.(connection, installation, tools());
    assert.ok(listed?.some(({ name, handle: arn, createdAt }) => name === user.name && arn === handle && createdAt));
    assert.deepEqual(await awsIamLease.list?.(connection, "zzzz9999", tools()), []);

    for (const _ of ["once", "again, as after a lost answer"]) {
      await awsIamLease.revoke(connection, settings, { ...user, handle }, tools());
      assert.deepEqual(leftOf(user.name), []);
    }
    await assert.rejects(identityOf(fields));
  });
}

test("the printed policy is the least: without any one of its rights, issue or revocation fails or leaves something", async () => {
  const settings = settingsOf({ groups: ["readers"] });
  // GetUser spares the list of all users where it is allowed.
  const enoughWithout = ["nothing", "iam:GetUser"];
  const suffices = async (action: string): Promise<boolean> => {
    const policy = managingPolicy({ path: "/rekey/", groups: ["readers"] }) as { Statement: { Action: string[] }[] };
    for (const statement of policy.Statement) statement.Action = statement.Action.filter((one) => one !== action);
    const { id, secret } = aws.addUser(`without-${++managers}`, { policy: JSON.stringify(policy) });
    const connection = { accessKeyId: id, secretAccessKey: secret, endpoint: aws.url };
    const user = newUser(settings);
    const refusalMs = enoughWithout.includes(action) ? undefined : 4_000; // a refusal is asked about again until the deadline
    try {
      const { handle } = await awsIamLease.create(connection, settings, user, tools(refusalMs));
      const made = aws.users.get(user.name);
      if (made) Object.assign(made, { login: true }).attached.add("arn:aws:iam::aws:policy/ReadOnlyAccess");
      for (const _ of ["once", "again"]) await awsIamLease.revoke(connection, settings, { ...user, handle }, tools());
      return leftOf(user.name).length === 0;
    } catch (error) {
      assert.ok(error instanceof RotatorError, inspect(error));
      return false;
    }
  };
  const actions = ["nothing", ...userActions, ...groupActions];
  const enough = await Promise.all(actions.map(suffices));
  const spare = actions.filter((_, index) => enough[index]);
  assert.deepEqual(spare, enoughWithout);
});

test("the printed policy gives nothing outside its path", async () => {
  const connection = manager();
  const settings = settingsOf({ path: "/doppler/" });
  assert.equal(await failure(awsIamLease.create(connection, settings, newUser(settings), tools())), "denied");
  const findings = await awsIamLease.check(connection, settings, tools());
  assert.match(findings[0]?.problem ?? "", /iam:ListUsers: .*\/doppler\//);
  assert.match(findings[0]?.remedy ?? "", /rekey integration policy aws-iam --path \/doppler\//);
});

test("with a boundary no user is made without it", async () => {
  const permissionsBoundary = `arn:aws:iam::${aws.account}:policy/leased`;
  const connection = manager({ permissionsBoundary });
  const without = settingsOf();
  assert.equal(await failure(awsIamLease.create(connection, without, newUser(without), tools())), "denied");
  const settings = settingsOf({ permissionsBoundary });
  const user = newUser(settings);
  const { handle } = await awsIamLease.create(connection, settings, user, tools());
  assert.equal(aws.users.get(user.name)?.boundary, permissionsBoundary);
  await awsIamLease.revoke(connection, settings, { ...user, handle }, tools());
  assert.deepEqual(leftOf(user.name), []);
});

test("a role is taken on, with its external id, and its session may do no more than leases take", async () => {
  const policy = JSON.stringify({ Version: "2012-10-17", Statement: [{ Effect: "Allow", Action: "*", Resource: "*" }] });
  const roleArn = aws.addRole("lease-manager", "rekey-1", { policy });
  const connection = { ...manager(), roleArn, externalId: "rekey-1" };
  const settings = settingsOf({ groups: ["readers"], permissionsBoundary: `arn:aws:iam::${aws.account}:policy/leased` });
  const user = newUser(settings);
  const { handle } = await awsIamLease.create(connection, settings, user, tools());
  const session = [...aws.sessions.values()].at(-1);
  assert.ok(session?.policy && session.policy.length <= 2_048);
  assert.doesNotMatch(session.policy, /"\*"|iam:\*|user\/\*/);
  await awsIamLease.revoke(connection, settings, { ...user, handle }, tools());
  assert.deepEqual(leftOf(user.name), []);
  assert.equal(await failure(awsIamLease.verify({ ...connection, externalId: "other" }, tools())), "denied");
});

test("the machine's own identity is used where the integration says so, to take on the role, and nowhere else", async () => {
  const machine = aws.addUser("machine", { actions: [] });
  const policy = JSON.stringify(managingPolicy({ path: "/rekey/" }));
  const roleArn = aws.addRole("for-the-machine", "rekey-2", { policy });
  const connection = awsIamLease.connection.parse({ ambient: true, roleArn, externalId: "rekey-2", endpoint: aws.url });
  const env = { AWS_ACCESS_KEY_ID: machine.id, AWS_SECRET_ACCESS_KEY: machine.secret };
  const saved = Object.fromEntries(Object.keys(env).map((name) => [name, process.env[name]]));
  Object.assign(process.env, env);
  try {
    const settings = settingsOf();
    const user = newUser(settings);
    const seen = aws.calls.length;
    const { handle } = await awsIamLease.create(connection, settings, user, tools());
    await awsIamLease.revoke(connection, settings, { ...user, handle }, tools());
    assert.deepEqual(leftOf(user.name), []);
    const byMachine = aws.calls.slice(seen).filter(({ accessKeyId }) => accessKeyId === machine.id);
    assert.deepEqual([...new Set(byMachine.map(({ action }) => action))], ["AssumeRole"]);
    const wrong = { ...manager(), secretAccessKey: "canary-wrong" };
    assert.equal(await failure(awsIamLease.verify(wrong, tools()), "canary-wrong"), "refused");
  } finally {
    for (const [name, value] of Object.entries(saved)) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  }
});

test("the machine's own identity signs for AWS's IAM and STS alone, and for no other host below AWS's domain", () => {
  const ambient = { ambient: true, roleArn: `arn:aws:iam::${aws.account}:role/r`, externalId: "rekey-2" };
  const takes = (stsEndpoint: string) => awsIamLease.connection.safeParse({ ...ambient, stsEndpoint }).success;
  for (const host of ["sts", "sts.eu-west-1", "sts-fips.us-gov-west-1", "iam", "iam.us-gov"])
    assert.ok(takes(`https://${host}.amazonaws.com`), host);
  assert.ok(takes("https://sts.cn-north-1.amazonaws.com.cn"));
  for (const host of [
    "abc123.execute-api.eu-west-1.amazonaws.com",
    "ec2-203-0-113-1.compute-1.amazonaws.com",
    "sts.s3.amazonaws.com",
    "iam.s3-eu-west-1.amazonaws.com",
    "sts.theirs.elb.eu-west-1.amazonaws.com",
    "sts.amazonaws.com.example",
    "xsts.amazonaws.com",
  ])
    assert.ok(!takes(`https://${host}`), host);
});

test("the answer waits until AWS knows the key; when that takes too long, it is an error and revocation leaves nothing", async () => {
  const connection = manager();
  const settings = settingsOf();
  aws.delay = 3;
  const user = newUser(settings);
  const { fields, handle } = await awsIamLease.create(connection, settings, user, tools());
  assert.equal(await identityOf(fields), fields.ARN);
  await awsIamLease.revoke(connection, settings, { ...user, handle }, tools());

  aws.delay = 1_000;
  const late = newUser(settings);
  assert.equal(await failure(awsIamLease.create(connection, settings, late, tools(2_000))), "timeout");
  assert.notDeepEqual(leftOf(late.name), []);
  await awsIamLease.revoke(connection, settings, late, tools());
  assert.deepEqual(leftOf(late.name), []);
});

test("a new user that IAM does not know yet, and a key that it does not list yet, are waited for", async () => {
  const connection = manager();
  const settings = settingsOf();
  Object.assign(aws, { userDelay: 2, listDelay: 1 });
  const user = newUser(settings);
  const { handle } = await awsIamLease.create(connection, settings, user, tools());
  await awsIamLease.revoke(connection, settings, { ...user, handle }, tools());
  assert.deepEqual(leftOf(user.name), []);
});

test("a user that appears after its making was in doubt is found", async () => {
  const connection = manager();
  const settings = settingsOf();
  const user = newUser(settings);
  aws.userDelay = 2;
  aws.faults.set("CreateUser", ["lost"]);
  assert.equal(await failure(awsIamLease.create(connection, settings, user, tools())), "unknown");
  await awsIamLease.revoke(connection, settings, user, tools());
  assert.deepEqual(leftOf(user.name), []);
});

test("every call of create fails in every way, in turn: revocation leaves nothing", async () => {
  const connection = manager({ groups: ["readers"] });
  const settings = settingsOf({ groups: ["readers"] });
  const calls = ["CreateUser", "PutUserPolicy", "AddUserToGroup", "CreateAccessKey"];
  const faults: [Fault, string][] = [
    ["lost", "unknown"],
    ["cut", "unknown"],
    ["error", "unknown"],
    ["not-aws", "invalid"],
    ["garbage", "unknown"],
  ];
  for (const call of calls) {
    for (const [fault, outcome] of faults) {
      if (fault === "garbage" && call !== "CreateAccessKey") continue;
      aws.faults.clear();
      aws.faults.set(call, [fault]);
      const user = newUser(settings);
      const secret = connection.secretAccessKey ?? "";
      assert.equal(await failure(awsIamLease.create(connection, settings, user, tools()), secret), outcome, `${call} ${fault}`);
      await awsIamLease.revoke(connection, settings, user, tools());
      assert.deepEqual(leftOf(user.name), [], `${call} ${fault}`);
    }
  }
});

test("every call of revoke is lost or fails, in turn: it says so, and the next revocation ends it", async () => {
  const connection = manager({ groups: ["readers"] });
  const settings = settingsOf({ groups: ["readers"] });
  const calls = ["UpdateAccessKey", "DeleteAccessKey", "DeleteUserPolicy", "DetachUserPolicy", "RemoveUserFromGroup"];
  for (const call of [...calls, "DeleteLoginProfile", "DeleteUser", "ListAccessKeys", "GetUser"]) {
    for (const fault of ["lost", "error"] as const) {
      const user = newUser(settings);
      const { handle } = await awsIamLease.create(connection, settings, user, tools());
      const made = aws.users.get(user.name);
      assert.ok(made);
      made.login = true;
      made.attached.add("arn:aws:iam::aws:policy/ReadOnlyAccess");
      aws.faults.set(call, [fault]);
      await assert.rejects(awsIamLease.revoke(connection, settings, { ...user, handle }, tools()), `${call} ${fault}`);
      await awsIamLease.revoke(connection, settings, { ...user, handle }, tools());
      assert.deepEqual(leftOf(user.name), [], `${call} ${fault}`);
    }
  }
});

test("throttled calls are asked again, and the deadline ends that", async () => {
  const connection = manager();
  const settings = settingsOf();
  const user = newUser(settings);
  for (const call of ["CreateUser", "PutUserPolicy", "CreateAccessKey", "GetCallerIdentity", "DeleteUser", "ListUsers"]) {
    aws.faults.set(call, ["throttle", "throttle"]);
  }
  aws.faults.delete("ListUsers");
  const { handle } = await awsIamLease.create(connection, settings, user, tools());
  await awsIamLease.revoke(connection, settings, { ...user, handle }, tools());
  assert.deepEqual(leftOf(user.name), []);
  aws.faults.set(
    "CreateUser",
    Array.from({ length: 50 }, () => "throttle" as const),
  );
  assert.equal(await failure(awsIamLease.create(connection, settings, newUser(settings), tools(2_000))), "unreachable");
});

test("keys are inactive before anything else is done", async () => {
  const connection = manager();
  const settings = settingsOf();
  const user = newUser(settings);
  const { handle } = await awsIamLease.create(connection, settings, user, tools());
  aws.faults.set("DeleteAccessKey", ["error"]);
  await assert.rejects(awsIamLease.revoke(connection, settings, { ...user, handle }, tools()));
  assert.deepEqual(
    aws.keysOf(user.name).map(({ status }) => status),
    ["Inactive"],
  );
  await awsIamLease.revoke(connection, settings, { ...user, handle }, tools());
});

test("attack: in another AWS account nothing looks as if it were gone", async () => {
  await using elsewhere = await startIamEndpoint("210987654321");
  const settings = settingsOf();
  const user = newUser(settings);
  const { handle } = await awsIamLease.create(manager(), settings, user, tools());
  const policy = JSON.stringify(managingPolicy({ path: "/rekey/" }));
  const { id, secret } = elsewhere.addUser("other", { policy });
  const wrong = { accessKeyId: id, secretAccessKey: secret, endpoint: elsewhere.url };
  assert.equal(await failure(awsIamLease.revoke(wrong, settings, { ...user, handle }, tools())), "denied");
  assert.equal(await failure(awsIamLease.verify({ ...wrong, account: aws.account }, tools())), "denied");
  const pinned = { ...wrong, account: aws.account };
  assert.equal(await failure(awsIamLease.create(pinned, settings, newUser(settings), tools())), "denied");
  assert.equal(elsewhere.users.size, 1);
  assert.notDeepEqual(leftOf(user.name), []);
});

test("attack: a user that is not the lease's is left alone", async () => {
  const connection = manager();
  const settings = settingsOf();
  const user = newUser(settings);
  aws.addUser("victim", { path: "/rekey/" });
  assert.equal(await failure(awsIamLease.revoke(connection, settings, { ...user, name: "victim" }, tools())), "invalid");
  assert.ok(aws.users.has("victim"));
  const all = JSON.stringify({ Version: "2012-10-17", Statement: [{ Effect: "Allow", Action: "iam:*", Resource: "*" }] });
  const { id, secret } = aws.addUser(`all-${++managers}`, { policy: all });
  aws.addUser(user.name, { path: "/ops/" });
  const strong = { accessKeyId: id, secretAccessKey: secret, endpoint: aws.url };
  assert.equal(await failure(awsIamLease.revoke(strong, settings, user, tools())), "invalid");
  assert.ok(aws.users.has(user.name));
});

test("an orphan is revoked by its name, whatever the settings and the lease are", async () => {
  const connection = manager({ path: "/doppler/" });
  const settings = settingsOf({ path: "/doppler/" });
  const user = newUser(settings);
  await awsIamLease.create(connection, settings, user, tools());
  const [orphan] = (await awsIamLease.list?.(connection, installation, tools())) ?? [];
  const stranger = { ...newUser(settingsOf()), ...orphan, handle: orphan?.handle };
  await awsIamLease.revoke(connection, settingsOf(), stranger, tools());
  assert.deepEqual(leftOf(user.name), []);
});

test("the orphan list is whole over many pages", async () => {
  const connection = manager();
  const settings = settingsOf();
  aws.pageSize = 7;
  const names = Array.from({ length: 40 }, () => newUser(settings).name);
  for (const name of names) aws.addUser(name, { path: "/rekey/" });
  const listed = await awsIamLease.list?.(connection, installation, tools());
  assert.deepEqual(
    names.filter((name) => !listed?.some((found) => found.name === name)),
    [],
  );
  for (const name of names) aws.users.delete(name);
  await assert.rejects(async () => awsIamLease.list?.(manager({ path: "/doppler/" }, "x"), "x", tools(-1)));
});

test("the check names what is missing, where IAM lets it ask", async () => {
  const settings = settingsOf({ groups: ["readers"] });
  const [warning, ...others] = await awsIamLease.check(manager({ groups: ["readers"] }), settings, tools());
  assert.ok(warning?.warning && others.length === 0);
  const ask = { Effect: "Allow", Action: "iam:SimulatePrincipalPolicy", Resource: "*" };
  const policy = managingPolicy({ path: "/rekey/" }) as { Statement: object[] };
  const full = JSON.stringify({ ...policy, Statement: [...policy.Statement, ask] });
  const { id, secret } = aws.addUser(`asking-${++managers}`, { policy: full });
  const asking = { accessKeyId: id, secretAccessKey: secret, endpoint: aws.url };
  assert.deepEqual(await awsIamLease.check(asking, settingsOf(), tools()), []);
  const [missing] = await awsIamLease.check(asking, settings, tools());
  assert.match(missing?.problem ?? "", /may not do iam:AddUserToGroup, iam:RemoveUserFromGroup on .*group\/readers/);
});
