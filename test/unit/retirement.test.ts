import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { failureClasses, type OutcomeClass } from "../../src/core/error.ts";
import {
  advanceRetirement,
  evidenceOf,
  isLeft,
  mayDelete,
  type Named,
  nextLookAt,
  type Retirement,
  retireAfterMs,
  straysOf,
  verdictOn,
} from "../../src/core/retirement.ts";
import type { Secret } from "../../src/core/secret.ts";

const hourMs = 3_600_000;
const retirement: Retirement = {
  secretId: "s",
  versionId: "v",
  what: "credential",
  strategy: "issuer",
  functionArn: "f",
  state: "waiting",
  dueAt: 24 * hourMs,
  runAt: 24 * hourMs,
  attempt: 0,
  createdAt: 0,
};
const secret: Secret = {
  id: "s",
  region: "r",
  name: "n",
  arn: "a",
  createdAt: 0,
  lastChangedAt: 0,
  generation: 1,
  rowVersion: 1,
  versions: [],
};

const labels = fc.subarray(["AWSCURRENT", "AWSPENDING", "AWSPREVIOUS", "PINNED"]);
const named: fc.Arbitrary<Named> = fc.record({
  id: fc.constantFrom("k1", "k2", "k3"),
  stages: labels,
  dueAt: fc.option(fc.integer({ min: 0, max: 100 }), { nil: undefined }),
});
const manyNamed = fc.array(named, { maxLength: 5 });
const nowMs = fc.integer({ min: 0, max: 100 });

test("no id is deleted that a labelled version names, or one before its deadline; only AWSPREVIOUS lets go when that has come", () => {
  fc.assert(
    fc.property(manyNamed, nowMs, (all, now) => {
      const may = mayDelete("k1", all, now);
      const naming = all.filter(({ id }) => id === "k1");
      if (naming.some(({ dueAt }) => dueAt !== undefined && dueAt > now)) assert.equal(may, false);
      if (naming.some(({ stages }) => stages.some((stage) => stage !== "AWSPREVIOUS"))) assert.equal(may, false);
      if (naming.some(({ stages, dueAt }) => stages.length > 0 && dueAt === undefined)) assert.equal(may, false);
      if (naming.every(({ stages, dueAt }) => stages.length === 0 && (dueAt ?? 0) <= now)) assert.equal(may, true);
      assert.equal(may, mayDelete("k1", naming, now), "what names other ids has no say");
    }),
  );
  assert.equal(mayDelete("k1", [{ id: "k1", stages: ["AWSPREVIOUS"], dueAt: 10 }], 10), true);
});

const ids = ["k1", "k2", "k3", "k4"];
const listed = fc.subarray(ids).chain((some) =>
  fc.tuple(
    ...some.map((id) =>
      fc.record({
        id: fc.constant(id),
        createdAt: fc.option(fc.integer({ min: 0, max: 10 * hourMs }), { nil: undefined }),
        rotationId: fc.option(fc.constantFrom("ours", "another's"), { nil: undefined }),
      }),
    ),
  ),
);

test("only what no version names, and what came by our asking, counts as left behind", () => {
  const intents = fc.option(
    fc.record({
      before: fc.option(fc.subarray(ids), { nil: undefined }),
      firstAt: fc.integer({ min: 2 * hourMs, max: 3 * hourMs }),
      lastAt: fc.integer({ min: 3 * hourMs, max: 4 * hourMs }),
      doubtful: fc.boolean(),
    }),
    { nil: undefined },
  );
  fc.assert(
    fc.property(listed, intents, manyNamed, fc.boolean(), (all, intent, by, marks) => {
      const asked = { intent, rotationIds: new Set(["ours"]), marks, callMs: 8_000 };
      const strays = straysOf(all, asked, by);
      for (const { id, createdAt, rotationId } of all.filter((each) => strays.includes(each.id))) {
        assert.ok(!by.some((each) => each.id === id), "a version names it");
        if (rotationId !== undefined || marks) assert.equal(rotationId, "ours");
        else {
          assert.ok(intent?.before && !intent.before.includes(id), "it was there before");
          assert.ok(createdAt === undefined || Math.abs(createdAt - 3 * hourMs) < 2 * hourMs, "it came at another time");
        }
      }
      for (const { id, rotationId } of all)
        if (rotationId === "ours" && !by.some((each) => each.id === id)) assert.ok(strays.includes(id));
    }),
  );
});

