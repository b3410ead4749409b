import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  explainNext,
  goesOnAt,
  planAfterMiss,
  planRotation,
  replanRotation,
  type Start,
  startOf,
} from "../../src/core/rotation-schedule.ts";
import { nextWindow, parseRotationRules, type RotationWindow, type Schedule, windowOpenAt } from "../../src/core/schedule.ts";
import { type Blackout, blackoutAt, freeSpans, parseBlackout } from "../../src/core/schedule-blackout.ts";
import { isZone, type Zone, zoneOf } from "../../src/core/schedule-zone.ts";
import type { Secret } from "../../src/core/secret.ts";

const hour = 3_600_000;
const day = 24 * hour;
/** With clock changes at 1, 2, 3 and 0 o'clock, by half an hour and by two, and with a day that never was. */
const zones = [
  "Europe/Berlin",
  "America/New_York",
  "Australia/Lord_Howe",
  "America/Havana",
  "Antarctica/Troll",
  "Africa/Casablanca",
  "Pacific/Apia",
  "UTC",
];
const years = { from: Date.UTC(2011, 0, 1), until: Date.UTC(2032, 0, 1) };
const utcText = (at: number) => new Date(at).toISOString().slice(0, 16);
const at = (text: string) => Date.parse(`${text}Z`);
const parse = (scheduleExpression: string, duration?: string) =>
  parseRotationRules({ scheduleExpression, duration }, { extended: true });

/** What the clock of a zone shows, by another way than the code's. */
function wallText(zone: string, moment: number): string {
  return new Date(moment).toLocaleString("sv-SE", { timeZone: zone }).slice(0, 16);
}

test("the clock of a zone, and back", () => {
  fc.assert(
    fc.property(fc.constantFrom(...zones), fc.integer({ min: years.from, max: years.until }), (name, moment) => {
      const zone = zoneOf(name);
      const wall = zone.toWall(moment);
      assert.equal(new Date(wall).toISOString().slice(0, 16).replace("T", " "), wallText(name, moment));
      const first = zone.toInstant(wall);
      assert.equal(zone.toWall(first), wall);
      assert.ok(first <= moment && moment - first <= 2 * hour, "the first of two readings");
    }),
    { numRuns: 2_000 },
  );
});

test("a reading that the clock skips is the moment of the jump", () => {
  const berlin = zoneOf("Europe/Berlin");
  for (const skipped of ["2026-03-29T02:00", "2026-03-29T02:30", "2026-03-29T02:59"])
    assert.equal(utcText(berlin.toInstant(at(skipped))), "2026-03-29T01:00");
  assert.equal(utcText(zoneOf("Pacific/Apia").toInstant(at("2011-12-30T08:00"))), "2011-12-30T10:00");
});

test("names of zones: IANA's only", () => {
  for (const name of ["Europe/Berlin", "UTC", "America/Argentina/Buenos_Aires"]) assert.ok(isZone(name), name);
  for (const name of ["", "+02:00", "Berlin", "Europe/Berlin ", "Europe/Nowhere"]) assert.ok(!isZone(name), name);
});

test("windows by the clock of a zone, through its changes", () => {
  const berlin = zoneOf("Europe/Berlin");
  const shown = (expression: string, duration: string | undefined, after: string) => {
    const { startsAt, endsAt } = nextWindow(parse(expression, duration), { afterMs: at(after) }, berlin);
    return `${utcText(startsAt)} ${utcText(endsAt)}`;
  };
  assert.equal(shown("cron(0 8 * * ? *)", "2h", "2026-01-01T12:00"), "2026-01-02T07:00 2026-01-02T09:00");
  assert.equal(shown("cron(0 8 * * ? *)", "2h", "2026-07-01T12:00"), "2026-07-02T06:00 2026-07-02T08:00");
  // 2 o'clock does not come: the window opens with the jump, and is as long as it should be.
  assert.equal(shown("cron(0 2 * * ? *)", "1h", "2026-03-28T12:00"), "2026-03-29T01:00 2026-03-29T02:00");
  assert.equal(shown("cron(0 2 * * ? *)", "1h", "2026-03-29T01:00"), "2026-03-30T00:00 2026-03-30T01:00");
  // It comes twice: the window opens with the first, and once.
  assert.equal(shown("cron(0 2 * * ? *)", "1h", "2026-10-24T12:00"), "2026-10-25T00:00 2026-10-25T02:00");
  assert.equal(shown("cron(0 2 * * ? *)", "1h", "2026-10-25T00:30"), "2026-10-26T01:00 2026-10-26T02:00");
  assert.equal(shown("cron(0 2 * * ? *)", "1h", "2026-10-25T01:00"), "2026-10-26T01:00 2026-10-26T02:00");
  assert.equal(shown("rate(12 hours)", undefined, "2026-10-25T00:30"), "2026-10-25T10:00 2026-10-25T11:00");
  assert.equal(shown("rate(12 hours)", undefined, "2026-10-25T10:00"), "2026-10-25T22:00 2026-10-25T23:00");
  assert.equal(shown("rate(10 days)", undefined, "2026-03-24T12:00"), "2026-04-02T22:00 2026-04-03T22:00");
});

