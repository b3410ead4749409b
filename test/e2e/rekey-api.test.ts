import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";

let server: RekeyServer;
before(async () => {
  server = await startRekey();
});
after(() => server[Symbol.asyncDispose]());

interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Record<string, unknown>;
}

async function post(operation: string, body: unknown, headers: Record<string, string> = {}): Promise<Answer> {
  const response = await fetch(`${server.endpoint}/rekey/v1/${operation}`, {
    method: "POST",
    headers: { authorization: `Bearer ${server.credentials.token}`, "content-type": "application/json", ...headers },
    body: typeof body === "string" ? body : JSON.stringify(body),
  });
  return { status: response.status, headers: response.headers, body: (await response.json()) as Record<string, unknown> };
}

test("camelCase in and out, ISO times, base64", async () => {
  const made = await post("secrets/create", { name: "a", secretBinary: "AP8=", tags: [{ key: "Team", value: "x" }] });
  assert.equal(made.status, 200);
  assert.match(String(made.body.arn), /^arn:aws:secretsmanager:us-east-1:/);
  const { body } = await post("secrets/get-value", { secretId: "a" });
  assert.equal(body.secretBinary, "AP8=");
  assert.match(String(body.createdDate), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  const described = await post("secrets/describe", { secretId: "a" });
  assert.deepEqual(described.body.versionIdsToStages, { [String(made.body.versionId)]: ["AWSCURRENT"] });
  assert.deepEqual(described.body.tags, [{ key: "Team", value: "x" }]);
  assert.equal(described.headers.get("cache-control"), "no-store");
});

test("problems have real statuses and the request's id", async () => {
  const cases: [number, string, string, unknown, Record<string, string>?][] = [
    [401, "MissingAuthenticationTokenException", "secrets/list", {}, { authorization: "" }],
    [401, "UnrecognizedClientException", "secrets/list", {}, { authorization: `Bearer dp.pt.${"x".repeat(40)}` }],
    [404, "ResourceNotFoundException", "secrets/get-value", { secretId: "none" }],
    [404, "UnknownOperationException", "secrets/nothing", {}],
    [409, "ResourceExistsException", "secrets/create", { name: "a", secretString: "other" }],
    [400, "ValidationException", "secrets/get-value", { secretID: "a" }],
    [400, "SerializationException", "secrets/get-value", "{"],
    [400, "ValidationException", "secrets/list", {}, { "rekey-region": "mars-1" }],
  ];
  for (const [status, code, operation, body, headers] of cases) {
    const answer = await post(operation, body, headers);
    assert.deepEqual([answer.status, answer.body.code], [status, code], JSON.stringify(answer.body));
    assert.match(answer.headers.get("content-type") ?? "", /^application\/problem\+json\b/);
    assert.equal(answer.body.status, status);
    assert.match(String(answer.body.requestId), /^[0-9a-f-]{36}$/);
    assert.equal(answer.body.requestId, answer.headers.get("rekey-request-id"));
  }
  const { token } = await limitedUser();
  const denied = await post("secrets/get-value", { secretId: "a" }, { authorization: `Bearer ${token}` });
  assert.deepEqual([denied.status, denied.body.code], [403, "AccessDeniedException"]);
});

async function limitedUser(): Promise<{ token: unknown }> {
  await post("users/create", { userName: "nobody" });
  const { body } = await post("tokens/create", { userName: "nobody", name: "t" });
  return { token: body.token };
}

test("an unknown member is named, and too large a body is refused", async () => {
  const { body } = await post("secrets/create", { name: "b", secretString: "v", tags: [{ key: "k", vale: "v" }] });
  assert.equal(body.detail, "This operation has no member tags[0].vale. It takes: key, value.");
  assert.equal((await post("secrets/get-value", { secretId: "b" })).status, 404);
  assert.equal((await post("secrets/create", { name: "c", secretString: "v".repeat(1_100_000) })).status, 413);
});

test("the same Idempotency-Key makes one version", async () => {
  const key = { "idempotency-key": "0123456789-0123456789-0123456789-01" };
  const first = await post("secrets/put-value", { secretId: "a", secretString: "1" }, key);
  const again = await post("secrets/put-value", { secretId: "a", secretString: "1" }, key);
  assert.deepEqual([first.body.versionId, again.body.versionId], [key["idempotency-key"], key["idempotency-key"]]);
  assert.equal((await post("secrets/put-value", { secretId: "a", secretString: "2" }, key)).status, 409);
  const differs = await post("secrets/put-value", { secretId: "a", secretString: "1", clientRequestToken: "x".repeat(32) }, key);
  assert.equal(differs.status, 400);
  const useless = await post("secrets/describe", { secretId: "a" }, key);
  assert.deepEqual([useless.status, useless.body.detail], [400, "This operation takes no Idempotency-Key."]);
});

test("pages by cursor and limit; a region by header", async () => {
  for (const name of ["p1", "p2", "p3"])
    await post("secrets/create", { name, secretString: "v" }, { "rekey-region": "eu-central-1" });
  const names: unknown[] = [];
  let cursor: unknown;
  do {
    const { body } = await post("secrets/list", { limit: 2, ...(cursor ? { cursor } : {}) }, { "rekey-region": "eu-central-1" });
    names.push(...(body.secretList as { name: string }[]).map(({ name }) => name));
    cursor = body.cursor;
  } while (cursor !== undefined);
  assert.deepEqual(names.sort(), ["p1", "p2", "p3"]);
});

test("describes itself, in the names that it takes", async () => {
  const response = await fetch(`${server.endpoint}/rekey/v1/openapi.json`);
  const { openapi, paths } = (await response.json()) as {
    openapi: string;
    paths: Record<string, { post: { requestBody: object } }>;
  };
  assert.equal(openapi, "3.1.0");
  const shape = JSON.stringify(paths["/rekey/v1/secrets/create"]?.post.requestBody);
  assert.match(shape, /"secretString":\{"type":"string","maxLength":65536\}/);
  assert.doesNotMatch(shape, /"SecretString"/);
  for (const path of Object.keys(paths)) assert.match(path, /^\/rekey\/v1\/[a-z-]+\/[a-z-]+$/);
});

test("health and metrics", async () => {
  assert.deepEqual(await (await fetch(`${server.endpoint}/healthz`)).json(), { status: "ok" });
  assert.deepEqual(await (await fetch(`${server.endpoint}/readyz`)).json(), { status: "ready", store: "ok", key: "ok" });
  const metrics = await fetch(`${server.endpoint}/metrics`);
  assert.match(await metrics.text(), /process_cpu_seconds_total/);
  const proxied = await fetch(`${server.endpoint}/metrics`, { headers: { "x-forwarded-for": "192.0.2.1" } });
  assert.equal(proxied.status, 404);
});
