// Hostile HTTP APIs, and hostile values of secrets, against real servers on loopback.
import assert from "node:assert/strict";
import { test } from "node:test";
import { inspect } from "node:util";
import { RotatorError } from "../../src/core/error.ts";
import { reply, startApiServer, type Trick } from "../support/http-api-server.ts";
import { httpApiWorld, routes, statusOnly } from "../support/http-api-world.ts";
import { failure, tools } from "./contract.ts";

const world = httpApiWorld();

async function errorOf(call: Promise<unknown>): Promise<RotatorError> {
  const error = await call.then(
    () => assert.fail("the call went well"),
    (error: unknown) => error,
  );
  assert.ok(error instanceof RotatorError, inspect(error));
  return error;
}

test("a test that any key passes proves nothing, and says so", async () => {
  const { rotator } = world.rotatorOf((d) => ({
    ...d,
    account: "all",
    create: { ...d.create, path: "/v1/users/ci/keys" },
    test: { method: "GET", path: "/v1/open" },
  }));
  world.trick("GET /v1/open", statusOnly(200), statusOnly(200), statusOnly(200), statusOnly(401));
  const { current } = world.newAccess();
  const error = await errorOf(rotator.test(current, tools()));
  assert.equal(error.outcome, "invalid");
  assert.match(error.message, /random letters passes it too/);
  await rotator.test(current, tools());
});

test("silence, cuts and floods end in time, and a change is never taken for undone", async () => {
  const { rotator, issuer } = world.rotatorOf((d) => ({ ...d, timeoutSeconds: 1 }));
  const access = world.newAccess();
  const hang: Trick = () => undefined;
  const slowBody: Trick = (_request, response) => {
    response.writeHead(200);
    const drip = setInterval(() => response.write(" "), 50);
    response.once("close", () => clearInterval(drip));
  };
  const endless: Trick = (_request, response) => {
    response.writeHead(200);
    const more = (): void => {
      while (!response.destroyed && response.write(" ".repeat(65_536)));
    };
    response.on("drain", more);
    more();
  };
  const halfBody: Trick = (request, response) => {
    response.writeHead(200, { "content-length": "100" }).write("{");
    setTimeout(() => request.socket.destroy(), 50);
  };
  const garbage: Trick = (request) => request.socket.end("not http at all\r\n\r\n");
  const upgrade: Trick = (request) =>
    request.socket.end("HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n");
  const bigHeaders: Trick = (request) => request.socket.end(`HTTP/1.1 200 OK\r\nx: ${"y".repeat(100_000)}\r\n\r\n`);
  const compressed: Trick = (_request, response) => response.writeHead(200, { "content-encoding": "gzip" }).end("x");
  const cases: [string, Trick, string][] = [
    ["hang", hang, "timeout"],
    ["slow body", slowBody, "timeout"],
    ["endless body", endless, "invalid"],
    ["half a body", halfBody, "unreachable"],
    ["cut", (request) => request.socket.destroy(), "unreachable"],
    ["garbage", garbage, "unreachable"],
    ["upgrade", upgrade, "unreachable"],
    ["big headers", bigHeaders, "unreachable"],
    ["compressed", compressed, "invalid"],
  ];
  for (const [what, hostile, ofTest] of cases) {
    world.trick(routes.me, hostile);
    world.trick(routes.create, hostile);
    world.trick(routes.remove, hostile);
    assert.equal(await rotator.probe(access.current, tools()), ofTest, `test: ${what}`);
    assert.equal(await failure(issuer.issue(access, tools())), "unknown", `create: ${what}`);
    assert.equal(await failure(issuer.delete("key_1", access, tools())), "unknown", `delete: ${what}`);
  }
  assert.equal(await rotator.probe(access.current, { ...tools(), deadlineAt: Date.now() - 1 }), "timeout");
});

test("a server that is stopped, or speaks no TLS, was asked nothing", async () => {
  const access = world.newAccess();
  for (const [origin, outcome] of [
    ["http://127.0.0.1:1", "unreachable"],
    [world.api.url.replace("http:", "https:"), "tls"],
    ["https://no-such-host.invalid", "unreachable"],
  ] as const) {
    const { rotator, issuer } = world.rotatorOf((d) => ({ ...d, origin }));
    const admin = { ...access.admin, origin };
    assert.equal(await rotator.probe(access.current, tools()), outcome, origin);
    assert.equal(await failure(issuer.issue({ ...access, admin }, tools())), outcome, origin);
  }
});

