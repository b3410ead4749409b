import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { ServiceError } from "../../src/core/error.ts";
import { isPublic, type PolicyKind, parsePolicy } from "../../src/core/policy.ts";

const allow = { Effect: "Allow", Action: "secretsmanager:GetSecretValue", Resource: "*" };
const open = { ...allow, Principal: "*" };
const trust = { Effect: "Allow", Action: "sts:AssumeRole", Principal: { AWS: "123456789012" } };
const without = (statement: object, name: string): object =>
  Object.fromEntries(Object.entries(statement).filter(([key]) => key !== name));
const document = (...statements: object[]): string => JSON.stringify({ Version: "2012-10-17", Statement: statements });

function refusal(text: string, kind: PolicyKind): string {
  try {
    parsePolicy(text, kind);
  } catch (error) {
    assert.ok(error instanceof ServiceError);
    assert.equal(error.code, "MalformedPolicyDocumentException");
    return error.message;
  }
  return "accepted";
}

test("a policy keeps its text, kind and name, and one statement needs no list", () => {
  const text = JSON.stringify({ Version: "2012-10-17", Id: "x", Statement: { ...allow, Sid: "One" } });
  const policy = parsePolicy(text, "identity", "reader");
  assert.deepEqual([policy.document, policy.kind, policy.name, policy.statements.length], [text, "identity", "reader", 1]);
  assert.equal(policy.statements[0]?.sid, "One");
});

const identityRefusals: readonly (readonly [text: string, message: RegExp])[] = [
  ["", /The document is not JSON/],
  ["[]", /must be a JSON object/],
  ["null", /must be a JSON object/],
  ["{}", /Statement: must hold at least one/],
  ['{"Statement":[]}', /Statement: must hold at least one/],
  ['{"Statement":"x"}', /Statement\[0\]: must be an object/],
  [JSON.stringify({ Version: "2020-01-01", Statement: [allow] }), /Version: must be 2012-10-17 or 2008-10-17/],
  [JSON.stringify({ Version: 1, Statement: [allow] }), /Version: must be/],
  [JSON.stringify({ Id: 1, Statement: [allow] }), /Id: must be a string/],
  [JSON.stringify({ Statement: [allow], Comment: "" }), /"Comment" is not an element of a policy/],
  [`{"Statement":{"Effect":"Deny","Effect":"Allow","Action":"*","Resource":"*"}}`, /"Effect" stands twice/],
  ['{"Statement":{"Effect":"Deny","Condition":{},"Effect":"Allow","Action":"*","Resource":"*"}}', /"Effect" stands twice/],
  [`{"Statement":{"Effect":"Deny","\\u0045ffect":"Allow","Action":"*","Resource":"*"}}`, /"Effect" stands twice/],
  [document({ ...allow, effect: "Allow" }), /Statement\[0\]: "effect" is not an element/],
  [document(without(allow, "Effect")), /Statement\[0\]\.Effect: must be Allow or Deny/],
  [document({ ...allow, Effect: "allow" }), /Statement\[0\]\.Effect: must be Allow or Deny/],
  [document(allow, without(allow, "Action")), /Statement\[1\]: needs exactly one of Action and NotAction/],
  [document({ ...allow, NotAction: "*" }), /needs exactly one of Action and NotAction/],
  [document({ ...allow, Action: [] }), /Statement\[0\]\.Action: needs a value/],
  [document({ ...allow, Action: 1 }), /Statement\[0\]\.Action: values must be strings/],
  [document({ ...allow, Action: "GetSecretValue" }), /"GetSecretValue" is not service:Operation/],
  [document({ ...allow, Action: "secrets*:Get" }), /is not service:Operation/],
  [document({ ...without(allow, "Action"), NotAction: "x y" }), /Statement\[0\]\.NotAction: "x y" is not/],
  [document(without(allow, "Resource")), /needs exactly one of Resource and NotResource/],
  [document({ ...allow, NotResource: "*" }), /needs exactly one of Resource and NotResource/],
  [document({ ...allow, Resource: "prod/db" }), /Statement\[0\]\.Resource: "prod\/db" must be an ARN or/],
  [document({ ...allow, Resource: "arn:aws:s3" }), /must be an ARN or/],
  [document({ ...allow, Resource: "arn:*" }), /must be an ARN or/],
  [document({ ...allow, Resource: `arn:aws:s3:::${"x".repeat(2048)}` }), /at most 2048 characters/],
  [document({ ...allow, Resource: `arn:aws:s3:::\${aws:username` }), /is not closed/],
  [document({ ...allow, Principal: "*" }), /Statement\[0\]\.Principal: belongs in resource and trust/],
  [document({ ...allow, NotPrincipal: "*" }), /Statement\[0\]\.NotPrincipal: belongs in resource and trust/],
  [document({ ...allow, Sid: "no blanks" }), /Statement\[0\]\.Sid: may hold letters and digits only/],
  [document({ ...allow, Sid: 1 }), /Statement\[0\]\.Sid: must be a string/],
  [document({ ...allow, Sid: "A" }, { ...allow, Sid: "A" }), /Statement\[1\]\.Sid: "A" stands twice/],
  [document({ ...allow, Condition: [] }), /Statement\[0\]\.Condition: must be an object/],
  [
    document({ ...allow, Condition: { Bool: { "aws:x": "1" } } }),
    /Statement\[0\]\.Condition\.Bool\.aws:x: "1" is neither true nor false/,
  ],
  [
    document({ ...allow, Resource: Array.from({ length: 400 }, (_, i) => `arn:aws:s3:::bucket-${i}`) }),
    /more than 6144 characters/,
  ],
  [" ".repeat(131_073), /more than 6144 characters/],
];

