import assert from "node:assert/strict";
import { test } from "node:test";
import { createLoginLimiter } from "../../src/auth/login-limiter.ts";

const throttled = { code: "ThrottlingException", message: "Rate exceeded" };
const fail = (limiter: ReturnType<typeof createLoginLimiter>, address: string, times: number, atMs = 0) => {
  for (let i = 0; i < times; i++) limiter.failed(address, atMs);
};

test("the address that failed too often waits, until its window is over", () => {
  const limiter = createLoginLimiter({ maxFailures: 3, windowMs: 1000 });
  fail(limiter, "192.0.2.1", 2);
  limiter.check("192.0.2.1", 0);
  fail(limiter, "192.0.2.1", 1);
  assert.throws(() => limiter.check("192.0.2.1", 999), throttled);
  limiter.check("192.0.2.1", 1000);
  fail(limiter, "192.0.2.1", 2, 1000);
  limiter.check("192.0.2.1", 1000);
});

test("other addresses never feel it", () => {
  const limiter = createLoginLimiter({ maxFailures: 1 });
  fail(limiter, "192.0.2.1", 5);
  limiter.check("192.0.2.2", 0);
});

test("an IPv6 network of 64 bits counts as one address", () => {
  const limiter = createLoginLimiter({ maxFailures: 2 });
  fail(limiter, "2001:db8::1", 1);
  fail(limiter, "2001:db8:0:0:ffff::2", 1);
  assert.throws(() => limiter.check("2001:db8::3", 0), throttled);
  limiter.check("2001:db8:0:1::1", 0);
});

test("it remembers so many addresses and no more", () => {
  const limiter = createLoginLimiter({ maxFailures: 1, maxAddresses: 2 });
  for (const address of ["192.0.2.1", "192.0.2.2", "192.0.2.3"]) fail(limiter, address, 1);
  limiter.check("192.0.2.1", 0);
  assert.throws(() => limiter.check("192.0.2.2", 0), throttled);
  assert.throws(() => limiter.check("192.0.2.3", 0), throttled);
});
