// Bodies of DELETE without any framing: taken from Doppler's SDK, and from nobody and nothing else.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { hear, open, type Reply, requestText, speak } from "../support/raw-http.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";

let server: RekeyServer;
before(async () => {
  server = await startRekey();
});
after(() => server[Symbol.asyncDispose]());

const sdk = "User-Agent: Node.js/v24.1.0 DopplerSDK/1.3.0";
const json = "content-type: application/json";
const bearer = () => `Authorization: Bearer ${server.credentials.token}`;
const head = (method = "DELETE", lines: readonly string[] = [sdk]) =>
  requestText(`${method} /v3/projects/project`, [bearer(), json, ...lines]);
const listing = (lines: readonly string[] = []) => requestText("GET /v3/projects/project?project=none", [bearer(), ...lines]);

let made = 0;
async function newProject(): Promise<string> {
  const name = `p${++made}`;
  const headers = { authorization: `Bearer ${server.credentials.token}` };
  const answer = await fetch(`${server.endpoint}/v3/projects`, { method: "POST", headers, body: JSON.stringify({ name }) });
  assert.equal(answer.status, 200, await answer.text());
  return name;
}

async function isThere(project: string): Promise<boolean> {
  const headers = { authorization: `Bearer ${server.credentials.token}` };
  const { status } = await fetch(`${server.endpoint}/v3/projects/project?project=${project}`, { headers });
  assert.ok(status === 200 || status === 404, `${status}`);
  return status === 200;
}

/** Pieces of a request, each in a packet of its own. */
async function inPieces(...parts: readonly string[]): Promise<Reply[]> {
  const socket = await open(server.endpoint);
  socket.setNoDelay(true);
  const heard = hear(socket);
  for (const part of parts) {
    socket.write(part);
    await sleep(20);
  }
  return heard;
}

const statuses = (replies: readonly Reply[]) => replies.map(({ status }) => status);

test("the SDK's body is taken, however it is cut, and the connection ends with the answer", async () => {
  const cuts: ((name: string) => string[])[] = [
    (name) => [`${head()}{"project":"${name}"}`],
    (name) => [head(), `{"project":"${name}"}`],
    (name) => [head(), '{"pro', `ject":"${name}`, '"}'],
    (name) => [`${head()}{"note":"}`, `","project":"${name}"}`],
    (name) => [`${head()}{"project":`, `"${name}"}`],
    (name) => [head().slice(0, 15), head().slice(15), `{"project":"${name}"}`],
    (name) => [head().slice(0, 15), `${head().slice(15)}{"note":"}","project":"${name}"}`],
  ];
  for (const cut of cuts) {
    const name = await newProject();
    const replies = await inPieces(...cut(name));
    assert.deepEqual(statuses(replies), [200], `${cut}`);
    assert.equal(replies[0]?.headers.get("connection"), "close");
    assert.deepEqual(JSON.parse(replies[0]?.body ?? ""), { success: true });
    assert.equal(await isThere(name), false);
  }
});

test("after other requests on a kept connection, too", async () => {
  const name = await newProject();
  const socket = await open(server.endpoint);
  const heard = hear(socket);
  socket.write(listing([sdk]));
  await new Promise((resolve) => socket.once("data", resolve));
  socket.write(`${head()}{"project":"${name}"}`);
  assert.deepEqual(statuses(await heard), [404, 200]);
  assert.equal(await isThere(name), false);
});

test("nobody else's are: other clients, other methods, other paths, framed requests", async () => {
  const name = await newProject();
  const body = `{"project":"${name}"}`;
  const others: readonly string[] = [
    head("DELETE", []),
    head("DELETE", ["User-Agent: doppler-go-cli-3.68.0"]),
    head("DELETE", ["User-Agent: NotDopplerSDK/1.3.0"]),
    head("DELETE", ["User-Agent: DopplerSDK"]),
    head("DELETE", ["User-Agent: curl/8", "X-User-Agent: DopplerSDK/1.3.0"]),
    head("DELETE", [sdk, "Content-Length: 0"]),
    head("GET"),
    head("POST"),
    head("PATCH"),
    requestText("DELETE /rekey/v1/projects/delete", [bearer(), json, sdk]),
    requestText("DELETE /v3", [bearer(), json, sdk]),
  ];
  for (const other of others) {
    const replies = await speak(server.endpoint, `${other}${body}`);
    assert.equal(replies.length, 1, other);
    assert.ok((replies[0]?.status ?? 0) >= 400, other);
    assert.ok(!replies[0]?.body.includes(name), other);
    assert.equal(await isThere(name), true, other);
  }
});

