import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { RotatorError } from "../../src/core/error.ts";
import { advance, type Rotation } from "../../src/core/rotation.ts";
import { Breakers } from "../../src/engine/breaker.ts";
import { Caps, targetOf } from "../../src/engine/caps.ts";
import { reasonOf } from "../../src/engine/within-limits.ts";

test("a target that was silent five times in a row is tried once each half minute", () => {
  let now = 1_000_000;
  const breakers = new Breakers(() => now);
  for (let silence = 1; silence <= 5; silence++) {
    assert.equal(breakers.away("a"), undefined);
    breakers.note("a", silence % 2 === 0 ? "timeout" : "unreachable");
  }
  assert.deepEqual(breakers.away("a"), { untilMs: now + 30_000, sinceMs: now });
  assert.equal(breakers.away("b"), undefined, "others are tried");
  now += 29_999;
  assert.ok(breakers.away("a"));
  now += 1;
  assert.equal(breakers.away("a"), undefined, "one may try");
  assert.ok(breakers.away("a"), "and one only");
  breakers.note("a", "timeout");
  assert.deepEqual(breakers.away("a", true), { untilMs: now + 30_000, sinceMs: 1_000_000 }, "who tried comes again first");
});

test("users of one server share a target; secrets that stand for themselves share none", () => {
  assert.equal(targetOf("postgres://h:5432/app"), targetOf("postgres://h:5432/other"));
  assert.notEqual(targetOf("postgres://h:5432/app"), targetOf("postgres://h:5433/app"));
  assert.notEqual(targetOf("secret/1"), targetOf("secret/2"), "one that is silent would keep all others waiting");
});

test("an answer of any kind ends it, and tells that others may be woken", () => {
  for (const answer of ["ok", "refused", "locked", "expired", "tls"] as const) {
    const breakers = new Breakers(() => 0);
    for (let count = 0; count < 5; count++) assert.equal(breakers.note("a", "unreachable"), false);
    assert.equal(breakers.note("a", "unknown"), false);
    assert.equal(breakers.note("a", "denied"), false);
    assert.ok(breakers.away("a"), "what came from elsewhere says nothing of the target");
    assert.equal(breakers.note("a", answer), true);
    assert.equal(breakers.away("a"), undefined);
    assert.equal(breakers.note("a", answer), false, "no news");
  }
});

test("after a start the first answer of each target is news: somebody may wait from before", () => {
  const breakers = new Breakers(() => 0);
  assert.equal(breakers.note("a", "ok"), true);
  assert.equal(breakers.note("a", "ok"), false);
  assert.equal(breakers.note("b", "refused"), true);
});

test("why it is not reached is told to all who are turned away, until it answers", () => {
  const breakers = new Breakers(() => 0);
  const why = "No agent of network plant is there.";
  for (let count = 0; count < 5; count++) breakers.note("a", "unreachable", why);
  breakers.note("a", "timeout");
  const away = breakers.silence("a") ?? assert.fail();
  assert.equal(
    Breakers.words(away, "postgres", "a"),
    `postgres at a has not answered since 1970-01-01T00:00:00.000Z; it is tried again every 30 s: ${why}`,
  );
  breakers.note("a", "ok");
  for (let count = 0; count < 5; count++) breakers.note("a", "timeout");
  assert.doesNotMatch(Breakers.words(breakers.silence("a") ?? assert.fail(), "postgres", "a"), /agent/);
});

test("only what keeps all from a target is told to others", () => {
  assert.equal(reasonOf(new RotatorError("unreachable", "no route")), "no route");
  assert.equal(reasonOf(new RotatorError("timeout", "alter role one's own")), undefined);
  assert.equal(reasonOf(new Error("internal")), undefined);
});

test("of many that wait, ten a second come to see", () => {
  const breakers = new Breakers(() => 0);
  for (let count = 0; count < 5; count++) breakers.note("a", "timeout");
  const times = Array.from({ length: 20_000 }, () => breakers.away("a")?.untilMs ?? 0);
  assert.deepEqual(times.slice(0, 3), [30_000, 30_100, 30_200]);
  assert.equal(Math.max(...times), 30_000 + 15 * 60_000);
});

