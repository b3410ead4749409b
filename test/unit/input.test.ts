import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { z } from "zod";
import { ServiceError } from "../../src/core/error.ts";
import { operations } from "../../src/operations/index.ts";
import { parseInput } from "../../src/operations/input.ts";
import type { Operation } from "../../src/operations/operation.ts";
import { awsOperations } from "../../src/operations/secrets/index.ts";

const token = "0123456789abcdef0123456789abcdef";

function operation(name: string): Operation {
  const found = awsOperations.find((candidate) => candidate.name === name);
  assert(found, name);
  return found;
}

function refusal(name: string, body: unknown): [string, string] {
  try {
    parseInput(operation(name), body);
  } catch (error) {
    assert(error instanceof ServiceError, String(error));
    return [error.code, error.message];
  }
  return assert.fail(`${name} took it`);
}

interface Schema {
  readonly type?: string;
  readonly maxItems?: number;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly items?: Schema;
  readonly anyOf?: readonly Schema[];
}

function listsWithoutBound(schema: Schema, path: string): string[] {
  const parts = [
    ...Object.entries(schema.properties ?? {}).map(([name, part]) => [part, `${path}.${name}`] as const),
    ...[...(schema.items ? [schema.items] : []), ...(schema.anyOf ?? [])].map((part) => [part, path] as const),
  ];
  const own = schema.type === "array" && schema.maxItems === undefined ? [path] : [];
  return [...own, ...parts.flatMap(([part, below]) => listsWithoutBound(part, below))];
}

test("no list is without bound: each member that is wrong costs time and a sentence, before anybody's rights are known", () => {
  const found = operations.flatMap(({ name, input }) =>
    listsWithoutBound(z.toJSONSchema(input, { io: "input", unrepresentable: "any" }) as Schema, name),
  );
  assert.deepEqual(found, []);
  const many = Array.from({ length: 10_000 }, () => "");
  assert.ok(refusal("UntagResource", { SecretId: "a", TagKeys: many })[1].length < 1000);
});

const one = (text: string): [string, string] => ["ValidationException", `1 validation error detected: ${text}`];

describe("framework texts", () => {
  const rows: [string, string, unknown, [string, string]][] = [
    [
      "a member is missing",
      "GetSecretValue",
      {},
      one("Value null at 'secretId' failed to satisfy constraint: Member must not be null"),
    ],
    [
      "a member is null",
      "GetSecretValue",
      { SecretId: null },
      one("Value null at 'secretId' failed to satisfy constraint: Member must not be null"),
    ],
    [
      "too short",
      "GetSecretValue",
      { SecretId: "" },
      one("Value '' at 'secretId' failed to satisfy constraint: Member must have length greater than or equal to 1"),
    ],
    [
      "too long",
      "CreateSecret",
      { Name: "n".repeat(513), ClientRequestToken: token },
      one(`Value '${"n".repeat(512)}' at 'name' failed to satisfy constraint: Member must have length less than or equal to 512`),
    ],
    [
      "a token too short",
      "CreateSecret",
      { Name: "n", ClientRequestToken: "short" },
      one(
        "Value 'short' at 'clientRequestToken' failed to satisfy constraint: Member must have length greater than or equal to 32",
      ),
    ],
    [
      "a number too large",
      "ListSecrets",
      { MaxResults: 101 },
      one("Value '101' at 'maxResults' failed to satisfy constraint: Member must have value less than or equal to 100"),
    ],
    [
      "a number too small",
      "BatchGetSecretValue",
      { SecretIdList: ["a"], MaxResults: 0 },
      one("Value '0' at 'maxResults' failed to satisfy constraint: Member must have value greater than or equal to 1"),
    ],
    [
      "not of the set",
      "ListSecrets",
      { SortOrder: "up" },
      one("Value 'up' at 'sortOrder' failed to satisfy constraint: Member must satisfy enum value set: [asc, desc]"),
    ],
    [
      "an unknown filter key, in a list",
      "ListSecrets",
      { Filters: [{ Key: "colour", Values: ["x"] }] },
      one(
        "Value 'colour' at 'filters.1.member.key' failed to satisfy constraint: Member must satisfy enum value set: [description, name, tag-key, tag-value, primary-region, owning-service, all]",
      ),
    ],
    [
      "no filter key, second in the list",
      "ListSecrets",
      { Filters: [{ Key: "name", Values: ["x"] }, { Values: ["x"] }] },
      one("Value null at 'filters.2.member.key' failed to satisfy constraint: Member must not be null"),
    ],
    [
      "against the pattern",
      "ListSecrets",
      { Filters: [{ Key: "name", Values: ["ok", "a*"] }] },
      one(
        "Value 'a*' at 'filters.1.member.values.2.member' failed to satisfy constraint: Member must satisfy regular expression pattern: ^!?[a-zA-Z0-9 :_@/+=.\\-!]*$",
      ),
    ],
    [
      "a list too short",
      "BatchGetSecretValue",
      { SecretIdList: [] },
      one("Value '[]' at 'secretIdList' failed to satisfy constraint: Member must have length greater than or equal to 1"),
    ],
    [
      "a list too long",
      "PutSecretValue",
      {
        SecretId: "s",
        ClientRequestToken: token,
        SecretString: "v",
        VersionStages: Array.from({ length: 21 }, (_, i) => `l${i}`),
      },
      one(
        `Value '[${Array.from({ length: 21 }, (_, i) => `l${i}`).join(", ")}]' at 'versionStages' failed to satisfy constraint: Member must have length less than or equal to 20`,
      ),
    ],
    [
      "structures are not shown",
      "ListSecrets",
      { Filters: Array.from({ length: 11 }, () => ({ Key: "name", Values: ["x"] })) },
      one("Value at 'filters' failed to satisfy constraint: Member must have length less than or equal to 10"),
    ],
    [
      "NUL in a text",
      "CreateSecret",
      { Name: "n", ClientRequestToken: token, Description: "a\0b" },
      one("Value at 'description' failed to satisfy constraint: Member must not contain NUL characters"),
    ],
    [
      "NUL in a list",
      "PutSecretValue",
      { SecretId: "s", ClientRequestToken: token, SecretString: "v", VersionStages: ["a", "b\0"] },
      one("Value at 'versionStages.2.member' failed to satisfy constraint: Member must not contain NUL characters"),
    ],
  ];
  for (const [name, of, body, expected] of rows) test(name, () => assert.deepEqual(refusal(of, body), expected));

  test("several errors at once", () => {
    assert.deepEqual(refusal("UpdateSecretVersionStage", { MoveToVersionId: "short" }), [
      "ValidationException",
      "3 validation errors detected: Value null at 'secretId' failed to satisfy constraint: Member must not be null; " +
        "Value null at 'versionStage' failed to satisfy constraint: Member must not be null; " +
        "Value 'short' at 'moveToVersionId' failed to satisfy constraint: Member must have length greater than or equal to 32",
    ]);
  });
});

