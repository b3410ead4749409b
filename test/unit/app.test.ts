import assert from "node:assert/strict";
import { test } from "node:test";
import { createApp } from "../../src/http/app.ts";
import { health } from "../../src/http/health.ts";
import { createMetrics, metricsRoute } from "../../src/http/metrics.ts";
import { createLog } from "../../src/log.ts";

const marked = "s3cret-cause";

function logged() {
  let text = "";
  const write = (line: string): void => {
    text += line;
  };
  const log = createLog("info", { write });
  return { log, text: () => text };
}

test("what is not usable is said in words, its cause only in the log", async () => {
  for (const part of ["store", "key"] as const) {
    const { log, text } = logged();
    const app = createApp({ maxBodyBytes: 1000 }, {});
    const works = async () => undefined;
    const fails = () => {
      throw new Error(marked);
    };
    health(app, { store: works, key: works, [part]: fails }, log);
    const { statusCode, body } = await app.inject("/readyz");
    assert.equal(statusCode, 503);
    const answer = JSON.parse(body);
    assert.deepEqual([answer.status, answer[part], answer[part === "key" ? "store" : "key"]], ["not ready", "failed", "ok"]);
    assert.match(answer.reason, part === "store" ? /^The store cannot be read; / : /^The root key cannot unwrap /);
    assert.ok(!body.includes(marked) && text().includes(marked));
    assert.equal((await app.inject("/healthz")).statusCode, 200);
  }
});

test("a check that never answers is not waited for, and is asked once for all who ask", async () => {
  const app = createApp({ maxBodyBytes: 1000 }, {});
  let asked = 0;
  const never = () => {
    asked += 1;
    return new Promise<never>(() => undefined);
  };
  health(app, { store: never, key: async () => undefined }, logged().log);
  const answers = await Promise.all(Array.from({ length: 20 }, () => app.inject("/readyz")));
  for (const { statusCode, body } of answers) {
    assert.equal(statusCode, 503);
    assert.equal(JSON.parse(body).reason, "The store did not answer within 2 seconds.");
  }
  assert.equal(asked, 1);
});

test("metrics are for this machine, also when the rotations cannot be counted", async () => {
  const app = createApp({ maxBodyBytes: 1000 }, {});
  metricsRoute(
    app,
    createMetrics({
      rotations: () => Promise.reject(new Error("no store")),
      heartbeats: () => Promise.reject(new Error("no store")),
      targets: () => Promise.reject(new Error("no store")),
      agents: () => Promise.reject(new Error("no store")),
      agentJobs: () => new Map(),
    }),
  );
  const ask = (remoteAddress: string, headers = {}) => app.inject({ url: "/metrics", remoteAddress, headers });
  for (const address of ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"]) {
    const { statusCode, body } = await ask(address);
    assert.equal(statusCode, 200, address);
    assert.match(body, /^process_resident_memory_bytes \d/m);
  }
  for (const address of ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1"])
    assert.equal((await ask(address)).statusCode, 404, address);
  for (const name of ["x-forwarded-for", "forwarded"])
    assert.equal((await ask("::1", { [name]: "for=192.0.2.1" })).statusCode, 404);
});

test("a handler that throws is told as a bug, without its words", async () => {
  const outcomes: string[] = [];
  const app = createApp({ maxBodyBytes: 1000, refused: (outcome) => outcomes.push(outcome) }, {});
  app.get("/broken", () => {
    throw new Error(marked);
  });
  const { statusCode, body, headers } = await app.inject("/broken");
  assert.equal(statusCode, 500);
  assert.deepEqual(JSON.parse(body), {
    type: "urn:rekey:error:InternalServiceError",
    title: "Internal service error",
    status: 500,
    code: "InternalServiceError",
    detail: `An error occurred on the server side. Request id: ${headers["x-amzn-requestid"]}`,
    requestId: headers["x-amzn-requestid"],
  });
  assert.deepEqual(outcomes, ["InternalServiceError"]);
});
