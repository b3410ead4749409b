// What a connection to AWS and the settings of leased IAM users may be, and what follows from them alone.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { inspect } from "node:util";
import type { AwsConnection } from "../../src/targets/lease-aws-connection.ts";
import { awsIamLease } from "../../src/targets/lease-aws-iam.ts";

const installation = "abcd1234";
const s3 = { Version: "2012-10-17", Statement: [{ Effect: "Allow", Action: "s3:GetObject", Resource: "*" }] };

test("names tell the lease and the installation, and differ for different leases", () => {
  const settings = awsIamLease.settings.parse({ policy: s3 });
  const leaseId = "00000000-0000-4000-8000-00000000000a";
  const mark = { installation, leaseId, secretName: "A" };
  assert.equal(awsIamLease.name(settings, mark), awsIamLease.name(settings, { ...mark, secretName: "B" }));
  const names = new Set(
    Array.from({ length: 500 }, () => awsIamLease.name(settings, { ...mark, leaseId: randomUUID() }).toLowerCase()),
  );
  assert.equal(names.size, 500);
});

test("an access key tells its account, so that a new key of the same account is the same target", () => {
  const target = (accessKeyId: string, more: object = {}) =>
    awsIamLease.target({ accessKeyId, secretAccessKey: "x", ...more } as AwsConnection);
  assert.equal(target("ASIAQNZGKIQY56JQ7WML"), "aws://amazonaws.com/029608264753");
  assert.equal(target("AKIAIOSFODNN7EXAMPLE"), "aws://amazonaws.com/AKIAIOSFODNN7EXAMPLE");
  assert.equal(target("AKIAIOSFODNN7EXAMPLE", { account: "123456789012" }), "aws://amazonaws.com/123456789012");
});

test("settings and connections that do not suit are refused by field and rule", () => {
  const fields = (result: { error?: { issues: readonly { path: readonly PropertyKey[] }[] } | undefined }): unknown[] =>
    result.error?.issues.map(({ path }) => path[0]) ?? [];
  const good = { policy: s3 };
  assert.deepEqual(awsIamLease.settings.parse(awsIamLease.settings.parse(good)), awsIamLease.settings.parse(good));
  const long = { ...s3, Statement: [{ ...s3.Statement[0], Resource: `arn:aws:s3:::${"x".repeat(2_000)}` }] };
  const principal = { ...s3, Statement: [{ ...s3.Statement[0], Principal: "*" }] };
  const bad: [object, string][] = [
    [{ policy: "no json" }, "policy"],
    [{ policy: long }, "policy"],
    [{ policy: principal }, "policy"],
    [{ policy: { Version: "2012-10-17" } }, "policy"],
    [{ path: "/" }, "path"],
    [{ groups: ["a/b"] }, "groups"],
    [{ permissionsBoundary: "x" }, "permissionsBoundary"],
    [{ tags: { "rekey:lease": "x" } }, "tags"],
  ];
  for (const [change, field] of bad) {
    assert.deepEqual(fields(awsIamLease.settings.safeParse({ ...good, ...change })), [field], inspect(change));
  }
  const key = { accessKeyId: "AKIAAAAAAAAAAAAAAAAA", secretAccessKey: "x" };
  const roleArn = "arn:aws:iam::123456789012:role/leases";
  assert.deepEqual(fields(awsIamLease.connection.safeParse({})), ["accessKeyId", "secretAccessKey"]);
  assert.deepEqual(fields(awsIamLease.connection.safeParse({ ...key, externalId: "abc" })), ["externalId"]);
  assert.deepEqual(fields(awsIamLease.connection.safeParse({ ...key, endpoint: "http://example.com" })), ["endpoint"]);
  assert.deepEqual(fields(awsIamLease.connection.safeParse({ ambient: true })), ["roleArn", "externalId"]);
  const ambient = { ambient: true, roleArn, externalId: "abc" };
  assert.deepEqual(fields(awsIamLease.connection.safeParse(ambient)), []);
  assert.deepEqual(fields(awsIamLease.connection.safeParse({ ...ambient, ...key })), ["ambient"]);
  assert.deepEqual(fields(awsIamLease.connection.safeParse({ ...ambient, endpoint: "https://evil.example" })), ["endpoint"]);
});