describe("wrong JSON types", () => {
  const rows: [string, unknown, string][] = [
    ["GetSecretValue", { SecretId: 5 }, "secretId"],
    ["GetSecretValue", { SecretId: ["s"] }, "secretId"],
    ["ListSecrets", { MaxResults: "5" }, "maxResults"],
    ["ListSecrets", { MaxResults: 1.5 }, "maxResults"],
    ["ListSecrets", { IncludePlannedDeletion: "true" }, "includePlannedDeletion"],
    ["ListSecrets", { SortOrder: 1 }, "sortOrder"],
    ["ListSecrets", { Filters: [{ Key: "name", Values: "x" }] }, "filters.1.member.values"],
    ["ListSecrets", [], "The request body"],
    ["ListSecrets", "text", "The request body"],
    ["ListSecrets", null, "The request body"],
  ];
  for (const [name, body, member] of rows)
    test(`${name} ${JSON.stringify(body)}`, () =>
      assert.deepEqual(refusal(name, body), ["SerializationException", `${member} has a JSON value of the wrong type.`]));
});

describe("order of checks", () => {
  const invalidName = "Invalid name. Must be a valid name containing alphanumeric characters, or any of the following: -/_+=.@!";
  const noToken = "You must provide a ClientRequestToken value. We recommend a UUID-type value.";

  test("lengths before names before tokens", () => {
    assert.equal(refusal("CreateSecret", { Name: "?".repeat(513) })[0], "ValidationException");
    assert.match(refusal("CreateSecret", { Name: "?".repeat(513) })[1], /length/);
    assert.deepEqual(refusal("CreateSecret", { Name: "a b" }), ["ValidationException", invalidName]);
    assert.deepEqual(refusal("PutSecretValue", { SecretId: "a?" }), ["ValidationException", invalidName]);
    assert.deepEqual(refusal("CreateSecret", { Name: "n" }), ["InvalidRequestException", noToken]);
    assert.deepEqual(refusal("PutSecretValue", { SecretId: "n", SecretString: "v" }), ["InvalidRequestException", noToken]);
    assert.deepEqual(refusal("UpdateSecret", { SecretId: "n" }), ["InvalidRequestException", noToken]);
    assert.deepEqual(refusal("RotateSecret", { SecretId: "n" }), ["InvalidParameterException", noToken]);
  });

  test("every operation with a SecretId refuses names that cannot be", () => {
    const extra = {
      VersionStage: "a",
      TagKeys: [],
      Tags: [],
      ResourcePolicy: "{}",
      AddReplicaRegions: [{ Region: "eu-west-1" }],
    };
    const more = { RemoveReplicaRegions: ["eu-west-1"], ClientRequestToken: token };
    const named = awsOperations.filter(({ name }) => !/^(BatchGet|Create|GetRandom|ListSecrets$)/.test(name));
    assert.equal(named.length, 19);
    for (const { name } of named)
      assert.deepEqual(refusal(name, { ...extra, ...more, SecretId: "a b" }), ["ValidationException", invalidName], name);
  });

  test("names of other services' secrets are legal", () => {
    assert.deepEqual(parseInput(operation("DescribeSecret"), { SecretId: "rds!db-1" }), { SecretId: "rds!db-1" });
  });

  test("a value is required by PutSecretValue, and only one", () => {
    const body = { SecretId: "s", ClientRequestToken: token };
    const none = "You must provide either SecretString or SecretBinary.";
    assert.deepEqual(refusal("PutSecretValue", body), ["InvalidRequestException", none]);
    assert.deepEqual(refusal("PutSecretValue", { ...body, SecretString: "" }), ["InvalidRequestException", none]);
    assert.deepEqual(refusal("PutSecretValue", { ...body, SecretString: "a", SecretBinary: "YQ==" }), [
      "InvalidParameterException",
      "You can't specify both a binary secret value and a string secret value in the same secret.",
    ]);
  });
});