test("attack: a redirect is not followed, neither here nor there", async () => {
  await using other = await startApiServer();
  const { rotator, issuer } = world.rotatorOf();
  const access = world.newAccess();
  for (const location of [`${other.url}/v1/me`, `${world.api.url}/v1/elsewhere`]) {
    const away: Trick = (_request, response) => response.writeHead(307, { location }).end();
    world.trick(routes.me, away);
    world.trick(routes.create, away);
    const seen = world.api.seen.length;
    assert.equal(await rotator.probe(access.current, tools()), "invalid");
    assert.equal(await failure(issuer.issue(access, tools())), "unknown");
    assert.equal(world.api.seen.length - seen, 2);
  }
  assert.equal(other.seen.length, 0);
});

test("attack: what an API answers is in no error", async () => {
  const { rotator, issuer } = world.rotatorOf();
  const access = world.newAccess();
  const echo: Trick = (request, response) =>
    reply(response, { status: 400, json: { error: `bad key ${request.headers.authorization}` } });
  world.trick(routes.me, echo);
  world.trick(routes.create, echo);
  world.trick(routes.remove, echo);
  world.trick(routes.list, echo);
  const shown = [String(access.current.apiKey), String(access.admin?.apiKey)];
  await failure(rotator.test(access.current, tools()), ...shown);
  await failure(issuer.issue(access, tools()), ...shown);
  await failure(issuer.delete("key_1", access, tools()), ...shown);
  await failure(issuer.list(access, tools()), ...shown);
  world.trick(routes.create, (_request, response) =>
    response.writeHead(201).end('{"data": {"id": "key_9", "key": "canary-answer"'),
  );
  await failure(issuer.issue(access, tools()), "canary-answer", ...shown);
});

test("an answer that is no new key makes no version, and leaves no key behind", async () => {
  const { issuer } = world.rotatorOf();
  const access = world.newAccess();
  const answer =
    (json: unknown): Trick =>
    (_request, response) =>
      reply(response, { status: 201, json });
  const raw =
    (text: string): Trick =>
    (_request, response) =>
      response.writeHead(201).end(text);
  const cases: [string, Trick, string][] = [
    ["no JSON", raw("<html>"), "unknown"],
    ["empty", raw(""), "unknown"],
    ["deep", raw("[".repeat(500_000)), "unknown"],
    ["deep and whole", raw("[".repeat(100_000) + "]".repeat(100_000)), "unknown"],
    ["one name twice", raw('{"data": {"id": "key_1", "key": "a", "key": "b"}}'), "unknown"],
    ["prototype", raw('{"__proto__": {"data": {"id": "key_1", "key": "a"}}}'), "unknown"],
    ["no id", answer({ data: { key: "a" } }), "unknown"],
    ["empty id", answer({ data: { id: "", key: "a" } }), "unknown"],
    ["dots", answer({ data: { id: "..", key: "a" } }), "unknown"],
    ["slash", answer({ data: { id: "a/b", key: "a" } }), "unknown"],
    ["encoded slash", answer({ data: { id: "a%2fb", key: "a" } }), "unknown"],
    ["query", answer({ data: { id: "?all=true", key: "a" } }), "unknown"],
    ["space", answer({ data: { id: " ", key: "a" } }), "unknown"],
    ["object", answer({ data: { id: { a: 1 }, key: "a" } }), "unknown"],
    ["too large a number", raw('{"data": {"id": 12345678901234567890, "key": "a"}}'), "unknown"],
    ["the current id", answer({ data: { id: access.current.keyId, key: "a" } }), "invalid"],
    ["the current key", answer({ data: { id: "key_2", key: access.current.apiKey } }), "unknown"],
    ["no key", answer({ data: { id: "key_3" } }), "invalid"],
    ["null for a key", answer({ data: { id: "key_3", key: null } }), "invalid"],
    ["too long a key", answer({ data: { id: "key_3", key: "x".repeat(20_000) } }), "invalid"],
  ];
  for (const [what, hostile, outcome] of cases) {
    world.trick(routes.create, hostile);
    const seen = world.api.seen.length;
    assert.equal(await failure(issuer.issue(access, tools())), outcome, what);
    const deleted = world.api.seen.slice(seen).filter(({ method }) => method === "DELETE");
    assert.deepEqual(
      deleted.map(({ url }) => url),
      what.endsWith(" key") && what !== "the current key"
        ? ["/v1/keys/key_3"]
        : what === "null for a key"
          ? ["/v1/keys/key_3"]
          : [],
      what,
    );
  }
  assert.deepEqual(world.keysOf(access.user), [access.current.keyId]);
});

test("attack: no id deletes more than one key, nor the current one", async () => {
  const { issuer } = world.rotatorOf();
  const access = world.newAccess();
  const all = world.api.keys.size;
  const seen = world.api.seen.length;
  for (const id of ["", ".", "..", "/", "a/b", "a\\b", "?x", "#", "%2e%2e", "a b", "a\r\nb", "x".repeat(300), "ü"]) {
    assert.equal(await failure(issuer.delete(id, access, tools())), "invalid", id);
  }
  assert.equal(await failure(issuer.delete(String(access.current.keyId), access, tools())), "invalid");
  assert.equal(world.api.seen.length, seen);
  assert.equal(world.api.keys.size, all);
});

