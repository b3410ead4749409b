// Requests exactly as Doppler's command line sends them: projects, environments, configs, tokens, and what is refused.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { allow, nativeOk, newUser } from "../support/aws.ts";
import { assertShape, type CliRequest, cli, filled, orNull, type Pattern, shapes, text, time } from "../support/doppler.ts";
import { startIssuer } from "../support/oidc-issuer.ts";
import { requestText, speak } from "../support/raw-http.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";

let server: RekeyServer;
let token: string;
before(async () => {
  server = await startRekey();
  token = server.credentials.token;
});
after(() => server[Symbol.asyncDispose]());

/** As the owner of the installation; asserts success and the answer's shape. */
async function asked(endpoint: string, shape: Pattern, options: CliRequest = {}) {
  const answer = await cli(server, endpoint, { token, ...options });
  assert.equal(answer.status, 200, `${endpoint}: ${answer.text}`);
  assert.match(String(answer.headers["content-type"]), /^application\/json/);
  assert.match(String(answer.headers["x-request-id"]), /^[0-9a-f-]{36}$/);
  assertShape(answer.json, shape, endpoint);
  return answer.json;
}

async function refused(endpoint: string, status: number, message: RegExp, options: CliRequest = {}) {
  const answer = await cli(server, endpoint, { token, ...options });
  assert.equal(answer.status, status, `${endpoint}: ${answer.text}`);
  assert.match(String(answer.headers["content-type"]), /^application\/json/);
  assertShape(answer.json, shapes.failure, endpoint);
  assert.match(answer.json.messages.join("\n"), message, endpoint);
  return answer;
}

const success = { success: true };
const projects = { page: (page: unknown) => typeof page === "number", projects: [shapes.project] };
const environments = { page: 1, environments: [shapes.environment] };
const configs = { page: 1, configs: [shapes.config] };
const project = { project: shapes.project };
const environment = { environment: shapes.environment };
const config = { config: shapes.config };
const slugs = (list: { slug: string }[]) => list.map(({ slug }) => slug).toSorted();
const names = (list: { name: string }[]) => list.map(({ name }) => name).toSorted();

test("projects", async () => {
  await asked("POST /v3/projects", project, { body: { name: "api", description: "the API" } });
  assert.equal((await asked("POST /v3/projects", project, { body: { name: "web", description: "" } })).project.description, "");
  const all = await asked("GET /v3/projects?page=1&per_page=1000", projects);
  assert.deepEqual(slugs(all.projects), ["api", "web"]);
  const [first, second] = [
    await asked("GET /v3/projects?page=1&per_page=1", projects),
    await asked("GET /v3/projects?page=2&per_page=1", projects),
  ];
  assert.deepEqual([second.page, slugs([...first.projects, ...second.projects])], [2, ["api", "web"]]);
  assert.deepEqual((await asked("GET /v3/projects?page=3&per_page=1", projects)).projects, []);
  assert.equal((await asked("GET /v3/projects/project?project=api", project)).project.description, "the API");

  const renamed = await asked("POST /v3/projects/project?project=web", project, { body: { name: "site" } });
  assert.deepEqual([renamed.project.id, renamed.project.name, renamed.project.description], ["web", "site", ""]);
  for (const name of ["web", "site"])
    assert.equal((await asked(`GET /v3/projects/project?project=${name}`, project)).project.id, "web");
  const described = await asked("POST /v3/projects/project?project=api", project, { body: { name: "api", description: "x" } });
  assert.equal(described.project.description, "x");
  await asked("DELETE /v3/projects/project?project=site", success);
  await refused("GET /v3/projects/project?project=web", 404, /web/);
  await refused("DELETE /v3/projects/project?project=web", 404, /web/);
  await refused("POST /v3/projects", 409, /api/, { body: { name: "api", description: "" } });
});

