import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ServiceError } from "../../src/core/error.ts";
import { migrate } from "../../src/store/migrate.ts";
import { dataFolder } from "../support/audit.ts";
import { region } from "../support/keys.ts";
import { type OperationsWorld, operationsWorld } from "../support/operations-world.ts";
import { postgresSkip } from "../support/postgres-server.ts";
import { forEachStore, openBoth } from "../support/stores.ts";

type Call = { name: string; input: Record<string, unknown>; region?: string };
/** One call, or time passing. */
type Step = Call | { passMs: number };

const other = "us-west-2";
const names = ["a", "a/b", "prod/db", "prod/db2", "Prod", "z_+=.@-"];
const name = fc.constantFrom(...names);
const token = fc.nat({ max: 4 }).map((n) => `00000000-0000-4000-8000-00000000000${n}`);
const value = fc.oneof(
  fc.constantFrom("one", "two", "é\u{1f511}", " "),
  fc.string({ unit: "grapheme", minLength: 1, maxLength: 12 }),
);
const label = fc.constantFrom("AWSCURRENT", "AWSPENDING", "AWSPREVIOUS", "blue", "green");
const text = fc.constantFrom("The password of prod", "übergang", "a b c", "");
const tag = fc.record({ Key: fc.constantFrom("team", "stage", "Team"), Value: fc.constantFrom("", "prod", "x y") });
const readPolicy =
  '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::123456789012:root"},"Action":"secretsmanager:GetSecretValue","Resource":"*"}]}';
const policy = fc.constantFrom(
  readPolicy,
  '{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"secretsmanager:TagResource","Resource":"*"}]}',
  '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}]}',
  "{}",
);
const filters = fc.array(
  fc.record({
    Key: fc.constantFrom("name", "description", "tag-key", "tag-value", "primary-region", "owning-service", "all"),
    Values: fc.array(fc.constantFrom("prod", "!prod", "a", "team", "Pro", "x", "pass", "b"), { minLength: 1, maxLength: 2 }),
  }),
  { maxLength: 2 },
);
const maybe = { requiredKeys: [] as [] };
const step = (
  operation: string,
  required: Record<string, fc.Arbitrary<unknown>>,
  optional: Record<string, fc.Arbitrary<unknown>> = {},
) =>
  fc
    .tuple(fc.record(required), fc.record(optional, maybe))
    .map(([always, sometimes]): Step => ({ name: operation, input: { ...always, ...sometimes } }));
const id = { SecretId: name };

const steps: fc.Arbitrary<Step>[] = [
  step(
    "CreateSecret",
    { Name: name, ClientRequestToken: token },
    { SecretString: value, Description: text, Tags: fc.array(tag, { maxLength: 3 }), Type: fc.constant("kind") },
  ),
  step(
    "PutSecretValue",
    { ...id, ClientRequestToken: token, SecretString: value },
    { VersionStages: fc.uniqueArray(label, { minLength: 1, maxLength: 3 }) },
  ),
  step("PutSecretValue", { ...id, ClientRequestToken: token, SecretBinary: fc.constantFrom("AAEC", "/+8=", "x") }),
  step("UpdateSecret", { ...id, ClientRequestToken: token }, { SecretString: value, Description: text }),
  step("UpdateSecretVersionStage", { ...id, VersionStage: label }, { MoveToVersionId: token, RemoveFromVersionId: token }),
  step("UpdateSecretVersionStage", { SecretId: fc.constant("a"), VersionStage: fc.constant("red"), MoveToVersionId: token }),
  step("GetSecretValue", id, { VersionId: token, VersionStage: label }),
  step("DescribeSecret", id),
  step("ListSecretVersionIds", id, { IncludeDeprecated: fc.boolean(), MaxResults: fc.constantFrom(1, 2, 100) }),
  step("TagResource", { ...id, Tags: fc.array(tag, { minLength: 1, maxLength: 3 }) }),
  step("UntagResource", { ...id, TagKeys: fc.array(fc.constantFrom("team", "stage"), { minLength: 1, maxLength: 2 }) }),
  step("DeleteSecret", id, { RecoveryWindowInDays: fc.constantFrom(7, 30, 3), ForceDeleteWithoutRecovery: fc.boolean() }),
  step("RestoreSecret", id),
  step("PutResourcePolicy", { ...id, ResourcePolicy: policy }, { BlockPublicPolicy: fc.boolean() }),
  step("GetResourcePolicy", id),
  step("DeleteResourcePolicy", id),
  step(
    "ListSecrets",
    {},
    {
      IncludePlannedDeletion: fc.boolean(),
      Filters: filters,
      MaxResults: fc.constantFrom(1, 2, 3),
      SortOrder: fc.constantFrom("asc", "desc"),
      SortBy: fc.constantFrom("created-date", "last-changed-date", "last-accessed-date", "name"),
    },
  ),
  step("BatchGetSecretValue", {}, { SecretIdList: fc.array(name, { minLength: 1, maxLength: 4 }), Filters: filters }),
  step("ReplicateSecretToRegions", { ...id, AddReplicaRegions: fc.constant([{ Region: other }]) }),
  step("RemoveRegionsFromReplication", { ...id, RemoveReplicaRegions: fc.constant([other]) }),
  step("RotateSecret", { ...id, ClientRequestToken: token }, { RotationRules: fc.constant({ AutomaticallyAfterDays: 3 }) }),
  fc.constantFrom(1, 86_400_000, 8 * 86_400_000).map((passMs) => ({ passMs })),
];
const journeys = fc.array(
  fc
    .tuple(fc.oneof(...steps), fc.boolean())
    .map(([one, elsewhere]) => (elsewhere && "name" in one && one.name === "GetSecretValue" ? { ...one, region: other } : one)),
  { minLength: 15, maxLength: 60 },
);

