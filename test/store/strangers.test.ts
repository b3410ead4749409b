import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { ServiceError } from "../../src/core/error.ts";
import { type ApiRequest, dispatch } from "../../src/http/dispatch.ts";
import { createRequestRate } from "../../src/http/request-rate.ts";
import { dataFolder } from "../support/audit.ts";
import { memoryStore } from "../support/keys.ts";
import { operationsWorld } from "../support/operations-world.ts";

test("strangers cannot fill the disk: beyond a hundred a second from one address their requests leave no record", async () => {
  await using world = await operationsWorld(await memoryStore(), dataFolder());
  const { services, clock } = world;
  const counted: string[] = [];
  const api = {
    services,
    authorize: () => undefined,
    rate: createRequestRate(10_000),
    count: (_door: string, _operation: string, outcome: string) => void counted.push(outcome),
  };
  const refusal = new ServiceError("MissingAuthenticationTokenException", "Missing Authentication Token");
  const never = () => assert.fail("nobody was let in");
  const ask = async (sourceIp: string) => {
    const from = { door: "aws-json", requestId: randomUUID(), sourceIp, userAgent: "tests", secure: false } as const;
    const request: ApiRequest = { ...from, authenticate: () => Promise.reject(refusal), operation: never, body: never };
    await assert.rejects(dispatch(request, api), { code: refusal.code });
  };
  for (let asked = 0; asked < 150; asked++) await ask("192.0.2.1");
  await ask("192.0.2.2");
  clock.now += 1_000;
  await ask("192.0.2.1");
  await world.settleAudit();
  const { records } = await services.audit.search({ principal: "anonymous", limit: 1_000 });
  assert.equal(records.length, 102);
  assert.equal(counted.length, 152, "metrics tell of all");
});
