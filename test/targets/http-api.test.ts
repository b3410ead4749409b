// Keys of an HTTP API that is declared in JSON, against a real server on loopback.
import assert from "node:assert/strict";
import { lookup } from "node:dns/promises";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { RotatorError } from "../../src/core/error.ts";
import { reply, type Trick } from "../support/http-api-server.ts";
import { httpApiWorld, routes, statusOnly } from "../support/http-api-world.ts";
import { hasOpenssl, makeCertificate, unlessCi } from "../support/server-process.ts";
import { failure, tools } from "./contract.ts";

const world = httpApiWorld();

const cutAfter: Trick = (request, _response, run) => {
  run();
  request.socket.destroy();
};

test("a wrong key is refused, else nothing below would prove anything", async () => {
  const { rotator } = world.rotatorOf();
  const { current } = world.newAccess();
  await rotator.test(current, tools());
  const wrong = { ...current, apiKey: "canary-wrong-key" };
  assert.equal(await failure(rotator.test(wrong, tools()), "canary-wrong-key"), "refused");
  assert.equal(await rotator.probe(wrong, tools()), "refused");
  assert.equal(await rotator.probe(current, tools()), "ok");
});

test("a new key beside the old one, then the old one is deleted, twice", async () => {
  const { rotator, issuer } = world.rotatorOf();
  const access = world.newAccess();
  const t = tools();
  const pending = await issuer.issue(access, t);
  assert.deepEqual({ ...pending, keyId: 0, apiKey: 0 }, { ...access.current, keyId: 0, apiKey: 0 });
  await rotator.test(pending, tools());
  assert.equal(await rotator.probe(access.current, tools()), "ok");
  assert.equal(rotator.account(pending, "issuer"), rotator.account(access.current, "issuer"));
  const listed = await issuer.list({ ...access, current: pending }, tools());
  const made = listed?.find(({ id }) => id === issuer.id(pending));
  assert.equal(made?.rotationId, t.rotationId);
  assert.ok(Math.abs((made?.createdAt ?? 0) - Date.now()) < 60_000);
  assert.equal(listed?.find(({ id }) => id === issuer.id(access.current))?.rotationId, undefined);
  for (const _ of ["once", "again, as after a lost answer"]) {
    await issuer.delete(issuer.id(access.current), { ...access, current: pending }, tools());
  }
  assert.equal(await rotator.probe(access.current, tools()), "refused");
  assert.deepEqual(world.keysOf(access.user), [pending.keyId]);
  assert.equal(world.api.seen.findLast(({ method }) => method === "POST")?.headers.connection, "close");
});

test("the master key is rotated by itself, and the key below it goes on", async () => {
  const master = world.rotatorOf((d) => ({
    ...d,
    auth: { current: d.auth.current, admin: d.auth.admin },
    create: { ...d.create, json: { name: "rekey-{{rotationId}}", admin: true } },
  }));
  const below = world.rotatorOf();
  const { user, current, admin } = world.newAccess();
  assert.ok(admin);
  const pendingMaster = await master.issuer.issue({ current: admin, admin }, tools()); // its masterarn names itself
  await master.rotator.test(pendingMaster, tools());
  const pending = await below.issuer.issue({ current, admin: pendingMaster }, tools());
  await master.issuer.delete(master.issuer.id(admin), { current: pendingMaster, admin: pendingMaster }, tools());
  assert.equal(await failure(below.issuer.issue({ current, admin }, tools())), "denied");
  await below.issuer.delete(below.issuer.id(current), { current: pending, admin: pendingMaster }, tools());
  assert.deepEqual(world.keysOf(user), [pending.keyId]);
  await below.rotator.test(pending, tools());
});

