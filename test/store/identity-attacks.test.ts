import assert from "node:assert/strict";
import { test } from "node:test";
import type { ServiceError } from "../../src/core/error.ts";
import { createToken, hashToken } from "../../src/store/credentials.ts";
import { tagPrincipal } from "../../src/store/identity.ts";
import { attachPolicy } from "../../src/store/policies.ts";
import { type Credentials, element, identityWorld, signedRequest } from "../support/identity-world.ts";
import { account } from "../support/keys.ts";
import { forEachStore } from "../support/stores.ts";

const invalid = { code: "UnrecognizedClientException", message: "The security token included in the request is invalid." };
const read = "secretsmanager:GetSecretValue";
const allow = (Action: string, Resource = "*") => ({ Effect: "Allow", Action, Resource });
const user = (name: string) => `arn:aws:iam::${account}:user/${name}`;
const trusting = (name: string, Condition?: object) => ({
  Effect: "Allow",
  Principal: { AWS: user(name) },
  Action: ["sts:AssumeRole", "sts:TagSession"],
  ...(Condition ? { Condition } : {}),
});

forEachStore((_name, open) => {
  const world = async () => identityWorld(await open());

  test("a disabled, and a deleted, key is refused at the next request, on every node", async () => {
    const w = await world();
    const app = await w.newUser("app");
    const other = w.node();
    const isIn = async () => {
      assert.equal((await w.signed(app)).principal.arn, user("app"));
      assert.equal((await w.signed(app, other)).principal.arn, user("app"));
    };
    const isOut = async () => {
      await assert.rejects(w.signed(app), invalid);
      await assert.rejects(w.signed(app, other), invalid);
    };
    const key = { UserName: "app", AccessKeyId: app.accessKeyId };
    await isIn();
    await w.call("access-keys disable", key);
    await isOut();
    await w.call("access-keys enable", key);
    await isIn();
    await w.call("access-keys delete", key);
    await isOut();
  });

  test("deleting a user ends its keys and tokens; another of its name does not get them back", async () => {
    const w = await world();
    const app = await w.newUser("app");
    const { Token } = await w.call("tokens create", { UserName: "app", Name: "laptop" });
    assert.match(String(Token), /^dp\.pt\.[A-Za-z0-9]{40}$/);
    assert.equal((await w.authenticator.bearer(String(Token), "::1")).principal.arn, user("app"));
    await w.signed(app);
    await w.call("users delete", { UserName: "app" });
    await assert.rejects(w.signed(app), invalid);
    await assert.rejects(w.authenticator.bearer(String(Token), "::1"), invalid);
    await w.call("users create", { UserName: "app" });
    await assert.rejects(w.signed(app), invalid);
    await assert.rejects(w.authenticator.bearer(String(Token), "::1"), invalid);
  });

  test("what was given to a user or role while it was deleted is not waiting for the next one of its name", async () => {
    const sql = await open();
    const w = await identityWorld(sql);
    const policy = await w.newPolicy("everything", allow("*"));
    const token = `dp.pt.${"a".repeat(40)}`;
    const role = `arn:aws:iam::${account}:role/app`;
    await sql.transaction(async (tx) => {
      for (const arn of [user("app"), role]) {
        await attachPolicy(tx, arn, policy);
        await tagPrincipal(tx, arn, { team: "owners" });
      }
      const about = { hash: hashToken(token), id: "t", name: "t", createdAt: w.clock.now, expiresAt: undefined };
      await createToken(tx, { ...about, principalArn: user("app") });
    });
    const app = await w.newUser("app");
    await w.newRole("app", trusting("app"));
    await assert.rejects(w.authenticator.bearer(token, "::1"), invalid);
    for (const who of [app, await w.assume(role, app)]) {
      assert.match((await w.refusal(who, read))?.message ?? "", /no identity-based policy allows/);
      assert.deepEqual((await w.signed(who)).principal.tags, {});
    }
  });

  test("a token ends when it is deleted, and when its time is over", async () => {
    const w = await world();
    await w.newUser("app");
    const make = (more: object) => w.call("tokens create", { UserName: "app", Name: "ci", ...more });
    const [kept, short] = [await make({}), await make({ TtlSeconds: 60 })];
    await w.authenticator.bearer(String(short.Token), "::1");
    w.clock.now += 60_000;
    await assert.rejects(w.authenticator.bearer(String(short.Token), "::1"), { code: "ExpiredTokenException" });
    await w.call("tokens delete", { UserName: "app", TokenId: kept.TokenId });
    await assert.rejects(w.authenticator.bearer(String(kept.Token), "::1"), invalid);
  });

  test("attaching, changing and detaching a policy counts at the next request", async () => {
    const w = await world();
    const app = await w.newUser("app");
    const attached = { UserName: "app", PolicyArn: await w.newPolicy("reader", allow(read)) };
    const mayRead = async () => (await w.refusal(app, read)) === undefined;
    assert.equal(await mayRead(), false);
    await w.call("policies attach", attached);
    assert.equal(await mayRead(), true);
    const PolicyDocument = JSON.stringify({ Version: "2012-10-17", Statement: { Effect: "Deny", Action: "*", Resource: "*" } });
    const version = { PolicyArn: attached.PolicyArn, PolicyDocument, SetAsDefault: true };
    const { VersionId } = await w.call("policies create-version", version);
    assert.equal(VersionId, "v2");
    assert.equal(await mayRead(), false);
    await w.call("policies set-default", { PolicyArn: attached.PolicyArn, VersionId: "v1" });
    assert.equal(await mayRead(), true);
    await w.call("policies detach", attached);
    assert.equal(await mayRead(), false);
  });

  test("a role's external id keeps a deputy from being confused", async () => {
    const w = await world();
    const deputy = await w.newUser("deputy");
    const role = await w.newRole("customer", trusting("deputy", { StringEquals: { "sts:ExternalId": "customer-7" } }));
    const form = { RoleArn: role, RoleSessionName: "session" };
    for (const wrong of [{}, { ExternalId: "customer-8" }]) {
      const { status, body } = await w.sts("AssumeRole", { ...form, ...wrong }, deputy);
      assert.equal(status, 403);
      assert.equal(element(body, "Code"), "AccessDenied");
      const text = `User: ${user("deputy")} is not authorized to perform: sts:AssumeRole on resource: ${role}`;
      assert.ok(element(body, "Message").startsWith(text), body);
    }
    await w.assume(role, deputy, { ExternalId: "customer-7" });
  });

  test("rights to assume do not replace a role's trust", async () => {
    const w = await world();
    const app = await w.newUser("app");
    const PolicyArn = await w.newPolicy("assumer", allow("sts:*"));
    await w.call("policies attach", { UserName: "app", PolicyArn });
    const role = await w.newRole("other", trusting("somebody-else"));
    await assert.rejects(w.assume(role, app), /AccessDenied/);
    await assert.rejects(w.assume(role.replace("other", "missing"), app), /AccessDenied/);
    const whole = { Effect: "Allow", Principal: { AWS: account }, Action: "sts:AssumeRole" };
    const open = await w.newRole("open", whole);
    await w.assume(open, app);
    await w.call("policies detach", { UserName: "app", PolicyArn });
    await assert.rejects(w.assume(open, app), /AccessDenied/);
    await assert.rejects(w.assume(open, w.rootKey), /Roles may not be assumed by root accounts/);
  });

  test("no byte of a session token can be changed, and it is good with its own key only", async () => {
    const w = await world();
    const app = await w.newUser("app");
    const role = await w.newRole("reader", trusting("app"));
    const [session, second] = [await w.assume(role, app), await w.assume(role, app)];
    assert.equal((await w.signed(session)).principal.arn, `arn:aws:sts::${account}:assumed-role/reader/session`);
    const { sessionToken = "" } = session;
    const bytes = Buffer.from(sessionToken, "base64url");
    for (let at = 0; at < bytes.length; at += 7) {
      const changed = Buffer.from(bytes);
      changed[at] = (changed[at] ?? 0) ^ 1;
      await assert.rejects(w.signed({ ...session, sessionToken: changed.toString("base64url") }), invalid);
    }
    for (const other of [
      "",
      "AAAA",
      sessionToken.slice(0, -4),
      `${sessionToken}=`,
      `${sessionToken}AAAA`,
      second.sessionToken ?? "",
    ]) {
      await assert.rejects(w.signed({ ...session, sessionToken: other }), invalid);
    }
    const bare: Credentials = { accessKeyId: session.accessKeyId, secretAccessKey: session.secretAccessKey };
    await assert.rejects(w.signed(bare), invalid);
    await assert.rejects(w.signed({ ...app, sessionToken }), invalid);
    await assert.rejects(w.signed({ ...session, secretAccessKey: "guessed" }), { code: "InvalidSignatureException" });
  });

  test("a session ends with its time, with its role, and does not come back with a new role of the name", async () => {
    const w = await world();
    const app = await w.newUser("app");
    const role = await w.newRole("reader", trusting("app"));
    const short = await w.assume(role, app, { DurationSeconds: "900" });
    const long = await w.assume(role, app);
    await w.signed(short);
    w.clock.now += 900_000;
    const expired = { code: "ExpiredTokenException", message: "The security token included in the request is expired" };
    await assert.rejects(w.signed(short), expired);
    await w.signed(long);
    await w.call("roles delete", { RoleName: "reader" });
    await assert.rejects(w.signed(long), invalid);
    await w.newRole("reader", trusting("app"));
    await assert.rejects(w.signed(long), invalid);
    await w.signed(await w.assume(role, app));
  });

  test("session policies narrow a role and never widen it", async () => {
    const w = await world();
    const app = await w.newUser("app");
    const role = await w.newRole("keeper", trusting("app"));
    const PolicyArn = await w.newPolicy("keeper", allow("secretsmanager:*"));
    await w.call("policies attach", { RoleName: "keeper", PolicyArn });
    const named = await w.newPolicy("lister", allow("secretsmanager:ListSecrets"));
    const Policy = JSON.stringify({ Version: "2012-10-17", Statement: [allow(read), allow("iam:*")] });
    const narrow = await w.assume(role, app, { Policy, "PolicyArns.member.1.arn": named });
    const may = async (action: string) => (await w.refusal(narrow, action)) === undefined;
    assert.equal(await may(read), true);
    assert.equal(await may("secretsmanager:ListSecrets"), true, "what any policy of the session allows");
    assert.equal(await may("secretsmanager:DeleteSecret"), false, "what none of them allows");
    assert.equal(await may("iam:CreateUser"), false, "what the role may not do");
    const refused = (await w.refusal(narrow, "secretsmanager:DeleteSecret")) as ServiceError;
    assert.match(refused.message, /because no session policy allows the secretsmanager:DeleteSecret action$/);
    await w.call("policies delete", { PolicyArn: named });
    assert.equal(await may("secretsmanager:ListSecrets"), false);
    assert.equal(await may(read), true);
  });

  test("a session whose only named policy is deleted may do nothing", async () => {
    const w = await world();
    const app = await w.newUser("app");
    const role = await w.newRole("keeper", trusting("app"));
    await w.call("policies attach", { RoleName: "keeper", PolicyArn: await w.newPolicy("keeper", allow("*")) });
    const named = await w.newPolicy("reader", allow(read));
    const session = await w.assume(role, app, { "PolicyArns.member.1.arn": named });
    assert.equal(await w.refusal(session, read), undefined);
    await w.call("policies delete", { PolicyArn: named });
    assert.ok(await w.refusal(session, read));
  });

  test("session tags need the trust to tag, stand in for the role's, and transitive ones stay", async () => {
    const w = await world();
    const app = await w.newUser("app");
    const role = await w.newRole("tagged", trusting("app"));
    await w.call("roles tag", {
      RoleName: "tagged",
      Tags: [
        { Key: "Team", Value: "red" },
        { Key: "tier", Value: "1" },
      ],
    });
    const tags = { "Tags.member.1.Key": "team", "Tags.member.1.Value": "blue", "TransitiveTagKeys.member.1": "team" };
    const session = await w.assume(role, app, tags);
    assert.deepEqual((await w.signed(session)).principal.tags, { tier: "1", team: "blue" });
    const session1 = `arn:aws:sts::${account}:assumed-role/tagged/session`;
    const next = await w.newRole("next", {
      Effect: "Allow",
      Principal: { AWS: session1 },
      Action: ["sts:AssumeRole", "sts:TagSession"],
    });
    await assert.rejects(w.assume(next, session, { ...tags, "Tags.member.1.Value": "green" }), /InvalidParameterValue/);
    assert.deepEqual((await w.signed(await w.assume(next, session))).principal.tags, { team: "blue" });
    await assert.rejects(w.assume(next, session, { DurationSeconds: "3601" }), /role chaining|MaxSessionDuration/);
    const untaggable = await w.newRole("untaggable", { ...trusting("app"), Action: "sts:AssumeRole" });
    await assert.rejects(w.assume(untaggable, app, tags), /sts:TagSession/);
  });

  test("users do with access keys what policies let them, and nobody makes credentials of root", async () => {
    const w = await world();
    const app = await w.newUser("app");
    await assert.rejects(w.call("access-keys list", {}, app), { code: "AccessDeniedException" });
    const self = allow("iam:*AccessKey*", `arn:aws:iam::${account}:user/\${aws:username}`);
    await w.call("policies attach", { UserName: "app", PolicyArn: await w.newPolicy("self-care", self) });
    const { AccessKeys } = await w.call("access-keys list", {}, app);
    assert.equal((AccessKeys as object[]).length, 1);
    const second = await w.call("access-keys create", {}, app);
    assert.equal(JSON.stringify(w.records).includes(String(second.SecretAccessKey)), false);
    await assert.rejects(w.call("access-keys create", {}, app), { code: "LimitExceededException" });
    await assert.rejects(w.call("access-keys list", { UserName: "other" }, app), { code: "AccessDeniedException" });
    for (const operation of ["access-keys create", "tokens create"]) {
      await assert.rejects(w.call(operation, { Name: "more" }), { code: "InvalidRequestException" });
    }
  });

  test("a caller's good key works while another address fails; the failing one has to wait", async () => {
    const w = await identityWorld(await open(), { failedLogins: { maxFailures: 3, windowMs: 1000 } });
    const app = await w.newUser("app");
    const from = async (sourceIp: string, as: Credentials) =>
      w.authenticator.signed(signedRequest(as, { sourceIp, at: w.clock.now }), ["secretsmanager"]);
    const guess = { ...app, secretAccessKey: "guess" };
    for (let i = 0; i < 3; i++) await assert.rejects(from("192.0.2.1", guess), { code: "InvalidSignatureException" });
    await assert.rejects(from("192.0.2.1", guess), { code: "ThrottlingException" });
    await from("192.0.2.2", app);
    await from("192.0.2.1", app); // known by now: who fails beside it does not hold it up
    const late = await w.newUser("late");
    await assert.rejects(from("192.0.2.1", late), { code: "ThrottlingException" });
    await assert.rejects(w.authenticator.bearer(`dp.pt.${"x".repeat(40)}`, "192.0.2.1"), { code: "ThrottlingException" });
    w.clock.now += 1000;
    await from("192.0.2.1", late);
  });
});
