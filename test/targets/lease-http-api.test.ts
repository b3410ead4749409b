// Leases of keys of a declared HTTP API, against one on loopback that tests make hostile.
import assert from "node:assert/strict";
import { randomBytes, randomUUID } from "node:crypto";
import { after, before, beforeEach, test } from "node:test";
import { inspect } from "node:util";
import { httpApiLease } from "../../src/targets/lease-http-api.ts";
import type { HttpApiConnection } from "../../src/targets/lease-http-api-declaration.ts";
import type { LeasedUser, LeaseTools } from "../../src/targets/lease-target.ts";
import { type ApiServer, reply, startApiServer, type Trick } from "../support/http-api-server.ts";
import { failure } from "./contract.ts";

let api: ApiServer;
let adminKey = "";
before(async () => {
  api = await startApiServer();
  adminKey = api.addKey("ops", { admin: true }).key;
});
after(() => api[Symbol.asyncDispose]());
beforeEach(() => {
  api.tricks.clear();
  api.pageSize = 100;
});

const installation = "abcd1234";
const tools = (ms = 8_000): LeaseTools => ({
  deadlineAt: Date.now() + ms,
  generatePassword: ({ length = 32 } = {}) => randomBytes(length).toString("base64url").slice(0, length),
});
const declared = () => ({
  origin: api.url,
  timeoutSeconds: 2,
  auth: { type: "bearer", token: "{{integration.apiKey}}" },
  key: { apiKey: adminKey },
  verify: { method: "GET", path: "/v1/me", identity: "user" },
  create: {
    method: "POST",
    path: "/v1/users/{{setting.owner}}/keys",
    json: { name: "{{lease.name}}", ttl: "{{lease.ttlSeconds}}", password: "{{lease.password}}" },
    id: "data.id",
    extract: { KEY: "data.key" },
    fields: { NAME: "{{lease.name}}", PASSWORD: "{{lease.password}}", OWNER: "{{setting.owner}}" },
  },
  delete: { method: "DELETE", path: "/v1/keys/{{id}}" },
  renew: { method: "PATCH", path: "/v1/keys/{{id}}", json: { until: "{{lease.expiresAt}}" } },
  list: {
    method: "GET",
    path: "/v1/keys",
    items: "data",
    id: "id",
    createdAt: "created_at",
    mark: { path: "name" },
    next: { link: "next" },
  },
});
type Declared = ReturnType<typeof declared>;

const connect = (change: (declaration: Declared) => unknown = (same) => same): HttpApiConnection =>
  httpApiLease.connection.parse(change(declared()));
const settings = httpApiLease.settings.parse({ values: { owner: "user ü?#" } });

function newUser(handle?: string): LeasedUser {
  const mark = { installation, leaseId: randomUUID(), secretName: "API" };
  return { mark, name: httpApiLease.name(settings, mark), handle, expiresAt: Date.now() + 1_800_000 };
}
const status =
  (code: number): Trick =>
  (_request, response) =>
    reply(response, { status: code });
const lost: Trick = (request, _response, run) => {
  run();
  request.socket.destroy();
};
const keysNamed = (name: string) => [...api.keys.values()].filter((key) => key.name === name);
const routes = { create: "POST /v1/users/keys", remove: "DELETE /v1/keys", list: "GET /v1/keys", renew: "PATCH /v1/keys" };

test("issue, renew and revoke, each as declared; what is gone counts as done", async () => {
  const connection = connect();
  assert.deepEqual(await httpApiLease.verify(connection, tools()), { identity: "ops" });
  assert.deepEqual(await httpApiLease.check(connection, settings, tools()), []);
  const user = newUser();
  const { fields, handle } = await httpApiLease.create(connection, settings, user, tools());
  const [made] = keysNamed(user.name);
  assert.equal(handle, made?.id);
  assert.deepEqual({ ...fields, PASSWORD: "" }, { NAME: user.name, PASSWORD: "", OWNER: "user ü?#", KEY: made?.key });
  const sent = JSON.parse(api.seen.at(-1)?.body ?? "") as { ttl: number; password: string };
  assert.equal(sent.password, fields.PASSWORD);
  assert.ok(sent.ttl > 1_790 && sent.ttl <= 1_800);
  const listed = await httpApiLease.list?.(connection, installation, tools());
  assert.deepEqual(listed, [{ name: user.name, handle, createdAt: made?.createdAt }]);
  assert.deepEqual(await httpApiLease.list?.(connection, "zzzz9999", tools()), []);

  const later = { ...user, handle, expiresAt: Date.now() + 7_200_000 };
  api.tricks.set(routes.renew, [status(200)]);
  await httpApiLease.renew?.(connection, settings, later, tools());
  assert.deepEqual(JSON.parse(api.seen.at(-1)?.body ?? ""), { until: new Date(later.expiresAt).toISOString() });
  for (const _ of ["once", "again"]) await httpApiLease.revoke(connection, settings, { ...user, handle }, tools());
  assert.deepEqual(keysNamed(user.name), []);
});

