import assert from "node:assert/strict";
import { test } from "node:test";
import { element, type IdentityWorld, identityWorld } from "../support/identity-world.ts";
import { account } from "../support/keys.ts";
import { forEachStore } from "../support/stores.ts";

forEachStore((_name, open) => {
  const answer = async (asked: ReturnType<IdentityWorld["sts"]>) => {
    const { status, body } = await asked;
    return { status, type: element(body, "Type"), code: element(body, "Code"), message: element(body, "Message"), body };
  };

  test("GetCallerIdentity needs no permission", async () => {
    const w = await identityWorld(await open());
    const app = await w.newUser("app");
    const { body } = await w.sts("GetCallerIdentity", {}, app);
    assert.match(
      body,
      /^<GetCallerIdentityResponse xmlns="https:\/\/sts\.amazonaws\.com\/doc\/2011-06-15\/"><GetCallerIdentityResult>/,
    );
    assert.match(element(body, "UserId"), /^AIDA[A-Z2-7]{17}$/);
    assert.equal(element(body, "Account"), account);
    assert.equal(element(body, "Arn"), `arn:aws:iam::${account}:user/app`);
    assert.match(element(body, "RequestId"), /^[0-9a-f-]{36}$/);
    const root = await w.sts("GetCallerIdentity", {});
    assert.equal(element(root.body, "Arn"), `arn:aws:iam::${account}:root`);
  });

  test("errors have the query family's names, statuses and form", async () => {
    const w = await identityWorld(await open());
    const app = await w.newUser("app");
    const bad = { ...app, secretAccessKey: "wrong" };
    const cases: readonly (readonly [asked: ReturnType<IdentityWorld["sts"]>, status: number, code: string])[] = [
      [w.sts("GetCallerIdentity", {}, { ...app, accessKeyId: "AKIAAAAAAAAAAAAAAAAA" }), 403, "InvalidClientTokenId"],
      [w.sts("GetCallerIdentity", {}, bad), 403, "SignatureDoesNotMatch"],
      [w.sts("GetSessionToken", {}, app), 400, "InvalidAction"],
      [w.sts("GetCallerIdentity", { Version: "2010-01-01" }, app), 400, "InvalidAction"],
      [w.sts("AssumeRole", { RoleArn: `arn:aws:iam::${account}:role/none` }, app), 400, "ValidationError"],
      [w.sts("AssumeRoleWithWebIdentity", { RoleArn: `arn:aws:iam::${account}:role/none` }, app), 400, "ValidationError"],
    ];
    for (const [asked, status, code] of cases) {
      const seen = await answer(asked);
      assert.deepEqual([seen.status, seen.type, seen.code], [status, "Sender", code], seen.body);
      assert.match(
        seen.body,
        /^<ErrorResponse xmlns=[^>]*><Error>.*<\/Error><RequestId>[0-9a-f-]{36}<\/RequestId><\/ErrorResponse>$/,
      );
    }
    const text =
      "1 validation error detected: Value null at 'roleSessionName' failed to satisfy constraint: Member must not be null";
    const seen = await answer(w.sts("AssumeRole", { RoleArn: `arn:aws:iam::${account}:role/none` }, app));
    assert.equal(seen.message, text);
  });

  test("a form of very many members is refused before anything else is done with it", async () => {
    const w = await identityWorld(await open());
    const many = Object.fromEntries(Array.from({ length: 501 }, (_, at) => [`m${at}`, ""]));
    const { body } = await w.sts("AssumeRoleWithWebIdentity", many);
    assert.equal(element(body, "Code"), "MalformedInput");
    assert.equal(w.records.at(-1)?.principal, "anonymous");
  });

  test("a session is as long as asked for, within the role's bounds", async () => {
    const w = await identityWorld(await open());
    const app = await w.newUser("app");
    const role = await w.newRole("reader", {
      Effect: "Allow",
      Principal: { AWS: `arn:aws:iam::${account}:user/app` },
      Action: "sts:AssumeRole",
    });
    const ask = (more: Record<string, string>) =>
      answer(w.sts("AssumeRole", { RoleArn: role, RoleSessionName: "me", ...more }, app));
    const expires = async (more: Record<string, string>) => Date.parse(element((await ask(more)).body, "Expiration"));
    const inSeconds = (seconds: number) => Math.floor((w.clock.now + seconds * 1000) / 1000) * 1000;
    assert.equal(await expires({}), inSeconds(3600));
    assert.equal(await expires({ DurationSeconds: "900" }), inSeconds(900));
    for (const DurationSeconds of ["899", "3601", "43201", "x"]) {
      assert.notEqual((await ask({ DurationSeconds })).status, 200, DurationSeconds);
    }
    const { body } = await ask({});
    assert.match(element(body, "AccessKeyId"), /^ASIA[A-Z2-7]{16}$/);
    assert.match(element(body, "AssumedRoleId"), /^AROA[A-Z2-7]{17}:me$/);
    assert.equal(element(body, "Arn"), `arn:aws:sts::${account}:assumed-role/reader/me`);
  });

  test("unusable session policies and names are refused", async () => {
    const w = await identityWorld(await open());
    const app = await w.newUser("app");
    const role = await w.newRole("reader", {
      Effect: "Allow",
      Principal: { AWS: `arn:aws:iam::${account}:user/app` },
      Action: ["sts:AssumeRole", "sts:TagSession"],
    });
    const ask = async (more: Record<string, string>) =>
      (await answer(w.sts("AssumeRole", { RoleArn: role, RoleSessionName: "me", ...more }, app))).code;
    assert.equal(await ask({ Policy: "{}" }), "MalformedPolicyDocument");
    assert.equal(await ask({ Policy: " ".repeat(2049) }), "ValidationError");
    assert.equal(await ask({ "PolicyArns.member.1.arn": `arn:aws:iam::${account}:policy/none` }), "ValidationError");
    assert.equal(await ask({ RoleSessionName: "a b" }), "ValidationError");
    assert.equal(await ask({ SourceIdentity: "me" }), "ValidationError");
    assert.equal(await ask({ "TransitiveTagKeys.member.1": "none" }), "InvalidParameterValue");
    const tags = Array.from({ length: 30 }, (_, i) => [
      [`Tags.member.${i + 1}.Key`, `key${i}`],
      [`Tags.member.${i + 1}.Value`, "v".repeat(256)],
    ]);
    assert.equal(await ask(Object.fromEntries(tags.flat())), "PackedPolicyTooLarge");
  });

  test("a simulation answers as authorization does and names the statement that decides", async () => {
    const w = await identityWorld(await open());
    await w.newUser("app");
    const PrincipalArn = `arn:aws:iam::${account}:user/app`;
    const action = {
      Action: "secretsmanager:GetSecretValue",
      ResourceArn: "arn:aws:secretsmanager:eu-central-1:123456789012:secret:a-AbCdEf",
    };
    const ask = (more: object) => w.call("policies simulate", { ...action, ...more });
    assert.equal((await ask({ PrincipalArn })).Decision, "implicitDeny");
    const Condition = { StringEquals: { "aws:SourceIp": "10.0.0.1" } };
    const PolicyArn = await w.newPolicy(
      "reader",
      { Effect: "Allow", Action: "iam:*", Resource: "*" },
      { Sid: "FromOffice", Effect: "Allow", Action: "secretsmanager:*", Resource: "*", Condition },
    );
    await w.call("policies attach", { UserName: "app", PolicyArn });
    assert.equal((await ask({ PrincipalArn })).Decision, "implicitDeny");
    const ContextEntries = [{ Key: "aws:SourceIP", Values: ["10.0.0.1"] }];
    const allowed = await ask({ PrincipalArn, ContextEntries });
    const MatchedStatement = { PolicyType: "identity", PolicyName: "reader", StatementIndex: 1, Sid: "FromOffice" };
    assert.deepEqual(allowed, { Decision: "allowed", Allowed: true, MatchedStatement });
    const ResourcePolicy = '{"Version":"2012-10-17","Statement":{"Effect":"Deny","Principal":"*","Action":"*","Resource":"*"}}';
    const denied = await ask({ PrincipalArn, ContextEntries, ResourcePolicy });
    assert.equal(denied.Decision, "explicitDeny");
    assert.deepEqual(denied.MatchedStatement, { PolicyType: "resource", PolicyName: "resource policy", StatementIndex: 0 });
    assert.match(String(denied.Message), /with an explicit deny in a resource-based policy$/);
    const alone = '{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}';
    assert.equal((await ask({ PolicyDocuments: [alone] })).Decision, "allowed");
    await assert.rejects(ask({}), { code: "ValidationException" });
  });

  test("a simulation tells nothing of a resource to those who may not look at it", async () => {
    const w = await identityWorld(await open());
    const app = await w.newUser("app");
    const attach = async (name: string, ...Action: string[]) => {
      const PolicyArn = await w.newPolicy(name, { Effect: "Allow", Action, Resource: "*" });
      await w.call("policies attach", { UserName: "app", PolicyArn });
    };
    const all = '{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}';
    const trust = { Effect: "Allow", Principal: { AWS: account }, Action: "sts:AssumeRole" };
    const role = { Action: "sts:AssumeRole", ResourceArn: await w.newRole("role", trust) };
    const secret = {
      Action: "secretsmanager:GetSecretValue",
      ResourceArn: `arn:aws:secretsmanager:eu-central-1:${account}:secret:a`,
    };
    const ask = (of: object) => w.call("policies simulate", { ...of, PolicyDocuments: [all] }, app);
    await attach("simulates", "iam:SimulateCustomPolicy");
    assert.equal((await ask({ Action: "secretsmanager:GetSecretValue" })).Decision, "allowed");
    const ResourcePolicy = '{"Version":"2012-10-17","Statement":{"Effect":"Deny","Principal":"*","Action":"*","Resource":"*"}}';
    assert.equal((await ask({ ...secret, ResourcePolicy })).Decision, "explicitDeny");
    await assert.rejects(ask(role), /not authorized to perform: iam:GetRole on resource: arn/);
    await assert.rejects(ask(secret), /not authorized to perform: secretsmanager:GetResourcePolicy on resource: arn/);
    await attach("looks", "iam:GetRole", "secretsmanager:GetResourcePolicy");
    assert.equal((await ask(role)).Decision, "allowed");
    await assert.rejects(ask(secret), /not authorized to perform: secretsmanager:DescribeSecret on resource: arn/);
    await attach("describes", "secretsmanager:DescribeSecret");
    assert.equal((await ask(secret)).Decision, "allowed");
  });
});
