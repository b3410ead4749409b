// Doppler's Node SDK against the real server, for everything that it can do of the main flows.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { DopplerSDK } from "@dopplerhq/node-sdk";
import { assertShape, filled, orNull, type Pattern, reference, shapes, text, time } from "../support/doppler.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";

function client(server: RekeyServer, accessToken: string): DopplerSDK {
  const sdk = new DopplerSDK({ accessToken });
  sdk.setBaseUrl(server.endpoint);
  return sdk;
}

/** Its errors are classes with the status, and the body in `detail`. */
const fails = (statusCode: number, words: RegExp) => (error: unknown) => {
  const { statusCode: got, detail } = error as { statusCode: number; detail: unknown };
  assert.equal(got, statusCode, JSON.stringify(error));
  assertShape(detail, shapes.failure);
  assert.match((detail as { messages: string[] }).messages.join("\n"), words);
  return true;
};

/** The SDK calls every member `type` so. */
const named = (shape: Record<string, Pattern>): Pattern => shape;

for (const flags of [[], ["--processes", "2"]])
  describe(flags.join(" ") || "one process", () => {
    let server: RekeyServer;
    let sdk: DopplerSDK;
    before(async () => {
      server = await startRekey({ flags });
      sdk = client(server, server.credentials.token);
    });
    after(() => server[Symbol.asyncDispose]());

    const project = "api";

    test("projects and environments", async () => {
      const made = await sdk.projects.create({ name: project, description: "the API" });
      assertShape(made, { project: shapes.project });
      assert.deepEqual(await sdk.projects.get(project), made);
      assert.deepEqual((await sdk.projects.list()).projects, [made.project]);
      assert.equal((await sdk.projects.list({ page: 2, perPage: 1 })).page, 2);
      const updated = await sdk.projects.update({ project, name: "the-api", description: "changed" });
      assert.deepEqual([updated.project?.id, updated.project?.name], [project, "the-api"]);
      await assert.rejects(sdk.projects.create({ name: project }), fails(409, /api/));
      await assert.rejects(sdk.projects.get("none"), fails(404, /none/));

      assertShape(await sdk.environments.list(project), { page: 1, environments: [shapes.environment] });
      const load = await sdk.environments.create({ name: "Load", slug: "load" }, project);
      assertShape(load, { environment: shapes.environment });
      assert.deepEqual(await sdk.environments.get(project, "load"), load);
      const renamed = await sdk.environments.rename({ name: "Load tests", slug: "lt" }, project, "load");
      assert.deepEqual([renamed.environment?.id, renamed.environment?.name], ["lt", "Load tests"]);
      await sdk.environments.delete(project, "lt");
      await assert.rejects(sdk.environments.get(project, "lt"), fails(404, /lt/));
    });

    test("configs", async () => {
      const made = await sdk.configs.create({ project, environment: "dev", name: "dev_ann" });
      assertShape(made, { config: shapes.config });
      assertShape(await sdk.configs.list(project), { page: 1, configs: [shapes.config] });
      assert.deepEqual((await sdk.configs.list(project, { environment: "dev" })).configs?.length, 2);
      assert.equal((await sdk.configs.update({ project, config: "dev_ann", name: "dev_bob" })).config?.name, "dev_bob");
      const config = "dev_bob";
      assert.equal((await sdk.configs.lock({ project, config })).config?.locked, true);
      assert.equal((await sdk.configs.unlock({ project, config })).config?.locked, false);
      assert.equal((await sdk.configs.clone({ project, config, name: "dev_carl" })).config?.name, "dev_carl");
      for (const name of ["dev_bob", "dev_carl"])
        assert.deepEqual(await sdk.configs.delete({ project, config: name }), { success: true });
      await assert.rejects(sdk.configs.get(project, config), fails(404, /dev_bob/));
    });

    test("secrets", async () => {
      const [config, at] = ["dev", [project, "dev"] as const];
      const values = { HOST: "db", URL: `pg://${reference("HOST")}/x`, LONG: "+&#%?=é 漢" };
      const { secrets } = (await sdk.secrets.update({ project, config, secrets: values })) as { secrets: Record<string, object> };
      assert.deepEqual(
        Object.keys(secrets)
          .toSorted()
          .filter((name) => !name.startsWith("DOPPLER_")),
        ["HOST", "LONG", "URL"],
      );
      for (const [name, secret] of Object.entries(secrets)) assertShape(secret, sdkSecret, name);
      const listed = (await sdk.secrets.list(...at)) as { secrets: Record<string, { raw: string; computed: string }> };
      assert.deepEqual([listed.secrets.URL?.raw, listed.secrets.URL?.computed], [values.URL, "pg://db/x"]);
      assert.deepEqual(Object.keys((await sdk.secrets.list(...at, { secrets: "HOST,LONG" })).secrets ?? {}), ["HOST", "LONG"]);
      const one = await sdk.secrets.get(...at, "LONG");
      assertShape(one, { name: "LONG", value: sdkSecret });
      assert.equal(one.value?.computed, values.LONG);
      const managed = ["DOPPLER_CONFIG", "DOPPLER_ENVIRONMENT", "DOPPLER_PROJECT"];
      assert.deepEqual((await sdk.secrets.names(...at)).names, [...managed, "HOST", "LONG", "URL"]);
      assert.deepEqual(await sdk.secrets.download(...at, { format: "json" }), {
        DOPPLER_CONFIG: "dev",
        DOPPLER_ENVIRONMENT: "dev",
        DOPPLER_PROJECT: project,
        ...values,
        URL: "pg://db/x",
      });
      assert.deepEqual(await sdk.secrets.download(...at, { nameTransformer: "lower-snake", secrets: "HOST" }), { host: "db" });
      const note = { secret: "HOST", note: "where it is" };
      assert.deepEqual(await sdk.secrets.updateNote({ project, config, ...note }), note);
      assert.equal((await sdk.secrets.get(...at, "HOST")).value?.note, "where it is");
      const change = { name: "HOST", originalName: "HOST", value: "db2", originalValue: "db" };
      await sdk.secrets.update({ project, config, change_requests: [change] });
      await assert.rejects(sdk.secrets.update({ project, config, change_requests: [change] }), fails(409, /HOST/));
      await sdk.secrets.delete(...at, "LONG");
      await assert.rejects(sdk.secrets.get(...at, "LONG"), fails(404, /LONG/));
    });

    test("logs and the way back", async () => {
      const [config, at] = ["stg", [project, "stg"] as const];
      await sdk.secrets.update({ project, config, secrets: { KEY: "one" } });
      await sdk.secrets.update({ project, config, secrets: { KEY: "two" } });
      const { logs = [] } = await sdk.configLogs.list(...at);
      for (const log of logs) assertShape(log, shapes.log);
      const { log } = await sdk.configLogs.get(...at, logs[0]?.id ?? "");
      assert.deepEqual(log?.diff, [{ name: "KEY", added: "two", removed: "one" }]);
      assert.equal((await sdk.configLogs.rollback(...at, log?.id ?? "")).log?.rollback, true);
      assert.equal((await sdk.secrets.get(...at, "KEY")).value?.computed, "one");
      const activity = await sdk.activityLogs.list({ perPage: 5 });
      assert.equal(activity.logs?.length, 5);
      assert.equal((await sdk.activityLogs.retrieve(activity.logs?.[0]?.id ?? "")).log?.id, activity.logs?.[0]?.id);
    });

    test("service tokens", async () => {
      const at = { project, config: "prd" };
      await sdk.secrets.update({ ...at, secrets: { KEY: "one" } });
      const made = (await sdk.serviceTokens.create({ ...at, name: "ci", access: "read" })) as unknown as {
        token: { key: string; slug: string };
      };
      assertShape(made, { token: { ...shapes.token, key: filled }, success: true });
      const own = client(server, made.token.key);
      assert.equal(((await own.secrets.download("", "")) as Record<string, string>).KEY, "one");
      assert.equal((await own.auth.me()).type_, "service_token");
      await assert.rejects(
        own.secrets.update({ project: "", config: "", secrets: { KEY: "two" } }),
        fails(403, /not authorized/),
      );
      await assert.rejects(own.configs.delete(at), fails(403, /not authorized/));
      await assert.rejects(own.secrets.list(project, "stg"), fails(403, /not authorized/));
      const listed = await sdk.serviceTokens.list(project, "prd");
      assertShape(listed, { tokens: [shapes.token], success: true });
      assert.deepEqual(await sdk.serviceTokens.delete({ ...at, slug: made.token.slug }), { success: true });
      await assert.rejects(own.auth.me(), fails(401, /^Invalid Auth token$/));
    });

    test("trusted IPs: who calls from elsewhere gets nothing", async () => {
      const at = [project, "prd"] as const;
      const before = (await sdk.configs.listTrustedIps(...at)).ips ?? [];
      assert.deepEqual(await sdk.configs.addTrustedIp({ ip: "192.0.2.0/24" }, ...at), { ip: "192.0.2.0/24" });
      assert.deepEqual(await sdk.configs.addTrustedIp({ ip: "192.0.2.0/24" }, ...at), {});
      for (const ip of before) await sdk.configs.deleteTrustedIp({ ip }, ...at);
      assert.deepEqual((await sdk.configs.listTrustedIps(...at)).ips, ["192.0.2.0/24"]);
      const made = (await sdk.serviceTokens.create({ project, config: "prd", name: "t" })) as unknown as {
        token: { key: string };
      };
      const own = client(server, made.token.key);
      await assert.rejects(own.secrets.download("", ""), fails(403, /address|IP/i));
      await assert.rejects(own.secrets.list("", ""), fails(403, /address|IP/i));
      await sdk.configs.addTrustedIp({ ip: "127.0.0.1" }, ...at);
      assert.equal(((await own.secrets.download("", "")) as Record<string, string>).KEY, "one");
      await sdk.configs.deleteTrustedIp({ ip: "192.0.2.0/24" }, ...at);
      await assert.rejects(sdk.configs.deleteTrustedIp({ ip: "192.0.2.0/24" }, ...at), fails(404, /192\.0\.2/));
    });

    test("webhooks", async () => {
      const shape = named({
        id: filled,
        slug: filled,
        name: orNull(text),
        url: filled,
        enabled: (value) => typeof value === "boolean",
        project: project,
        enabledConfigs: [filled],
        hasSecret: (value) => typeof value === "boolean",
        authentication: { type_: filled, username: orNull(text) },
        payload: orNull(text),
      });
      const authentication = { type_: "Basic" as const, username: "ann", password: "pw" };
      const input = { url: "https://hooks.example.com/x", secret: "s", authentication, enableConfigs: ["prd"] };
      const made = (await sdk.webhooks.add(input, { project })) as { webhook: { slug: string; enabledConfigs: string[] } };
      assertShape(made, { webhook: shape, success: true });
      assert.deepEqual(made.webhook.enabledConfigs, ["prd"]);
      const { slug } = made.webhook;
      assert.ok(!JSON.stringify(made).includes('"pw"'));
      assert.deepEqual(await sdk.webhooks.get(slug, { project }), made);
      assertShape(await sdk.webhooks.list({ project }), { webhooks: [shape], success: true });
      const changed = await sdk.webhooks.update({ enableConfigs: ["dev"], disableConfigs: ["prd"] }, slug, { project });
      assert.deepEqual((changed as typeof made).webhook.enabledConfigs, ["dev"]);
      for (const [call, enabled] of [
        ["disable", false],
        ["enable", true],
      ] as const) {
        const answer = (await sdk.webhooks[call](slug, { project })) as { webhook: { enabled: boolean } };
        assert.equal(answer.webhook.enabled, enabled);
      }
      assert.deepEqual(await sdk.webhooks.delete(slug, { project }), { success: true });
      await assert.rejects(sdk.webhooks.get(slug, { project }), fails(404, /webhook/i));
    });

    test("service accounts and their tokens", async () => {
      const account = { name: filled, slug: filled, created_at: time, workplace_role: orNull(() => true) };
      const made = await sdk.serviceAccounts.create({ name: "deployer" });
      assertShape(made, { service_account: account, success: true });
      const slug = made.service_account?.slug ?? "";
      assertShape(await sdk.serviceAccounts.list(), { service_accounts: [account], success: true });
      assert.equal((await sdk.serviceAccounts.get(slug)).service_account?.name, "deployer");
      const role = { workplace_role: { identifier: "viewer" } };
      assert.equal((await sdk.serviceAccounts.update(role, slug)).service_account?.workplace_role?.identifier, "viewer");
      const apiToken = { name: filled, slug: filled, created_at: time, last_seen_at: orNull(time), expires_at: orNull(time) };
      const expires = new Date(Date.now() + 3_600_000).toISOString();
      const token = await sdk.serviceAccountTokens.create({ name: "t", expires_at: expires }, slug);
      assertShape(token, { api_token: apiToken, api_key: filled, success: true });
      assert.equal(token.api_token?.expires_at, expires);
      assert.match(token.api_key ?? "", /^dp\.sa\.[A-Za-z0-9]{40,44}$/);
      const own = client(server, token.api_key ?? "");
      assert.equal((await own.auth.me()).type_, "service_account");
      assertShape(await sdk.serviceAccountTokens.list(slug), { api_tokens: [apiToken], success: true });
      const tokenSlug = token.api_token?.slug ?? "";
      assert.equal((await sdk.serviceAccountTokens.get(slug, tokenSlug)).api_token?.slug, tokenSlug);
      await sdk.serviceAccountTokens.delete(slug, tokenSlug);
      await assert.rejects(own.auth.me(), fails(401, /^Invalid Auth token$/));
      await sdk.serviceAccounts.delete(slug);
      await assert.rejects(sdk.serviceAccounts.get(slug), fails(404, /account/i));
    });

    test("me, workplace, and the end of a token", async () => {
      assertShape(await sdk.auth.me(), {
        slug: filled,
        name: filled,
        type_: filled,
        token_preview: orNull(text),
        created_at: orNull(time),
        last_seen_at: orNull(time),
        workplace: { slug: filled, name: filled },
      });
      assert.equal((await sdk.workplace.update({ name: "Acme" })).workplace?.name, "Acme");
      assert.equal((await sdk.workplace.get()).workplace?.name, "Acme");
      const account = (await sdk.serviceAccounts.create({ name: "leaver" })).service_account?.slug ?? "";
      const key = (await sdk.serviceAccountTokens.create({ name: "t" }, account)).api_key ?? "";
      const own = client(server, key);
      assert.deepEqual(await own.auth.revoke({ token: key }), { success: true });
      await assert.rejects(own.auth.me(), fails(401, /^Invalid Auth token$/));
    });

    test("projects are deleted with all that is in them", async () => {
      assert.deepEqual(await sdk.projects.delete({ project }), { success: true });
      await assert.rejects(sdk.projects.get(project), fails(404, /api/));
      assert.deepEqual((await sdk.projects.list()).projects, []);
    });
  });

const { rawValueType: _raw, computedValueType: _computed, ...secret } = shapes.secret;
const sdkSecret: Pattern = { ...secret, rawValueType: { type_: orNull(text) }, computedValueType: { type_: orNull(text) } };
