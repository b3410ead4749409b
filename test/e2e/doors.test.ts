import assert from "node:assert/strict";
import { once } from "node:events";
import type { Socket } from "node:net";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { GetSecretValueCommand } from "@aws-sdk/client-secrets-manager";
import { nativeOk, newName, rawCall, rawRequest, secretsClient } from "../support/aws.ts";
import { hear, open, type Reply, requestText, speak } from "../support/raw-http.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";

const maxConnections = 64;
const maxBodyBytes = 131_072;
let server: RekeyServer;
before(async () => {
  const flags = [
    "--request-timeout-seconds",
    "1",
    "--max-connections",
    `${maxConnections}`,
    "--max-body-bytes",
    `${maxBodyBytes}`,
  ];
  server = await startRekey({ flags });
});
after(() => server[Symbol.asyncDispose]());

const close = "Connection: close";
const json = "Content-Type: application/x-amz-json-1.1";
const requestId = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const isAlive = async () => assert.equal((await fetch(`${server.endpoint}/healthz`)).status, 200);

/** One answer with this status and a request id, and nothing after it. */
function refused(replies: readonly Reply[], status: number, what?: string): Reply {
  assert.deepEqual(
    replies.map((reply) => reply.status),
    [status],
    what,
  );
  const [reply] = replies;
  assert.match(reply?.headers.get("x-amzn-requestid") ?? "", requestId, what);
  return reply as Reply;
}

test("every answer carries a request id of its own, and none may be kept or guessed at", async () => {
  const lines = [close];
  const cases: [number, string][] = [
    [200, requestText("GET /healthz", lines)],
    [200, requestText("GET /readyz", lines)],
    [200, requestText("GET /metrics", lines)],
    [200, requestText("GET /rekey/v1/openapi.json", lines)],
    [404, requestText("GET /", lines)],
    [404, requestText("GET /rekey/v1/secrets/list", lines)],
    [404, requestText("OPTIONS /rekey/v1/secrets/list", [...lines, "Origin: https://evil.test"])],
    [404, requestText("DELETE /favicon.ico", lines)],
    [400, requestText("GET /%zz", lines)],
    [401, requestText("POST /rekey/v1/secrets/list", [...lines, "Content-Length: 2"], "{}")],
    [400, requestText("POST /", [...lines, json, "X-Amz-Target: secretsmanager.ListSecrets", "Content-Length: 2"], "{}")],
    [400, requestText("POST /?a=b", [...lines, json, "X-Amz-Target: secretsmanager.None", "Content-Length: 2"], "{}")],
    [403, requestText("POST /", [...lines, "Content-Type: application/x-www-form-urlencoded", "Content-Length: 8"], "Action=x")],
  ];
  const ids = new Set<string | undefined>();
  for (const [status, text] of cases) {
    const { headers } = refused(await speak(server.endpoint, text), status, text);
    ids.add(headers.get("x-amzn-requestid"));
    assert.equal(headers.get("access-control-allow-origin"), undefined);
    if (text.startsWith("POST /?") || text.startsWith("POST / ")) continue;
    assert.equal(headers.get("x-content-type-options"), "nosniff", text);
    assert.equal(headers.get("cache-control"), "no-store", text);
  }
  assert.equal(ids.size, cases.length);
});

test("a body beyond the bound is refused at once, by every door and in every form", async () => {
  const aws = [json, "X-Amz-Target: secretsmanager.PutSecretValue"];
  const native = ["Content-Type: application/json"];
  const long = `Content-Length: ${maxBodyBytes + 1}`;
  const announced = await speak(server.endpoint, requestText("POST /", [...aws, long, close]));
  assert.deepEqual(JSON.parse(refused(announced, 413).body), {
    __type: "RequestEntityTooLarge",
    message: `The request body is larger than ${maxBodyBytes} bytes.`,
  });
  const problem = refused(
    await speak(server.endpoint, requestText("POST /rekey/v1/secrets/create", [...native, long, close])),
    413,
  );
  const { code, requestId: named } = JSON.parse(problem.body);
  assert.deepEqual([code, named], ["RequestEntityTooLarge", problem.headers.get("x-amzn-requestid")]);

  const chunk = `${(16_384).toString(16)}\r\n${"x".repeat(16_384)}\r\n`;
  const chunks = `${chunk.repeat(maxBodyBytes / 16_384)}1\r\nx\r\n0\r\n\r\n`;
  for (const [path, headers] of [
    ["/", aws],
    ["/rekey/v1/secrets/create", native],
  ] as const)
    refused(
      await speak(server.endpoint, requestText(`POST ${path}`, [...headers, "Transfer-Encoding: chunked", close], chunks)),
      413,
    );
});

