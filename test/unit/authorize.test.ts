import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { createAuthorizer } from "../../src/auth/authorize.ts";
import { rootPrincipal } from "../../src/core/identity.ts";
import type { Principal } from "../../src/core/principal.ts";
import { type AuthorizedResource, RequestContext } from "../../src/core/request-context.ts";

const account = "123456789012";
const arn = `arn:aws:secretsmanager:eu-central-1:${account}:secret:prod/db-AbCdEf`;
const facts = {
  sourceIp: "192.0.2.7",
  userAgent: "aws-cli/2",
  secure: true,
  region: "eu-central-1",
  now: Date.UTC(2026, 0, 31, 12),
};
const action = "secretsmanager:GetSecretValue";

const document = (...Statement: object[]) => JSON.stringify({ Version: "2012-10-17", Statement });
const allowAll = document({ Effect: "Allow", Action: "*", Resource: "*" });
const denyAll = document({ Effect: "Deny", Action: "*", Resource: "*" });
const user = (...policies: string[]): Principal => ({
  kind: "user",
  arn: `arn:aws:iam::${account}:user/app`,
  accountId: account,
  userId: "AIDAEXAMPLE",
  userName: "app",
  tags: { Team: "red" },
  policies: policies.map((text, index) => ({ name: `policy${index}`, document: text })),
});
const session: Principal = {
  ...user(allowAll),
  kind: "role",
  arn: `arn:aws:sts::${account}:assumed-role/reader/me`,
  roleArn: `arn:aws:iam::${account}:role/reader`,
  userId: "AROAEXAMPLE:me",
  tokenIssuedAt: Date.UTC(2026, 0, 31, 11),
};
const resource = (more: Partial<AuthorizedResource> = {}): AuthorizedResource => ({
  arn,
  shown: "prod/db",
  context: {},
  ...more,
});
const authorize = createAuthorizer();
const resourcePolicy = (Effect: "Allow" | "Deny") => document({ Effect, Principal: "*", Action: "*", Resource: "*" });

describe("the text of a refusal", () => {
  const refused = `User: arn:aws:iam::${account}:user/app is not authorized to perform: ${action}`;
  const texts = (principal: Principal, on: AuthorizedResource) => {
    const refusal = authorize(principal, action, on, facts);
    assert.equal(refusal?.code, "AccessDeniedException");
    return refusal?.message;
  };
  test("nothing allows", () => {
    const text = `${refused} on resource: prod/db because no identity-based policy allows the ${action} action`;
    assert.equal(texts(user(), resource()), text);
  });
  test("the resource is not named where AWS does not", () => {
    const text = `${refused} because no identity-based policy allows the ${action} action`;
    assert.equal(texts(user(), { arn: "*", context: {} }), text);
  });
  test("an identity policy denies", () => {
    const text = `${refused} on resource: prod/db with an explicit deny in an identity-based policy`;
    assert.equal(texts(user(allowAll, denyAll), resource()), text);
  });
  test("a resource policy denies", () => {
    const text = `${refused} on resource: prod/db with an explicit deny in a resource-based policy`;
    assert.equal(texts(user(allowAll), resource({ policy: resourcePolicy("Deny") })), text);
  });
});

test("root needs no policy, but a resource policy binds it", () => {
  assert.equal(authorize(rootPrincipal(account), action, resource(), facts), undefined);
  assert.ok(authorize(rootPrincipal(account), action, resource({ policy: resourcePolicy("Deny") }), facts));
});

test("identity and resource policies unite", () => {
  assert.equal(authorize(user(), action, resource({ policy: resourcePolicy("Allow") }), facts), undefined);
});

test("an empty list of session policies allows nothing, an absent one limits nothing", () => {
  assert.equal(authorize(session, action, resource(), facts), undefined);
  assert.ok(authorize({ ...session, sessionPolicies: [] }, action, resource(), facts));
});

test("a role without trust policy lets nobody in", () => {
  const role = resource({ arn: `arn:aws:iam::${account}:role/gone`, isTrustPolicy: true });
  for (const principal of [user(allowAll), session, rootPrincipal(account)]) {
    assert.ok(authorize(principal, "sts:AssumeRole", role, facts));
  }
});

describe("condition keys", () => {
  const keys: readonly (readonly [principal: Principal, key: string, value: string | undefined])[] = [
    [user(), "aws:sourceip", "192.0.2.7"],
    [user(), "aws:currenttime", "2026-01-31T12:00:00.000Z"],
    [user(), "aws:epochtime", "1769860800"],
    [user(), "aws:securetransport", "true"],
    [user(), "aws:useragent", "aws-cli/2"],
    [user(), "aws:requestedregion", "eu-central-1"],
    [user(), "aws:principalarn", `arn:aws:iam::${account}:user/app`],
    [session, "aws:principalarn", `arn:aws:iam::${account}:role/reader`],
    [user(), "aws:principaltag/team", "red"],
    [user(), "aws:principaltag/other", undefined],
    [user(), "aws:principaltype", "User"],
    [session, "aws:principaltype", "AssumedRole"],
    [rootPrincipal(account), "aws:principaltype", "Account"],
    [user(), "aws:principalaccount", account],
    [user(), "aws:resourceaccount", account],
    [user(), "aws:userid", "AIDAEXAMPLE"],
    [session, "aws:userid", "AROAEXAMPLE:me"],
    [user(), "aws:username", "app"],
    [rootPrincipal(account), "aws:username", undefined],
    [user(), "aws:tokenissuetime", undefined],
    [session, "aws:tokenissuetime", "2026-01-31T11:00:00.000Z"],
    [user(), "aws:viaawsservice", "false"],
    [user(), "aws:principalisawsservice", "false"],
    [user(), "aws:multifactorauthpresent", undefined],
    [session, "aws:multifactorauthpresent", "false"],
  ];
  for (const [principal, key, value] of keys) {
    test(`${key} of ${principal.kind}`, () => {
      assert.deepEqual(new RequestContext(principal, resource(), facts).get(key), value === undefined ? undefined : [value]);
    });
  }
  const service: Principal = {
    kind: "service",
    arn: "secretsmanager.amazonaws.com",
    accountId: "",
    userId: "",
    tags: {},
    policies: [],
  };
  test("of a service: whose behalf comes with the resource, an address there is none", () => {
    const context = new RequestContext(service, resource({ context: { "aws:SourceArn": [arn] } }), facts);
    assert.deepEqual(context.get("aws:sourcearn"), [arn]);
    assert.deepEqual(context.get("aws:principalservicename"), ["secretsmanager.amazonaws.com"]);
    for (const key of ["aws:sourceip", "aws:principalarn", "aws:userid"]) assert.equal(context.get(key), undefined);
  });
  test("what authentication knows cannot be given otherwise by a resource", () => {
    const forged = { "aws:SourceIp": ["10.0.0.1"], "aws:PrincipalTag/team": ["blue"], "aws:username": ["root"] };
    const context = new RequestContext(user(), resource({ context: forged }), facts);
    assert.deepEqual(context.get("aws:sourceip"), ["192.0.2.7"]);
    assert.deepEqual(context.get("aws:principaltag/team"), ["red"]);
    assert.deepEqual(context.get("aws:username"), ["app"]);
  });
  test("names like members of every object are no keys", () => {
    const context = new RequestContext(user(), resource(), facts);
    for (const key of ["constructor", "tostring", "__proto__"]) assert.equal(context.get(key), undefined);
  });
});
