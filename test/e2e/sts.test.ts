// STS through its own SDK client, and what its temporary credentials may do at Secrets Manager.
import assert from "node:assert/strict";
import { after, describe, it } from "node:test";
import { SecretsManager } from "@aws-sdk/client-secrets-manager";
import { type AssumeRoleCommandInput, type Credentials as Issued, STS } from "@aws-sdk/client-sts";
import {
  allow,
  type Credentials,
  clientSettings,
  nativeOk,
  newName,
  newUser,
  policyOf,
  refused,
  statement,
} from "../support/aws.ts";
import { startIssuer } from "../support/oidc-issuer.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";

const server = await startRekey();
after(() => server[Symbol.asyncDispose]());
const root = new SecretsManager(clientSettings(server));
const account = server.credentials.account;

const stsAs = (credentials?: Credentials, at: RekeyServer = server) => new STS(clientSettings(at, credentials));
const secretsAs = (credentials: Credentials, at: RekeyServer = server) => new SecretsManager(clientSettings(at, credentials));
const credentialsOf = (issued: Issued | undefined): Credentials => ({
  accessKeyId: issued?.AccessKeyId ?? "",
  secretAccessKey: issued?.SecretAccessKey ?? "",
  sessionToken: issued?.SessionToken ?? "",
});

async function newSecret(): Promise<string> {
  const Name = newName();
  await root.createSecret({ Name, SecretString: "v" });
  return Name;
}

/** A role with these permissions that `principal` may assume. Its ARN. */
async function newRole(trust: object, ...permissions: object[]): Promise<string> {
  const roleName = newName("role");
  const Statement = [{ Effect: "Allow", Action: ["sts:AssumeRole", "sts:TagSession"], ...trust }];
  const assumeRolePolicyDocument = JSON.stringify({ Version: "2012-10-17", Statement });
  const { arn } = await nativeOk(server, "roles/create", { roleName, assumeRolePolicyDocument, maxSessionDuration: 7200 });
  if (permissions.length > 0) {
    const policyDocument = policyOf(...permissions);
    const policy = await nativeOk(server, "policies/create", { policyName: `${roleName}-policy`, policyDocument });
    await nativeOk(server, "policies/attach", { policyArn: policy.arn, roleName });
  }
  return String(arn);
}

async function refusedAs(call: Promise<unknown>, code: string, status: number, message: RegExp = /./): Promise<void> {
  await assert.rejects(call, (error: Error & { $metadata?: { httpStatusCode?: number } }) => {
    assert.equal(error.name, code, error.message);
    assert.match(error.message, message);
    assert.equal(error.$metadata?.httpStatusCode, status);
    return true;
  });
}

const reading = statement("Allow", ["secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"], "*");
const user = await newUser(server, "assumer", allow("sts:AssumeRole"));
const trustingUser = { Principal: { AWS: user.arn } };
const assume = async (RoleArn: string, more: Partial<AssumeRoleCommandInput> = {}, as: Credentials = user) =>
  stsAs(as).assumeRole({ RoleArn, RoleSessionName: "session", ...more });

describe("GetCallerIdentity", () => {
  it("tells root, users and sessions who they are; nobody needs a right for it", async () => {
    const { Account, Arn, UserId } = await stsAs().getCallerIdentity({});
    assert.deepEqual([Account, Arn, UserId], [account, `arn:aws:iam::${account}:root`, account]);
    const nobody = await newUser(server, newName("nobody"), statement("Deny", ["*"], "*"));
    const own = await stsAs(nobody).getCallerIdentity({});
    assert.equal(own.Arn, nobody.arn);
    assert.match(own.UserId ?? "", /^AIDA[A-Z0-9]{17}$/);
    const { Credentials, AssumedRoleUser } = await assume(await newRole(trustingUser));
    const session = await stsAs(credentialsOf(Credentials)).getCallerIdentity({});
    assert.deepEqual([session.Arn, session.UserId], [AssumedRoleUser?.Arn, AssumedRoleUser?.AssumedRoleId]);
    assert.match(session.Arn ?? "", new RegExp(`^arn:aws:sts::${account}:assumed-role/role-[^/]+/session$`));
    assert.match(session.UserId ?? "", /^AROA[A-Z0-9]{17}:session$/);
  });

  it("refuses a wrong key and an unknown one in STS's words", async () => {
    const wrong = { ...user, secretAccessKey: "x".repeat(40) };
    await refusedAs(stsAs(wrong).getCallerIdentity({}), "SignatureDoesNotMatch", 403, /^The request signature we calculated/);
    const unknown = { accessKeyId: "AKIAAAAAAAAAAAAAAAAA", secretAccessKey: "x".repeat(40) };
    const text = /^The security token included in the request is invalid/;
    await refusedAs(stsAs(unknown).getCallerIdentity({}), "InvalidClientTokenId", 403, text);
  });
});