test("a body just within the bound is read, also when it comes byte by byte", async () => {
  const whole = await rawRequest(server, "secretsmanager.ListSecrets", `{"Filters":${" ".repeat(maxBodyBytes - 14)}[]}`);
  assert.equal(whole.status, 200, whole.text);
  const bytes = "{}".padEnd(2_000);
  const chunks = `${[...bytes].map((byte) => `1\r\n${byte}\r\n`).join("")}0\r\n\r\n`;
  const lines = [json, "Transfer-Encoding: chunked", close, "X-Amz-Target: secretsmanager.ListSecrets"];
  const { body } = refused(await speak(server.endpoint, requestText("POST /", lines, chunks)), 400);
  assert.equal(JSON.parse(body).__type, "MissingAuthenticationTokenException");
});

test("too large, and too many, headers are refused", async () => {
  refused(await speak(server.endpoint, requestText("GET /healthz", [`X-Long: ${"x".repeat(17_000)}`])), 431);
  refused(await speak(server.endpoint, requestText(`GET /${"x".repeat(17_000)}`)), 431);
  const many = (count: number) => Array.from({ length: count }, (_, index) => `X-${index}: 1`);
  refused(await speak(server.endpoint, requestText("GET /healthz", many(150))), 431);
  refused(await speak(server.endpoint, requestText("POST /", [...many(100), "Content-Length: 0"])), 431);
  refused(await speak(server.endpoint, requestText("GET /healthz", [...many(98), close])), 200); // with Host: 100
  refused(await speak(server.endpoint, requestText("GET /healthz", [...many(99), close])), 431);
  refused(await speak(server.endpoint, requestText("POST /", ["Expect: more", "Content-Length: 0"])), 417);
});

test("headers and bodies that do not arrive in time end with 408, silence with an end", async () => {
  const slow = await Promise.all([
    speak(server.endpoint, "POST / HTTP/1.1\r\nHost: rekey.test\r\nX-"),
    speak(server.endpoint, requestText("POST /", [json, "Content-Length: 10"], "{")),
    speak(server.endpoint, requestText("POST /rekey/v1/secrets/list", ["Content-Length: 10"], "{")),
    speak(server.endpoint, requestText("POST /", [json, "Transfer-Encoding: chunked"], "1\r\n{\r\n")),
  ]);
  for (const replies of slow) refused(replies, 408);
  await hear(await open(server.endpoint)); // ended: whatever it says
  await isAlive();
});

test("one connection too many is closed, and there is room again once another ends", async () => {
  await using own = await startRekey({ flags: ["--max-connections", "16"] });
  const opened = await Promise.all(Array.from({ length: 16 }, () => open(own.endpoint)));
  assert.deepEqual(await speak(own.endpoint, requestText("GET /healthz", [close])), []);
  opened[0]?.write(requestText("GET /healthz"));
  await once(opened[0] as Socket, "data");
  opened[1]?.destroy();
  for (;;) {
    const [reply] = await speak(own.endpoint, requestText("GET /healthz", [close]));
    if (reply) break; // the end of the other one may take a moment to be seen
    await sleep(10);
  }
  for (const socket of opened) socket.destroy();
});

test("requests that two parsers could read in two ways are refused, and nothing behind them is heard", async () => {
  const hidden = requestText("GET /healthz", [close]);
  const cases: Readonly<Record<string, string>> = {
    "both lengths": requestText("POST /", ["Content-Length: 4", "Transfer-Encoding: chunked"], `0\r\n\r\n${hidden}`),
    "both lengths, the other way round": requestText(
      "POST /",
      ["Transfer-Encoding: chunked", "Content-Length: 4"],
      `0\r\n\r\n${hidden}`,
    ),
    "two lengths": requestText("POST /", ["Content-Length: 0", `Content-Length: ${hidden.length}`], hidden),
    "one length twice": requestText("POST /", ["Content-Length: 0", "Content-Length: 0"], hidden),
    "a list of lengths": requestText("POST /", ["Content-Length: 0, 0"], hidden),
    "a length with a sign": requestText("POST /", ["Content-Length: +0"], hidden),
    "a length below zero": requestText("POST /", ["Content-Length: -1"], hidden),
    "a length in hex": requestText("POST /", ["Content-Length: 0x0"], hidden),
    "a folded header": requestText("POST /", ["X-A: 1", " Content-Length: 0"], hidden),
    "a folded length": requestText("POST /", ["Content-Length:", " 0"], hidden),
    "a space before the colon": requestText("POST /", ["Transfer-Encoding : chunked"], `0\r\n\r\n${hidden}`),
    "chunked, but not at last": requestText("POST /", ["Transfer-Encoding: chunked, identity"], `0\r\n\r\n${hidden}`),
    "an unknown encoding": requestText("POST /", ["Transfer-Encoding: xchunked"], `0\r\n\r\n${hidden}`),
    "chunked twice": requestText("POST /", ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], `zz\r\n${hidden}`),
    "a chunk without a size": requestText("POST /", ["Transfer-Encoding: chunked"], `\r\n${hidden}`),
    "a chunk's size with a sign": requestText("POST /", ["Transfer-Encoding: chunked"], `-1\r\n${hidden}`),
    "a header without a name": requestText("POST /", [": 1", "Content-Length: 0"], hidden),
    "a NUL in a header": requestText("POST /", ["X-A: \0", "Content-Length: 0"], hidden),
    "a bare CR in a header": requestText("POST /", ["X-A: 1\rContent-Length: 0"], hidden),
    "bare line feeds": requestText("POST /", ["Content-Length: 0"], hidden).replaceAll("\r\n", "\n"),
    "no Host": `POST / HTTP/1.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`,
    "another protocol": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
  };
  for (const [what, text] of Object.entries(cases)) {
    const replies = await speak(server.endpoint, Buffer.from(text, "latin1"));
    refused(replies, 400, what);
  }
  await isAlive();
});