test("asked in hours that come again, a window that was open does not open again", () => {
  // From 3 o'clock back to 1 o'clock: 2 o'clock was at midnight UTC, and comes again at 2.
  const troll = zoneOf("Antarctica/Troll");
  const schedule = parse("cron(0 2 * * ? *)", "1h");
  for (const after of ["2026-10-25T00:00", "2026-10-25T01:00", "2026-10-25T01:30", "2026-10-25T02:00"])
    assert.equal(utcText(nextWindow(schedule, { afterMs: at(after) }, troll).startsAt), "2026-10-26T02:00");
  assert.equal(utcText(nextWindow(schedule, { afterMs: at("2026-10-24T23:59") }, troll).startsAt), "2026-10-25T00:00");
});

/** Hours of a day at which a window opens. */
const daily: [expression: string, duration: string | undefined, hours: number[]][] = [
  ["cron(0 0 * * ? *)", "1h", [0]],
  ["cron(0 1 * * ? *)", "1h", [1]],
  ["cron(0 2 * * ? *)", undefined, [2]],
  ["cron(0 2,14 * * ? *)", "2h", [2, 14]],
];

for (const name of zones.slice(0, 6)) {
  test(`every window of ten years comes once, apart from all others: ${name}`, () => {
    const zone = zoneOf(name);
    for (const [expression, duration, hours] of daily) {
      const schedule = parse(expression, duration);
      let last: RotationWindow = { startsAt: 0, endsAt: zone.toInstant(Date.UTC(2026, 0, 1)) - 1 };
      for (let date = Date.UTC(2026, 0, 1); date < Date.UTC(2036, 0, 1); date += day) {
        for (const at of hours) {
          const window = nextWindow(schedule, { afterMs: Math.max(last.startsAt, last.endsAt - 1) }, zone);
          assert.equal(window.startsAt, zone.toInstant(date + at * hour), `${expression}: ${utcText(date)}`);
          assert.ok(window.endsAt > window.startsAt, `${expression}: ${utcText(date)} has a length`);
          assert.ok(window.startsAt >= last.endsAt, `${expression}: ${utcText(date)} opens when the one before has ended`);
          last = window;
        }
      }
    }
  });
}

function secretWith(scheduleExpression: string, more: Partial<Secret> = {}): Secret {
  return {
    id: "s",
    region: "eu-central-1",
    name: "s",
    arn: "arn:s",
    createdAt: 0,
    lastChangedAt: 0,
    generation: 1,
    rowVersion: 1,
    versions: [],
    rotationEnabled: true,
    rotationRules: { scheduleExpression },
    ...more,
  };
}

const dueAt = ({ rotationDueAt }: Secret): number => rotationDueAt ?? 0;

test("I17: an engine that looks at any moments starts one rotation or records one miss for each window", () => {
  const blackouts = ["sat,sun", "mon-fri 08:00-18:00", "22:00-06:00", "2026-12-20..2027-01-03", "00:00-24:00"];
  fc.assert(
    fc.property(
      fc.constantFrom(...zones),
      fc.constantFrom("cron(0 2 * * ? *)", "cron(0 0/8 * * ? *)", "rate(6 hours)", "cron(0 23 ? * MON-FRI *)"),
      fc.subarray(blackouts, { maxLength: 2 }),
      fc.integer({ min: Date.UTC(2026, 0, 1), max: Date.UTC(2036, 0, 1) }),
      fc.infiniteStream(fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true })),
      fc.boolean(),
      (timeZone, expression, dark, from, seeds, slow) => {
        const draw = () => seeds.next().value ?? 0;
        const zone = zoneOf(timeZone);
        const schedule = parse(expression);
        const closed = dark.flatMap((text) => parseBlackout(text) ?? []);
        let secret = planRotation(secretWith(expression, { rotationPolicy: { timeZone, blackouts: dark } }), from, draw());
        let window = nextWindow(schedule, { afterMs: from }, zone);
        let now = from;
        for (let turn = 0; turn < 40; turn++) {
          // Mostly at once when it is due; sometimes the engine slept over it.
          const lateMs = Math.floor(draw() * (slow && draw() < 0.3 ? day : 1_000));
          now = Math.max(now, dueAt(secret)) + lateMs;
          const start = startOf(secret, now, draw());
          assert.equal(secret.nextRotationAt, window.endsAt - 1_000);
          checkStart(start, { now, window, zone, closed });
          if (start.kind === "later") {
            secret = { ...secret, rotationDueAt: start.at };
            continue;
          }
          secret = start.kind === "now" ? planRotation(secret, now, draw()) : planAfterMiss(secret, start, now, draw());
          window = windowAfter(start, window, { schedule, zone });
          assert.ok(dueAt(secret) >= now);
        }
      },
    ),
    { numRuns: 100 },
  );
});

