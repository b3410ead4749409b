import assert from "node:assert/strict";
import { test } from "node:test";
import { createApp } from "../../src/http/app.ts";
import { configApi, configRoutes } from "../../src/http/config-api.ts";
import { shapeOf } from "../../src/http/member-names.ts";
import { createLog } from "../../src/log.ts";
import { operations } from "../../src/operations/index.ts";
import { Hints } from "../../src/store/hints.ts";

const byName = new Map(operations.map((operation) => [operation.name, operation]));

test("every endpoint of the config API is an operation, and gives it only what it takes", () => {
  for (const { method, path, operation: name, input } of configRoutes) {
    const operation = byName.get(name);
    assert.ok(operation, `${method} ${path}: there is no operation ${name}`);
    const takes = Object.keys(shapeOf(operation.input).properties ?? {});
    for (const member of Object.keys(input)) assert.ok(takes.includes(member), `${method} ${path}: ${name} takes no ${member}`);
    for (const member of shapeOf(operation.input).required ?? [])
      assert.ok(member in input, `${method} ${path}: ${name} needs ${member}`);
  }
});

test("no endpoint is there twice", () => {
  const endpoints = configRoutes.map(({ method, path }) => `${method} ${path}`);
  assert.equal(new Set(endpoints).size, endpoints.length);
});

test("without an operation that an endpoint needs, nothing starts", async () => {
  const start = (list: typeof operations) => {
    const app = createApp({ maxBodyBytes: 1000 }, {});
    const services = { hints: new Hints(), log: createLog("fatal") };
    configApi(app, { api: { services }, operations: list, maxBodyBytes: 1000, closing: new AbortController().signal } as never);
    return app.ready();
  };
  await start(operations);
  const lacking = operations.filter(({ name }) => name !== "RollbackConfig");
  await assert.rejects(Promise.resolve(start(lacking)), /has a route for operation RollbackConfig, which is not there/);
});
