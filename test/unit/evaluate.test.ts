import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { suite, test } from "node:test";
import fc from "fast-check";
import { accessDeniedMessage, type Decision, evaluate, type PolicySet, type PrincipalFacts } from "../../src/core/evaluate.ts";
import { type PolicyKind, parsePolicy } from "../../src/core/policy.ts";

const account = "123456789012";
const principals = {
  root: { kind: "root", arn: `arn:aws:iam::${account}:root`, accountId: account },
  bob: { kind: "user", arn: `arn:aws:iam::${account}:user/bob`, accountId: account },
  session: {
    kind: "role",
    arn: `arn:aws:sts::${account}:assumed-role/app/one`,
    roleArn: `arn:aws:iam::${account}:role/app`,
    accountId: account,
  },
  service: { kind: "service", arn: "secretsmanager.amazonaws.com", accountId: "" },
  workload: { kind: "federated", arn: `arn:aws:iam::${account}:oidc-provider/issuer.example`, accountId: account },
  anonymous: { kind: "anonymous", arn: "anonymous", accountId: "" },
} as const satisfies Record<string, PrincipalFacts>;

type Context = Record<string, string | string[]>;

/** A case of `policy-cases/`: statements as in policies, and the answer with its deciding policy, statement and Sid. */
interface DecisionCase {
  readonly name: string;
  readonly principal?: keyof typeof principals | PrincipalFacts;
  readonly action?: string;
  readonly resource?: string;
  readonly context?: Context;
  readonly version?: string | null;
  readonly identity?: object[][];
  readonly resourcePolicy?: object[];
  readonly trust?: object[];
  readonly session?: object[][];
  /** Name of the deciding policy, where several are of one kind. */
  readonly policy?: string;
  /** `allow identity 0 Sid`, `explicitDeny resource 1`, `implicitDeny session`. */
  readonly expect: string;
}

interface ConditionCase {
  readonly name: string;
  readonly condition: object;
  readonly context: Context;
  readonly holds: boolean;
}

const secret = `arn:aws:secretsmanager:eu-west-1:${account}:secret:prod/db-a1b2c3`;
const readCases = (name: string): unknown =>
  JSON.parse(readFileSync(new URL(`policy-cases/${name}.json`, import.meta.url), "utf8"));

function toContext(context: Context = {}): Map<string, string[]> {
  return new Map(Object.entries(context).map(([key, value]) => [key.toLowerCase(), [value].flat()]));
}

function policyOf(kind: PolicyKind, statements: object[], name: string, version: string | null = "2012-10-17") {
  return parsePolicy(JSON.stringify({ ...(version === null ? {} : { Version: version }), Statement: statements }), kind, name);
}

function policiesOf({ identity = [], resourcePolicy, trust, session, version }: DecisionCase): PolicySet {
  const resource = resourcePolicy
    ? policyOf("resource", resourcePolicy, "resource-0", version)
    : trust && policyOf("trust", trust, "trust-0", version);
  return {
    identity: identity.map((statements, i) => policyOf("identity", statements, `identity-${i}`, version)),
    resource,
    session: session?.map((statements, i) => policyOf("session", statements, `session-${i}`, version)),
  };
}

function told({ reason, by, missing }: Decision): string {
  const parts = by ? [by.policyKind, by.statementIndex, by.sid] : [missing];
  return [reason, ...parts].filter((part) => part !== undefined).join(" ");
}

for (const file of ["elements", "variables", "resource-policies", "services", "sessions", "trust"]) {
  suite(`policy cases: ${file}`, () => {
    for (const each of readCases(file) as DecisionCase[]) {
      test(each.name, () => {
        const { principal = "bob", action = "secretsmanager:GetSecretValue", resource = secret } = each;
        const facts = typeof principal === "string" ? principals[principal] : principal;
        const decision = evaluate({ action, resource, context: toContext(each.context), principal: facts }, policiesOf(each));
        assert.equal(told(decision), each.expect);
        assert.equal(decision.allowed, decision.reason === "allow");
        if (each.policy !== undefined) assert.equal(decision.by?.policyName, each.policy);
      });
    }
  });
}

suite("policy cases: conditions", () => {
  const everything = { Effect: "Allow", Action: "*", Resource: "*" };
  for (const { name, condition, context, holds } of readCases("conditions") as ConditionCase[]) {
    test(name, () => {
      const limited = { ...everything, Condition: condition };
      const request = { action: "secretsmanager:GetSecretValue", resource: secret, principal: principals.bob };
      const decide = (statements: object[]): string =>
        told(evaluate({ ...request, context: toContext(context) }, { identity: [policyOf("identity", statements, "p")] }));
      assert.equal(decide([limited]), holds ? "allow identity 0" : "implicitDeny identity");
      assert.equal(decide([everything, { ...limited, Effect: "Deny" }]), holds ? "explicitDeny identity 1" : "allow identity 0");
    });
  }
});