test("environments", async () => {
  const listed = await asked("GET /v3/environments?project=api&page=1&per_page=100", environments);
  assert.deepEqual(
    listed.environments.map(({ id }: { id: string }) => id),
    ["dev", "stg", "prd"],
  );
  const made = await asked("POST /v3/environments", environment, { body: { project: "api", name: "Load tests", slug: "load" } });
  assert.deepEqual([made.environment.id, made.environment.name], ["load", "Load tests"]);
  await asked("POST /v3/configs?project=api", config, { body: { name: "load_one", environment: "load" } });
  const put = { body: { project: "api", environment: "load", name: "Load", slug: "lt" } };
  assert.equal((await asked("PUT /v3/environments/environment", environment, put)).environment.id, "lt");
  const { environment: found } = await asked("GET /v3/environments/environment?project=api&environment=lt", environment);
  assert.deepEqual([found.id, found.name], ["lt", "Load"]);
  assert.deepEqual(names((await asked("GET /v3/configs?project=api&environment=lt&page=1&per_page=100", configs)).configs), [
    "lt",
    "lt_one",
  ]);
  await asked("DELETE /v3/configs/config?project=api&config=lt_one", success);
  await asked("DELETE /v3/environments/environment?project=api&environment=lt", success);
  await refused("GET /v3/environments/environment?project=api&environment=lt", 404, /lt/);
});

test("configs", async () => {
  const listed = await asked("GET /v3/configs?project=api&per_page=100&page=1", configs);
  assert.deepEqual(names(listed.configs), ["dev", "prd", "stg"]);
  assert.deepEqual(names((await asked("GET /v3/configs?project=api&environment=stg", configs)).configs), ["stg"]);
  const { config: made } = await asked("POST /v3/configs?project=api", config, { body: { name: "dev_ann", environment: "dev" } });
  assert.deepEqual([made.root, made.environment, made.project, made.locked], [false, "dev", "api", false]);
  const of = (name: string) => `?project=api&config=${name}`;
  const { config: renamed } = await asked(`POST /v3/configs/config${of("dev_ann")}`, config, { body: { name: "dev_bob" } });
  assert.equal(renamed.name, "dev_bob");
  const at = of("dev_bob");
  assert.equal((await asked(`GET /v3/configs/config${at}`, config)).config.name, "dev_bob");
  assert.equal((await asked(`POST /v3/configs/config/lock${at}`, config)).config.locked, true);
  assert.equal((await asked(`POST /v3/configs/config/unlock${at}`, config)).config.locked, false);
  const inheritable = await asked(`POST /v3/configs/config/inheritable${of("stg")}`, config, { body: { inheritable: true } });
  assert.equal(inheritable.config.inheritable, true);
  const inherits = [{ project: "api", config: "stg" }];
  const child = await asked(`POST /v3/configs/config/inherits${at}`, config, { body: { inherits } });
  assert.deepEqual([child.config.inherits, child.config.inheriting], [inherits, true]);
  const parent = await asked(`GET /v3/configs/config${of("stg")}`, config);
  assert.deepEqual(parent.config.inheritedBy, [{ project: "api", config: "dev_bob" }]);
  const cleared = await asked(`POST /v3/configs/config/inherits${at}`, config, { body: { inherits: [] } });
  assert.deepEqual([cleared.config.inherits, cleared.config.inheriting], [[], false]);
  const { config: copy } = await asked(`POST /v3/configs/config/clone${at}`, config, { body: { name: "dev_carl" } });
  assert.equal(copy.name, "dev_carl");
  await asked(`DELETE /v3/configs/config${of("dev_carl")}`, success);
  await refused(`GET /v3/configs/config${of("dev_carl")}`, 404, /dev_carl/);
});

test("service tokens: made, listed, used with nothing but themselves, revoked by value or slug", async () => {
  const at = "?project=api&config=dev";
  const tokenShape = { token: { ...shapes.token, key: filled }, success: true };
  const expires = Math.floor(Date.now() / 1000) + 3600;
  const body = { name: "ci", access: "read", expire_at: expires };
  const { token: made } = await asked(`POST /v3/configs/config/tokens${at}`, tokenShape, { body });
  assert.match(made.key, /^dp\.st\.dev\.[A-Za-z0-9]{40,44}$/);
  assert.match(made.slug, /^[0-9a-f-]{36}$/);
  assert.equal(made.expires_at, new Date(expires * 1000).toISOString());
  const other = await asked(`POST /v3/configs/config/tokens${at}`, tokenShape, { body: { name: "rw", access: "read/write" } });
  const listed = await asked(`GET /v3/configs/config/tokens${at}`, { tokens: [shapes.token], success: true });
  assert.deepEqual(names(listed.tokens), ["ci", "rw"]);

  for (const basic of [false, true]) {
    const own = { token: made.key, basic };
    assert.deepEqual(slugs((await asked("GET /v3/projects?page=1&per_page=1000", projects, own)).projects), ["api"]);
    const { configs: found } = await asked("GET /v3/configs?project=api&page=1&per_page=100", configs, own);
    assert.deepEqual(names(found), ["dev"]);
    for (const blank of ["", "?project=&config=", "?project=api", "?project=&config=dev"])
      assert.equal((await asked(`GET /v3/configs/config${blank}`, config, own)).config.name, "dev");
    await asked("GET /v3/configs/config/ping?project=&config=", success, own);
    await refused("GET /v3/configs/config?project=&config=stg", 403, /not authorized/, own);
    await refused("DELETE /v3/configs/config?project=&config=", 403, /not authorized/, own);
  }
  await asked(`DELETE /v3/configs/config/tokens/token${at}`, success, { body: { slug: made.slug } });
  await asked(`DELETE /v3/configs/config/tokens/token${at}`, success, { body: { token: other.token.key } });
  for (const gone of [made.key, other.token.key])
    await refused("GET /v3/configs/config?project=&config=", 401, /^Invalid Auth token$/, { token: gone });
});

