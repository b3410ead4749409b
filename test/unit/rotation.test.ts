import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { failureClasses, type OutcomeClass } from "../../src/core/error.ts";
import {
  advance,
  decide,
  maxAttempts,
  maxProbes,
  maxTries,
  mustProbe,
  pauseMs,
  probed,
  quickProbes,
  type Rotation,
  type StepOutcome,
} from "../../src/core/rotation.ts";

const classes: readonly OutcomeClass[] = ["ok", ...failureClasses];
const steps = ["createSecret", "setSecret", "testSecret", "finishSecret"];
const hourMs = 3_600_000;

const begun: Rotation = {
  id: "r",
  secretId: "s",
  versionId: "v",
  generation: 1,
  origin: "schedule",
  testOnly: false,
  functionArn: "f",
  principal: "p",
  step: "createSecret",
  state: "running",
  attempt: 0,
  stepAttempt: 0,
  runAt: 0,
  windowEndsAt: hourMs,
  startedAt: 0,
  failedProbes: 0,
  tries: [],
};

const anyClass = fc.constantFrom(...classes);
const anyOutcome: fc.Arbitrary<StepOutcome> = fc.record({
  class: fc.oneof({ weight: 3, arbitrary: anyClass }, { weight: 1, arbitrary: fc.constant("ok" as const) }),
});
const seed = fc.double({ min: 0, max: 0.999_999, noNaN: true });

test("a rotation always ends, inside its window and its attempts, and never goes back", () => {
  fc.assert(
    fc.property(fc.infiniteStream(fc.tuple(anyOutcome, seed)), fc.boolean(), (stream, testOnly) => {
      let rotation: Rotation = { ...begun, testOnly, step: testOnly ? "testSecret" : "createSecret" };
      for (let tries = 0; rotation.state === "running"; tries++) {
        assert.ok(tries < steps.length + maxAttempts);
        const [outcome, random] = stream.next().value;
        const next = advance(rotation, outcome, rotation.runAt, random);
        assert.ok(steps.indexOf(next.step) >= steps.indexOf(rotation.step));
        assert.ok(next.runAt >= rotation.runAt);
        assert.ok(next.state !== "running" || next.runAt <= next.windowEndsAt);
        assert.equal(next.step === rotation.step && next.state !== "succeeded", outcome.class !== "ok", "only ok moves it on");
        rotation = next;
      }
      assert.ok(rotation.endedAt !== undefined);
      assert.deepEqual(advance(rotation, { class: "ok" }, rotation.runAt + 1, 0), rotation, "what has ended stays as it is");
    }),
  );
});

test("four good steps succeed; one that only tests ends with testSecret, and with its first failure", () => {
  let rotation = begun;
  for (const step of steps) {
    assert.equal(rotation.step, step);
    rotation = advance(rotation, { class: "ok" }, 5, 0.5);
  }
  assert.deepEqual([rotation.state, rotation.endedAt, rotation.attempt], ["succeeded", 5, 0]);
  const testing: Rotation = { ...begun, testOnly: true, step: "testSecret" };
  assert.equal(advance(testing, { class: "ok" }, 5, 0.5).state, "succeeded");
  assert.equal(advance(testing, { class: "unreachable" }, 5, 0).state, "failed");
});

test("pauses double from one second to a quarter of an hour, with full jitter", () => {
  assert.deepEqual(
    [0, 1, 2, 9, 10, 50].map((failures) => pauseMs(failures, 0.999_999_9)),
    [999, 1_999, 3_999, 511_999, 899_999, 899_999],
  );
  assert.equal(pauseMs(5, 0), 0);
});

test("a failure keeps what it was and how to help; a later success of the step clears it", () => {
  const failed = advance(begun, { class: "unreachable", error: "role u at h:1: not there" }, 10, 0.5);
  assert.deepEqual(
    [failed.outcome, failed.error, failed.runAt, failed.attempt, failed.stepAttempt],
    ["unreachable", "role u at h:1: not there", 510, 1, 1],
  );
  assert.match(failed.remedy ?? "", /network/);
  const good = advance(failed, { class: "ok" }, 600, 0.5);
  assert.deepEqual(
    [good.step, good.attempt, good.stepAttempt, good.error, good.remedy],
    ["setSecret", 1, 0, undefined, undefined],
  );
});

