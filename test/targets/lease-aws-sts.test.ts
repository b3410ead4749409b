// Leased sessions of a role against an endpoint on loopback that verifies signatures.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";
import { AwsCalls } from "../../src/targets/aws-calls.ts";
import type { AwsConnection } from "../../src/targets/lease-aws-connection.ts";
import { type AwsStsSettings, awsStsLease } from "../../src/targets/lease-aws-sts.ts";
import type { LeaseTools } from "../../src/targets/lease-target.ts";
import { type IamEndpoint, startIamEndpoint } from "../support/iam-endpoint.ts";
import { failure } from "./contract.ts";

let aws: IamEndpoint;
let connection: AwsConnection;
let roleArn = "";
before(async () => {
  aws = await startIamEndpoint();
  const { id, secret } = aws.addUser("caller");
  connection = { accessKeyId: id, secretAccessKey: secret, endpoint: aws.url };
  roleArn = aws.addRole("reader", undefined, { maxSeconds: 7_200 });
});
after(() => aws[Symbol.asyncDispose]());

const tools = (): LeaseTools => ({ deadlineAt: Date.now() + 120_000, generatePassword: () => "unused" });
const settingsOf = (more: object = {}): AwsStsSettings => awsStsLease.settings.parse({ roleArn, ...more });
function create(settings: AwsStsSettings, ttlSeconds: number, from = connection) {
  const mark = { installation: "abcd1234", leaseId: randomUUID(), secretName: "AWS" };
  const user = { mark, name: awsStsLease.name(settings, mark), handle: undefined, expiresAt: Date.now() + ttlSeconds * 1000 };
  return awsStsLease.create(from, settings, user, tools());
}

test("a session that works, for as long as was asked, with no more than its policy", async () => {
  const policy = { Version: "2012-10-17", Statement: [{ Effect: "Allow", Action: "s3:GetObject", Resource: "*" }] };
  const settings = settingsOf({ policy, tags: { team: "shop" } });
  const { fields, handle } = await create(settings, 1_800);
  assert.deepEqual(Object.keys(fields), awsStsLease.fieldNames(settings));
  assert.match(fields.ARN ?? "", /^arn:aws:sts::123456789012:assumed-role\/reader\/rekey-abcd1234-[0-9a-f]{27}$/);
  assert.equal(handle, fields.ARN);
  const keys = {
    accessKeyId: fields.ACCESS_KEY_ID ?? "",
    secretAccessKey: fields.SECRET_ACCESS_KEY ?? "",
    sessionToken: fields.SESSION_TOKEN,
  };
  const place = { region: "us-east-1", endpoint: aws.url };
  assert.equal((await new AwsCalls(keys, place, tools()).identity()).arn, fields.ARN);
  const session = aws.sessions.get(fields.ACCESS_KEY_ID ?? "");
  assert.equal(session?.policy, JSON.stringify(policy));
  assert.deepEqual([...(session?.tags ?? [])], [["team", "shop"]]);
  assert.ok(session && session.seconds > 1_780 && session.seconds <= 1_800);
  assert.ok(!Number.isNaN(Date.parse(fields.EXPIRATION ?? "")));
});

test("a length that STS does not give is refused before a session outlives its lease", async () => {
  const before = aws.sessions.size;
  assert.equal(await failure(create(settingsOf(), 300)), "invalid");
  assert.equal(await failure(create(settingsOf(), 50_000)), "invalid");
  assert.equal(await failure(create(settingsOf(), 10_000)), "invalid"); // the role's own maximum
  assert.equal(aws.sessions.size, before);
  const { fields } = await create(settingsOf(), 900);
  assert.equal(aws.sessions.get(fields.ACCESS_KEY_ID ?? "")?.seconds, 900);
});

test("a role that takes on a role does so for an hour at most, and its own session may do nothing else", async () => {
  const chained = { ...connection, roleArn: aws.addRole("between", "ext-1"), externalId: "ext-1" };
  const { fields } = await create(settingsOf(), 3_500, chained);
  assert.ok(fields.SESSION_TOKEN);
  const between = [...aws.sessions.values()].find(({ role }) => role.name === "between");
  assert.match(
    between?.policy ?? "",
    /"Action":\["sts:AssumeRole","sts:TagSession"\],"Resource":"arn:aws:iam::123456789012:role\/reader"/,
  );
  assert.equal(await failure(create(settingsOf(), 3_700, chained)), "invalid");
});

test("the check takes the role on, and says what is missing", async () => {
  assert.deepEqual(await awsStsLease.check(connection, settingsOf(), tools()), []);
  const guarded = settingsOf({ roleArn: aws.addRole("guarded", "ext-2") });
  const [finding] = await awsStsLease.check(connection, guarded, tools());
  assert.match(finding?.remedy ?? "", /sts:AssumeRole on .*role\/guarded, and name it in the role's trust policy/);
  assert.deepEqual(await awsStsLease.check(connection, { ...guarded, externalId: "ext-2" }, tools()), []);
  assert.equal((await awsStsLease.verify(connection, tools())).identity, `arn:aws:iam::${aws.account}:user/caller`);
});

test("failures have their class, and no message holds what was sent or answered", async () => {
  const secret = connection.secretAccessKey ?? "";
  aws.faults.set("AssumeRole", ["throttle", "error", "cut", "not-aws", "garbage"]);
  for (const outcome of ["unreachable", "unreachable", "unreachable", "invalid"]) {
    assert.equal(await failure(create(settingsOf(), 1_800), secret), outcome);
  }
  await assert.rejects(create(settingsOf(), 1_800));
  assert.equal(
    await failure(create(settingsOf(), 1_800, { ...connection, secretAccessKey: "canary-wrong" }), "canary-wrong"),
    "refused",
  );
});