test("me, workplace, activity", async () => {
  const me = await asked("GET /v3/me", {
    slug: filled,
    name: filled,
    type: filled,
    token_preview: orNull(text),
    created_at: orNull(time),
    last_seen_at: orNull(time),
    workplace: { slug: filled, name: filled },
  });
  assert.ok(!me.token_preview?.includes(token));
  const workplace = { workplace: { id: filled, name: filled, billing_email: text } };
  const before = await asked("GET /v3/workplace", workplace);
  const body = { id: "", name: "Acme", billing_email: "" };
  const changed = await asked("POST /v3/workplace", workplace, { body });
  assert.deepEqual(changed.workplace, { ...before.workplace, name: "Acme" });

  const entry = { ...shapes.log, enclave_project: orNull(text), enclave_environment: orNull(text), enclave_config: orNull(text) };
  const { logs } = await asked("GET /v3/logs?page=1&per_page=100", { page: 1, logs: [entry] });
  assert.ok(logs.length > 5);
  assert.deepEqual(await asked(`GET /v3/logs/log?log=${logs[0].id}`, { log: entry }), { log: logs[0] });
  assert.equal((await asked("GET /v3/logs?page=1&per_page=2", { page: 1, logs: [entry] })).logs.length, 2);
  await refused("GET /v3/logs/log?log=7c2b9d1e-0000-4000-8000-000000000000", 404, /log/i);
});

test("login: a code for a person, a code to poll with, and the token once", async () => {
  const device = "hostname=laptop&version=3.75.1&os=linux&arch=amd64";
  const started = await asked(
    `GET /v3/auth/cli/generate/2?${device}`,
    { code: filled, polling_code: filled, auth_url: filled },
    { token: null },
  );
  const poll = { token: null, body: { code: started.polling_code } };
  await refused("POST /v3/auth/cli/authorize", 409, /./, poll);
  assert.match(started.auth_url, new RegExp(`^${server.endpoint}/login`));
  await newUser(server, "ann", allow("rekey:*"));
  const person = await nativeOk(server, "tokens/create", { userName: "ann", name: "laptop" });
  const approve = await fetch(`${server.endpoint}/rekey/v1/cli-logins/approve`, {
    method: "POST",
    headers: { authorization: `Bearer ${person.token}` },
    body: JSON.stringify({ code: started.code }),
  });
  assert.equal(approve.status, 200, await approve.text());
  const login = await asked("POST /v3/auth/cli/authorize", { token: filled, name: filled, dashboard_url: text }, poll);
  assert.match(login.token, /^dp\.ct\.[A-Za-z0-9]{40,44}$/);
  await asked("GET /v3/projects?page=1&per_page=1", projects, { token: login.token });
  const rolled = await asked("POST /v3/auth/cli/roll", { token: filled }, { token: null, body: { token: login.token } });
  await refused("GET /v3/me", 401, /^Invalid Auth token$/, { token: login.token });
  await asked("POST /v3/auth/cli/revoke", success, { token: null, body: { token: rolled.token } });
  await refused("GET /v3/me", 401, /^Invalid Auth token$/, { token: rolled.token });
  await refused("POST /v3/auth/cli/revoke", 401, /^Invalid Auth token$/, {
    token: null,
    body: { token: rolled.token },
  });
});