interface Looked {
  readonly now: number;
  readonly window: RotationWindow;
  readonly zone: Zone;
  readonly closed: readonly Blackout[];
}

/** Nothing lies between what was started or recorded and what comes next. */
function windowAfter(
  start: Start,
  window: RotationWindow,
  { schedule, zone }: { schedule: Schedule; zone: Zone },
): RotationWindow {
  let next = window;
  const used = start.kind === "missed" ? start.windows : 1;
  for (let count = 0; count < used; count++) next = nextWindow(schedule, { afterMs: next.startsAt }, zone);
  return next;
}

function checkStart(start: Start, { now, window, zone, closed }: Looked): void {
  switch (start.kind) {
    case "later":
      assert.ok(start.at > now && start.at < window.endsAt);
      assert.equal(blackoutAt(start.at, closed, zone), undefined);
      break;
    case "now":
      assert.ok(now >= window.startsAt && now < window.endsAt, "inside the window");
      assert.equal(blackoutAt(now, closed, zone), undefined, "and not in a blackout");
      assert.ok(start.untilMs > now && start.untilMs <= window.endsAt);
      break;
    default:
      assert.equal(start.windowEndsAt, window.endsAt);
      assert.ok(start.reason.length > 0);
      assert.ok(now >= window.endsAt || freeSpans({ from: now, until: window.endsAt }, closed, zone).length === 0);
  }
}

test("blackouts as they are written", () => {
  const berlin = zoneOf("Europe/Berlin");
  const dark = (text: string, moment: string) => {
    const blackout = parseBlackout(text);
    assert.ok(blackout, text);
    return blackoutAt(berlin.toInstant(at(moment)), [blackout], berlin) !== undefined;
  };
  assert.ok(dark("sat,sun", "2026-11-21T00:00") && dark("SAT,sun", "2026-11-22T23:59"));
  assert.ok(!dark("sat,sun", "2026-11-20T23:59") && !dark("sat,sun", "2026-11-23T00:00"));
  assert.ok(dark("fri-mon", "2026-11-22T12:00") && !dark("fri-mon", "2026-11-24T12:00"));
  assert.ok(dark("mon-fri 08:00-18:00", "2026-11-20T08:00") && !dark("mon-fri 08:00-18:00", "2026-11-20T18:00"));
  assert.ok(dark("22:00-06:00", "2026-11-20T23:00") && dark("22:00-06:00", "2026-11-20T05:59"));
  assert.ok(dark("fri 22:00-06:00", "2026-11-21T05:00") && !dark("fri 22:00-06:00", "2026-11-20T05:00"));
  assert.ok(dark("2026-12-20..2027-01-03", "2026-12-20T00:00") && dark("2026-12-20..2027-01-03", "2027-01-03T23:59"));
  assert.ok(!dark("2026-12-20..2027-01-03", "2027-01-04T00:00") && dark("2026-12-24", "2026-12-24T12:00"));
  const wrong = ["", "sat,", "saturday", "sat sun", "8:00-18:00", "18:00", "08:00-08:00", "24:00-06:00", "08:60-09:00"];
  for (const text of [...wrong, "2026-13-01", "2026-02-29", "2026-01-02..2026-01-01", "2026-01-01.."])
    assert.equal(parseBlackout(text), undefined, text);
});

test("what blackouts leave: in order, apart, within, and nothing dark in it", () => {
  const texts = ["sat,sun", "mon-fri 08:00-18:00", "22:00-06:00", "02:00-02:30", "2026-12-20..2027-01-03"];
  fc.assert(
    fc.property(
      fc.constantFrom(...zones),
      fc.subarray(texts),
      fc.integer({ min: Date.UTC(2026, 0, 1), max: Date.UTC(2028, 0, 1) }),
      fc.integer({ min: 1, max: 2 * day }),
      fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
      (name, chosen, from, length, seed) => {
        const zone = zoneOf(name);
        const blackouts = chosen.flatMap((text) => parseBlackout(text) ?? []);
        const span = { from, until: from + length };
        const free = freeSpans(span, blackouts, zone);
        let last = from;
        for (const part of free) {
          assert.ok(part.from >= last && part.until > part.from && part.until <= span.until);
          last = part.until;
        }
        const moment = from + Math.floor(seed * length);
        const isFree = free.some((part) => moment >= part.from && moment < part.until);
        assert.equal(isFree, blackoutAt(moment, blackouts, zone) === undefined);
      },
    ),
  );
});

