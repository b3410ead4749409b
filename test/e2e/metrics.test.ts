import assert from "node:assert/strict";
import { test } from "node:test";
import { rawCall } from "../support/aws.ts";
import { awaitLog, logLines } from "../support/processes.ts";
import { type RekeyServer, startRekey } from "../support/rekey-server.ts";

const own = ["--metrics-listen", "127.0.0.1:0"];

/** Where the listener of `--metrics-listen` is: the system chose its port. */
async function metricsEndpoint(server: RekeyServer): Promise<string> {
  await awaitLog(server, ({ msg }) => msg === "metrics");
  const { host, port } = logLines(server).find(({ msg }) => msg === "metrics") ?? {};
  return `http://${host}:${port}`;
}

test("an address of its own answers metrics and nothing else, and no other does any more", async () => {
  await using server = await startRekey({ flags: own });
  const endpoint = await metricsEndpoint(server);
  const response = await fetch(`${endpoint}/metrics`, { headers: { "x-forwarded-for": "192.0.2.1" } });
  assert.equal(response.status, 200);
  assert.match(response.headers.get("content-type") ?? "", /^text\/plain; version=0\.0\.4/);
  const text = await response.text();
  for (const name of ["rekey_rotations", "rekey_requests_total", "nodejs_eventloop_lag_seconds", "process_cpu_seconds_total"])
    assert.match(text, new RegExp(`^# TYPE ${name} `, "m"));
  for (const path of ["/", "/healthz", "/readyz", "/rekey/v1/openapi.json", "/metrics/x"])
    assert.equal((await fetch(endpoint + path)).status, 404, path);
  assert.equal((await fetch(`${endpoint}/metrics`, { method: "POST" })).status, 404);
  assert.equal((await fetch(`${server.endpoint}/metrics`)).status, 404);
});

for (const flags of [own, []])
  test(`several processes are measured as one, ${flags.length > 0 ? "there" : "at the main address"} too`, async () => {
    await using server = await startRekey({ flags: ["--processes", "2", ...flags] });
    const endpoint = flags.length > 0 ? await metricsEndpoint(server) : server.endpoint;
    const asked = 8;
    await Promise.all(Array.from({ length: asked }, () => rawCall(server, "DescribeSecret", { SecretId: "none" })));
    const text = await (await fetch(`${endpoint}/metrics`)).text();
    const counts = [...text.matchAll(/^rekey_requests_total\{.*"DescribeSecret",outcome="(\w+)",process="\d"\} (\d+)$/gm)];
    assert.ok(counts.every(([, outcome]) => outcome === "ResourceNotFoundException"));
    assert.equal(
      counts.reduce((sum, [, , count]) => sum + Number(count), 0),
      asked,
      text,
    );
    for (const process of [0, 1]) assert.match(text, new RegExp(`^process_cpu_seconds_total\\{process="${process}"\\} `, "m"));
    assert.equal(text.match(/^# TYPE process_cpu_seconds_total /gm)?.length, 1);
  });