suite("a policy is refused, naming the element and the rule", () => {
  for (const [text, message] of identityRefusals) {
    test(text.slice(0, 80), () => assert.match(refusal(text, "identity"), message));
  }
});

test("blanks between elements do not count towards the size", () => {
  assert.equal(refusal(document(allow).replace("{", `{${" ".repeat(20_000)}`), "identity"), "accepted");
});

suite("principals of resource policies", () => {
  const id = "123456789012";
  const principalOf = (Principal: unknown): string => refusal(document({ ...allow, Principal }), "resource");
  const good: unknown[] = [
    "*",
    { AWS: "*" },
    { AWS: id },
    { AWS: [`arn:aws:iam::${id}:root`, `arn:aws-cn:iam::${id}:user/path/bob`, `arn:aws:iam::${id}:role/app`] },
    { AWS: [`arn:aws:sts::${id}:assumed-role/app/one`, `arn:aws:sts::${id}:federated-user/eve`] },
    { Service: ["secretsmanager.amazonaws.com", "s3.amazonaws.com.cn"], AWS: id },
    { Federated: ["accounts.google.com", `arn:aws:iam::${id}:oidc-provider/issuer.example:8443/path`] },
  ];
  for (const principal of good)
    test(`taken: ${JSON.stringify(principal)}`, () => assert.equal(principalOf(principal), "accepted"));

  const unsupported: unknown[] = [
    { AWS: "bob" },
    { AWS: "12345" },
    { AWS: `arn:aws:iam::${id}:user/*` },
    { AWS: `arn:aws:iam::${id}:role/ap?` },
    { AWS: `arn:aws:iam::${id}:group/admins` },
    { AWS: `arn:aws:sts::${id}:assumed-role/app` },
    { AWS: `arn:aws:s3::${id}:user/bob` },
    { AWS: "AIDAEXAMPLEEXAMPLE" },
    { Federated: "*" },
  ];
  for (const principal of unsupported) {
    test(`unsupported: ${JSON.stringify(principal)}`, () =>
      assert.match(
        principalOf(principal),
        /^This resource policy contains an unsupported principal\. Statement\[0\]\.Principal\./,
      ));
  }

  for (const service of ["*", "lambda", "lambda.example.com", "Lambda.amazonaws.com", ".amazonaws.com"]) {
    test(`no service: ${service}`, () =>
      assert.match(
        principalOf({ Service: service }),
        /^This resource policy contains an invalid service principal\. Statement\[0\]/,
      ));
  }

  const malformed: unknown[] = ["bob", {}, [], null, { AWS: [] }, { AWS: 1 }, { Everyone: "*" }, { CanonicalUser: "x" }];
  for (const principal of malformed) {
    test(`malformed: ${JSON.stringify(principal)}`, () =>
      assert.match(principalOf(principal), /^This resource policy contains a syntax error\. Statement\[0\]/));
  }

  test("needed, and only one of the two", () => {
    assert.match(refusal(document(allow), "resource"), /needs exactly one of Principal and NotPrincipal/);
    assert.match(
      refusal(document({ ...open, NotPrincipal: "*" }), "resource"),
      /needs exactly one of Principal and NotPrincipal/,
    );
  });
});

test("resource policies hold up to 20,480 characters and any Sid", () => {
  const sized = (length: number): string =>
    document({ ...open, Sid: "x".repeat(length - document({ ...open, Sid: "" }).length) });
  assert.equal(refusal(sized(20_480), "resource"), "accepted");
  assert.match(refusal(sized(20_481), "resource"), /more than 20480 characters/);
});

test("trust policies have sts actions, principals and no resource", () => {
  assert.equal(refusal(document(trust), "trust"), "accepted");
  assert.match(refusal(document({ ...trust, Resource: "*" }), "trust"), /Resource: is not allowed in a trust policy/);
  assert.match(refusal(document({ ...trust, NotResource: "*" }), "trust"), /NotResource: is not allowed in a trust policy/);
  assert.match(refusal(document({ ...trust, Action: "*" }), "trust"), /sts actions only/);
  assert.match(refusal(document({ ...trust, Action: ["sts:AssumeRole", "s3:Get"] }), "trust"), /sts actions only/);
  const notPrincipal = { ...without(trust, "Principal"), NotPrincipal: { AWS: "*" } };
  assert.match(refusal(document(notPrincipal), "trust"), /NotPrincipal: is not allowed in a trust policy/);
});

