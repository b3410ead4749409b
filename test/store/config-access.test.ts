import assert from "node:assert/strict";
import { test } from "node:test";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { refuseUntrusted } from "../../src/operations/config-access/trusted-ips.ts";
import { findConfig } from "../../src/store/configs.ts";
import { newConfig } from "../support/config-rows.ts";
import { type IdentityWorld, identityWorld } from "../support/identity-world.ts";
import { account, region } from "../support/keys.ts";
import { startIssuer } from "../support/oidc-issuer.ts";
import { forEachStore } from "../support/stores.ts";

const refused = (code: string) => ({ name: "ServiceError", code });
const configArn = (path: string) => `arn:aws:rekey:${region}:${account}:config/${path}`;

forEachStore((_name, open) => {
  async function setUp() {
    const sql = await open();
    const w: IdentityWorld = await identityWorld(sql);
    await newConfig(sql, "shop", "dev", "dev");
    await newConfig(sql, "shop", "prd", "prd");
    return { sql, w };
  }

  /** Her token; she may make tokens for herself. */
  async function newAlice(w: IdentityWorld): Promise<string> {
    await w.newUser("alice");
    const resource = `arn:aws:iam::${account}:user/\${aws:username}`;
    const PolicyArn = await w.newPolicy("own-tokens", { Effect: "Allow", Action: "rekey:CreateToken", Resource: resource });
    await w.call("policies attach", { PolicyArn, UserName: "alice" });
    return String((await w.call("tokens create", { UserName: "alice", Name: "laptop" })).Token);
  }

  test("a config's secrets are used from trusted addresses only; whoever manages the list can do so from anywhere", async () => {
    const { sql, w } = await setUp();
    const of = { Project: "shop", Config: "dev" };
    const from = async (sourceIp: string) => {
      const config = await findConfig(sql, "shop", "dev");
      if (!config) throw new Error("no config");
      refuseUntrusted({ sourceIp }, config);
    };
    assert.deepEqual(await w.call("trusted-ips list", of), { Ips: ["0.0.0.0/0", "::/0"] });
    await from("203.0.113.9");
    assert.deepEqual(await w.call("trusted-ips add", { ...of, Ip: "10.0.0.0/8" }), { Ip: "10.0.0.0/8", Added: true });
    assert.deepEqual(await w.call("trusted-ips add", { ...of, Ip: "10.0.0.0/8" }), { Ip: "10.0.0.0/8", Added: false });
    for (const Ip of ["0.0.0.0/0", "::/0"]) await w.call("trusted-ips delete", { ...of, Ip });
    await from("10.1.2.3");
    await from("::ffff:10.1.2.3");
    for (const ip of ["203.0.113.9", "::ffff:203.0.113.9", "2001:db8::1", "", "10.1.2.3.4", "::10.1.2.3"])
      await assert.rejects(from(ip), refused("AccessDeniedException"), ip);
    await w.call("trusted-ips delete", { ...of, Ip: "10.0.0.0/8" });
    await assert.rejects(from("10.1.2.3"), refused("AccessDeniedException"));
    await w.call("trusted-ips add", { ...of, Ip: "2001:db8::/32" });
    await from("2001:db8::1");
    await assert.rejects(w.call("trusted-ips delete", { ...of, Ip: "1.2.3.4" }), refused("ResourceNotFoundException"));
    for (const Ip of ["10.0.0.0/33", "everywhere", "10.0.0"])
      await assert.rejects(w.call("trusted-ips add", { ...of, Ip }), refused("ValidationException"));
  });

  test("a command line gets its token once, after somebody said yes", async () => {
    const { w } = await setUp();
    const alice = await newAlice(w);
    const begun = await w.stranger("cli-logins begin", { Hostname: "laptop", Os: "linux" });
    const poll = () => w.stranger("cli-logins poll", { Code: begun.PollingCode });
    assert.match(String(begun.Code), /^[a-z2-9]{4}-[a-z2-9]{4}$/);
    assert.equal(begun.AuthUrl, `/login#${begun.Code}`);
    await assert.rejects(poll(), refused("PreconditionNotMetException"));
    const shown = await w.bearer(alice, "cli-logins get", { Code: begun.Code });
    assert.deepEqual([shown.Hostname, shown.Address, shown.State], ["laptop", "127.0.0.1", "pending"]);
    assert.equal(JSON.stringify(shown).includes(String(begun.PollingCode)), false);
    await w.bearer(alice, "cli-logins approve", { Code: begun.Code });
    const again = w.bearer(alice, "cli-logins approve", { Code: begun.Code, Approve: false });
    await assert.rejects(again, refused("ResourceNotFoundException"));
    const [first, second] = await Promise.allSettled([poll(), poll()]);
    const [won, lost] = first.status === "fulfilled" ? [first, second] : [second, first];
    assert.ok(won.status === "fulfilled" && lost.status === "rejected");
    const token = String(won.value.Token);
    assert.match(token, /^dp\.ct\.[A-Za-z0-9]{40}$/);
    const me = await w.bearer(token, "me get", {});
    assert.deepEqual([me.Type, me.Name, me.Arn], ["cli", "laptop", `arn:aws:iam::${account}:user/alice`]);
    await assert.rejects(poll(), refused("ValidationException"));
    const texts = JSON.stringify(w.records);
    for (const secret of [token, alice, String(begun.PollingCode)]) assert.equal(texts.includes(secret), false);
  });

  test("a login that was denied, is over, or is somebody else's gives no token", async () => {
    const { w } = await setUp();
    const alice = await newAlice(w);
    const denied = await w.stranger("cli-logins begin", {});
    await w.bearer(alice, "cli-logins approve", { Code: denied.Code, Approve: false });
    const answer = await w.stranger("cli-logins poll", { Code: denied.PollingCode });
    assert.deepEqual(Object.keys(answer), ["Error"]);
    const late = await w.stranger("cli-logins begin", {});
    await assert.rejects(w.stranger("cli-logins poll", { Code: late.Code }), refused("ValidationException"));
    await w.bearer(alice, "cli-logins approve", { Code: late.Code });
    w.clock.now += 600_001;
    await assert.rejects(w.stranger("cli-logins poll", { Code: late.PollingCode }), refused("ValidationException"));
    await assert.rejects(w.bearer(alice, "cli-logins get", { Code: late.Code }), refused("ResourceNotFoundException"));
  });

  test("nobody says yes who is no user, who may not make tokens, or who is root", async () => {
    const { w } = await setUp();
    await w.newUser("bob");
    const bob = String((await w.call("tokens create", { UserName: "bob", Name: "x" })).Token);
    const { Code } = await w.stranger("cli-logins begin", {});
    const service = await w.call("service-tokens create", { Project: "shop", Config: "dev", Name: "ci" });
    const key = (service.Token as { Key: string }).Key;
    await w.call("service-accounts create", { Name: "robot", WorkplaceRole: { Identifier: "admin" } });
    const PolicyArn = await w.newPolicy("tokens", { Effect: "Allow", Action: "rekey:CreateToken", Resource: "*" });
    await w.call("policies attach", { PolicyArn, UserName: "robot" });
    const robot = String((await w.call("service-account-tokens create", { ServiceAccount: "robot", Name: "x" })).ApiKey);
    for (const token of [bob, key, robot])
      await assert.rejects(w.bearer(token, "cli-logins approve", { Code }), refused("AccessDeniedException"));
    await assert.rejects(w.stranger("cli-logins approve", { Code }), refused("AccessDeniedException"));
    await assert.rejects(w.call("cli-logins approve", { Code }), refused("AccessDeniedException"));
  });

  test("open logins are bounded for each address", async () => {
    const { w } = await setUp();
    for (let i = 0; i < 20; i += 1) await w.stranger("cli-logins begin", {}, "2001:db8:1:2::1");
    await assert.rejects(w.stranger("cli-logins begin", {}, "2001:db8:1:2::ffff"), refused("ThrottlingException"));
    await w.stranger("cli-logins begin", {}, "2001:db8:1:3::1");
    w.clock.now += 600_001;
    await w.stranger("cli-logins begin", {}, "2001:db8:1:2::1");
  });

  test("a token is rolled by its holder, and ended by its owner", async () => {
    const { w } = await setUp();
    const alice = await newAlice(w);
    await w.newUser("bob");
    const bob = String((await w.call("tokens create", { UserName: "bob", Name: "x" })).Token);
    await assert.rejects(w.bearer(bob, "me roll-token", { Token: alice }), refused("AccessDeniedException"));
    await assert.rejects(w.bearer(bob, "me revoke-token", { Token: alice }), refused("ResourceNotFoundException"));
    const rolled = String((await w.bearer(alice, "me roll-token", { Token: alice })).Token);
    await assert.rejects(w.bearer(alice, "me get", {}), refused("UnrecognizedClientException"));
    assert.equal((await w.bearer(rolled, "me get", {})).Name, "laptop");
    await w.bearer(rolled, "me revoke-token", { Token: rolled });
    await assert.rejects(w.bearer(rolled, "me get", {}), refused("UnrecognizedClientException"));
    const service = await w.call("service-tokens create", { Project: "shop", Config: "dev", Name: "ci" });
    const { Key } = service.Token as { Key: string };
    await assert.rejects(w.bearer(Key, "me roll-token", { Token: Key }), refused("AccessDeniedException"));
    const me = await w.bearer(Key, "me get", {});
    assert.deepEqual([me.Type, me.Project, me.Config], ["service_token", "shop", "dev"]);
    await assert.rejects(w.stranger("me get", {}), refused("MissingAuthenticationTokenException"));
  });

  test("the workplace is named by those who may; blanks stay", async () => {
    const { w } = await setUp();
    assert.deepEqual((await w.call("workplace update", { Name: "Shop", BillingEmail: "" })).Workplace, {
      Id: "",
      Name: "Shop",
      BillingEmail: "",
    });
    await assert.rejects(w.call("workplace update", { BillingEmail: "nobody" }), refused("ValidationException"));
    const alice = await newAlice(w);
    await assert.rejects(w.bearer(alice, "workplace update", { Name: "x" }), refused("AccessDeniedException"));
  });

  test("a service account does in a project what its role there says, and no more", async () => {
    const { w } = await setUp();
    await w.call("service-accounts create", { Name: "robot" });
    const { ApiKey: key, ApiToken } = await w.call("service-account-tokens create", { ServiceAccount: "robot", Name: "ci" });
    assert.match(String(key), /^dp\.sa\.[A-Za-z0-9]{40}$/);
    const may = async (action: string, arn: string) => {
      const { principal } = await w.authenticator.bearer(String(key), "127.0.0.1");
      return w.mayDo(principal, action, arn);
    };
    const set = (Role: string) => w.call("project-members set", { Project: "shop", UserName: "robot", Role });
    const [own, other] = [configArn("shop/dev"), configArn("other/dev")];
    assert.equal(await may("rekey:GetConfigSecrets", own), false);
    await set("viewer");
    assert.equal(await may("rekey:GetConfigSecrets", own), true);
    assert.equal(await may("rekey:SetConfigSecrets", own), false);
    assert.equal(await may("rekey:IssueLease", own.replace("config/", "dynamic-secret/")), false);
    assert.equal(await may("rekey:GetConfigSecrets", other), false);
    await set("collaborator");
    assert.equal(await may("rekey:SetConfigSecrets", own), true);
    assert.equal(await may("rekey:CreateServiceToken", own), false);
    await set("admin");
    assert.equal(await may("rekey:CreateServiceToken", own), true);
    assert.equal(await may("rekey:CreateServiceToken", other), false);
    await w.call("service-accounts update", { Id: "robot", WorkplaceRole: { Identifier: "admin" } });
    assert.equal(await may("rekey:CreateServiceToken", other), true);
    assert.equal(await may("secretsmanager:GetSecretValue", "*"), false);
    await set("no_access");
    assert.equal(await may("rekey:GetConfigSecrets", own), false);
    await w.call("project-members remove", { Project: "shop", UserName: "robot" });
    assert.equal(await may("rekey:GetConfigSecrets", own), true);
    const { Id } = ApiToken as { Id: string };
    await w.call("service-account-tokens delete", { ServiceAccount: "robot", Id });
    await assert.rejects(may("rekey:GetConfigSecrets", own), refused("UnrecognizedClientException"));
  });

  test("a group's users have its policies and roles as long as they are in it", async () => {
    const { w } = await setUp();
    await w.newUser("alice");
    const token = String((await w.call("tokens create", { UserName: "alice", Name: "t" })).Token);
    const may = async (action: string, arn: string) => {
      const { principal } = await w.authenticator.bearer(token, "127.0.0.1");
      return w.mayDo(principal, action, arn);
    };
    const own = configArn("shop/dev");
    const of = { GroupName: "crew" };
    await w.call("groups create", of);
    const PolicyArn = await w.newPolicy("lists", { Effect: "Allow", Action: "iam:ListUsers", Resource: "*" });
    await w.call("policies attach", { PolicyArn, ...of });
    await w.call("project-members set", { Project: "shop", ...of, Role: "viewer" });
    assert.equal(await may("rekey:GetConfigSecrets", own), false);
    await w.call("groups add-user", { ...of, UserName: "alice" });
    await w.call("groups add-user", { ...of, UserName: "alice" });
    const had = async () => [
      await may("rekey:GetConfigSecrets", own),
      await may("iam:ListUsers", "*"),
      await may("rekey:CreateProject", configArn("x").replace("config/", "project/")),
    ];
    assert.deepEqual(await had(), [true, true, false]);
    await w.call("groups update", { ...of, Role: "collaborator" });
    assert.deepEqual(await had(), [true, true, true]);
    await w.call("groups remove-user", { ...of, UserName: "alice" });
    assert.deepEqual(await had(), [false, false, false]);
    await w.call("groups set-users", { ...of, UserNames: ["alice"] });
    assert.deepEqual(await had(), [true, true, true]);
    await w.call("groups delete", of);
    await w.call("groups create", of);
    assert.deepEqual((await w.call("groups get", of)).AttachedPolicyArns, []);
    await w.call("groups add-user", { ...of, UserName: "alice" });
    assert.deepEqual(await had(), [false, false, false], "a new one of the same name has nothing of the old one's");
    await w.call("users delete", { UserName: "alice" });
    await w.newUser("alice");
    assert.deepEqual((await w.call("groups get", of)).Users, []);
    const limit = Array.from({ length: 10 }, (_, index) => `g${index}`);
    for (const GroupName of limit) await w.call("groups create", { GroupName });
    for (const GroupName of limit) await w.call("groups add-user", { GroupName, UserName: "alice" });
    await assert.rejects(w.call("groups add-user", { ...of, UserName: "alice" }), refused("LimitExceededException"));
    assert.deepEqual((await w.call("groups get", of)).Users, []);
    assert.equal(((await w.call("users get", { UserName: "alice" })).Groups as string[]).length, 10);
  });

  test("who may make service accounts cannot make mighty ones", async () => {
    const { w } = await setUp();
    const maker = await w.newUser("maker");
    const Action = ["rekey:CreateServiceAccount", "rekey:UpdateServiceAccount"];
    const PolicyArn = await w.newPolicy("makes", { Effect: "Allow", Action, Resource: "*" });
    await w.call("policies attach", { PolicyArn, UserName: "maker" });
    await w.call("service-accounts create", { Name: "weak" }, maker);
    const mighty = { WorkplaceRole: { Identifier: "admin" } };
    await assert.rejects(
      w.call("service-accounts create", { Name: "strong", ...mighty }, maker),
      refused("AccessDeniedException"),
    );
    await assert.rejects(w.call("service-accounts update", { Id: "weak", ...mighty }, maker), refused("AccessDeniedException"));
    const token = w.call("service-account-tokens create", { ServiceAccount: "weak", Name: "x" }, maker);
    await assert.rejects(token, refused("AccessDeniedException"));
    const set = w.call("project-members set", { Project: "shop", UserName: "maker", Role: "admin" }, maker);
    await assert.rejects(set, refused("AccessDeniedException"));
    const role = w.call("service-accounts create", { Name: "x", WorkplaceRole: { Identifier: "owner" } });
    await assert.rejects(role, refused("ValidationException"));
  });

  async function withIdentity(more: object = {}) {
    const { sql, w } = await setUp();
    const issuer = await startIssuer(() => w.clock.now);
    const provider = await w.call("oidc-providers create", { Url: issuer.url, ClientIDList: ["ci", "cd"] });
    const ProviderArn = provider.OpenIDConnectProviderArn;
    await w.call("service-accounts create", { Name: "robot" });
    const input = {
      ServiceAccount: "robot",
      Name: "builds",
      ProviderArn,
      Audiences: ["ci"],
      Subjects: ["repo:a*"],
      TtlSeconds: 600,
    };
    const made = await w.call("oidc-identities create", { ...input, ...more }).catch(async (error: unknown) => {
      await issuer[Symbol.asyncDispose]();
      throw error;
    });
    const { Id } = made.Identity as { Id: string };
    const issue = async (token: string, Identity = Id) =>
      w.webIdentity(token, "oidc-identities issue-token", { Identity, Token: token });
    return { sql, w, issuer, ProviderArn, Id, issue };
  }

  test("an issuer's token with the right audience and subject gets a short-lived token of the service account", async () => {
    const { w, issuer, issue, Id } = await withIdentity();
    await using _ = issuer;
    const jwt = await issuer.token({ sub: "repo:a/main" });
    const { Token, ExpiresAt } = await issue(jwt);
    assert.match(String(Token), /^dp\.said\.[A-Za-z0-9]{40}$/);
    assert.equal((ExpiresAt as Date).getTime(), w.clock.now + 600_000);
    const me = await w.bearer(String(Token), "me get", {});
    assert.deepEqual([me.Type, me.Arn], ["service_account_identity", `arn:aws:iam::${account}:user/robot`]);
    assert.equal(JSON.stringify(w.records).includes(jwt), false);
    w.clock.now += 600_001;
    await assert.rejects(w.bearer(String(Token), "me get", {}), refused("ExpiredTokenException"));
    const { Token: other } = await issue(await issuer.token({ sub: "repo:abc" }));
    await w.call("oidc-identities delete", { ServiceAccount: "robot", Id });
    await assert.rejects(w.bearer(String(other), "me get", {}), refused("UnrecognizedClientException"));
  });

  test("a wrong audience, subject, issuer or identity, an expired token and a forged one get nothing", async () => {
    const { w, issuer, issue, ProviderArn } = await withIdentity();
    await using _ = issuer;
    const denied = refused("AccessDeniedException");
    await assert.rejects(issue(await issuer.token({ aud: "cd" })), denied);
    await assert.rejects(issue(await issuer.token({ sub: "xrepo:a" })), denied);
    await assert.rejects(issue(await issuer.token({ sub: "repo:b" })), denied);
    await assert.rejects(issue(await issuer.token(), "another"), denied);
    await assert.rejects(issue(await issuer.token({ aud: "stranger" })), refused("InvalidIdentityToken"));
    const old = Math.floor(w.clock.now / 1000) - 3600;
    await assert.rejects(issue(await issuer.token({ iat: old, exp: old + 300 })), refused("ExpiredTokenException"));
    const { privateKey: stranger } = await generateKeyPair("RS256");
    await assert.rejects(issue(await issuer.token({}, stranger)), refused("InvalidIdentityToken"));
    const secret = new TextEncoder().encode(JSON.stringify(await exportJWK(issuer.publicKey)));
    const claims = { iss: issuer.url, aud: "ci", sub: "repo:a", iat: old + 3600, exp: old + 7200 };
    const confused = await new SignJWT(claims).setProtectedHeader({ alg: "HS256", kid: "k1" }).sign(secret);
    await assert.rejects(issue(confused), refused("InvalidIdentityToken"));
    const [head = "", body = ""] = (await issuer.token()).split(".");
    const none = Buffer.from(JSON.stringify({ alg: "none" })).toString("base64url");
    for (const forged of [`${none}.${body}.`, `${head}.${body}.`])
      await assert.rejects(issue(forged), refused("InvalidIdentityToken"));
    await w.call("oidc-providers delete", { OpenIDConnectProviderArn: ProviderArn });
    await assert.rejects(issue(await issuer.token()), refused("InvalidIdentityToken"));
  });

  test("one token of an issuer is exchanged a few times only, however its signature is written", async () => {
    const { issuer, issue } = await withIdentity();
    await using _ = issuer;
    const jwt = await issuer.token();
    // The last character of the signature holds four bits that mean nothing.
    const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const last = alphabet.indexOf(jwt.slice(-1));
    const rewritten = jwt.slice(0, -1) + alphabet[last ^ 1];
    for (let i = 0; i < 5; i += 1) await issue(jwt);
    for (const again of [jwt, rewritten]) await assert.rejects(issue(again), refused("InvalidIdentityToken"));
    await issue(await issuer.token({ jti: "another" }));
  });

  test("short-lived tokens take no room from those that people make, and go when they are over", async () => {
    const { sql, w, issuer, issue } = await withIdentity();
    await using _ = issuer;
    for (let i = 0; i < 21; i += 1) {
      const jwt = await issuer.token({ jti: String(i) });
      for (let uses = 0; uses < 5; uses += 1) await issue(jwt);
    }
    const count = async () => (await sql.query("select 1 as one from tokens where kind = 'service_account_identity'")).length;
    assert.equal(await count(), 105);
    await w.call("service-account-tokens create", { ServiceAccount: "robot", Name: "ci" });
    const { ApiTokens } = await w.call("service-account-tokens list", { ServiceAccount: "robot" });
    assert.equal((ApiTokens as object[]).length, 1);
    w.clock.now += 600_001;
    await issue(await issuer.token({ jti: "later" }));
    assert.equal(await count(), 6);
  });

  test("an identity that would let everybody in is refused", async () => {
    for (const more of [{ Subjects: ["*"] }, { Audiences: ["**"] }, { Subjects: [] }])
      await assert.rejects(withIdentity(more), refused("ValidationException"));
  });

  test("an identity of an issuer that is not known is refused", async () => {
    const ProviderArn = `arn:aws:iam::${account}:oidc-provider/other.example`;
    await assert.rejects(withIdentity({ ProviderArn }), refused("ResourceNotFoundException"));
  });
});
