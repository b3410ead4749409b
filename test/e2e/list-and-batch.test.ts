// ListSecrets with its filters, orders and pages, BatchGetSecretValue, GetRandomPassword.
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { type FilterNameStringType, paginateListSecrets, SecretsManager } from "@aws-sdk/client-secrets-manager";
import { allow, clientSettings, newName, newUser, rawCall, refused, statement } from "../support/aws.ts";
import { startRekey } from "../support/rekey-server.ts";

const server = await startRekey();
after(() => server[Symbol.asyncDispose]());
const secrets = new SecretsManager(clientSettings(server));

/** Each test group lists in a region of its own. */
const clientOf = (region: string) => new SecretsManager(clientSettings(server, undefined, region));

type Filter = [Key: string, ...Values: string[]];

async function names(client: SecretsManager, filters: Filter[], more: object = {}): Promise<(string | undefined)[]> {
  const Filters = filters.map(([Key, ...Values]) => ({ Key: Key as FilterNameStringType, Values }));
  const { SecretList = [] } = await client.listSecrets({ Filters, ...more });
  return SecretList.map(({ Name }) => Name);
}

describe("ListSecrets filters", () => {
  const client = clientOf("eu-west-1");
  before(async () => {
    const made: [string, string, Record<string, string>][] = [
      ["/app/One", "an secret one and two", { team: "Alpha", env: "prod" }],
      ["app/AppBeta/x", "asecret", { team: "Beta" }],
      ["My_Secret", "thesecret", {}],
      ["uat/COMPANYthings/x", "", { Team: "alpha" }],
    ];
    for (const [Name, Description, tags] of made) {
      const Tags = Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));
      await client.createSecret({ Name, SecretString: "v", Description, Tags });
    }
  });

  const cases: [what: string, filters: Filter[], found: string[]][] = [
    ["name is a prefix with case", [["name", "app"]], ["app/AppBeta/x"]],
    ["a name is inverted by !", [["name", "!/"]], ["app/AppBeta/x", "My_Secret", "uat/COMPANYthings/x"]],
    ["name does not split words", [["name", "app AppBeta"]], []],
    ["description: words of any case", [["description", "TWO an"]], ["/app/One"]],
    ["description: starts of words", [["description", "a"]], ["/app/One", "app/AppBeta/x"]],
    ["description: not inside words", [["description", "secret"]], ["/app/One"]],
    ["tag-key is a prefix with case", [["tag-key", "te"]], ["/app/One", "app/AppBeta/x"]],
    ["tag-value is a prefix with case", [["tag-value", "Al"]], ["/app/One"]],
    ["several values: any of them", [["tag-value", "Al", "Be"]], ["/app/One", "app/AppBeta/x"]],
    [
      "several filters: all of them",
      [
        ["tag-value", "Al", "Be"],
        ["name", "app"],
      ],
      ["app/AppBeta/x"],
    ],
    [
      "the same key twice: both",
      [
        ["tag-key", "team"],
        ["tag-key", "env"],
      ],
      ["/app/One"],
    ],
    ["all: words of names", [["all", "beta"]], ["app/AppBeta/x"]],
    ["all: words in capitals", [["all", "Ythings"]], ["uat/COMPANYthings/x"]],
    ["all: not in the middle of words", [["all", "ret"]], []],
    ["all: a sign alone finds nothing", [["all", "+"]], []],
    ["owning-service of secrets without one", [["owning-service", "rds"]], []],
    ["primary-region of secrets without one", [["primary-region", "eu"]], []],
  ];
  for (const [what, filters, found] of cases) it(what, async () => assert.deepEqual(await names(client, filters), found));

  it("refuses unknown keys, bad values and too many", async () => {
    const unknown = client.listSecrets({ Filters: [{ Key: "colour" as FilterNameStringType, Values: ["x"] }] });
    await refused(
      unknown,
      "ValidationException",
      /^1 validation error detected: Value 'colour' at 'filters\.1\.member\.key' failed to satisfy constraint: Member must satisfy enum value set: \[.*\]$/,
    );
    const filter = { Key: "name" as const, Values: ["x"] };
    await refused(
      client.listSecrets({ Filters: Array.from({ length: 11 }, () => filter) }),
      "ValidationException",
      /less than or equal to 10/,
    );
    await refused(
      client.listSecrets({ Filters: [{ Key: "name", Values: ["a;b"] }] }),
      "ValidationException",
      /regular expression pattern/,
    );
    await refused(
      client.listSecrets({ Filters: [{ Key: "name", Values: Array.from({ length: 11 }, () => "x") }] }),
      "ValidationException",
      /'filters\.1\.member\.values'/,
    );
  });
});