describe("AssumeRole", () => {
  it("gives the role's rights, and not the caller's", async () => {
    const SecretId = await newSecret();
    const { Credentials } = await assume(await newRole(trustingUser, reading));
    const secrets = secretsAs(credentialsOf(Credentials));
    assert.equal((await secrets.getSecretValue({ SecretId })).SecretString, "v");
    const denied =
      /^User: arn:aws:sts::\d+:assumed-role\/role-[^/]+\/session is not authorized to perform: secretsmanager:PutSecretValue/;
    await refused(secrets.putSecretValue({ SecretId, SecretString: "w" }), "AccessDeniedException", denied);
  });

  it("needs the trust policy; where that trusts the account only, a right of the caller's too", async () => {
    const trustingAccount = await newRole({ Principal: { AWS: account } }, reading);
    await assume(trustingAccount);
    const other = await newUser(server, newName("other"));
    const denied = /^User: .* is not authorized to perform: sts:AssumeRole on resource: arn:aws:iam::\d+:role\/role-\w+-?\w*$/;
    await refusedAs(assume(trustingAccount, {}, other), "AccessDenied", 403, denied);
    await refusedAs(assume(await newRole(trustingUser), {}, other), "AccessDenied", 403, denied);
    await refusedAs(assume(`arn:aws:iam::${account}:role/role-nowhere`), "AccessDenied", 403, denied);
    const asRoot = assume(trustingAccount, {}, server.credentials);
    await refusedAs(asRoot, "AccessDenied", 403, /^Roles may not be assumed by root accounts\.$/);
  });

  it("lasts as long as asked, within the role's bounds", async () => {
    const role = await newRole(trustingUser);
    for (const [DurationSeconds, seconds] of [
      [undefined, 3600],
      [900, 900],
      [7200, 7200],
    ] as const) {
      const { Credentials } = await assume(role, { DurationSeconds });
      const left = ((Credentials?.Expiration?.getTime() ?? 0) - Date.now()) / 1000;
      assert.ok(Math.abs(left - seconds) < 60, `${left}`);
    }
    for (const DurationSeconds of [899, 43_201, 7201])
      await refusedAs(assume(role, { DurationSeconds }), "ValidationError", 400, /[Dd]urationSeconds/);
    await refusedAs(assume(role, { RoleSessionName: "a b" }), "ValidationError", 400, /roleSessionName/);
  });

  it("asks for the external id that the trust policy names", async () => {
    const role = await newRole({ ...trustingUser, Condition: { StringEquals: { "sts:ExternalId": "agreed" } } }, reading);
    await refusedAs(assume(role), "AccessDenied", 403);
    await refusedAs(assume(role, { ExternalId: "guessed" }), "AccessDenied", 403);
    assert.match((await assume(role, { ExternalId: "agreed" })).Credentials?.AccessKeyId ?? "", /^ASIA[A-Z0-9]{16}$/);
  });

  it("with session policies gives what both the role and they allow", async () => {
    const [one, two] = [await newSecret(), await newSecret()];
    const role = await newRole(trustingUser, reading);
    const only = `arn:aws:secretsmanager:us-east-1:${account}:secret:${one}-??????`;
    const Policy = policyOf(statement("Allow", ["secretsmanager:GetSecretValue", "secretsmanager:PutSecretValue"], only));
    const arn = String((await nativeOk(server, "policies/create", { policyName: newName("p"), policyDocument: Policy })).arn);
    for (const limits of [{ Policy }, { PolicyArns: [{ arn }] }]) {
      const { Credentials, PackedPolicySize } = await assume(role, limits);
      assert.ok(PackedPolicySize);
      const secrets = secretsAs(credentialsOf(Credentials));
      assert.equal((await secrets.getSecretValue({ SecretId: one })).SecretString, "v");
      const noSession = /because no session policy allows the secretsmanager:\w+ action$/;
      await refused(secrets.getSecretValue({ SecretId: two }), "AccessDeniedException", noSession);
      await refused(secrets.describeSecret({ SecretId: one }), "AccessDeniedException", noSession);
      const noIdentity = /because no identity-based policy allows/;
      await refused(secrets.putSecretValue({ SecretId: one, SecretString: "w" }), "AccessDeniedException", noIdentity);
    }
    await refusedAs(assume(role, { Policy: "{" }), "MalformedPolicyDocumentException", 400);
    await refusedAs(assume(role, { PolicyArns: [{ arn: `${arn}x` }] }), "ValidationError", 400, /does not exist/);
    const deny = await assume(role, { Policy: policyOf(allow("*"), statement("Deny", ["*"], "*")) });
    await refused(
      secretsAs(credentialsOf(deny.Credentials)).getSecretValue({ SecretId: one }),
      "AccessDeniedException",
      /with an explicit deny in a session policy$/,
    );
  });

  it("chained, for an hour at most, carries transitive tags on", async () => {
    const first = await newRole(trustingUser, allow("sts:AssumeRole", "sts:TagSession"));
    const tagged = { StringEquals: { "aws:PrincipalTag/team": "red" } };
    const second = await newRole({ Principal: { AWS: first } }, { ...reading, Condition: tagged });
    const SecretId = await newSecret();
    const Tags = [{ Key: "team", Value: "red" }];
    for (const TransitiveTagKeys of [undefined, ["team"]]) {
      const middle = credentialsOf((await assume(first, { Tags, TransitiveTagKeys })).Credentials);
      await refusedAs(assume(second, { DurationSeconds: 3601 }, middle), "ValidationError", 400, /1 hour session limit/);
      const { Credentials } = await assume(second, { DurationSeconds: 3600 }, middle);
      const got = secretsAs(credentialsOf(Credentials)).getSecretValue({ SecretId });
      if (TransitiveTagKeys) assert.equal((await got).SecretString, "v");
      else await refused(got, "AccessDeniedException", /because no identity-based policy allows/);
    }
  });
});