test("what follows the body is neither part of it nor another request", async () => {
  const name = await newProject();
  const second = `${listing()}`;
  const together = await speak(server.endpoint, `${head()}{"project":"${name}"}${second}`);
  assert.deepEqual(statuses(together), [400]);
  assert.equal(await isThere(name), true);

  const other = await newProject();
  const later = await inPieces(
    `${head()}{}`,
    `DELETE /v3/projects/project?project=${other} HTTP/1.1\r\nHost: a\r\n${bearer()}\r\n\r\n`,
  );
  assert.deepEqual(statuses(later), [400], "only the first is answered: it names no project");
  assert.equal(await isThere(other), true);

  const nested = await inPieces(head(), '{"a":{', `}}GET /v3/projects HTTP/1.1\r\nHost: a\r\n${bearer()}\r\n\r\n{}`);
  assert.deepEqual(statuses(nested), [400]);
});

test("a request that waits for its answer before it on the connection keeps the body from being taken", async () => {
  const name = await newProject();
  const replies = await speak(server.endpoint, `${listing()}${head()}{"project":"${name}"}`);
  assert.ok([404, 400].includes(replies.at(-1)?.status ?? 0), JSON.stringify(statuses(replies)));
  assert.ok(replies.length <= 2);
  assert.equal(await isThere(name), true);
});

test("a DELETE without body, and another request behind it, are what HTTP says", async () => {
  const name = await newProject();
  const named = requestText(`DELETE /v3/projects/project?project=${name}`, [bearer(), json, sdk]);
  const replies = await speak(server.endpoint, `${named}${listing()}`);
  assert.equal(replies[0]?.status, 200);
  assert.equal(await isThere(name), false);
});

test("bodies that are large, broken or never whole are refused, and nothing was done", async () => {
  const name = await newProject();
  const large = `{"project":"${name}","padding":"${"x".repeat(17_000)}"}`;
  const small = `{"project":"${name}"`;
  const cases: [number, string[]][] = [
    [413, [`${head()}${large}`]],
    [413, [head(), large.slice(0, 9000), large.slice(9000)]],
    [400, [`${head()}${small}`]],
    [400, [head(), small]],
    [400, [`${head()}{"project":"${name}"]`]],
  ];
  await Promise.all(
    cases.map(async ([status, parts]) => {
      const replies = await inPieces(...parts);
      assert.deepEqual(statuses(replies), [status]);
      assert.equal(JSON.parse(replies[0]?.body ?? "").success, false);
      assert.match(replies[0]?.headers.get("content-type") ?? "", /^application\/json/);
    }),
  );
  assert.equal(await isThere(name), true);
});

test("no token, no deletion: the body changes nothing about who may", async () => {
  const name = await newProject();
  const text = requestText("DELETE /v3/projects/project", [json, sdk]);
  const replies = await speak(server.endpoint, `${text}{"project":"${name}","token":"${server.credentials.token}"}`);
  assert.deepEqual(statuses(replies), [401]);
  assert.equal(await isThere(name), true);
});

test("neighbours on connections of their own are not disturbed", async () => {
  const neighbour = await open(server.endpoint);
  const heard = hear(neighbour);
  const request = listing();
  neighbour.write(request.slice(0, 20));
  const names = await Promise.all(Array.from({ length: 8 }, () => newProject()));
  await Promise.all([
    ...names.map((name) => speak(server.endpoint, `${head()}{"project":"${name}"}`)),
    ...names.map(() => speak(server.endpoint, `${head("DELETE", [])}{"project":"x"}`)),
  ]);
  for (const name of names) assert.equal(await isThere(name), false);
  neighbour.write(request.slice(20));
  await new Promise((resolve) => neighbour.once("data", resolve));
  neighbour.write(listing(["Connection: close"]));
  assert.deepEqual(statuses(await heard), [404, 404]);
});
