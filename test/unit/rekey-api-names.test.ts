import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { z } from "zod";
import { ServiceError } from "../../src/core/error.ts";
import { nativeName, shapeOf, toMembers, toNative, toNativeShape } from "../../src/http/member-names.ts";
import { toProblem } from "../../src/http/problem.ts";

const input = z.object({
  SecretId: z.string(),
  RotationLambdaARN: z.string().optional(),
  NextToken: z.string().optional(),
  MaxResults: z.number().int().optional(),
  RotationRules: z.object({ AutomaticallyAfterDays: z.number().optional() }).optional(),
  Filters: z.array(z.object({ Key: z.string(), Values: z.array(z.string()) })).optional(),
  Context: z.record(z.string(), z.array(z.string())).optional(),
});
const shape = shapeOf(input);

test("AWS's member names become camelCase", () => {
  const names = {
    SecretId: "secretId",
    ARN: "arn",
    KmsKeyId: "kmsKeyId",
    RotationLambdaARN: "rotationLambdaArn",
    ARNs: "arns",
    VersionIdsToStages: "versionIdsToStages",
    AddReplicaRegions: "addReplicaRegions",
    NextToken: "cursor",
    MaxResults: "limit",
    URL: "url",
  };
  for (const [member, name] of Object.entries(names)) assert.equal(nativeName(member), name);
});

test("what comes in gets its members' names at every depth, and data keys stay", () => {
  const members = toMembers(
    {
      secretId: "a",
      rotationLambdaArn: "arn:x",
      limit: 5,
      cursor: null,
      rotationRules: { automaticallyAfterDays: 3 },
      filters: [{ key: "name", values: ["x"] }],
      context: { "aws:SourceIp": ["127.0.0.1"] },
    },
    shape,
  );
  assert.deepEqual(members, {
    SecretId: "a",
    RotationLambdaARN: "arn:x",
    MaxResults: 5,
    RotationRules: { AutomaticallyAfterDays: 3 },
    Filters: [{ Key: "name", Values: ["x"] }],
    Context: { "aws:SourceIp": ["127.0.0.1"] },
  });
});

test("a member that is not known is named, with its place", () => {
  const refusal = (value: object) => {
    try {
      toMembers(value, shape);
    } catch (error) {
      assert.ok(error instanceof ServiceError && error.code === "ValidationException");
      return error.message;
    }
    return "";
  };
  assert.match(refusal({ secretID: "a" }), /no member secretID\. It takes: secretId, rotationLambdaArn/);
  assert.match(refusal({ SecretId: "a" }), /no member SecretId\./);
  assert.match(refusal({ filters: [{ key: "name" }, { kye: "x" }] }), /no member filters\[1\]\.kye\./);
  assert.match(refusal(JSON.parse('{"__proto__":{}}')), /no member __proto__/);
});

test("values of a wrong type pass untouched, for the input's own check to name", () => {
  assert.deepEqual(toMembers({ secretId: { a: 1 }, filters: "x" }, shape), { SecretId: { a: 1 }, Filters: "x" });
});

test("answers: times in ISO form, bytes in base64, keys that are data stay", () => {
  const answer = toNative({
    ARN: "arn:x",
    CreatedDate: new Date(0),
    SecretBinary: Buffer.from("hi"),
    VersionIdsToStages: { "4F-Ab": ["AWSCURRENT"] },
    Description: undefined,
    Tags: [{ Key: "Team", Value: "Data" }],
    NextToken: "n",
  });
  assert.deepEqual(answer, {
    arn: "arn:x",
    createdDate: "1970-01-01T00:00:00.000Z",
    secretBinary: "aGk=",
    versionIdsToStages: { "4F-Ab": ["AWSCURRENT"] },
    tags: [{ key: "Team", value: "Data" }],
    cursor: "n",
  });
});

test("every input that its schema takes survives the native form and back", () => {
  const text = fc.string();
  const plain = { noNullPrototype: true } as const;
  const anyInput = fc.record(
    {
      SecretId: text,
      RotationLambdaARN: text,
      NextToken: text,
      MaxResults: fc.integer(),
      RotationRules: fc.record({ AutomaticallyAfterDays: fc.integer() }, plain),
      Filters: fc.array(fc.record({ Key: text, Values: fc.array(text) }, plain)),
    },
    { ...plain, requiredKeys: ["SecretId"] },
  );
  fc.assert(fc.property(anyInput, (value) => assert.deepEqual(toMembers(toNative(value), shape), value)));
});

test("the description shows native names only", () => {
  const native = toNativeShape(shape);
  assert.deepEqual(native.required, ["secretId"]);
  assert.deepEqual(Object.keys(native.properties ?? {}).slice(0, 4), ["secretId", "rotationLambdaArn", "cursor", "limit"]);
  assert.doesNotMatch(JSON.stringify(native), /"(SecretId|Key|Values|AutomaticallyAfterDays)":/);
});

test("problems have real statuses, and a bug tells its request id alone", () => {
  const status = (code: ConstructorParameters<typeof ServiceError>[0]) => toProblem(new ServiceError(code, "text"), "r").status;
  assert.equal(status("AccessDeniedException"), 403);
  assert.equal(status("UnrecognizedClientException"), 401);
  assert.equal(status("ResourceNotFoundException"), 404);
  assert.equal(status("ResourceExistsException"), 409);
  assert.equal(status("ThrottlingException"), 429);
  assert.equal(status("ValidationException"), 400);
  assert.deepEqual(toProblem(new Error("password=marked"), "r-1"), {
    type: "urn:rekey:error:InternalServiceError",
    title: "Internal service error",
    status: 500,
    code: "InternalServiceError",
    detail: "An error occurred on the server side. Request id: r-1",
    requestId: "r-1",
  });
});

test("null members are left out, but where data may be null", () => {
  const nullable = shapeOf(z.object({ Name: z.string().optional(), Values: z.record(z.string(), z.string().nullable()) }));
  assert.deepEqual(toMembers({ name: null, values: { A: null, B: "1" } }, nullable), { Values: { A: null, B: "1" } });
  assert.deepEqual(toMembers({ context: { A: null } }, shape), { Context: {} });
});