describe("ListSecrets order and pages", () => {
  const client = clientOf("eu-west-2");
  const made = ["c", "a", "e", "b", "d"];
  before(async () => {
    for (const Name of made) await client.createSecret({ Name, SecretString: "v", Description: Name });
  });

  it("oldest first, unless asked otherwise", async () => {
    assert.deepEqual(await names(client, []), made);
    assert.deepEqual(await names(client, [], { SortOrder: "desc" }), [...made].reverse());
    assert.deepEqual(await names(client, [], { SortBy: "name" }), ["a", "b", "c", "d", "e"]);
    assert.deepEqual(await names(client, [], { SortBy: "name", SortOrder: "desc" }), ["e", "d", "c", "b", "a"]);
    await client.updateSecret({ SecretId: "c", Description: "changed" });
    assert.deepEqual(await names(client, [], { SortBy: "last-changed-date" }), ["a", "e", "b", "d", "c"]);
  });

  it("the SDK's paginator sees every secret once", async () => {
    const seen: (string | undefined)[] = [];
    let pages = 0;
    for await (const { SecretList = [] } of paginateListSecrets({ client, pageSize: 2 }, { SortBy: "name" })) {
      seen.push(...SecretList.map(({ Name }) => Name));
      pages++;
    }
    assert.deepEqual([pages, seen], [3, ["a", "b", "c", "d", "e"]]);
  });

  it("a token is good for the request that it came from, and no other", async () => {
    const { NextToken = "" } = await client.listSecrets({ MaxResults: 2 });
    assert.deepEqual(await names(client, [], { MaxResults: 2, NextToken }), ["e", "b"]);
    const text = "The NextToken value is invalid.";
    await refused(client.listSecrets({ NextToken, SortBy: "name" }), "InvalidNextTokenException", text);
    await refused(client.listSecrets({ NextToken: "nonsense" }), "InvalidNextTokenException", text);
    await refused(secrets.listSecrets({ NextToken }), "InvalidNextTokenException", text);
  });

  it("refuses page sizes out of range and unknown orders", async () => {
    await refused(client.listSecrets({ MaxResults: 0 }), "ValidationException", /greater than or equal to 1/);
    await refused(client.listSecrets({ MaxResults: 101 }), "ValidationException", /less than or equal to 100/);
    await refused(client.listSecrets({ SortOrder: "up" as "asc" }), "ValidationException", /enum value set: \[asc, desc\]/);
  });

  it("shows what DescribeSecret shows, but never values", async () => {
    await client.tagResource({ SecretId: "a", Tags: [{ Key: "k", Value: "v" }] });
    const [entry] = (await client.listSecrets({ Filters: [{ Key: "name", Values: ["a"] }] })).SecretList ?? [];
    const { VersionIdsToStages, $metadata: _, ...described } = await client.describeSecret({ SecretId: "a" });
    assert.deepEqual(entry, { ...described, SecretVersionsToStages: VersionIdsToStages });
  });

  it("leaves out what awaits deletion, unless asked for it", async () => {
    await client.deleteSecret({ SecretId: "d" });
    assert.deepEqual(await names(client, [["name", "d"]]), []);
    const [entry] =
      (await client.listSecrets({ IncludePlannedDeletion: true, SortBy: "name", SortOrder: "desc" })).SecretList ?? [];
    assert.equal(entry?.Name, "e");
    assert.deepEqual(await names(client, [["name", "d"]], { IncludePlannedDeletion: true }), ["d"]);
  });
});