const firstToken = "00000000-0000-4000-8000-000000000000";
/** So that not all of what follows meets nothing. */
const beginning: Step[] = ["a", "prod/db"].map((Name) => ({
  name: "CreateSecret",
  input: { Name, ClientRequestToken: firstToken, SecretString: "first" },
}));

const second = "00000000-0000-4000-8000-000000000001";
const ofA = (name: string, input: object = {}): Step => ({ name, input: { SecretId: "a", ...input } });
/** One call of each kind that succeeds: chance alone may miss some. */
const sureJourney: Step[] = [
  ofA("PutSecretValue", { ClientRequestToken: second, SecretString: "two" }),
  ofA("UpdateSecretVersionStage", { VersionStage: "red", MoveToVersionId: second }),
  ofA("GetSecretValue"),
  ofA("TagResource", { Tags: [{ Key: "team", Value: "x" }] }),
  ofA("PutResourcePolicy", { ResourcePolicy: readPolicy }),
  { name: "ListSecrets", input: { MaxResults: 1 } },
  { name: "BatchGetSecretValue", input: { SecretIdList: ["a", "prod/db"] } },
  ofA("DeleteSecret"),
  ofA("GetSecretValue"),
  ofA("RestoreSecret"),
  ofA("DescribeSecret"),
  { name: "CreateSecret", input: { Name: "a", ClientRequestToken: second, SecretString: "other" } },
  { name: "CreateSecret", input: { Name: "z", ClientRequestToken: second, SecretString: "other" } },
  { name: "DescribeSecret", input: { SecretId: "absent" } },
];

/** ARNs end in chance, and a page token holds a row's id: both are told apart by name only. */
function comparable(answer: unknown): unknown {
  return JSON.parse(
    JSON.stringify(answer, (key, one) => {
      if (key === "NextToken") return "token";
      return typeof one === "string" ? one.replace(/(:secret:.+)-[A-Za-z0-9]{6}$/, "$1") : one;
    }),
  );
}