test("access denied texts are AWS's", () => {
  const asked = { principalArn: principals.bob.arn, action: "secretsmanager:GetSecretValue", resource: "prod/db" };
  const user = `User: ${principals.bob.arn} is not authorized to perform:`;
  const denial = (policyKind: PolicyKind): Decision => ({
    allowed: false,
    reason: "explicitDeny",
    by: { policyKind, policyName: "p", statementIndex: 0 },
  });
  const lack = (missing: PolicyKind): Decision => ({ allowed: false, reason: "implicitDeny", missing });
  const get = `${user} secretsmanager:GetSecretValue on resource: prod/db`;
  assert.equal(
    accessDeniedMessage(lack("identity"), asked),
    `${get} because no identity-based policy allows the secretsmanager:GetSecretValue action`,
  );
  assert.equal(
    accessDeniedMessage(lack("resource"), asked),
    `${get} because no resource-based policy allows the secretsmanager:GetSecretValue action`,
  );
  assert.equal(
    accessDeniedMessage(lack("session"), asked),
    `${get} because no session policy allows the secretsmanager:GetSecretValue action`,
  );
  assert.equal(accessDeniedMessage(denial("identity"), asked), `${get} with an explicit deny in an identity-based policy`);
  assert.equal(accessDeniedMessage(denial("resource"), asked), `${get} with an explicit deny in a resource-based policy`);
  assert.equal(accessDeniedMessage(denial("session"), asked), `${get} with an explicit deny in a session policy`);
  const assume = { principalArn: principals.bob.arn, action: "sts:AssumeRole" };
  assert.equal(
    accessDeniedMessage(lack("trust"), assume),
    `${user} sts:AssumeRole because no role trust policy allows the sts:AssumeRole action`,
  );
  assert.equal(
    accessDeniedMessage(denial("trust"), assume),
    `${user} sts:AssumeRole with an explicit deny in the role trust policy`,
  );
});

suite("more Deny and less Allow never widen access", () => {
  const actions = ["secretsmanager:GetSecretValue", "secretsmanager:DeleteSecret", "secretsmanager:*", "*"];
  const resources = [secret, secret.replace("prod", "dev"), secret.replace("prod/db-a1b2c3", "*"), "*"];
  const named = [principals.bob.arn, principals.session.arn, principals.session.roleArn, account, "*"];
  const element = (name: string, values: string[]) =>
    fc.record({ not: fc.boolean(), values: fc.subarray(values, { minLength: 1 }) }).map(({ not, values: chosen }) => ({
      [not ? `Not${name}` : name]: chosen,
    }));
  const condition = fc.oneof(
    fc.constant({}),
    fc
      .tuple(
        fc.constantFrom("", "ForAllValues:", "ForAnyValue:"),
        fc.constantFrom("StringEquals", "StringNotEquals", "StringLike", "StringNotLike"),
        fc.constantFrom("", "IfExists"),
        fc.constantFrom("red", "r*", `\${aws:username}`, `\${aws:username, 'red'}`),
      )
      .map(([set, operator, suffix, value]) => ({ Condition: { [set + operator + suffix]: { "aws:TagKeys": value } } })),
  );
  const statement = fc
    .tuple(fc.constantFrom("Allow", "Deny"), element("Action", actions), element("Resource", resources), condition)
    .map(([Effect, action, resource, limits]) => ({ Effect, ...action, ...resource, ...limits }));
  const principal = fc
    .record({ not: fc.boolean(), arns: fc.subarray(named, { minLength: 1 }) })
    .map(({ not, arns }) => ({ [not ? "NotPrincipal" : "Principal"]: { AWS: arns } }));
  const resourceStatement = fc.tuple(statement, principal).map(([limits, who]) => ({ ...limits, ...who }));
  const several = { minLength: 1, maxLength: 4 };
  const world = fc.record({
    identity: fc.array(statement, several),
    resource: fc.option(fc.array(resourceStatement, several)),
    session: fc.option(fc.array(statement, several)),
  });
  const request = fc.record({
    action: fc.constantFrom("secretsmanager:GetSecretValue", "secretsmanager:DeleteSecret"),
    resource: fc.constantFrom(...resources),
    principal: fc.constantFrom<PrincipalFacts>(...Object.values(principals)),
    context: fc
      .record({ "aws:TagKeys": fc.subarray(["red", "blue", "bob", ""]), "aws:username": fc.subarray(["bob"]) })
      .map(toContext),
  });
  type World = typeof world extends fc.Arbitrary<infer T> ? T : never;
  type Request = typeof request extends fc.Arbitrary<infer T> ? T : never;
  const allowed = (asked: Request, { identity, resource, session }: World): boolean =>
    evaluate(asked, {
      identity: identity.length > 0 ? [policyOf("identity", identity, "i")] : [],
      resource: resource?.length ? policyOf("resource", resource, "r") : undefined,
      session: session?.length ? [policyOf("session", session, "s")] : undefined,
    }).allowed;
  const kinds = fc.constantFrom<keyof World>("identity", "resource", "session");

  test("a Deny added anywhere", () => {
    fc.assert(
      fc.property(request, world, kinds, resourceStatement, fc.nat(4), (asked, before, kind, added, at) => {
        const { Principal: _, NotPrincipal: __, ...plain } = added as Record<string, unknown>;
        const denial = { ...(kind === "resource" ? added : plain), Effect: "Deny" } as (typeof before)["identity"][number];
        fc.pre(before[kind] !== null || kind !== "session");
        const after = { ...before, [kind]: (before[kind] ?? []).toSpliced(at, 0, denial as never) };
        assert.ok(!allowed(asked, after) || allowed(asked, before));
      }),
      { numRuns: 1000 },
    );
  });

  test("an Allow taken away anywhere", () => {
    fc.assert(
      fc.property(request, world, kinds, fc.nat(3), (asked, before, kind, at) => {
        const taken = before[kind]?.[at];
        fc.pre(taken?.Effect === "Allow" && !(kind === "session" && before[kind]?.length === 1));
        const after = { ...before, [kind]: (before[kind] ?? []).toSpliced(at, 1) };
        assert.ok(!allowed(asked, after) || allowed(asked, before));
      }),
      { numRuns: 1000 },
    );
  });
});