describe("BatchGetSecretValue", () => {
  const client = clientOf("eu-west-3");
  const binary = Buffer.from([1, 2, 3]);
  before(async () => {
    await client.createSecret({ Name: "batch/one", SecretString: "1" });
    await client.createSecret({ Name: "batch/two", SecretBinary: binary });
    await client.createSecret({ Name: "batch/empty" });
    await client.createSecret({ Name: "gone", SecretString: "x" });
    await client.deleteSecret({ SecretId: "gone" });
  });

  it("answers what it can and says of each other why not", async () => {
    const { ARN = "" } = await client.describeSecret({ SecretId: "batch/one" });
    const answer = await client.batchGetSecretValue({ SecretIdList: [ARN, "batch/two", "nowhere", "batch/empty", "gone"] });
    const values = (answer.SecretValues ?? []).map(({ Name, SecretString, SecretBinary, VersionStages }) => ({
      Name,
      value: SecretString ?? Buffer.from(SecretBinary ?? []),
      VersionStages,
    }));
    assert.deepEqual(values, [
      { Name: "batch/one", value: "1", VersionStages: ["AWSCURRENT"] },
      { Name: "batch/two", value: binary, VersionStages: ["AWSCURRENT"] },
    ]);
    const notFound = "ResourceNotFoundException";
    assert.deepEqual(answer.Errors, [
      { SecretId: "nowhere", ErrorCode: notFound, Message: "Secrets Manager can't find the specified secret." },
      {
        SecretId: "batch/empty",
        ErrorCode: notFound,
        Message: "Secrets Manager can't find the specified secret value for staging label: AWSCURRENT",
      },
      {
        SecretId: "gone",
        ErrorCode: "InvalidRequestException",
        Message: "You can't perform this operation on the secret because it was marked for deletion.",
      },
    ]);
  });

  it("by filters, page by page", async () => {
    const Filters = [{ Key: "name" as const, Values: ["batch/"] }];
    const first = await client.batchGetSecretValue({ Filters, MaxResults: 2 });
    assert.deepEqual(
      first.SecretValues?.map(({ Name }) => Name),
      ["batch/one", "batch/two"],
    );
    const second = await client.batchGetSecretValue({ Filters, MaxResults: 2, NextToken: first.NextToken });
    assert.deepEqual([second.SecretValues, second.Errors?.length, second.NextToken], [[], 1, undefined]);
    await refused(client.batchGetSecretValue({ Filters, NextToken: "x" }), "InvalidNextTokenException", /NextToken/);
  });

  it("needs ids or filters, not both, and page sizes only with filters", async () => {
    const Filters = [{ Key: "name" as const, Values: ["x"] }];
    const either = "You must specify either SecretIdList or Filters, and not both.";
    await refused(client.batchGetSecretValue({}), "InvalidParameterException", either);
    await refused(client.batchGetSecretValue({ SecretIdList: ["a"], Filters }), "InvalidParameterException", either);
    await refused(client.batchGetSecretValue({ SecretIdList: ["a"], MaxResults: 1 }), "InvalidParameterException", /MaxResults/);
    const many = Array.from({ length: 21 }, (_, index) => `s${index}`);
    await refused(client.batchGetSecretValue({ SecretIdList: many }), "ValidationException", /less than or equal to 20/);
    await refused(client.batchGetSecretValue({ Filters, MaxResults: 21 }), "ValidationException", /less than or equal to 20/);
  });

  it("shows a caller only what it may read", async () => {
    const { ARN = "" } = await client.describeSecret({ SecretId: "batch/one" });
    const reader = await newUser(
      server,
      "batch-reader",
      allow("secretsmanager:BatchGetSecretValue"),
      statement("Allow", ["secretsmanager:GetSecretValue"], ARN),
    );
    const own = new SecretsManager(clientSettings(server, reader, "eu-west-3"));
    const { SecretValues = [], Errors = [] } = await own.batchGetSecretValue({
      SecretIdList: ["batch/one", "batch/two", "nowhere"],
    });
    assert.deepEqual(
      SecretValues.map(({ SecretString }) => SecretString),
      ["1"],
    );
    assert.deepEqual(
      Errors.map(({ ErrorCode }) => ErrorCode),
      ["AccessDeniedException", "AccessDeniedException"],
    );
    assert.equal(
      Errors[0]?.Message,
      `User: ${reader.arn} is not authorized to perform: secretsmanager:GetSecretValue on resource: batch/two because no identity-based policy allows the secretsmanager:GetSecretValue action`,
    );
    const byFilter = own.batchGetSecretValue({ Filters: [{ Key: "name", Values: ["batch"] }] });
    await refused(byFilter, "AccessDeniedException", /is not authorized to perform: secretsmanager:ListSecrets because/);
  });
});

describe("GetRandomPassword", () => {
  const password = async (options: object): Promise<string> => (await secrets.getRandomPassword(options)).RandomPassword ?? "";

  it("follows its options", async () => {
    const usual = await password({});
    assert.equal(usual.length, 32);
    for (const kind of [/[a-z]/, /[A-Z]/, /[0-9]/, /[!-/:-@[-`{-~]/]) assert.match(usual, kind);
    assert.equal((await password({ PasswordLength: 4096 })).length, 4096);
    assert.match(await password({ PasswordLength: 4 }), /^[!-~]{4}$/);
    const digits = { ExcludeLowercase: true, ExcludeUppercase: true, ExcludePunctuation: true };
    assert.match(await password({ ...digits, ExcludeCharacters: "0123456" }), /^[789]{32}$/);
    const blanks = { ...digits, ExcludeNumbers: true, IncludeSpace: true };
    assert.equal(await password(blanks), " ".repeat(32));
  });

  it("refuses what cannot be", async () => {
    const none = { ExcludeLowercase: true, ExcludeUppercase: true, ExcludePunctuation: true, ExcludeNumbers: true };
    const cases: [object, string][] = [
      [{ PasswordLength: 3 }, "Password length is too short based on the required types."],
      [none, "All characters have been excluded from selection."],
      [{ ExcludeCharacters: "0123456789" }, "All characters of the desired type have been excluded."],
    ];
    for (const [options, text] of cases) await refused(password(options), "InvalidParameterException", text);
    assert.match(await password({ ExcludeCharacters: "0123456789", RequireEachIncludedType: false }), /^[^0-9]{32}$/);
    assert.match(await password({ ExcludeCharacters: "0123456789", ExcludeNumbers: true }), /^[^0-9]{32}$/);
    await refused(password({ PasswordLength: 0 }), "ValidationException", /at 'passwordLength' failed/);
    await refused(password({ PasswordLength: 4097 }), "ValidationException", /less than or equal to 4096/);
    const long = await rawCall(server, "GetRandomPassword", { ExcludeCharacters: "x".repeat(4097) });
    assert.equal(long.json?.__type, "ValidationException");
  });
});

it("a name that awaits nothing is not listed twice", async () => {
  const client = clientOf("eu-north-1");
  const Name = newName();
  await client.createSecret({ Name, SecretString: "1" });
  for (const SecretString of ["2", "3"]) await client.putSecretValue({ SecretId: Name, SecretString });
  assert.deepEqual(await names(client, []), [Name]);
});