describe("AssumeRoleWithWebIdentity", () => {
  it("lets subjects of a configured issuer in, and no others", async () => {
    await using issuer = await startIssuer(Date.now);
    const provider = await nativeOk(server, "oidc-providers/create", { url: issuer.url, clientIdList: ["ci"] });
    const name = issuer.url.slice("http://".length);
    const Condition = { StringEquals: { [`${name}:sub`]: "repo:a", [`${name}:aud`]: "ci" } };
    const Principal = { Federated: provider.openIdConnectProviderArn };
    const RoleArn = await newRole({ Principal, Action: "sts:AssumeRoleWithWebIdentity", Condition }, reading);
    const anonymous = new STS({ endpoint: server.endpoint, region: "us-east-1", maxAttempts: 1 });
    const ask = async (WebIdentityToken: string, more: object = {}) =>
      anonymous.assumeRoleWithWebIdentity({ RoleArn, RoleSessionName: "run", WebIdentityToken, ...more });
    const SecretId = await newSecret();
    const answer = await ask(await issuer.token());
    assert.deepEqual([answer.SubjectFromWebIdentityToken, answer.Audience], ["repo:a", "ci"]);
    assert.equal((await secretsAs(credentialsOf(answer.Credentials)).getSecretValue({ SecretId })).SecretString, "v");
    const Policy = policyOf(allow("secretsmanager:DescribeSecret"));
    const limited = await ask(await issuer.token(), { Policy, DurationSeconds: 900 });
    const denied = secretsAs(credentialsOf(limited.Credentials)).getSecretValue({ SecretId });
    await refused(denied, "AccessDeniedException", /because no session policy allows/);
    await refusedAs(ask(await issuer.token({ sub: "repo:b" })), "AccessDenied", 403);
    await refusedAs(ask(await issuer.token({ aud: "others" })), "InvalidIdentityTokenException", 400);
    const past = Math.floor(Date.now() / 1000) - 3600;
    await refusedAs(ask(await issuer.token({ iat: past, exp: past + 60 })), "ExpiredTokenException", 400);
    await refusedAs(ask("not-a-token"), "InvalidIdentityTokenException", 400);
    await using stranger = await startIssuer(Date.now);
    await refusedAs(ask(await stranger.token()), "InvalidIdentityTokenException", 400);
  });
});