test("keys that manage themselves need no superuser", async () => {
  const { rotator, issuer } = world.rotatorOf((d) => ({ ...d, auth: { current: d.auth.current }, list: undefined }));
  const { current } = world.newAccess();
  const pending = await issuer.issue({ current, admin: undefined }, tools());
  await rotator.test(pending, tools());
  assert.equal(await issuer.list({ current, admin: undefined }, tools()), undefined);
  const findings = await rotator.check?.({ current, admin: undefined }, "issuer", tools());
  assert.deepEqual(
    findings?.map(({ warning }) => warning),
    [true],
  );
});

test("without its superuser a request is not made with another key", async () => {
  const { issuer } = world.rotatorOf();
  const { current } = world.newAccess();
  const seen = world.api.seen.length;
  await assert.rejects(issuer.issue({ current, admin: undefined }, tools()), {
    outcome: "invalid",
    message: /masterarn names none/,
  });
  assert.equal(world.api.seen.length, seen);
});

test("a new key may be refused for a while", async () => {
  const { rotator, issuer } = world.rotatorOf((d) => ({ ...d, propagationSeconds: 30 }));
  assert.equal(issuer.settlesWithinMs, 30_000);
  world.api.delay = 2;
  const pending = await issuer.issue(world.newAccess(), tools());
  world.api.delay = 0;
  const answers: string[] = [];
  for (let turn = 0; turn < 3; turn++) answers.push(await rotator.probe(pending, tools()));
  assert.deepEqual(answers, ["refused", "refused", "ok"]);
});

test("a lost answer is unknown; the key bears the rotation's mark and is deleted by it", async () => {
  const { rotator, issuer } = world.rotatorOf();
  const access = world.newAccess();
  const t = tools();
  world.trick(routes.create, cutAfter);
  assert.equal(await failure(issuer.issue(access, t)), "unknown");
  const orphans = (await issuer.list(access, tools()))?.filter(({ rotationId }) => rotationId === t.rotationId) ?? [];
  assert.equal(orphans.length, 1);
  for (const { id } of orphans) await issuer.delete(id, access, tools());
  assert.deepEqual(world.keysOf(access.user), [access.current.keyId]);
  await rotator.test(await issuer.issue(access, t), tools());
});

test("a repeatable API is asked again and answers with the same key", async () => {
  const { rotator, issuer } = world.rotatorOf((d) => ({
    ...d,
    create: { ...d.create, headers: { "Idempotency-Key": "rekey-{{rotationId}}" }, repeatable: true },
  }));
  assert.equal(issuer.repeatable, true);
  const access = world.newAccess();
  const t = tools();
  world.trick(routes.create, cutAfter);
  assert.equal(await failure(issuer.issue(access, t)), "unknown");
  await rotator.test(await issuer.issue(access, t), tools());
  assert.equal(world.keysOf(access.user).length, 2);
});

test("each status has its class", async () => {
  const { rotator, issuer } = world.rotatorOf();
  const access = world.newAccess();
  const cases: [number, string, string, string][] = [
    // status, of create, of test, of delete
    [400, "invalid", "invalid", "invalid"],
    [401, "denied", "refused", "denied"],
    [403, "denied", "refused", "denied"],
    [404, "invalid", "invalid", "ok"],
    [409, "invalid", "invalid", "invalid"],
    [410, "invalid", "invalid", "ok"],
    [429, "unreachable", "unreachable", "unreachable"],
    [500, "unknown", "unreachable", "unknown"],
    [502, "unknown", "unreachable", "unknown"],
    [503, "unreachable", "unreachable", "unreachable"],
    [302, "unknown", "invalid", "invalid"],
    [204, "unknown", "invalid", "ok"], // a success without the body that is needed
  ];
  for (const [status, ofCreate, ofTest, ofDelete] of cases) {
    world.trick(routes.create, statusOnly(status));
    world.trick(routes.me, statusOnly(status));
    world.trick(routes.remove, statusOnly(status));
    assert.equal(await failure(issuer.issue(access, tools())), ofCreate, `create ${status}`);
    assert.equal(await rotator.probe(access.current, tools()), ofTest, `test ${status}`);
    const deleted = await issuer.delete("key_1", access, tools()).then(
      () => "ok",
      (error: RotatorError) => error.outcome,
    );
    assert.equal(deleted, ofDelete, `delete ${status}`);
  }
  assert.equal(world.keysOf(access.user).length, 1);
});

