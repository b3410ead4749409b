// A job that has an issuer's token logs in with it.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { type ConfigCli, configCli } from "../support/config-cli.ts";
import { startIssuer } from "../support/oidc-issuer.ts";

let cli: ConfigCli;
before(async () => {
  cli = await configCli();
});
after(() => cli[Symbol.asyncDispose]());

test("an issuer's token is exchanged for one of a service account, which is kept; another one is refused", async () => {
  await using issuer = await startIssuer(Date.now);
  const provider = await cli.native("oidc-providers/create", { url: issuer.url, clientIdList: ["ci"] });
  await cli.native("service-accounts/create", { name: "builder", workplaceRole: { identifier: "viewer" } });
  const made = await cli.native("oidc-identities/create", {
    serviceAccount: "builder",
    name: "main",
    providerArn: provider.openIdConnectProviderArn,
    audiences: ["ci"],
    subjects: ["repo:x*"],
  });
  const { id } = made.identity as { id: string };
  const env = { REKEY_TOKEN: "" };
  const login = async (sub: string) =>
    cli.rekey(["login", "--oidc-identity", id], { input: `${await issuer.token({ aud: "ci", sub })}\n`, env });
  const done = await login("repo:x:main");
  assert.deepEqual([done.code, /^logged in at http:\S+ as builder;/.test(done.out)], [0, true], done.err);
  assert.ok(!`${done.out}${done.err}`.includes("dp."), done.out);

  const me = await cli.rekey(["me"], { env });
  assert.match(me.out, /^ARN +arn:aws:iam::\d+:user\/builder\nName +\S.*\nType +service_account_identity\n[\s\S]*\nEnds +\d{4}-/);
  const refused = await login("repo:y:main");
  assert.deepEqual([refused.code, /does not stand for/.test(refused.err)], [1, true], refused.err);
  assert.equal((await cli.rekey(["logout"], { env })).code, 0);
  assert.equal((await cli.rekey(["me"], { env })).code, 2);
});