test("new rules leave an open window that was not used as it is", () => {
  const now = at("2026-11-18T10:00");
  const planned = planRotation(secretWith("cron(0 0 * * ? *)"), at("2026-11-17T12:00"), 0.9);
  assert.equal(utcText((planned.nextRotationAt ?? 0) + 1_000), "2026-11-19T00:00");
  const moved = replanRotation(planned, { ...planned, rotationPolicy: { timeZone: "America/New_York" } }, now, 0);
  assert.equal(utcText((moved.nextRotationAt ?? 0) + 1_000), "2026-11-19T05:00");
  assert.equal(moved.rotationDueAt, now);
  // Used already: not once more.
  const used = planRotation(planned, now, 0.5);
  const after = replanRotation(used, { ...used, rotationPolicy: { timeZone: "America/New_York" } }, now, 0);
  assert.equal(utcText(after.rotationDueAt ?? 0), "2026-11-19T05:00");
});

test("a window is found while it is open", () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...zones),
      fc.constantFrom("cron(0 2 * * ? *)", "cron(0 0/8 * * ? *)", "rate(6 hours)", "rate(30 minutes)", "rate(2 days)"),
      fc.integer({ min: years.from, max: years.until }),
      (name, expression, afterMs) => {
        const zone = zoneOf(name);
        const schedule = parse(expression);
        const window = windowOpenAt(schedule, { afterMs }, zone);
        assert.ok(window.endsAt > afterMs);
        if (schedule.kind !== "days" && window.startsAt > afterMs)
          assert.deepEqual(window, nextWindow(schedule, { afterMs }, zone));
      },
    ),
  );
});

test("jitter keeps the start in the first part of the window", () => {
  const secret = secretWith("cron(0 8 * * ? *)", { rotationPolicy: { jitterSeconds: 600, blackouts: ["08:00-09:00"] } });
  const drawn = (seed: number) => planRotation(secret, at("2026-11-18T12:00"), seed).rotationDueAt ?? 0;
  assert.equal(utcText(drawn(0)), "2026-11-19T09:00");
  assert.equal(utcText(drawn(0.999_999)), "2026-11-19T09:09");
  const none = { ...secret, rotationPolicy: { jitterSeconds: 0 } };
  assert.equal(utcText(planRotation(none, at("2026-11-18T12:00"), 0.7).rotationDueAt ?? 0), "2026-11-19T08:00");
});

test("what began by itself goes on in the free parts of its window, and never in a blackout", () => {
  const secret = secretWith("cron(0 7 * * ? *)", { rotationPolicy: { blackouts: ["08:00-09:00", "10:30-12:00"] } });
  const start = startOf(planRotation(secret, at("2026-11-19T06:00"), 0), at("2026-11-19T07:10"), 0);
  assert.equal(start.kind === "now" && utcText(start.untilMs), "2026-11-20T00:00");
  const begun = { origin: "schedule", startedAt: at("2026-11-19T07:10"), windowEndsAt: at("2026-11-19T11:00") } as const;
  const on = (moment: string, more: object = {}) => utcText(goesOnAt(secret, { ...begun, ...more }, at(moment)));
  assert.equal(on("2026-11-19T07:59"), "2026-11-19T07:59");
  assert.equal(on("2026-11-19T08:00"), "2026-11-19T09:00");
  assert.equal(on("2026-11-19T09:00"), "2026-11-19T09:00");
  assert.equal(goesOnAt(secret, begun, at("2026-11-19T10:30")), Number.POSITIVE_INFINITY, "nothing is left");
  assert.equal(on("2026-11-19T11:00"), "2026-11-19T11:00", "to be ended");
  for (const asked of [{ origin: "request" }, { origin: "repair" }, { startedAt: at("2026-11-19T08:10"), origin: "retry" }])
    assert.equal(on("2026-11-19T08:20", asked), "2026-11-19T08:20", "somebody asked for it");
});

test("why the next rotation is then", () => {
  const shown = (more: Partial<Secret>) =>
    explainNext(planRotation(secretWith("cron(0 8 * * ? *)", more), at("2026-11-18T12:00"), 0)).reason;
  assert.equal(shown({}), "cron(0 8 * * ? *), by the clock of UTC; at a random moment of it");
  assert.equal(shown({ rotationEnabled: false }), "rotation is off");
  assert.match(shown({ rotationRules: undefined }), /^there is no schedule/);
  assert.match(
    shown({ rotationPolicy: { timeZone: "Europe/Berlin", blackouts: ["thu"] } }),
    /Europe\/Berlin; blackout thu \(Europe\/Berlin\) leaves nothing of the window: it will be recorded as missed$/,
  );
});

test("a zone is kept once, however its name is written", () => {
  assert.equal(zoneOf("europe/BERLIN"), zoneOf("Europe/Berlin"));
});