test("what is not in use ends; a label of somebody's own, or AWSPENDING, is waited for; AWSCURRENT calls it off", () => {
  const kindFor = (...stages: string[]) => verdictOn({ ...secret, versions: [{ id: "v", createdAt: 0, stages }] }, "v").kind;
  assert.deepEqual([kindFor(), kindFor("AWSPREVIOUS")], ["go", "go"]);
  assert.deepEqual([kindFor("AWSCURRENT"), kindFor("AWSCURRENT", "PINNED")], ["cancel", "cancel"]);
  assert.deepEqual([kindFor("AWSPENDING"), kindFor("AWSPREVIOUS", "PINNED")], ["wait", "wait"]);
  assert.equal(verdictOn(secret, "v").kind, "go");
});

test("how long the old one works: by strategy, unless the secret's policy says it", () => {
  const after = (strategy: Retirement["strategy"], retireAfterSeconds?: number) =>
    retireAfterMs(strategy, { ...secret, rotationPolicy: { retireAfterSeconds } });
  assert.deepEqual([after("single-user"), after("single-user", 60), after("generator", 60)], [undefined, undefined, undefined]);
  assert.deepEqual([after("alternating-users"), after("alternating-users", 60)], [undefined, 60_000]);
  for (const strategy of ["dual-slot", "issuer"] as const) {
    assert.deepEqual([after(strategy), after(strategy, 0), after(strategy, 60)], [24 * hourMs, 0, 60_000]);
  }
});

const reads = fc.array(
  fc.record({
    principal: fc.constantFrom("a", "b", "c"),
    versionId: fc.constantFrom("old", "now", "older"),
    at: fc.integer({ min: 0, max: 50 }),
  }),
);

test("evidence: each reader of the old one has moved on or not; without any reader nothing is known", () => {
  fc.assert(
    fc.property(reads, (given) => {
      const lasts = [...new Map(given.map((read) => [`${read.principal} ${read.versionId}`, read])).values()];
      const { movedOn, behind } = evidenceOf(lasts, "old", "now");
      const readers = lasts.filter(({ versionId }) => versionId === "old").map(({ principal }) => principal);
      assert.deepEqual([...movedOn, ...behind].sort(), readers.sort());
      for (const principal of movedOn) {
        const at = (versionId: string) =>
          lasts.find((read) => read.principal === principal && read.versionId === versionId)?.at ?? -1;
        assert.ok(at("now") > at("old"));
      }
    }),
  );
  assert.equal(isLeft({ movedOn: ["a"], behind: [] }, retirement, 60_000), true);
  assert.equal(isLeft({ movedOn: ["a"], behind: [] }, retirement, 59_999), false, "a minute at least");
  assert.equal(isLeft({ movedOn: ["a"], behind: ["b"] }, retirement, hourMs), false);
  assert.equal(isLeft({ movedOn: [], behind: [] }, retirement, hourMs), false);
});

test("evidence is looked for again after a while, and never later than the deadline", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 24 * hourMs }), (now) => {
      const next = nextLookAt(retirement, now);
      assert.ok(next > now || now === retirement.dueAt);
      assert.ok(next <= retirement.dueAt && next - now <= hourMs);
    }),
  );
});

const classes: readonly OutcomeClass[] = ["ok", ...failureClasses];

test("a retirement never gives up: it ends with success only, and comes again within an hour", () => {
  const outcomes = fc.array(fc.constantFrom(...classes), { minLength: 1, maxLength: 200 });
  fc.assert(
    fc.property(outcomes, fc.double({ min: 0, max: 0.999_999, noNaN: true }), (all, seed) => {
      let now = retirement.dueAt;
      let at = retirement;
      for (const outcome of all) {
        at = advanceRetirement(at, { class: outcome, error: "why" }, now, seed);
        assert.equal(at.endedAt !== undefined, outcome === "ok");
        if (outcome === "ok") return assert.equal(at.state, "done");
        const needsSomebody = ["refused", "locked", "expired", "denied", "invalid"].includes(outcome);
        assert.equal(at.state, needsSomebody ? "blocked" : "waiting");
        if (needsSomebody) assert.ok(at.remedy);
        assert.ok(at.runAt >= now && at.runAt <= now + hourMs);
        now = at.runAt;
      }
    }),
  );
});