describe("a session", () => {
  const invalid = "The security token included in the request is invalid.";

  it("is its key with its token: neither without the other, nor with one that was changed", async () => {
    const SecretId = await newSecret();
    const session = credentialsOf((await assume(await newRole(trustingUser, reading))).Credentials);
    const other = credentialsOf((await assume(await newRole(trustingUser, reading))).Credentials);
    const { sessionToken = "", accessKeyId, secretAccessKey } = session;
    const at = Math.floor(sessionToken.length / 2);
    const changed = sessionToken[at] === "A" ? "B" : "A";
    const spoilt: Credentials[] = [
      { accessKeyId, secretAccessKey },
      { ...session, sessionToken: sessionToken.slice(0, at) + changed + sessionToken.slice(at + 1) },
      { ...session, sessionToken: sessionToken.slice(0, -4) },
      { ...session, sessionToken: other.sessionToken ?? "" },
      { ...user, sessionToken },
    ];
    for (const credentials of spoilt) {
      const got = secretsAs(credentials).getSecretValue({ SecretId });
      await refused(got, "UnrecognizedClientException", invalid);
    }
    const wrongKey = secretsAs({ ...session, secretAccessKey: other.secretAccessKey }).getSecretValue({ SecretId });
    await refused(wrongKey, "InvalidSignatureException", /^The request signature we calculated does not match/);
    assert.equal((await secretsAs(session).getSecretValue({ SecretId })).SecretString, "v");
  });

  it("has its own condition keys: when it was issued, by whom it is used, no second factor", async () => {
    const SecretId = await newSecret();
    const conditions: [object, boolean][] = [
      [{ DateGreaterThan: { "aws:TokenIssueTime": new Date(Date.now() - 600_000).toISOString() } }, true],
      [{ DateLessThan: { "aws:TokenIssueTime": new Date(Date.now() - 600_000).toISOString() } }, false],
      [{ StringEquals: { "aws:PrincipalType": "AssumedRole" }, StringLike: { "aws:userid": "AROA*:session" } }, true],
      [{ ArnLike: { "aws:PrincipalArn": `arn:aws:iam::${account}:role/role-*` } }, true],
      [{ Bool: { "aws:MultiFactorAuthPresent": "true" } }, false],
      [{ Null: { "aws:username": "true" } }, true],
    ];
    for (const [Condition, passes] of conditions) {
      const { Credentials } = await assume(await newRole(trustingUser, { ...reading, Condition }));
      const got = secretsAs(credentialsOf(Credentials)).getSecretValue({ SecretId });
      if (passes) assert.equal((await got).SecretString, "v");
      else await refused(got, "AccessDeniedException", /no identity-based policy/);
    }
  });

  it("ends with its role, even when another one gets the name", async () => {
    const role = await newRole(trustingUser, reading);
    const roleName = role.split("/")[1];
    const session = credentialsOf((await assume(role)).Credentials);
    const SecretId = await newSecret();
    await secretsAs(session).getSecretValue({ SecretId });
    const policyArn = `arn:aws:iam::${account}:policy/${roleName}-policy`;
    await nativeOk(server, "policies/detach", { policyArn, roleName });
    await refused(secretsAs(session).getSecretValue({ SecretId }), "AccessDeniedException", /no identity-based policy/);
    await nativeOk(server, "roles/delete", { roleName });
    await refused(secretsAs(session).getSecretValue({ SecretId }), "UnrecognizedClientException", invalid);
    const assumeRolePolicyDocument = JSON.stringify({
      Version: "2012-10-17",
      Statement: [{ Effect: "Allow", Action: "sts:AssumeRole", ...trustingUser }],
    });
    await nativeOk(server, "roles/create", { roleName, assumeRolePolicyDocument });
    await refused(secretsAs(session).getSecretValue({ SecretId }), "UnrecognizedClientException", invalid);
  });

  it("expires", async () => {
    const SecretId = await newSecret();
    const role = await newRole(trustingUser, reading);
    const session = credentialsOf((await assume(role, { DurationSeconds: 900 })).Credentials);
    const longer = credentialsOf((await assume(role, { DurationSeconds: 3600 })).Credentials);
    await server.stop();
    const laterMs = 901_000;
    // The program as it is, with a clock that is fifteen minutes ahead.
    const clock = encodeURIComponent(`const now = Date.now; Date.now = () => now() + ${laterMs};`);
    const env = { NODE_OPTIONS: `--import=data:text/javascript,${clock}` };
    await using later = await startRekey({ dataFolder: server.dataFolder, env });
    const ahead = (credentials: Credentials) => ({ ...clientSettings(later, credentials), systemClockOffset: laterMs });
    const got = new SecretsManager(ahead(session)).getSecretValue({ SecretId });
    await refused(got, "ExpiredTokenException", "The security token included in the request is expired");
    const who = new STS(ahead(session)).getCallerIdentity({});
    await refusedAs(who, "ExpiredToken", 403, /^The security token included in the request is expired$/);
    assert.equal((await new SecretsManager(ahead(longer)).getSecretValue({ SecretId })).SecretString, "v");
  });
});
