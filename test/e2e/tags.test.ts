// TagResource, UntagResource, and tags at creation.
import assert from "node:assert/strict";
import { after, it } from "node:test";
import { SecretsManager } from "@aws-sdk/client-secrets-manager";
import { allow, clientSettings, newName, newUser, rawCall, refused, statement } from "../support/aws.ts";
import { startRekey } from "../support/rekey-server.ts";

const server = await startRekey();
after(() => server[Symbol.asyncDispose]());
const secrets = new SecretsManager(clientSettings(server));

const tag = (Key: string, Value = "") => ({ Key, Value });

async function newSecret(...Tags: { Key: string; Value: string }[]): Promise<string> {
  const Name = newName();
  await secrets.createSecret({ Name, SecretString: "v", ...(Tags.length > 0 ? { Tags } : {}) });
  return Name;
}

const tagsOf = async (SecretId: string) => (await secrets.describeSecret({ SecretId })).Tags;

it("tags are set, overwritten and removed; empty and never set differ", async () => {
  const SecretId = await newSecret();
  assert.equal(await tagsOf(SecretId), undefined);
  await secrets.tagResource({ SecretId, Tags: [tag("a", "1"), tag("b", "2")] });
  await secrets.tagResource({ SecretId, Tags: [tag("b", "3"), tag("A", "4")] });
  assert.deepEqual(await tagsOf(SecretId), [tag("a", "1"), tag("b", "3"), tag("A", "4")]);
  await secrets.untagResource({ SecretId, TagKeys: ["a", "never there", "A", "b"] });
  assert.deepEqual(await tagsOf(SecretId), []);
});

it("answers are 200 with an empty body", async () => {
  const SecretId = await newSecret();
  for (const [operation, more] of [
    ["TagResource", { Tags: [tag("a")] }],
    ["UntagResource", { TagKeys: ["a"] }],
  ] as const) {
    const { status, text, headers } = await rawCall(server, operation, { SecretId, ...more });
    assert.deepEqual([status, text, headers.get("content-length")], [200, "", "0"]);
  }
});

it("system tags are refused, in every operation that takes tags", async () => {
  const SecretId = await newSecret();
  const text = "You can't modify system tags. Tag key: 'aws:foo'.";
  await refused(secrets.tagResource({ SecretId, Tags: [tag("aws:foo")] }), "InvalidParameterException", text);
  await refused(secrets.untagResource({ SecretId, TagKeys: ["aws:foo"] }), "InvalidParameterException", text);
  const made = secrets.createSecret({ Name: newName(), Tags: [tag("aws:foo")] });
  await refused(made, "InvalidParameterException", text);
});

it("lengths, characters and number have limits", async () => {
  const SecretId = await newSecret();
  const put = (...Tags: { Key: string; Value: string }[]) => secrets.tagResource({ SecretId, Tags });
  await put(tag("k".repeat(128), "v".repeat(256)), tag("Ümläut 1 :/=+-@._", "ok"));
  await refused(put(tag("k".repeat(129))), "ValidationException", /'tags\.1\.member\.key' .* less than or equal to 128/);
  await refused(put(tag("k", "v".repeat(257))), "ValidationException", /less than or equal to 256/);
  await refused(put(tag("semi;colon")), "InvalidParameterException", /characters/);
  const fifty = Array.from({ length: 48 }, (_, index) => tag(`t${index}`));
  await put(...fifty);
  await refused(put(tag("one more")), "LimitExceededException", /50/);
  await put(tag("t1", "overwritten")); // not one more
  assert.equal((await tagsOf(SecretId))?.length, 50);
});

it("unknown secrets and names that cannot be", async () => {
  const missing = "Secrets Manager can't find the specified secret.";
  const SecretId = newName("nowhere");
  await refused(secrets.tagResource({ SecretId, Tags: [tag("a")] }), "ResourceNotFoundException", missing);
  await refused(secrets.untagResource({ SecretId, TagKeys: ["a"] }), "ResourceNotFoundException", missing);
  await refused(secrets.tagResource({ SecretId: "a b", Tags: [tag("a")] }), "ValidationException", /^Invalid name/);
  await refused(secrets.untagResource({ SecretId: "a b", TagKeys: ["a"] }), "ValidationException", /^Invalid name/);
});

it("nobody takes their own access away by a tag", async () => {
  const SecretId = await newSecret(tag("team", "blue"), tag("note", "x"));
  const user = await newUser(
    server,
    "tagger",
    statement("Allow", ["secretsmanager:*"], "*", { StringEquals: { "aws:ResourceTag/team": "blue" } }),
  );
  const own = new SecretsManager(clientSettings(server, user));
  const text = /^User: .*user\/tagger is not authorized to perform: secretsmanager:TagResource/;
  await refused(own.tagResource({ SecretId, Tags: [tag("team", "red")] }), "AccessDeniedException", text);
  await refused(own.untagResource({ SecretId, TagKeys: ["team"] }), "AccessDeniedException", /not authorized/);
  await own.tagResource({ SecretId, Tags: [tag("note", "y")] });
  assert.deepEqual(await tagsOf(SecretId), [tag("team", "blue"), tag("note", "y")]);
});

it("CreateSecret with tags needs TagResource too", async () => {
  const user = await newUser(server, "creator", allow("secretsmanager:CreateSecret"));
  const own = new SecretsManager(clientSettings(server, user));
  await own.createSecret({ Name: newName(), SecretString: "v" });
  const Name = newName();
  await refused(
    own.createSecret({ Name, SecretString: "v", Tags: [tag("a")] }),
    "AccessDeniedException",
    `User: ${user.arn} is not authorized to perform: secretsmanager:TagResource on resource: ${Name} because no identity-based policy allows the secretsmanager:TagResource action`,
  );
});
