// Resource policies: put, got, deleted, validated, refused, and obeyed.
import assert from "node:assert/strict";
import { after, describe, it } from "node:test";
import { SecretsManager } from "@aws-sdk/client-secrets-manager";
import { clientSettings, nativeOk, newName, newUser, policyOf, rawCall, refused, statement } from "../support/aws.ts";
import { startRekey } from "../support/rekey-server.ts";

const server = await startRekey();
after(() => server[Symbol.asyncDispose]());
const root = new SecretsManager(clientSettings(server));

const account = server.credentials.account;
const everyone = { AWS: "*" };
const get = "secretsmanager:GetSecretValue";
const publicAccess = "You can't attach a resource-based policy that allows broad access to the secret.";
const lockOut = "Your requested changes will not allow you to manage this secret in the future.";

async function newSecret(): Promise<{ SecretId: string; ARN: string }> {
  const SecretId = newName();
  const { ARN = "" } = await root.createSecret({ Name: SecretId, SecretString: "v" });
  return { SecretId, ARN };
}

async function newClient(...statements: object[]): Promise<{ user: SecretsManager; arn: string }> {
  const credentials = await newUser(server, newName("user"), ...statements);
  return { user: new SecretsManager(clientSettings(server, credentials)), arn: credentials.arn };
}

const granting = (Principal: unknown, actions: string[] = [get], Condition?: object): object => ({
  ...statement("Allow", actions, "*", Condition),
  Principal,
});
const denying = (Principal: unknown, actions: string[] = [get], Condition?: object): object => ({
  ...statement("Deny", actions, "*", Condition),
  Principal,
});

describe("PutResourcePolicy, GetResourcePolicy, DeleteResourcePolicy", () => {
  it("keep one policy; without one the member is absent", async () => {
    const { SecretId, ARN } = await newSecret();
    const { json } = await rawCall(server, "GetResourcePolicy", { SecretId });
    assert.deepEqual(json, { ARN, Name: SecretId });
    for (const ResourcePolicy of [policyOf(granting(everyone)), policyOf(granting({ AWS: account }))]) {
      const put = await root.putResourcePolicy({ SecretId, ResourcePolicy });
      assert.deepEqual([put.ARN, put.Name], [ARN, SecretId]);
      const got = await root.getResourcePolicy({ SecretId: ARN });
      assert.deepEqual(JSON.parse(got.ResourcePolicy ?? ""), JSON.parse(ResourcePolicy));
    }
    for (const _ of ["once", "again, where none is"]) {
      const deleted = await root.deleteResourcePolicy({ SecretId });
      assert.deepEqual([deleted.ARN, deleted.Name], [ARN, SecretId]);
    }
    assert.equal((await root.getResourcePolicy({ SecretId })).ResourcePolicy, undefined);
  });

  it("bound the text to 20,480 characters", async () => {
    const { SecretId } = await newSecret();
    const filled = (length: number) => {
      const bare = JSON.stringify({ Version: "2012-10-17", Id: "", Statement: [granting(everyone)] });
      return bare.replace('"Id":""', `"Id":"${"i".repeat(length - bare.length)}"`);
    };
    await root.putResourcePolicy({ SecretId, ResourcePolicy: filled(20_480) });
    await refused(
      root.putResourcePolicy({ SecretId, ResourcePolicy: filled(20_481) }),
      "ValidationException",
      /at 'resourcePolicy' failed to satisfy constraint: Member must have length less than or equal to 20480$/,
    );
    await refused(root.putResourcePolicy({ SecretId, ResourcePolicy: "" }), "ValidationException", /greater than or equal to 1$/);
    await refused(root.putResourcePolicy({ SecretId, ResourcePolicy: undefined }), "ValidationException", /must not be null$/);
  });

  it("refuse what is no policy, and keep what was there", async () => {
    const { SecretId } = await newSecret();
    const ResourcePolicy = policyOf(granting(everyone));
    await root.putResourcePolicy({ SecretId, ResourcePolicy });
    const one = { ...statement("Allow", [get], "*"), Principal: everyone };
    const { Principal: _p, ...withoutPrincipal } = one;
    const syntax: unknown[] = [
      "not JSON",
      [],
      {},
      { Version: "2012-10-17" },
      { Version: "2013-01-01", Statement: [one] },
      { Version: "2012-10-17", Statement: [one], Colour: "red" },
      { Version: "2012-10-17", Statement: [{ ...one, Colour: "red" }] },
      { Version: "2012-10-17", Statement: [{ ...one, Effect: "allow" }] },
      { Version: "2012-10-17", Statement: [{ ...one, Action: "GetSecretValue" }] },
      { Version: "2012-10-17", Statement: [{ ...one, Action: undefined }] },
      { Version: "2012-10-17", Statement: [{ ...one, NotAction: get }] },
      { Version: "2012-10-17", Statement: [{ ...one, Resource: undefined }] },
      { Version: "2012-10-17", Statement: [{ ...one, Resource: "secret" }] },
      { Version: "2012-10-17", Statement: [{ ...one, Condition: { StringIs: { "aws:username": "a" } } }] },
      { Version: "2012-10-17", Statement: [{ ...one, Condition: { IpAddress: { "aws:SourceIp": "somewhere" } } }] },
      { Version: "2012-10-17", Statement: [withoutPrincipal] },
      { Version: "2012-10-17", Statement: [{ ...one, Principal: "somebody" }] },
    ];
    const texts = syntax.map((document) => (typeof document === "string" ? document : JSON.stringify(document)));
    for (const text of [...texts, `${policyOf(one).slice(0, -1)},"Version":"2012-10-17"}`]) {
      const put = root.putResourcePolicy({ SecretId, ResourcePolicy: text });
      await refused(put, "MalformedPolicyDocumentException", /^This resource policy contains a syntax error\./);
    }
    assert.equal((await root.getResourcePolicy({ SecretId })).ResourcePolicy, ResourcePolicy);
  });

  it("refuse principals that are not there", async () => {
    const { SecretId } = await newSecret();
    const strangers = [
      `arn:aws:iam::${account}:user/nobody`,
      `arn:aws:iam::${account}:role/nobody`,
      "arn:aws:iam::111122223333:root",
      "111122223333",
      "arn:aws:iam::111122223333:user/somebody",
      `arn:aws:iam::${account}:user/no*`,
    ];
    for (const AWS of strangers) {
      const put = root.putResourcePolicy({ SecretId, ResourcePolicy: policyOf(granting({ AWS })) });
      await refused(put, "MalformedPolicyDocumentException", /^This resource policy contains an unsupported principal\./);
    }
    const ResourcePolicy = policyOf(granting({ Service: "not a service" }));
    const put = root.putResourcePolicy({ SecretId, ResourcePolicy });
    await refused(put, "MalformedPolicyDocumentException", /^This resource policy contains an invalid service principal\./);
    await root.putResourcePolicy({ SecretId, ResourcePolicy: policyOf(granting({ Service: "ecs-tasks.amazonaws.com" })) });
  });
});