test("requests in one go are answered in their order, each with its own answer", async () => {
  const broken = requestText("POST /", [json, "X-Amz-Target: secretsmanager.ListSecrets", "Content-Length: 2"], "{}");
  const text = [requestText("GET /readyz"), broken, requestText("GET /none"), broken, requestText("GET /healthz", [close])];
  const replies = await speak(server.endpoint, text.join(""));
  assert.deepEqual(
    replies.map(({ status }) => status),
    [200, 400, 404, 400, 200],
  );
  assert.equal(new Set(replies.map(({ headers }) => headers.get("x-amzn-requestid"))).size, 5);
  assert.deepEqual(JSON.parse(replies[0]?.body ?? ""), { status: "ready", store: "ok", key: "ok" });
});

test("what follows a request and is no HTTP does not displace its answer", async () => {
  const [first, ...others] = await speak(server.endpoint, `${requestText("GET /readyz")}\x00\x01\x02 garbage\r\n\r\n`);
  assert.equal(first?.status, 200);
  assert.ok(others.every(({ status }) => status === 400));
});

test("callers who leave in the middle leave nothing behind", async () => {
  const name = newName();
  await nativeOk(server, "secrets/create", { name, secretString: "value" });
  const half = requestText("POST /", [json, "Content-Length: 10000"], "{");
  const whole = requestText("POST /", [json, "X-Amz-Target: secretsmanager.ListSecrets", "Content-Length: 2"], "{}");
  const nativeHalf = requestText("POST /rekey/v1/secrets/create", ["Transfer-Encoding: chunked"], "5\r\n{");
  for (const text of [half, whole, nativeHalf, "POST / HT"])
    for (let round = 0; round < maxConnections; round++) {
      const socket = await open(server.endpoint);
      socket.write(text);
      if (round % 2 === 0) socket.resetAndDestroy();
      else socket.destroy();
    }
  const client = secretsClient(server);
  assert.equal((await client.send(new GetSecretValueCommand({ SecretId: name }))).SecretString, "value");
  client.destroy();
  const errors = server
    .log()
    .split("\n")
    .filter((line) => /"level":[56]0/.test(line));
  assert.deepEqual(errors, []);
});

const canConnect = (endpoint: string): Promise<boolean> =>
  open(endpoint).then(
    (socket) => Boolean(socket.destroy()),
    () => false,
  );

test("a stopping server finishes what it has begun and does not wait for idle connections", async () => {
  const own = await startRekey();
  const unused = await open(own.endpoint);
  const busy = await open(own.endpoint);
  const lines = [json, "X-Amz-Target: secretsmanager.ListSecrets", "Content-Length: 2", "Expect: 100-continue"];
  busy.write(requestText("POST /", lines, "{"));
  const heard = hear(busy);
  await once(busy, "data"); // it was told to continue: its request has begun
  const stopped = own.stop();
  while (await canConnect(own.endpoint)) await sleep(10);
  busy.write("}");
  assert.equal(await stopped, 0);
  refused(await heard, 400);
  unused.destroy();
  await own[Symbol.asyncDispose]();
});

test("counts by door, operation and outcome hold nothing that a caller wrote", async () => {
  const name = newName("marked");
  await rawCall(server, "DescribeSecret", { SecretId: name });
  await rawCall(server, `Marked${name}`, {});
  await rawRequest(server, `secretsmanager.${name}`, "{}");
  await fetch(`${server.endpoint}/rekey/v1/${name}/list`, { method: "POST" });
  await fetch(`${server.endpoint}/${name}`);
  const text = await (await fetch(`${server.endpoint}/metrics`)).text();
  assert.doesNotMatch(text, /marked/i);
  const line = (labels: string) => new RegExp(`^rekey_requests_total\\{${labels}\\} [1-9]\\d*$`, "m");
  assert.match(text, line('door="aws-json",operation="DescribeSecret",outcome="ResourceNotFoundException"'));
  assert.match(text, line('door="aws-json",operation="unknown",outcome="UnknownOperationException"'));
  assert.match(text, line('door="http",operation="unknown",outcome="UnknownOperationException"'));
  assert.match(text, line('door="http",operation="unknown",outcome="HTTP 431"'));
  assert.match(text, /^rekey_request_duration_seconds_count\{door="aws-json",operation="DescribeSecret"\} [1-9]/m);
  for (const name of ["rekey_rotations", "nodejs_eventloop_lag_seconds", "process_resident_memory_bytes"])
    assert.match(text, new RegExp(`^# TYPE ${name} `, "m"));
});