test("attack: a list that lies, does not end or leads elsewhere is no list", async () => {
  await using other = await startApiServer();
  const { issuer } = world.rotatorOf();
  const access = world.newAccess();
  const answer =
    (json: unknown): Trick =>
    (_request, response) =>
      reply(response, { status: 200, json });
  const lies: [string, unknown][] = [
    ["no list", { data: "none" }],
    ["nothing", {}],
    ["an object", { data: { 0: { id: "key_1" } } }],
    ["an id of dots", { data: [{ id: ".." }] }],
    ["an item without id", { data: [{}] }],
    ["an item that is null", { data: [null] }],
    ["elsewhere", { data: [], next: `${other.url}/v1/keys` }],
    ["elsewhere, without scheme", { data: [], next: `//127.0.0.1:${other.port}/v1/keys` }],
    ["with a user", { data: [], next: `http://a:b@127.0.0.1:${world.api.port}/v1/keys` }],
    ["to a file", { data: [], next: "file:///etc/passwd" }],
    ["to an object", { data: [], next: { url: "/v1/keys" } }],
  ];
  for (const [what, json] of lies) {
    world.trick(routes.list, answer(json));
    assert.equal(await failure(issuer.list(access, tools())), "invalid", what);
  }
  world.trick(routes.list, ...Array.from({ length: 60 }, () => answer({ data: [], next: "/v1/keys" })));
  assert.equal(await failure(issuer.list(access, tools())), "invalid", "a circle");
  world.api.tricks.clear();
  assert.equal(other.seen.length, 0);
});

test("attack: values of a secret change no other part of a request", async () => {
  const access = world.newAccess();
  const headered = world.rotatorOf((d) => ({
    ...d,
    auth: { ...d.auth, current: { type: "header", name: "X-Api-Key", value: "{{current.apiKey}}" } },
  }));
  const bearer = world.rotatorOf();
  const seen = world.api.seen.length;
  for (const apiKey of ["a\r\nX-Admin: yes", "a\nb", "a\0b", "ключ", " ", "", 7.5e300]) {
    for (const { rotator } of [headered, bearer]) {
      const outcome = await rotator.probe({ ...access.current, apiKey }, tools());
      assert.ok(outcome === "invalid" || outcome === "refused", `${inspect(apiKey)}: ${outcome}`);
    }
  }
  assert.ok(world.api.seen.slice(seen).every(({ headers }) => headers["x-admin"] === undefined));
  for (const user of ["..", ".", "a/../b", "a\\b", "a\0", "\ud800"]) {
    const before = world.api.seen.length;
    assert.equal(
      await failure(bearer.issuer.issue({ ...access, current: { ...access.current, user } }, tools())),
      "invalid",
      user,
    );
    assert.equal(world.api.seen.length, before);
  }
  const injected = { ...access.current, user: `x", "admin": true, "y": "?admin=true#` };
  await bearer.issuer.issue({ ...access, current: injected }, tools());
  const { url, body } = world.api.seen.at(-1) ?? { url: "", body: "" };
  assert.equal(url, `/v1/users/${encodeURIComponent(injected.user)}/keys`);
  assert.deepEqual(Object.keys(JSON.parse(body)), ["name", "tags"]);
});

test("attack: the superuser's key of another API is not sent to this one", () => {
  const { rotator } = world.rotatorOf();
  for (const value of [
    { apiKey: "a", origin: "https://api.example.com" },
    { host: "db", username: "postgres", password: "x", apiKey: "y" },
  ]) {
    assert.ok(!rotator.admin?.safeParse(value).success);
  }
});

test("attack: a secret that names somebody else's key has that key neither accepted nor deleted", async () => {
  const victim = world.newAccess();
  const { current, admin } = world.newAccess();
  const claims = { ...current, keyId: victim.current.keyId };
  const proven = world.rotatorOf();
  assert.equal(await proven.rotator.probe(claims, tools()), "invalid");
  assert.equal(proven.issuer.idUnproven, false);
  const unproven = world.rotatorOf((d) => ({ ...d, test: { ...d.test, expect: { json: { user: "{{current.user}}" } } } }));
  assert.equal(await unproven.rotator.probe(claims, tools()), "ok");
  assert.equal(unproven.issuer.idUnproven, true);
  const findings = await unproven.rotator.check?.({ current, admin }, "issuer", tools());
  assert.deepEqual(
    findings?.map(({ step, warning }) => [step, warning]),
    [["retirement", true]],
  );
  assert.deepEqual(await proven.rotator.check?.({ current, admin }, "issuer", tools()), []);
});