describe("BlockPublicPolicy", () => {
  const broad: object[] = [
    granting("*"),
    granting(everyone),
    granting({ AWS: ["*", account] }),
    granting(everyone, [get], { StringLike: { "aws:SourceArn": "*" } }),
    granting(everyone, [get], { IpAddress: { "aws:SourceIp": "0.0.0.0/0" } }),
    granting(everyone, [get], { StringNotEquals: { "aws:SourceAccount": "111122223333" } }),
    granting(everyone, [get], { Bool: { "aws:SecureTransport": "true" } }),
  ];
  const narrow: object[] = [
    granting({ AWS: account }),
    denying("*", [get], { Bool: { "aws:SecureTransport": "true" } }),
    granting(everyone, [get], { ArnLike: { "aws:SourceArn": "arn:aws:lambda:us-east-1:111122223333:function:f" } }),
    granting(everyone, [get], { StringEquals: { "aws:SourceAccount": "111122223333" } }),
    granting(everyone, [get], { StringEquals: { "aws:SourceVpc": "vpc-1" } }),
    granting(everyone, [get], { StringEquals: { "aws:SourceVpce": "vpce-1" } }),
  ];

  it("refuses broad access; without it, or false, AWS accepts that", async () => {
    const { SecretId } = await newSecret();
    for (const one of broad) {
      const ResourcePolicy = policyOf(one);
      const put = root.putResourcePolicy({ SecretId, ResourcePolicy, BlockPublicPolicy: true });
      await refused(put, "PublicPolicyException", publicAccess);
      await root.putResourcePolicy({ SecretId, ResourcePolicy, BlockPublicPolicy: false });
    }
  });

  it("lets through what is tied to fixed accounts, resources or networks", async () => {
    const { SecretId } = await newSecret();
    for (const one of narrow) await root.putResourcePolicy({ SecretId, ResourcePolicy: policyOf(one), BlockPublicPolicy: true });
  });
});

