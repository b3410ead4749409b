// Operations on projects, configs and all that belongs to them: nobody may without a right, nor learn what is there.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { configNouns, nativePaths, powerless, refusesAlike, wordsOf } from "../support/access-denied.ts";
import { allow, native, nativeOk, newName, newUser, statement } from "../support/aws.ts";
import { type PairDatabase, postgresDatabase } from "../support/pair-databases.ts";
import { postgresSkip } from "../support/postgres-server.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";

/** Names or ids of things that are there, or of none. */
interface Given {
  readonly project: string;
  readonly environment: string;
  readonly config: string;
  readonly secret: string;
  readonly log: string;
  readonly activity: string;
  readonly serviceToken: string;
  readonly account: string;
  readonly accountToken: string;
  readonly identity: string;
  readonly provider: string;
  readonly login: string;
  readonly webhook: string;
  readonly integration: string;
  readonly dynamic: string;
  readonly lease: string;
  readonly rotated: string;
  readonly rotatedId: string;
  readonly user: string;
  readonly [kind: string]: string;
}

const url = "https://hooks.example.com/rekey";

function membersOf(the: Given): Readonly<Record<string, object>> {
  const project = { project: the.project };
  const environment = { ...project, environment: the.environment };
  const config = { ...project, config: the.config };
  const serviceAccount = { serviceAccount: the.account };
  const webhook = { ...project, id: the.webhook };
  const dynamic = { ...config, name: the.dynamic };
  const rotated = { ...config, id: the.rotatedId };
  return {
    "projects/create": { name: the.project },
    "projects/get": project,
    "projects/list": {},
    "projects/update": { ...project, description: "d" },
    "projects/delete": project,
    "project-members/list": project,
    "project-members/get": { ...project, userName: the.user },
    "project-members/set": { ...project, userName: the.user, role: "viewer" },
    "project-members/remove": { ...project, userName: the.user },
    "environments/create": { ...project, name: "Title", slug: the.environment },
    "environments/get": environment,
    "environments/list": project,
    "environments/update": { ...environment, name: "Other" },
    "environments/delete": environment,
    "configs/create": { ...environment, name: the.config },
    "configs/get": config,
    "configs/list": { ...project, environment: the.environment },
    "configs/update": { ...config, name: `${the.environment}_further` },
    "configs/delete": config,
    "configs/lock": config,
    "configs/unlock": config,
    "configs/clone": { ...config, name: `${the.environment}_copy` },
    "configs/set-inheritable": { ...config, inheritable: true },
    "configs/set-inherits": { ...config, inherits: [{ ...project, config: the.environment }] },
    "configs/logs": config,
    "configs/log": { ...config, logId: the.log },
    "configs/rollback": { ...config, logId: the.log },
    "config-secrets/list": config,
    "config-secrets/names": config,
    "config-secrets/get": { ...config, name: the.secret },
    "config-secrets/set": { ...config, secrets: { [the.secret]: "other" } },
    "config-secrets/delete": { ...config, name: the.secret },
    "config-secrets/upload": { ...config, file: `${the.secret}=other` },
    "config-secrets/set-note": { ...config, secret: the.secret, note: "n" },
    "config-secrets/download": config,
    "activity/list": {},
    "activity/get": { logId: the.activity },
    "templates/import": { template: `projects:\n  - name: ${the.project}\n` },
    "service-tokens/create": { ...config, name: "t" },
    "service-tokens/list": config,
    "service-tokens/delete": { ...config, id: the.serviceToken },
    "trusted-ips/list": config,
    "trusted-ips/add": { ...config, ip: "192.0.2.0/24" },
    "trusted-ips/delete": { ...config, ip: "192.0.2.0/24" },
    "service-accounts/create": { name: the.account },
    "service-accounts/list": {},
    "service-accounts/get": { id: the.account },
    "service-accounts/update": { id: the.account, workplaceRole: { identifier: "viewer" } },
    "service-accounts/delete": { id: the.account },
    "service-account-tokens/create": { ...serviceAccount, name: "t" },
    "service-account-tokens/list": serviceAccount,
    "service-account-tokens/get": { ...serviceAccount, id: the.accountToken },
    "service-account-tokens/delete": { ...serviceAccount, id: the.accountToken },
    "oidc-identities/create": {
      ...serviceAccount,
      name: "ci",
      providerArn: the.provider,
      audiences: ["ci"],
      subjects: ["job"],
    },
    "oidc-identities/list": serviceAccount,
    "oidc-identities/delete": { ...serviceAccount, id: the.identity },
    "cli-logins/get": { code: the.login },
    "cli-logins/approve": { code: the.login },
    "workplace/get": {},
    "workplace/update": { name: "mine" },
    "webhooks/create": { ...project, url, enableConfigs: [the.config] },
    "webhooks/list": project,
    "webhooks/get": webhook,
    "webhooks/update": { ...webhook, name: "n" },
    "webhooks/enable": webhook,
    "webhooks/disable": webhook,
    "webhooks/delete": webhook,
    "webhooks/list-deliveries": webhook,
    "integrations/create": { name: the.integration, type: "postgres", data: { host: "db.example.com" } },
    "integrations/get": { integration: the.integration },
    "integrations/list": {},
    "integrations/update": { integration: the.integration, name: "other" },
    "integrations/delete": { integration: the.integration },
    "integrations/verify": { integration: the.integration },
    "integrations/generate-external-id": { type: "aws-iam" },
    "dynamic-secrets/create": { ...dynamic, integration: the.integration, settings: { roles: ["readers"] } },
    "dynamic-secrets/get": dynamic,
    "dynamic-secrets/list": config,
    "dynamic-secrets/update": { ...dynamic, maxLeases: 2 },
    "dynamic-secrets/delete": dynamic,
    "dynamic-secrets/check": dynamic,
    "leases/issue": { ...config, dynamicSecret: the.dynamic },
    "leases/get": { leaseId: the.lease },
    "leases/list": { ...config, dynamicSecret: the.dynamic },
    "leases/renew": { leaseId: the.lease },
    "leases/revoke": { leaseId: the.lease },
    "leases/revoke-all": { ...config, dynamicSecret: the.dynamic },
    "leases/find-orphans": { integration: the.integration },
    "rotated-secrets/create": {
      ...config,
      name: the.rotated,
      integration: the.integration,
      rotationPeriodSeconds: 86_400,
    },
    "rotated-secrets/get": rotated,
    "rotated-secrets/list": config,
    "rotated-secrets/update": { ...rotated, rotationPeriodSeconds: 172_800 },
    "rotated-secrets/delete": rotated,
    "rotated-secrets/rotate": rotated,
    "rotated-secrets/resume": rotated,
    "rotated-secrets/history": rotated,
  };
}