test("a key whose answer was lost is found by its name and deleted, on whichever page it is", async () => {
  const connection = connect();
  api.pageSize = 2;
  for (let index = 0; index < 5; index++) api.addKey("others");
  const user = newUser();
  api.tricks.set(routes.create, [lost]);
  assert.equal(await failure(httpApiLease.create(connection, settings, user, tools()), adminKey), "unknown");
  assert.equal(keysNamed(user.name).length, 1);
  const before = api.keys.size;
  await httpApiLease.revoke(connection, settings, user, tools());
  assert.deepEqual(keysNamed(user.name), []);
  assert.equal(api.keys.size, before - 1);
  await httpApiLease.revoke(connection, settings, newUser(), tools());
});

test("without a list a lost answer is said and not taken for gone", async () => {
  const connection = connect(({ list: _, ...rest }) => rest);
  const user = newUser();
  api.tricks.set(routes.create, [lost]);
  assert.equal(await failure(httpApiLease.create(connection, settings, user, tools())), "unknown");
  await assert.rejects(httpApiLease.revoke(connection, settings, user, tools()), new RegExp(user.name));
  assert.ok((await httpApiLease.check(connection, settings, tools())).some(({ warning }) => warning));
  assert.equal(await httpApiLease.list?.(connection, installation, tools()), undefined);
});

test("an API that goes by the name that Rekey chooses needs no id", async () => {
  const connection = connect((d) => ({
    ...d,
    create: { ...d.create, id: undefined, extract: {} },
    delete: { method: "DELETE", path: "/v1/keys/{{lease.name}}" },
    renew: undefined,
    list: undefined,
  }));
  const user = newUser();
  const { fields, handle } = await httpApiLease.create(connection, settings, user, tools());
  assert.equal(handle, undefined);
  assert.deepEqual(Object.keys(fields), ["NAME", "PASSWORD", "OWNER"]);
  api.tricks.set(routes.remove, [status(204)]);
  await httpApiLease.revoke(connection, settings, user, tools());
  assert.equal(api.seen.at(-1)?.url, `/v1/keys/${user.name}`);
  await assert.rejects(async () => httpApiLease.renew?.(connection, settings, user, tools()), /declares no renew/);
});

test("failures have their class, and no message holds the key or what was answered", async () => {
  const connection = connect();
  const cases: [string, number, string][] = [
    [routes.create, 500, "unknown"],
    [routes.create, 503, "unreachable"],
    [routes.create, 429, "unreachable"],
    [routes.create, 403, "denied"],
    [routes.create, 302, "unknown"],
    [routes.create, 400, "invalid"],
  ];
  for (const [route, code, outcome] of cases) {
    api.tricks.set(route, [status(code)]);
    assert.equal(await failure(httpApiLease.create(connection, settings, newUser(), tools()), adminKey), outcome, `${code}`);
  }
  for (const [code, outcome] of [
    [500, "unknown"],
    [403, "denied"],
    [429, "unreachable"],
  ] as const) {
    api.tricks.set(routes.remove, [status(code)]);
    assert.equal(await failure(httpApiLease.revoke(connection, settings, newUser("key_1"), tools()), adminKey), outcome);
  }
  const wrong = connect((d) => ({ ...d, key: { apiKey: "canary-wrong" } }));
  assert.equal(await failure(httpApiLease.verify(wrong, tools()), "canary-wrong"), "refused");
  const stopped = connect((d) => ({ ...d, origin: "http://127.0.0.1:1" }));
  assert.equal(await failure(httpApiLease.create(stopped, settings, newUser(), tools()), adminKey), "unreachable");
  assert.equal(await failure(httpApiLease.verify(stopped, tools()), adminKey), "unreachable");
});