test("I15: caps hold at every instant, whatever comes, goes and changes", () => {
  const step = fc.record({ key: fc.constantFrom("a", "b"), enters: fc.boolean(), limit: fc.integer({ min: 1, max: 5 }) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      let limit = 3;
      const caps = new Caps(() => limit);
      const inside = new Map<string, number>();
      for (const { key, enters, limit: next } of steps) {
        const before = inside.get(key) ?? 0;
        if (!enters) {
          if (before > 0) caps.leave(key);
          inside.set(key, Math.max(before - 1, 0));
        } else if (caps.enter(key, 4)) {
          assert.ok(before < Math.min(limit, 4));
          inside.set(key, before + 1);
        } else assert.ok(before >= Math.min(limit, 4));
        limit = next;
      }
    }),
  );
});

test("who is turned away comes the later the more there are, until somebody has left", () => {
  const caps = new Caps(() => 1);
  assert.equal(caps.enter("a"), true);
  for (let count = 1; count <= 5; count++) {
    assert.equal(caps.enter("a"), false);
    assert.equal(caps.turnedAway("a"), count);
  }
  caps.leave("a");
  assert.equal(caps.turnedAway("a"), 0);
});

const rotation: Rotation = {
  id: "r",
  secretId: "s",
  versionId: "v",
  generation: 1,
  origin: "schedule",
  testOnly: false,
  functionArn: "f",
  principal: "p",
  step: "setSecret",
  state: "running",
  attempt: 3,
  stepAttempt: 3,
  runAt: 0,
  windowEndsAt: 100_000,
  startedAt: 0,
  failedProbes: 0,
  tries: [],
};

test("waiting for a silent target is no try, and ends with the window", () => {
  const silent = { class: "unreachable", error: "postgres at x has not answered", againAt: 40_000 } as const;
  const waiting = advance(rotation, silent, 10_000, 0.5);
  assert.equal(waiting.state, "running");
  assert.deepEqual([waiting.attempt, waiting.stepAttempt, waiting.runAt, waiting.outcome], [3, 3, 40_000, "unreachable"]);
  assert.match(waiting.error ?? "", /has not answered/);
  assert.match(waiting.remedy ?? "", /Check host/);
  assert.equal(advance(rotation, { ...silent, againAt: 900_000 }, 10_000, 0.5).runAt, 100_000, "looked at once more in the end");
  const over = advance(rotation, silent, 100_000, 0.5);
  assert.equal(over.state, "failed");
  assert.match(over.error ?? "", /has not answered/);
  assert.equal(advance({ ...rotation, testOnly: true }, silent, 10_000, 0.5).state, "failed", "a test tells at once");
});

test("of targets that whoever writes secrets names, only so many are remembered", () => {
  const breakers = new Breakers(() => 0);
  const silence = (target: string) => {
    for (let count = 0; count < 5; count++) breakers.note(target, "timeout");
  };
  silence("first");
  for (let index = 0; index < 10_000; index++) silence(`target ${index}`);
  assert.equal(breakers.away("first"), undefined);
  assert.ok(breakers.away("target 0"));
  for (let index = 0; index <= 10_000; index++) breakers.note(`answers ${index}`, "ok");
  assert.equal(breakers.note("answers 0", "ok"), true, "it is new again");
});

test("an agent that is back in a network has its targets tried, and no others", () => {
  const breakers = new Breakers(() => 0);
  const targets = ["plant+postgres://db:5432", "plant2+postgres://db:5432", "postgres://db:5432"];
  for (const target of targets) for (let count = 0; count < 5; count++) breakers.note(target, "unreachable");
  breakers.note("plant+redis://cache:6379", "timeout");
  assert.deepEqual(breakers.forget("plant"), ["plant+postgres://db:5432", "plant+redis://cache:6379"]);
  assert.deepEqual(
    targets.map((target) => breakers.away(target) !== undefined),
    [false, true, true],
  );
});