/** Why anybody who is authenticated may ask it, and how each is answered about what is somebody else's. */
const forAnybody: Readonly<Record<string, { reason: string; members?: (the: Given) => object }>> = {
  "cli-logins/begin": { reason: "a command line that has no credential yet begins so; it gets nothing until somebody says yes" },
  "cli-logins/poll": {
    reason: "the polling code, which only the command line has, is the credential",
    members: ({ login }) => ({ code: login }),
  },
  "me/get": { reason: "it tells callers of themselves alone" },
  "me/roll-token": { reason: "the token to be rolled is the one shown", members: ({ token }) => ({ token }) },
  "me/revoke-token": { reason: "only tokens of the caller's own", members: ({ token }) => ({ token }) },
  "oidc-identities/issue-token": {
    reason: "the issuer's token, which authentication has checked, is the credential",
    members: ({ identity }) => ({ identity, token: "not-a-token" }),
  },
};

const noId = "00000000-0000-4000-8000-000000000000";
const nowhere: Given = {
  project: "nothing",
  environment: "nix",
  config: "nix_none",
  secret: "NO_VALUE",
  log: noId,
  activity: noId,
  serviceToken: noId,
  account: "nobody-there",
  accountToken: noId,
  identity: noId,
  provider: "arn:aws:iam::000000000000:oidc-provider/none.example",
  login: "no_such_login_code",
  webhook: noId,
  integration: "no-target",
  dynamic: "NO_LEASES",
  lease: noId,
  rotated: "NO_PAIR",
  rotatedId: noId,
  user: "no-such-user",
  token: "dp.pt.0000000000000000000000000000000000000000",
};