test("an answer without a field is of no use, and what it made is deleted at once", async () => {
  const connection = connect((d) => ({ ...d, create: { ...d.create, extract: { KEY: "data.nothing" } } }));
  const user = newUser();
  assert.equal(await failure(httpApiLease.create(connection, settings, user, tools())), "invalid");
  assert.deepEqual(keysNamed(user.name), []);
  api.tricks.set(routes.remove, [status(500)]);
  assert.equal(await failure(httpApiLease.create(connection, settings, newUser(), tools())), "unknown");
});

test("attack: an id that an API answers cannot lead elsewhere", async () => {
  const connection = connect();
  for (const id of ["../admin", "a/b", "", "..", "x?y"]) {
    api.tricks.set(routes.create, [(_request, response) => reply(response, { status: 201, json: { data: { id, key: "k" } } })]);
    assert.equal(await failure(httpApiLease.create(connection, settings, newUser(), tools())), "unknown", id);
  }
  const before = api.seen.length;
  api.tricks.set(routes.list, [
    (_request, response) => reply(response, { status: 200, json: { data: [], next: "http://169.254.169.254/" } }),
  ]);
  assert.equal(await failure((async () => httpApiLease.list?.(connection, installation, tools()))(), adminKey), "invalid");
  assert.equal(api.seen.length, before + 1);
});

test("values of a dynamic secret are data, whatever they hold", async () => {
  const connection = connect();
  const hostile = httpApiLease.settings.parse({ values: { owner: "../admin" } });
  assert.equal(await failure(httpApiLease.create(connection, hostile, newUser(), tools())), "invalid");
  const nothing = httpApiLease.settings.parse({});
  assert.equal(await failure(httpApiLease.create(connection, nothing, newUser(), tools())), "invalid");
  const [finding] = await httpApiLease.check(connection, nothing, tools());
  assert.match(finding?.remedy ?? "", /Give values\.owner/);
});

test("declarations that do not suit are refused by field and rule", () => {
  const bad: [(d: Declared) => unknown, string][] = [
    [(d) => ({ ...d, origin: "http://example.com" }), "origin"],
    [(d) => ({ ...d, origin: "https://169.254.169.254" }), "origin"],
    [(d) => ({ ...d, auth: { type: "bearer", token: "fixed" } }), "auth"],
    [(d) => ({ ...d, key: {} }), "key"],
    [(d) => ({ ...d, create: { ...d.create, method: "GET" } }), "create"],
    [(d) => ({ ...d, create: { ...d.create, id: undefined } }), "create.id"],
    [(d) => ({ ...d, create: { ...d.create, json: {} } }), "create"],
    [(d) => ({ ...d, create: { ...d.create, extract: {}, fields: {} } }), "create.extract"],
    [(d) => ({ ...d, create: { ...d.create, fields: { KEY: "x" } } }), "create.fields.KEY"],
    [(d) => ({ ...d, create: { ...d.create, fields: { X: "{{integration.apiKey}}" } } }), "create.fields.X"],
    [(d) => ({ ...d, create: { ...d.create, extract: { lower: "a" } } }), "create.extract.lower"],
    [(d) => ({ ...d, delete: { method: "DELETE", path: "/v1/keys" } }), "delete"],
    [(d) => ({ ...d, delete: { method: "GET", path: "/v1/keys/{{id}}" } }), "delete.method"],
    [(d) => ({ ...d, delete: { method: "DELETE", path: "/v1/keys/{{lease.password}}" } }), "delete"],
    [(d) => ({ ...d, verify: { method: "GET", path: "/v1/{{lease.name}}" } }), "verify.path"],
    [(d) => ({ ...d, verify: { method: "GET", path: "/v1/{{current.x}}" } }), "verify.path"],
    [(d) => ({ ...d, more: 1 }), ""],
  ];
  for (const [change, field] of bad) {
    const { error } = httpApiLease.connection.safeParse(change(declared()));
    assert.ok(
      error?.issues.some(({ path }) => path.join(".").startsWith(field)),
      `${field}: ${inspect(error?.issues)}`,
    );
  }
});