test("errors that an API tells in its body, or by a status of its own, are as declared", async () => {
  const { rotator, issuer } = world.rotatorOf((d) => ({
    ...d,
    test: {
      ...d.test,
      errors: [
        { status: "2xx", path: "error", equals: "invalid_auth", outcome: "refused" },
        { status: 418, outcome: "locked" },
      ],
    },
    delete: { ...d.delete, expect: { status: [200], json: { ok: true } } },
  }));
  const access = world.newAccess();
  world.trick(
    routes.me,
    (_request, response) => reply(response, { status: 200, json: { ok: false, error: "invalid_auth" } }),
    statusOnly(418),
    (_request, response) => reply(response, { status: 200, json: { user: "somebody else" } }),
  );
  assert.equal(await rotator.probe(access.current, tools()), "refused");
  assert.equal(await rotator.probe(access.current, tools()), "locked");
  assert.equal(await rotator.probe(access.current, tools()), "invalid");
  world.trick(
    routes.remove,
    (_request, response) => reply(response, { status: 200, json: { ok: false, error: "cannot" } }),
    statusOnly(404),
  );
  assert.equal(await failure(issuer.delete("key_1", access, tools())), "invalid");
  assert.equal(await failure(issuer.delete("key_1", access, tools())), "invalid");
});

test("a list is read to its end, page by page", async () => {
  world.api.pageSize = 3;
  const expected = [...world.api.keys.keys()].sort();
  const access = world.newAccess();
  const ids = (found: readonly { id: string }[] | undefined) => found?.map(({ id }) => id).sort();
  for (const next of [{ link: "next" }, { cursor: "after", query: "after" }]) {
    const { issuer } = world.rotatorOf((d) => ({ ...d, list: { ...d.list, next } }));
    const found = ids(await issuer.list(access, tools()));
    assert.deepEqual(found, [...world.api.keys.keys()].sort());
    assert.ok(expected.every((id) => found?.includes(id)));
  }
  world.api.pageSize = 100;
});

test("values go into JSON, forms, queries and Basic as these have it", async () => {
  const { rotator, issuer } = world.rotatorOf((d) => ({
    ...d,
    account: "all",
    auth: { current: { type: "basic", username: "{{current.keyId}}", password: "{{current.apiKey}}" } },
    create: {
      ...d.create,
      path: "/v1/echo",
      query: { scope: "a&b={{current.scope}}" },
      form: { name: "rekey-{{rotationId}}", scope: "{{current.scope}}", code: "{{random.12}}" },
      json: undefined,
    },
    test: {
      method: "POST",
      path: "/v1/echo",
      json: { a: ["{{current.level}}", "n{{current.level}}", { deep: "{{current.scope}}" }] },
    },
    list: undefined,
  }));
  const scope = `"&=+ü{{id}}`;
  const current = { keyId: "key_1", apiKey: "p:w\u00fc", scope, level: 7 };
  world.trick(
    "POST /v1/echo",
    (_request, response) => reply(response, { status: 201, json: { data: { id: 77, key: "new" } } }),
    statusOnly(200),
  );
  const pending = await issuer.issue(
    { current, admin: undefined },
    tools(() => "Zufall7890123456"),
  );
  assert.equal(issuer.id(pending), "77");
  const made = world.api.seen.at(-1);
  assert.equal(new URL(made?.url ?? "", "http://x").searchParams.get("scope"), `a&b=${scope}`);
  const form = new URLSearchParams(made?.body);
  assert.equal(form.get("scope"), scope);
  assert.equal(form.get("code"), "Zufall789012");
  assert.equal(made?.headers.authorization, `Basic ${Buffer.from("key_1:p:w\u00fc").toString("base64")}`);
  assert.equal(await rotator.probe(current, tools()), "ok");
  assert.deepEqual(JSON.parse(world.api.seen.at(-1)?.body ?? ""), { a: [7, "n7", { deep: scope }] });
});