describe("without rights on configs", { skip: postgresSkip }, () => {
  let server: RekeyServer;
  let database: PairDatabase;
  let named: Given;
  let byId: Given;
  before(async () => {
    [server, database] = await Promise.all([startRekey(), postgresDatabase()]);
    [named, byId] = await there(server, database);
  });
  after(async () => {
    await server?.[Symbol.asyncDispose]();
    await database?.dispose();
  });

  test("every operation is refused, whether its object is there or not, by name or by id", async () => {
    const token = await powerless(server, "stranger");
    const elsewhere = { ...nowhere, project: named.project };
    const asked = await refusesAlike(server, {
      token,
      userName: "stranger",
      membersOf,
      named: [named, byId, elsewhere, nowhere],
    });
    const known = (await nativePaths(server)).filter((path) => configNouns.has(path.split("/")[0] ?? ""));
    assert.deepEqual(known.sort(), [...asked, ...Object.keys(forAnybody)].sort());
  });

  test("what anybody may ask tells nothing of what is somebody else's", async () => {
    const token = await powerless(server, "asker");
    for (const [path, { reason, members }] of Object.entries(forAnybody)) {
      if (!members) {
        assert.equal((await native(server, path, {}, token)).status, 200, `${path}: ${reason}`);
        continue;
      }
      const one = await wordsOf(server, { path, members: members(named), names: named, token });
      const other = await wordsOf(server, { path, members: members(nowhere), names: nowhere, token });
      assert.ok(one.status >= 400, `${path}: ${reason}: ${one.text}`);
      assert.deepEqual(one, other, path);
    }
  });

  test("whoever has rights learns nothing of what they do not cover by naming it", async () => {
    const own = newName("own");
    await nativeOk(server, "projects/create", { name: own });
    const mine = { project: own, config: "dev" };
    const owner = await userWith([
      allow("rekey:ImportTemplate"),
      statement("Allow", ["rekey:*"], `arn:aws:rekey:*:*:*/${own}/*`),
    ]);
    const besideOwn = (the: Given): Readonly<Record<string, object>> => ({
      "config-secrets/set": { ...mine, secrets: { A: `\${${the.project}.${the.config}.${the.secret}}` } },
      "configs/set-inherits": { ...mine, inherits: [{ project: the.project, config: the.config }] },
      "dynamic-secrets/create": { ...mine, name: "A", integration: the.integration, settings: { roles: ["readers"] } },
      "rotated-secrets/create": { ...mine, name: "A", integration: the.integration, rotationPeriodSeconds: 86_400 },
      "templates/import": { template: `projects:\n  - name: ${the.project}\n` },
    });
    await refusesAlike(server, { ...owner, membersOf: besideOwn, named: [named, byId, nowhere] });
    const reader = await userWith([allow("rekey:CloneConfig", "rekey:GetConfigSecrets")]);
    const copies = ({ project, environment, config }: Given) => ({
      "configs/clone": { project, config, name: `${environment}_copy` },
    });
    await refusesAlike(server, { ...reader, membersOf: copies, named: [named, byId, nowhere] });
  });

  async function userWith(statements: readonly object[]): Promise<{ userName: string; token: string }> {
    const userName = newName("user");
    await newUser(server, userName, ...statements);
    const { token } = await nativeOk(server, "tokens/create", { userName, name: "t" });
    return { userName, token: String(token) };
  }
});

/** Of all kinds one, as they are called and by their ids. The project is not called as its id says. */
async function there(server: RekeyServer, database: PairDatabase): Promise<[named: Given, byId: Given]> {
  const ok = (path: string, members: object) => nativeOk(server, path, members);
  const id = newName("project");
  const [project, account, user] = [newName("renamed"), newName("account"), newName("user")];
  const [environment, config] = ["qax", "qax_one"];
  const [secret, dynamic, rotated, integration] = ["A_VALUE", "LEASED", "PAIR", newName("main")];
  const place = { project: id, config };
  await ok("projects/create", { name: id });
  await ok("projects/update", { project: id, name: project });
  await ok("environments/create", { project, name: "Quality", slug: environment });
  await ok("configs/create", { project, environment, name: config });
  await ok("config-secrets/set", { ...place, secrets: { [secret]: "value" } });
  await ok("users/create", { userName: user });
  const { token } = await ok("tokens/create", { userName: user, name: "t" });
  await ok("project-members/set", { project, userName: user, role: "viewer" });
  const { logs } = await ok("configs/logs", place);
  const { logs: activities } = await ok("activity/list", {});
  const { token: serviceToken } = await ok("service-tokens/create", { ...place, name: "t" });
  const { serviceAccount } = await ok("service-accounts/create", { name: account });
  const { apiToken } = await ok("service-account-tokens/create", { serviceAccount: account, name: "t" });
  const { openIdConnectProviderArn } = await ok("oidc-providers/create", { url: "https://ci.example", clientIdList: ["ci"] });
  const provider = String(openIdConnectProviderArn);
  const claims = { audiences: ["ci"], subjects: ["job"] };
  const { identity } = await ok("oidc-identities/create", {
    serviceAccount: account,
    name: "ci",
    providerArn: provider,
    ...claims,
  });
  const { code } = await ok("cli-logins/begin", {});
  const made = await ok("integrations/create", { name: integration, type: database.type, data: database.data() });
  await ok("dynamic-secrets/create", { ...place, name: dynamic, integration, settings: { roles: ["pg_read_all_data"] } });
  const { lease } = await ok("leases/issue", { ...place, dynamicSecret: dynamic });
  const credentials = await database.newPair();
  const { rotatedSecret } = await ok("rotated-secrets/create", {
    ...place,
    name: rotated,
    integration,
    rotationPeriodSeconds: 86_400,
    credentials,
  });
  const { webhook } = await ok("webhooks/create", { project, url });
  const idOf = (one: unknown) => String((one as { id: string }).id);
  const firstId = (all: unknown) => idOf((all as unknown[])[0]);
  const named: Given = {
    ...{ project, environment, config, secret, account, provider, integration, dynamic, rotated, user },
    rotatedId: rotated,
    log: firstId(logs),
    activity: firstId(activities),
    serviceToken: idOf(serviceToken),
    accountToken: idOf(apiToken),
    identity: idOf(identity),
    login: String(code),
    webhook: idOf(webhook),
    lease: idOf(lease),
    token: String(token),
  };
  const ids = { project: id, account: idOf(serviceAccount), integration: idOf(made.integration), rotatedId: idOf(rotatedSecret) };
  return [named, { ...named, ...ids }];
}