/** All pages of one call. Equal dates of last access are put in order by name: the databases' own order is that of random ids. */
async function perform(world: OperationsWorld, asked: Call): Promise<{ answers: unknown[] }> {
  const answers: unknown[] = [];
  const listed: { Name: string; LastAccessedDate?: string }[] = [];
  let NextToken: unknown;
  try {
    do {
      const input = { ...asked.input, ...(NextToken ? { NextToken } : {}) };
      const answer = await world.call(asked.name, input, asked.region ?? region);
      const { SecretList, ...rest } = comparable(answer) as { SecretList?: typeof listed };
      answers.push({ ...rest, count: SecretList?.length });
      listed.push(...(SecretList ?? []));
      NextToken = answer.NextToken;
    } while (NextToken && answers.length < 20);
  } catch (error) {
    if (!(error instanceof ServiceError) || error.code === "InternalServiceError") throw error;
    answers.push({ code: error.code, message: error.message.replace(/(:secret:\S+)-[A-Za-z0-9]{6}\b/g, "$1") });
  }
  const byAccess = asked.input.SortBy === "last-accessed-date";
  const dates = listed.map(({ LastAccessedDate }) => LastAccessedDate ?? "");
  if (byAccess) assert.deepEqual(dates, asked.input.SortOrder === "desc" ? dates.toSorted().reverse() : dates.toSorted());
  if (byAccess) listed.sort((a, b) => (a.Name < b.Name ? -1 : 1));
  return { answers: [...answers, listed] };
}

test("random journeys through the operations have equal answers on both databases", { skip: postgresSkip }, async () => {
  await using both = await openBoth();
  await migrate(both.sqlite);
  await migrate(both.postgres);
  const clock = { now: 1_760_000_000_000 };
  await using ours = await operationsWorld(both.sqlite, dataFolder(), clock);
  await using theirs = await operationsWorld(both.postgres, dataFolder(), clock);
  const seen = new Map<string, number>();
  const errors = new Set<string>();
  await fc.assert(
    fc.asyncProperty(journeys, async (journey) => {
      for (const sql of [both.sqlite, both.postgres]) await sql.query("delete from secrets");
      for (const one of [...beginning, ...journey]) {
        clock.now += 1;
        if ("passMs" in one) {
          clock.now += one.passMs;
          await Promise.all([ours.flushReads(), theirs.flushReads()]);
          continue;
        }
        const [here, there] = await Promise.all([perform(ours, one), perform(theirs, one)]);
        assert.deepEqual(here, there, JSON.stringify(one));
        const last = here.answers.at(-2) as { code?: string };
        if (last.code === undefined) seen.set(one.name, (seen.get(one.name) ?? 0) + 1);
        else errors.add(last.code);
      }
    }),
    { numRuns: process.env.SLOW ? 400 : 40, examples: [[sureJourney]] },
  );
  for (const operation of [
    "CreateSecret",
    "PutSecretValue",
    "UpdateSecretVersionStage",
    "GetSecretValue",
    "DeleteSecret",
    "RestoreSecret",
    "TagResource",
    "PutResourcePolicy",
    "ListSecrets",
    "BatchGetSecretValue",
  ])
    assert.ok((seen.get(operation) ?? 0) > 0, `${operation} succeeded`);
  for (const code of ["ResourceNotFoundException", "InvalidRequestException", "ResourceExistsException"])
    assert.ok(errors.has(code), code);
});

forEachStore((_dialect, open) => {
  test("page tokens that were made up are refused, whatever stands in them", async () => {
    const sql = await open();
    await using world = await operationsWorld(sql, dataFolder());
    for (const n of [1, 2]) {
      const input = { Name: `n${n}`, ClientRequestToken: `00000000-0000-4000-8000-00000000000${n}`, SecretString: "v" };
      await world.call("CreateSecret", input);
    }
    for (const SortBy of ["created-date", "name"]) {
      const { NextToken } = await world.call("ListSecrets", { SortBy, MaxResults: 1 });
      const [version, scope, ...right] = JSON.parse(Buffer.from(String(NextToken), "base64url").toString());
      for (const wrong of [
        ["x\0", "y"],
        [1.5, "y"],
        ["1", 2],
        [],
        [null, "y"],
        [right[0]],
        [1, 2],
        [SortBy === "name" ? 1 : "1", "y"],
      ]) {
        const forged = Buffer.from(JSON.stringify([version, scope, ...wrong])).toString("base64url");
        const refused = { code: "InvalidNextTokenException" };
        await assert.rejects(
          world.call("ListSecrets", { SortBy, MaxResults: 1, NextToken: forged }),
          refused,
          JSON.stringify(wrong),
        );
      }
    }
  });
});