test("a value that does not suit is refused by field and rule; a superuser's says where it may be sent", () => {
  const { rotator } = world.rotatorOf();
  const good = { keyId: "key_1", apiKey: "a", user: "u" };
  assert.ok(rotator.credential.safeParse(good).success);
  for (const [field, value] of [
    ["keyId", "a/b"],
    ["keyId", ""],
    ["apiKey", ""],
    ["apiKey", { a: 1 }],
    ["user", undefined],
    ["engine", "postgres"],
    ["origin", "https://evil.example"],
  ] as const) {
    const { error } = rotator.credential.safeParse({ ...good, [field]: value });
    assert.deepEqual([...new Set(error?.issues.map(({ path }) => path[0]))], [field]);
  }
  assert.deepEqual(
    rotator.admin?.safeParse({ apiKey: "a" }).error?.issues.map(({ message }) => message),
    [`must be ${world.api.url}`],
  );
  assert.ok(rotator.admin?.safeParse({ apiKey: "a", origin: world.api.url }).success);
});

test("TLS is verified, by the system's authorities or caFile's", {
  skip: unlessCi(!hasOpenssl() && "openssl is not installed"),
}, async () => {
  const home = mkdtempSync(join(tmpdir(), "rekey-http-api-"));
  const caFile = makeCertificate(home);
  const key = readFileSync(join(home, "server.key"));
  const server = createServer({ key, cert: readFileSync(caFile) }, ({ headers }, response) => {
    reply(response, { status: headers.authorization === "Bearer right" ? 200 : 401, json: { user: "u", key_id: "key_1" } });
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const current = { keyId: "key_1", apiKey: "right", user: "u" };
  const answer = (change: object) => world.rotatorOf((d) => ({ ...d, ...change })).rotator.probe(current, tools());
  const trusting = process.env.NODE_TLS_REJECT_UNAUTHORIZED;
  try {
    const origin = `https://localhost:${port}`;
    assert.equal(await answer({ origin }), "tls");
    assert.equal(await answer({ origin, caFile }), "ok");
    assert.equal(await answer({ origin, caFile: readFileSync(caFile, "utf8") }), "ok");
    assert.equal(await answer({ origin, caFile: join(home, "none.crt") }), "invalid");
    process.env.NODE_TLS_REJECT_UNAUTHORIZED = "0";
    assert.equal(await answer({ origin }), "tls");
  } finally {
    if (trusting === undefined) delete process.env.NODE_TLS_REJECT_UNAUTHORIZED;
    else process.env.NODE_TLS_REJECT_UNAUTHORIZED = trusting;
    server.closeAllConnections();
    server.close();
    rmSync(home, { recursive: true });
  }
});

test("attack: a name that leads to this machine is not asked", async (t) => {
  const name = hostname();
  const { address } = await lookup(name).catch(() => ({ address: "" }));
  if (!address.startsWith("127.")) return t.skip("this machine's name does not lead to its loopback address");
  const origin = `http://${name}:${world.api.port}`;
  const { current } = world.newAccess();
  const seen = world.api.seen.length;
  const { rotator } = world.rotatorOf((d) => ({ ...d, origin, allowInsecure: true }));
  assert.equal(await rotator.probe(current, tools()), "invalid");
  assert.equal(world.api.seen.length, seen);
  const allowed = world.rotatorOf((d) => ({ ...d, origin, allowInsecure: true, allowAddresses: ["127.0.0.0/8"] }));
  assert.equal(await allowed.rotator.probe(current, tools()), "ok");
});
