import assert from "node:assert/strict";
import { test } from "node:test";
import { exportJWK, generateKeyPair, type JWTPayload, SignJWT } from "jose";
import { credentialsIn, element, type IdentityWorld, identityWorld } from "../support/identity-world.ts";
import { account } from "../support/keys.ts";
import { startIssuer } from "../support/oidc-issuer.ts";
import { forEachStore } from "../support/stores.ts";

forEachStore((_name, open) => {
  async function setUp(subject = "repo:a") {
    const w: IdentityWorld = await identityWorld(await open());
    const issuer = await startIssuer(() => w.clock.now);
    const provider = await w.call("oidc-providers create", { Url: issuer.url, ClientIDList: ["ci", "cd"] });
    const name = issuer.url.slice("http://".length);
    const Condition = { StringEquals: { [`${name}:sub`]: subject, [`${name}:aud`]: "ci" } };
    const Principal = { Federated: provider.OpenIDConnectProviderArn };
    const role = await w.newRole("deploy", { Effect: "Allow", Principal, Action: "sts:AssumeRoleWithWebIdentity", Condition });
    const ask = (token: string, more: Record<string, string> = {}) =>
      w.sts("AssumeRoleWithWebIdentity", { RoleArn: role, RoleSessionName: "run-1", WebIdentityToken: token, ...more });
    const refused = async (token: string, code: string, status = 400) => {
      const answer = await ask(token);
      assert.equal(element(answer.body, "Code"), code, answer.body);
      assert.equal(answer.status, status);
    };
    return { w, issuer, provider, role, ask, refused };
  }

  test("the token of a trusted subject gets the role's credentials", async () => {
    const { w, issuer, provider, ask } = await setUp();
    await using _ = issuer;
    const token = await issuer.token();
    const { status, body } = await ask(token);
    assert.equal(status, 200, body);
    assert.equal(element(body, "SubjectFromWebIdentityToken"), "repo:a");
    assert.equal(element(body, "Audience"), "ci");
    assert.equal(element(body, "Provider"), provider.OpenIDConnectProviderArn);
    const { principal } = await w.signed(credentialsIn(body));
    assert.equal(principal.arn, `arn:aws:sts::${account}:assumed-role/deploy/run-1`);
    const record = w.records.at(-1);
    assert.deepEqual([record?.action, record?.principal], ["sts:AssumeRoleWithWebIdentity", provider.OpenIDConnectProviderArn]);
    assert.equal(JSON.stringify(w.records).includes(token), false);
  });

  test("another subject, another client and an `azp` that is none of ours are refused", async () => {
    const { issuer, ask, refused } = await setUp();
    await using _ = issuer;
    await refused(await issuer.token({ sub: "repo:b" }), "AccessDenied", 403);
    await refused(await issuer.token({ aud: "cd" }), "AccessDenied", 403);
    await refused(await issuer.token({ aud: "stranger" }), "InvalidIdentityToken");
    await refused(await issuer.token({ aud: ["ci"], azp: "stranger" }), "InvalidIdentityToken");
    assert.equal((await ask(await issuer.token({ aud: ["other"], azp: "ci" }))).status, 200);
  });

  test("tokens that are forged, expired, of another issuer, or no tokens are refused", async () => {
    const { w, issuer, refused } = await setUp();
    await using _ = issuer;
    const { privateKey: stranger } = await generateKeyPair("RS256");
    await refused(await issuer.token({}, stranger), "InvalidIdentityToken");
    await refused(await issuer.token({ iss: "https://other.example" }), "InvalidIdentityToken");
    await refused(await issuer.token({ sub: undefined } as unknown as JWTPayload), "InvalidIdentityToken");
    await refused("not.a.token", "InvalidIdentityToken");
    const [header, payload] = (await issuer.token()).split(".");
    const none = Buffer.from('{"alg":"none"}').toString("base64url");
    await refused(`${none}.${payload}.`, "InvalidIdentityToken");
    await refused(`${header}.${payload}.AAAA`, "InvalidIdentityToken");
    const shared = new SignJWT({ iss: issuer.url, aud: "ci", sub: "repo:a", exp: 9e9, iat: 1 }).setProtectedHeader({
      alg: "HS256",
    });
    const publicBytes = Buffer.from(JSON.stringify(await exportJWK(issuer.publicKey)));
    await refused(await shared.sign(publicBytes), "InvalidIdentityToken");
    const token = await issuer.token();
    w.clock.now += 361_000;
    await refused(token, "ExpiredTokenException");
  });

  test("a deleted provider lets nobody in", async () => {
    const { w, issuer, provider, refused } = await setUp();
    await using _ = issuer;
    await w.call("oidc-providers delete", { OpenIDConnectProviderArn: provider.OpenIDConnectProviderArn });
    await refused(await issuer.token(), "InvalidIdentityToken");
  });

  test("an issuer that lies about itself, sends too much or sends us elsewhere is not asked for keys", async () => {
    const { w, issuer, ask, refused } = await setUp();
    await using _ = issuer;
    const { jwks_uri } = issuer.document;
    const laterRefused = async () => {
      await refused(await issuer.token(), "IDPCommunicationError");
      w.clock.now += 999;
      await refused(await issuer.token(), "IDPCommunicationError");
      w.clock.now += 1; // tokens during the pause must not make it longer
    };
    issuer.document.issuer = "https://other.example";
    await laterRefused();
    Object.assign(issuer.document, { issuer: issuer.url, jwks_uri: "http://192.0.2.1/keys" });
    await laterRefused();
    Object.assign(issuer.document, { jwks_uri: String(jwks_uri).replace("127.0.0.1", "localhost") });
    await laterRefused();
    Object.assign(issuer.document, { jwks_uri });
    issuer.answerWithKeys = (keys) => keys + " ".repeat(300_000);
    await laterRefused();
    issuer.answerWithKeys = (keys) => keys;
    assert.equal((await ask(await issuer.token())).status, 200);
  });

  test("an issuer must be reached over https, but on this machine", async () => {
    const w = await identityWorld(await open());
    for (const Url of ["http://issuer.example", "ftp://issuer.example", "https://issuer.example?x=1", "issuer.example"]) {
      await assert.rejects(w.call("oidc-providers create", { Url, ClientIDList: ["ci"] }), { code: "ValidationException" });
    }
    await w.call("oidc-providers create", { Url: "https://issuer.example", ClientIDList: ["ci"] });
  });
});