test("OIDC: a token of another issuer for one of a service account", async () => {
  await using issuer = await startIssuer(Date.now);
  const provider = await nativeOk(server, "oidc-providers/create", { url: issuer.url, clientIdList: ["ci"] });
  await nativeOk(server, "service-accounts/create", { name: "builder", workplaceRole: { identifier: "admin" } });
  const identity = {
    serviceAccount: "builder",
    name: "main",
    providerArn: provider.openIdConnectProviderArn,
    audiences: ["ci"],
    subjects: ["repo:x*"],
  };
  const made = (await nativeOk(server, "oidc-identities/create", identity)) as { identity: { id: string } };
  const body = { identity: made.identity.id, token: await issuer.token({ aud: "ci", sub: "repo:x:main" }) };
  const shape = { token: filled, expires_at: time, dashboard_url: text };
  const login = await asked("POST /v3/auth/oidc", shape, { token: null, body });
  assert.match(login.token, /^dp\.said\.[A-Za-z0-9]{40,44}$/);
  const own = { token: login.token as string };
  assert.equal((await cli(server, "GET /v3/me", own)).json.type, "service_account_identity");
  await asked("GET /v3/projects?page=1&per_page=10", projects, own);
  const stranger = { ...body, token: await issuer.token({ aud: "ci", sub: "repo:y:main" }) };
  await refused("POST /v3/auth/oidc", 403, /does not stand for/, { token: null, body: stranger });
  await refused("POST /v3/auth/oidc", 401, /^Invalid Auth token: /, { token: null, body: { ...body, token: "a.b.c" } });
  await asked("POST /v3/auth/revoke", success, { token: null, body: { token: login.token } });
  await refused("GET /v3/me", 401, /^Invalid Auth token$/, own);
});

test("who shows no good token is told so in JSON", async () => {
  const none = { token: null };
  await refused("GET /v3/me", 401, /^Invalid Auth token: /, none);
  for (const bad of ["dp.st.dev.nothing", "", "dp.pt.0000000000000000000000000000000000000000"])
    await refused("GET /v3/me", 401, /^Invalid Auth token/, { token: bad });
  const password = `Basic ${Buffer.from(`${token}:password`).toString("base64")}`;
  for (const Authorization of [password, "Basic !!", "Bearer", `Digest ${token}`, `Bearer ${token} ${token}`])
    await refused("GET /v3/me", 401, /^Invalid Auth token/, { ...none, headers: { Authorization } });
  await refused("POST /v3/auth/revoke", 401, /member token/, { ...none, body: {} });
});

test("errors name the field as the caller wrote it, and are JSON whatever went wrong", async () => {
  await refused("GET /v3/nothing", 404, /There is no GET \/v3\/nothing/);
  await refused("POST /v3/me", 404, /There is no POST/);
  await refused("GET /v3/configs/config", 400, /project/i);
  await refused("GET /v3/projects?per_page=0", 400, /'per_page'/);
  await refused("GET /v3/projects?page=two", 400, /page/);
  await refused("POST /v3/configs/config/tokens?project=api&config=dev", 400, /'access'.*read, read\/write/, {
    body: { name: "x", access: "all" },
  });
  await refused("POST /v3/configs/config/tokens?project=api&config=dev", 400, /expire_at must be in the future/, {
    body: { name: "x", access: "read", expire_at: 1_000_000_000 },
  });
  for (const body of ["{", "[]", "null", '"x"', '{"name":}'])
    await refused("POST /v3/projects", 400, /not a JSON object/, { body });
  const large = JSON.stringify({ name: "x".repeat(1_100_000) });
  await refused("POST /v3/projects", 413, /larger than/, { body: large });
  await refused("POST /v3/projects", 400, /name/, { body: { name: { __proto__: "x" } } });
});

test("a head that is no request, and methods that are none, are refused without a stack or HTML", async () => {
  const lines = ["Connection: close", `Authorization: Bearer ${token}`];
  for (const first of ["OPTIONS /v3/projects", "HEAD /v3/projects", "GET /v3/%zz", "GET /v3/projects/../me"]) {
    const [reply] = await speak(server.endpoint, requestText(first, lines));
    assert.ok((reply?.status ?? 0) >= 400, first);
    assert.match(reply?.headers.get("content-type") ?? "", /json/, first);
  }
});