test("after the window there is no further try; a block ends at once and keeps its remedy", () => {
  const late = advance({ ...begun, stepAttempt: 20, attempt: 20 }, { class: "timeout" }, hourMs - 1, 0.9);
  assert.equal(late.state, "failed");
  const blocked = advance(begun, { class: "refused", error: "e", blocked: "do this" }, 1, 0.5);
  assert.deepEqual([blocked.state, blocked.remedy, blocked.endedAt], ["blocked", "do this", 1]);
});

test("after any failure the target is asked first", () => {
  for (const outcome of classes) assert.equal(mustProbe({ ...begun, outcome }, false), outcome !== "ok", outcome);
  assert.equal(mustProbe(begun, false), false);
  assert.equal(mustProbe(begun, true), true);
});

// Every pair of answers: rows pending, columns current, with no previous version and no superuser.
test("the table of decisions", () => {
  for (const pending of classes) {
    for (const current of classes) {
      const decision = decide({ pending, current, admin: false });
      if (pending === "ok") assert.equal(decision, "proceed");
      else if (current === "ok") assert.equal(decision, "set");
      else assert.equal(decision, pending === "refused" && current === "refused" ? "blocked" : "wait", `${pending} ${current}`);
    }
  }
  assert.equal(decide({ pending: "refused", current: "refused", admin: true }), "reset");
  assert.equal(decide({ pending: "refused", current: "refused", previous: "ok", admin: false }), "set");
  assert.equal(decide({ pending: "refused", current: "refused", previous: "unreachable", admin: true }), "wait");
});

test("nothing is forced at a target that any version could not ask", () => {
  const unsure = fc.constantFrom<OutcomeClass>("unreachable", "timeout", "unknown", "tls", "locked");
  const notOk = fc.constantFrom(...classes.filter((each) => each !== "ok"));
  fc.assert(
    fc.property(unsure, notOk, fc.boolean(), fc.boolean(), (silent, other, swap, admin) => {
      const probes = swap ? { pending: silent, current: other } : { pending: other, current: silent };
      assert.equal(decide({ ...probes, admin }), "wait");
    }),
  );
});

test("the last tries are kept, with when, step, outcome and reason; a success of the step keeps them", () => {
  let rotation: Rotation = { ...begun, windowEndsAt: Number.MAX_SAFE_INTEGER };
  for (let n = 0; n < maxTries + 5; n++) rotation = advance(rotation, { class: "timeout", error: `try ${n}` }, n, 0);
  assert.equal(rotation.tries.length, maxTries);
  assert.deepEqual(rotation.tries[0], { at: 5, step: "createSecret", outcome: "timeout", reason: "try 5" });
  assert.deepEqual(advance(rotation, { class: "ok" }, 99, 0).tries, rotation.tries);
});

test("logins that the target answered with no are counted and become few; a target that is away counts none", () => {
  let rotation: Rotation = { ...begun, windowEndsAt: Number.MAX_SAFE_INTEGER };
  for (const outcome of ["unreachable", "timeout", "tls", "unknown", "ok"] as const) rotation = probed(rotation, outcome);
  assert.equal(rotation.failedProbes, 0);
  const pause = (outcome: OutcomeClass) => advance(rotation, { class: outcome }, 0, 0).runAt;
  for (let n = 0; n < quickProbes; n++) {
    assert.equal(pause("locked"), 0);
    rotation = probed(rotation, "locked");
  }
  assert.deepEqual([pause("locked"), pause("refused"), pause("unreachable")], [900_000, 900_000, 0]);
  while (rotation.failedProbes < maxProbes) rotation = probed(rotation, "refused");
  assert.equal(advance(rotation, { class: "locked" }, 0, 0).state, "failed");
});