describe("lock-out", () => {
  const manage = ["secretsmanager:PutResourcePolicy", get];

  it("of the caller is refused", async () => {
    const { SecretId } = await newSecret();
    const ResourcePolicy = policyOf(denying("*", ["secretsmanager:*"]));
    await refused(root.putResourcePolicy({ SecretId, ResourcePolicy }), "InvalidParameterException", lockOut);
    const { user, arn } = await newClient(statement("Allow", manage, "*"));
    const denyUser = policyOf(denying({ AWS: arn }, ["secretsmanager:PutResourcePolicy"]));
    await refused(user.putResourcePolicy({ SecretId, ResourcePolicy: denyUser }), "InvalidParameterException", lockOut);
    await root.putResourcePolicy({ SecretId, ResourcePolicy: denyUser });
    await assert.rejects(user.putResourcePolicy({ SecretId, ResourcePolicy: denyUser }), { name: "AccessDeniedException" });
    assert.equal((await user.getSecretValue({ SecretId })).SecretString, "v");
  });

  it("of one who may only by the policy itself is refused, too", async () => {
    const { SecretId } = await newSecret();
    const { user, arn } = await newClient();
    await root.putResourcePolicy({ SecretId, ResourcePolicy: policyOf(granting({ AWS: arn }, manage)) });
    const less = policyOf(granting({ AWS: arn }));
    await refused(user.putResourcePolicy({ SecretId, ResourcePolicy: less }), "InvalidParameterException", lockOut);
    await user.putResourcePolicy({ SecretId, ResourcePolicy: policyOf(granting({ AWS: arn }, [...manage, "secretsmanager:*"])) });
  });
});

describe("ValidateResourcePolicy", () => {
  const checks = async (ResourcePolicy: string, SecretId?: string) => {
    const { PolicyValidationPassed, ValidationErrors = [] } = await root.validateResourcePolicy({ ResourcePolicy, SecretId });
    assert.equal(PolicyValidationPassed, ValidationErrors.length === 0);
    return ValidationErrors.map(({ CheckName, ErrorMessage }) => [CheckName, ErrorMessage]);
  };

  it("names each check that fails and changes nothing", async () => {
    const { SecretId } = await newSecret();
    assert.deepEqual(await checks(policyOf(granting({ AWS: account }))), []);
    assert.deepEqual(await checks(policyOf(granting({ AWS: account })), SecretId), []);
    assert.deepEqual(await checks(policyOf(granting(everyone)), SecretId), [["PublicPolicyCheck", publicAccess]]);
    const locking = policyOf(denying("*", ["secretsmanager:*"]));
    assert.deepEqual(await checks(locking), [], "without a secret there is nothing to be locked out of");
    assert.deepEqual(await checks(locking, SecretId), [["LockOutCheck", lockOut]]);
    const both = policyOf(granting(everyone), denying("*", ["secretsmanager:PutResourcePolicy"]));
    assert.equal((await checks(both, SecretId)).length, 2);
    const [[name, text] = []] = await checks("not JSON", SecretId);
    assert.equal(name, "SyntaxCheck");
    assert.match(text ?? "", /^This resource policy contains a syntax error\./);
    assert.equal((await root.getResourcePolicy({ SecretId })).ResourcePolicy, undefined);
  });

  it("needs PutResourcePolicy as well", async () => {
    const { SecretId } = await newSecret();
    const { user } = await newClient(statement("Allow", ["secretsmanager:ValidateResourcePolicy"], "*"));
    const asked = user.validateResourcePolicy({ SecretId, ResourcePolicy: policyOf(granting(everyone)) });
    await assert.rejects(asked, /is not authorized to perform: secretsmanager:PutResourcePolicy on resource/);
  });
});