describe("leniency", () => {
  test("unknown members are ignored", () => {
    assert.deepEqual(parseInput(operation("DescribeSecret"), { SecretId: "s", Colour: 5 }), { SecretId: "s" });
  });

  test("null members are absent ones, in lists too", () => {
    const filters = [{ Key: "name", Values: ["x"], More: null }];
    const body = { MaxResults: null, SortBy: null, Filters: filters };
    assert.deepEqual(parseInput(operation("ListSecrets"), body), { Filters: [{ Key: "name", Values: ["x"] }] });
  });
});

describe("secret values", () => {
  const marked = "MARKED-VALUE-5f0c";

  test("are never shown in errors", () => {
    const base = { SecretId: "s", ClientRequestToken: token };
    const bodies: [string, unknown][] = [
      ["PutSecretValue", { ...base, SecretString: marked.repeat(5000) }],
      ["PutSecretValue", { ...base, SecretString: "é".repeat(65_000) + marked }],
      ["PutSecretValue", { ...base, SecretString: { password: marked } }],
      ["PutSecretValue", { ...base, SecretString: [marked] }],
      ["PutSecretValue", { ...base, SecretBinary: `${marked}?` }],
      ["PutSecretValue", { ...base, SecretString: marked, RotationToken: marked }],
      ["PutSecretValue", { ...base, SecretString: `${marked}\ud800` }],
      ["CreateSecret", { Name: "s", ClientRequestToken: token, SecretString: marked.repeat(5000) }],
      ["UpdateSecret", { ...base, SecretString: marked.repeat(5000) }],
      ["RotateSecret", { ...base, ExternalSecretRotationMetadata: [{ Key: marked, Value: marked.repeat(500) }] }],
      ["GetRandomPassword", { ExcludeCharacters: marked.repeat(500) }],
    ];
    for (const [name, body] of bodies) assert.doesNotMatch(refusal(name, body).join(" "), /MARKED/, name);
  });

  test("may hold NUL", () => {
    const body = { SecretId: "s", ClientRequestToken: token, SecretString: "a\0b" };
    assert.deepEqual(parseInput(operation("PutSecretValue"), body), body);
  });

  test("are bounded in bytes", () => {
    const base = { SecretId: "s", ClientRequestToken: token };
    parseInput(operation("PutSecretValue"), { ...base, SecretString: "é".repeat(32_768) });
    assert.match(refusal("PutSecretValue", { ...base, SecretString: `${"é".repeat(32_768)}.` })[1], /65536/);
    parseInput(operation("PutSecretValue"), { ...base, SecretBinary: Buffer.alloc(65_536).toString("base64") });
    const [code, text] = refusal("PutSecretValue", { ...base, SecretBinary: Buffer.alloc(65_537).toString("base64") });
    assert.deepEqual([code, /65536/.test(text)], ["ValidationException", true]);
  });
});

test("whatever is sent, the answer is a checked input or a refusal", () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...awsOperations),
      fc.dictionary(
        fc.constantFrom("SecretId", "Name", "ClientRequestToken", "Filters", "Tags", "MaxResults", "SecretString", "__proto__"),
        fc.jsonValue({ maxDepth: 3 }),
      ),
      (asked, body) => {
        try {
          parseInput(asked, body);
        } catch (error) {
          assert(error instanceof ServiceError, String(error));
          assert(
            ["ValidationException", "SerializationException", "InvalidRequestException", "InvalidParameterException"].includes(
              error.code,
            ),
          );
        }
      },
    ),
    { numRuns: 500 },
  );
});