test("session policies are small", () => {
  assert.equal(refusal(document(allow), "session"), "accepted");
  const many = Array.from({ length: 100 }, (_, i) => `arn:aws:s3:::bucket-${i}`);
  assert.match(refusal(document({ ...allow, Resource: many }), "session"), /^This session policy .* more than 2048 characters/);
});

test("statements are found by action, however many actions are asked for", () => {
  const deny = { ...allow, Effect: "Deny", Action: "secretsmanager:Delete*" };
  const policy = parsePolicy(document(allow, deny), "identity");
  for (let i = 0; i < 1000; i++) assert.deepEqual(policy.candidates(`s3:Get${i}`), { deny: [], allow: [] });
  const { deny: denying, allow: allowing } = policy.candidates("SECRETSMANAGER:DeleteSecret");
  assert.deepEqual([denying.map(({ index }) => index), allowing.length], [[1], 0]);
  assert.equal(policy.candidates("SECRETSMANAGER:DeleteSecret").deny, denying);
});

suite("broad access", () => {
  const limited = (operator: string, key: string, value: unknown): object => ({
    ...open,
    Condition: { [operator]: { [key]: value } },
  });
  const id = "123456789012";
  const broad: readonly (readonly [what: string, statement: object])[] = [
    ["everyone", open],
    ["everyone, as AWS", { ...allow, Principal: { AWS: ["*"] } }],
    ["all but some", { ...allow, NotPrincipal: { AWS: id } }],
    ["a condition on another key", limited("StringEquals", "aws:RequestedRegion", "eu-west-1")],
    ["a wildcard", limited("StringLike", "aws:SourceAccount", "*")],
    ["a policy variable", limited("StringEquals", "aws:SourceAccount", `\${aws:PrincipalAccount}`)],
    ["an ARN of any account", limited("ArnLike", "aws:SourceArn", "arn:aws:secretsmanager:*:*:secret:x")],
    ["one of the values is open", limited("StringLike", "aws:SourceVpc", ["vpc-1", "*"])],
    ["IfExists", limited("StringEqualsIfExists", "aws:SourceVpc", "vpc-1")],
    ["ForAllValues", limited("ForAllValues:StringEquals", "aws:SourceVpc", "vpc-1")],
    ["a negation", limited("StringNotEquals", "aws:SourceVpc", "vpc-1")],
    ["presence only", limited("Null", "aws:SourceVpc", "false")],
    ["every address", limited("IpAddress", "aws:SourceIp", "0.0.0.0/0")],
    ["half of all addresses", limited("IpAddress", "aws:SourceIp", ["10.0.0.0/8", "0.0.0.0/1"])],
    ["every version 6 address", limited("IpAddress", "aws:SourceIp", "::/0")],
  ];
  const narrow: readonly (readonly [what: string, statement: object])[] = [
    ["a user", { ...allow, Principal: { AWS: `arn:aws:iam::${id}:user/bob` } }],
    ["an account", { ...allow, Principal: { AWS: id } }],
    ["a service", { ...allow, Principal: { Service: "s3.amazonaws.com" } }],
    ["a Deny to everyone", { ...open, Effect: "Deny" }],
    ["aws:SourceAccount", limited("StringEquals", "aws:SourceAccount", id)],
    ["aws:SourceArn", limited("ArnEquals", "aws:SourceArn", "arn:aws:s3:::bucket")],
    ["aws:SourceArn of a fixed account", limited("ArnLike", "AWS:SourceArn", `arn:aws:secretsmanager:*:${id}:secret:*`)],
    ["aws:SourceVpc", limited("StringEquals", "aws:SourceVpc", ["vpc-1", "vpc-2"])],
    ["aws:SourceVpce", limited("StringEqualsIgnoreCase", "aws:sourceVpce", "vpce-1")],
    ["aws:PrincipalOrgID", limited("StringEquals", "aws:PrincipalOrgID", "o-1")],
    ["addresses of one network", limited("IpAddress", "aws:SourceIp", ["10.0.0.0/8", "2001:db8::/32"])],
  ];
  for (const [what, statement] of broad) {
    test(`broad: ${what}`, () => assert.equal(isPublic(parsePolicy(document(statement), "resource")), true));
  }
  for (const [what, statement] of narrow) {
    test(`narrow: ${what}`, () => assert.equal(isPublic(parsePolicy(document(statement), "resource")), false));
  }
  test("one broad statement is enough", () => {
    assert.equal(isPublic(parsePolicy(document(limited("StringEquals", "aws:SourceVpc", "vpc-1"), open), "resource")), true);
  });
});

test("a document nested more deeply than programs can follow is refused like any other too long one", () => {
  for (const [open, close] of [
    ["[", "]"],
    ['{"a":', "}"],
  ] as const) {
    const deep = `{"a":${open.repeat(20_000)}1${close.repeat(20_000)}}`;
    assert.throws(() => parsePolicy(deep, "identity"), { code: "MalformedPolicyDocumentException", message: /6144 characters/ });
  }
});