describe("a policy is obeyed", () => {
  it("an Allow lets a user in that has no other right; taking it away, out again", async () => {
    const { SecretId, ARN } = await newSecret();
    const { user, arn } = await newClient();
    const noRight = { name: "AccessDeniedException", message: /because no identity-based policy allows/ };
    await assert.rejects(user.getSecretValue({ SecretId }), noRight);
    await root.putResourcePolicy({ SecretId, ResourcePolicy: policyOf(granting({ AWS: arn })) });
    for (const id of [SecretId, ARN, ARN.slice(0, -7)])
      assert.equal((await user.getSecretValue({ SecretId: id })).SecretString, "v");
    await assert.rejects(user.describeSecret({ SecretId }), noRight);
    await root.deleteResourcePolicy({ SecretId });
    await assert.rejects(user.getSecretValue({ SecretId }), noRight);
  });

  it("an Allow to the account only delegates; one to everyone does not need more", async () => {
    const { SecretId } = await newSecret();
    const { user } = await newClient();
    await root.putResourcePolicy({ SecretId, ResourcePolicy: policyOf(granting({ AWS: `arn:aws:iam::${account}:root` })) });
    await assert.rejects(user.getSecretValue({ SecretId }), { name: "AccessDeniedException" });
    await root.putResourcePolicy({ SecretId, ResourcePolicy: policyOf(granting("*")) });
    assert.equal((await user.getSecretValue({ SecretId })).SecretString, "v");
  });

  it("a Deny wins over every Allow, for root too", async () => {
    const { SecretId } = await newSecret();
    const { user, arn } = await newClient(statement("Allow", ["secretsmanager:*"], "*"));
    const explicit = { name: "AccessDeniedException", message: /with an explicit deny in a resource-based policy$/ };
    await root.putResourcePolicy({ SecretId, ResourcePolicy: policyOf(granting({ AWS: arn }), denying({ AWS: arn })) });
    await assert.rejects(user.getSecretValue({ SecretId }), explicit);
    await user.describeSecret({ SecretId });
    await root.putResourcePolicy({ SecretId, ResourcePolicy: policyOf(denying("*")) });
    await assert.rejects(root.getSecretValue({ SecretId }), explicit);
    await root.deleteResourcePolicy({ SecretId });
    assert.equal((await root.getSecretValue({ SecretId })).SecretString, "v");
  });

  it("NotPrincipal, NotAction and Resource mean what they say", async () => {
    const { SecretId, ARN } = await newSecret();
    const one = await newClient(statement("Allow", ["secretsmanager:*"], "*"));
    const two = await newClient(statement("Allow", ["secretsmanager:*"], "*"));
    const all = [account, one.arn];
    const Deny = { Effect: "Deny", NotPrincipal: { AWS: all }, Action: get, Resource: "*" };
    await root.putResourcePolicy({ SecretId, ResourcePolicy: policyOf(Deny) });
    assert.equal((await one.user.getSecretValue({ SecretId })).SecretString, "v");
    await assert.rejects(two.user.getSecretValue({ SecretId }), { name: "AccessDeniedException" });
    const butReading = { Effect: "Deny", Principal: { AWS: two.arn }, NotAction: [get], Resource: ARN };
    const elsewhere = { Effect: "Deny", Principal: "*", Action: get, Resource: `${ARN}x` };
    await root.putResourcePolicy({ SecretId, ResourcePolicy: policyOf(butReading, elsewhere) });
    assert.equal((await two.user.getSecretValue({ SecretId })).SecretString, "v");
    await assert.rejects(two.user.describeSecret({ SecretId }), { name: "AccessDeniedException" });
  });

  it("conditions on address, label, tags of caller and secret", async () => {
    const { SecretId } = await newSecret();
    await root.tagResource({ SecretId, Tags: [{ Key: "team", Value: "red" }] });
    const userName = newName("tagged");
    const credentials = await newUser(server, userName);
    await nativeOk(server, "users/tag", { userName, tags: [{ key: "team", value: "red" }] });
    const user = new SecretsManager(clientSettings(server, credentials));
    const conditions: [object, boolean][] = [
      [{ IpAddress: { "aws:SourceIp": "127.0.0.1" } }, true],
      [{ IpAddress: { "aws:SourceIp": "192.0.2.0/24" } }, false],
      [{ StringEquals: { "secretsmanager:VersionStage": "AWSCURRENT" } }, true],
      [{ StringEquals: { "secretsmanager:VersionStage": "AWSPREVIOUS" } }, false],
      [{ StringEquals: { "aws:PrincipalTag/team": "red", "secretsmanager:ResourceTag/team": "red" } }, true],
      [{ StringEquals: { "aws:PrincipalTag/team": "red", "secretsmanager:ResourceTag/team": "blue" } }, false],
      [{ StringEquals: { "aws:PrincipalTag/team": "\u0024{aws:ResourceTag/team}" } }, true],
    ];
    for (const [condition, passes] of conditions) {
      await root.putResourcePolicy({ SecretId, ResourcePolicy: policyOf(granting({ AWS: credentials.arn }, [get], condition)) });
      const reading = user.getSecretValue({ SecretId });
      if (passes) await reading;
      else await assert.rejects(reading, { name: "AccessDeniedException" }, JSON.stringify(condition));
    }
  });
});
