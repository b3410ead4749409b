import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  automaticallyAfterDays,
  nextRotationDate,
  nextWindow,
  parseRotationRules,
  type RotationRules,
  type RotationWindow,
  type Schedule,
  spreadMoment,
} from "../../src/core/schedule.ts";

const hour = 3_600_000;
const day = 24 * hour;
/** A Thursday. */
const newYear2026 = Date.UTC(2026, 0, 1);

const parse = (scheduleExpression: string, duration?: string) =>
  parseRotationRules({ scheduleExpression, duration }, { extended: false });
const at = (text: string) => Date.parse(`${text}Z`);
const text = (moment: number) => new Date(moment).toISOString().slice(0, 16);

function windows(schedule: Schedule, afterMs: number, count: number, lastRotatedAt?: number): RotationWindow[] {
  const found: RotationWindow[] = [];
  for (let after = afterMs; found.length < count; after = found.at(-1)?.startsAt ?? Number.NaN) {
    found.push(nextWindow(schedule, { afterMs: after, lastRotatedAt }));
  }
  return found;
}

/** Starts after midnight of 1 January 2026, worked out by hand, and the length of each window in hours. */
const startTable: [expression: string, starts: string[], hours: number][] = [
  ["cron(0 /8 * * ? *)", ["2026-01-01T08:00", "2026-01-01T16:00", "2026-01-02T00:00"], 1],
  ["cron(0 */8 * * ? *)", ["2026-01-01T08:00", "2026-01-01T16:00", "2026-01-02T00:00"], 1],
  ["cron(0 8/8 * * ? *)", ["2026-01-01T08:00", "2026-01-01T16:00", "2026-01-02T08:00"], 1],
  ["cron(0 2/10 * * ? *)", ["2026-01-01T02:00", "2026-01-01T12:00", "2026-01-01T22:00", "2026-01-02T02:00"], 1],
  ["cron(0 8,20 * * ? *)", ["2026-01-01T08:00", "2026-01-01T20:00", "2026-01-02T08:00"], 1],
  ["cron(0 1 ? 1/3 SUN#1 *)", ["2026-01-04T01:00", "2026-04-05T01:00", "2026-07-05T01:00", "2026-10-04T01:00"], 23],
  ["cron(0 17 L * ? *)", ["2026-01-31T17:00", "2026-02-28T17:00", "2026-03-31T17:00"], 7],
  ["cron(0 17 SUNL * ? *)", ["2026-01-25T17:00", "2026-02-22T17:00", "2026-03-29T17:00"], 7],
  ["cron(0 17 15,L * ? *)", ["2026-01-15T17:00", "2026-01-31T17:00", "2026-02-15T17:00", "2026-02-28T17:00"], 7],
  ["cron(0 8 ? * MON-FRI *)", ["2026-01-01T08:00", "2026-01-02T08:00", "2026-01-05T08:00"], 16],
  ["cron(0 8 ? * mon-fri *)", ["2026-01-01T08:00", "2026-01-02T08:00", "2026-01-05T08:00"], 16],
  ["cron(0 12 ? * 2-6/2 *)", ["2026-01-02T12:00", "2026-01-05T12:00", "2026-01-07T12:00"], 12],
  ["cron(0 16 1,15 * ? *)", ["2026-01-01T16:00", "2026-01-15T16:00", "2026-02-01T16:00"], 8],
  ["cron(0 17 ? * TUE#3 *)", ["2026-01-20T17:00", "2026-02-17T17:00", "2026-03-17T17:00"], 7],
  ["cron(0 17 ? * 3#3 *)", ["2026-01-20T17:00", "2026-02-17T17:00", "2026-03-17T17:00"], 7],
  ["cron(0 10 ? FEB,MAY,AUG,NOV TUE#2 *)", ["2026-02-10T10:00", "2026-05-12T10:00", "2026-08-11T10:00", "2026-11-10T10:00"], 14],
  ["cron(0 12 ? * 1 *)", ["2026-01-04T12:00", "2026-01-11T12:00"], 12],
  ["cron(0 12 ? * 7 *)", ["2026-01-03T12:00", "2026-01-10T12:00"], 12],
  ["cron(0 9 ? * L *)", ["2026-01-03T09:00", "2026-01-10T09:00"], 15],
  ["cron(0 9 ? * FRIL *)", ["2026-01-30T09:00", "2026-02-27T09:00", "2026-03-27T09:00"], 15],
  ["cron(0 9 ? * 6L *)", ["2026-01-30T09:00", "2026-02-27T09:00", "2026-03-27T09:00"], 15],
  ["cron(0 9 ? * SUN#5 *)", ["2026-03-29T09:00", "2026-05-31T09:00", "2026-08-30T09:00"], 15],
  ["cron(0 0 1 JAN,JUL ? *)", ["2026-07-01T00:00", "2027-01-01T00:00"], 24],
  ["cron(0 0 29 2 ? *)", ["2028-02-29T00:00", "2032-02-29T00:00"], 24],
  ["cron(0 0 31 * ? *)", ["2026-01-31T00:00", "2026-03-31T00:00", "2026-05-31T00:00"], 24],
  ["cron(0 6 10-12 * ? *)", ["2026-01-10T06:00", "2026-01-11T06:00", "2026-01-12T06:00", "2026-02-10T06:00"], 18],
  [
    "cron(0 6 /10 * ? *)",
    ["2026-01-01T06:00", "2026-01-11T06:00", "2026-01-21T06:00", "2026-01-31T06:00", "2026-02-01T06:00"],
    18,
  ],
  ["cron(0 23 * * ? *)", ["2026-01-01T23:00", "2026-01-02T23:00"], 1],
  ["rate(4 hours)", ["2026-01-01T04:00", "2026-01-01T08:00", "2026-01-01T12:00"], 1],
  ["rate(10 hours)", ["2026-01-01T10:00", "2026-01-01T20:00", "2026-01-02T00:00", "2026-01-02T10:00"], 1],
  ["rate(23 hour)", ["2026-01-01T23:00", "2026-01-02T00:00", "2026-01-02T23:00"], 1],
  ["rate(1 day)", ["2026-01-02T00:00", "2026-01-03T00:00"], 24],
  ["rate(30 days)", ["2026-01-31T00:00", "2026-03-02T00:00"], 24],
  ["rate(999 days)", ["2028-09-26T00:00"], 24],
];

for (const [expression, starts, hours] of startTable) {
  test(`${expression} has windows at ${starts.join(", ")}`, () => {
    const found = windows(parse(expression), newYear2026, starts.length);
    assert.deepEqual(
      found.map(({ startsAt }) => text(startsAt)),
      starts,
    );
    for (const { startsAt, endsAt } of found) assert.equal(endsAt - startsAt, hours * hour);
  });
}

const durationTable: [expression: string, duration: string, hours: number][] = [
  ["cron(0 8 ? * MON-FRI *)", "2h", 2],
  ["cron(0 8 ? * MON-FRI *)", "16h", 16],
  ["cron(0 /8 * * ? *)", "8h", 8],
  ["cron(0 2/10 * * ? *)", "2h", 2],
  ["rate(4 hours)", "4h", 4],
  ["rate(12 hours)", "03h", 3],
  ["rate(10 days)", "1h", 1],
  ["rate(10 days)", "24h", 24],
];
for (const [expression, duration, hours] of durationTable) {
  test(`${expression} with Duration ${duration}`, () => {
    for (const { startsAt, endsAt } of windows(parse(expression, duration), newYear2026, 6))
      assert.equal(endsAt - startsAt, hours * hour);
  });
}

test("the last window of a day ends with the day, whatever the Duration", () => {
  const found = windows(parse("rate(10 hours)", "10h"), newYear2026, 3);
  assert.deepEqual(
    found.map(({ endsAt }) => text(endsAt)),
    ["2026-01-01T20:00", "2026-01-02T00:00", "2026-01-02T10:00"],
  );
});

test("AutomaticallyAfterDays counts from the day of the last rotation; the window is that whole UTC day, or its first hours", () => {
  const lastRotatedAt = at("2026-02-20T23:59:59");
  const rules = { automaticallyAfterDays: 10 };
  const window = nextWindow(parseRotationRules(rules, { extended: false }), { afterMs: lastRotatedAt, lastRotatedAt });
  assert.deepEqual([text(window.startsAt), text(window.endsAt)], ["2026-03-02T00:00", "2026-03-03T00:00"]);
  const short = nextWindow(parseRotationRules({ ...rules, duration: "3h" }, { extended: false }), {
    afterMs: lastRotatedAt,
    lastRotatedAt,
  });
  assert.deepEqual([text(short.startsAt), text(short.endsAt)], ["2026-03-02T00:00", "2026-03-02T03:00"]);
  const leap = nextWindow(parse("rate(10 days)"), {
    afterMs: at("2028-02-20T12:00:00"),
    lastRotatedAt: at("2028-02-20T12:00:00"),
  });
  assert.equal(text(leap.startsAt), "2028-03-01T00:00");
});

test("a day that was missed is made up on the next day, not an interval later", () => {
  const schedule = parse("rate(30 days)");
  const overdue = { lastRotatedAt: at("2026-01-01T10:00:00"), afterMs: at("2026-03-15T08:00:00") };
  assert.equal(text(nextWindow(schedule, overdue).startsAt), "2026-03-16T00:00");
  const dueToday = { ...overdue, afterMs: at("2026-01-31T00:00:00") };
  assert.equal(text(nextWindow(schedule, dueToday).startsAt), "2026-02-01T00:00");
});

test("extended rates in minutes and seconds restart each day and fill their interval, an hour at most", () => {
  const rows: [string, string[], number][] = [
    ["rate(1 second)", ["2026-01-01T00:00:01", "2026-01-01T00:00:02"], 1000],
    ["rate(90 seconds)", ["2026-01-01T00:01:30", "2026-01-01T00:03:00"], 90_000],
    ["rate(5 minutes)", ["2026-01-01T00:05:00", "2026-01-01T00:10:00"], 300_000],
    ["rate(1439 minutes)", ["2026-01-01T23:59:00", "2026-01-02T00:00:00"], hour],
  ];
  for (const [scheduleExpression, starts, lengthMs] of rows) {
    const found = windows(parseRotationRules({ scheduleExpression }, { extended: true }), newYear2026, 2);
    assert.deepEqual(
      found.map(({ startsAt }) => startsAt),
      starts.map(at),
    );
    const last = found.at(-1);
    assert.equal(last && last.endsAt - last.startsAt, lengthMs);
  }
});

const unreadable = "Invalid schedule expression.";
const hoursText = "Rate in hour should be least 4 and less than 24.";
const daysText = "Rate in day should be greater than 0 and less than 1000.";
const lengthText = "Duration must be at least 1 hour, at most 24 hour.";
const overRate = "Duration cannot be greater than Rate in hour.";
const overDay = "Starting hour and duration must be within a day.";
const both = "You cannot specify both rotation frequency and schedule expression together.";
const neither = "RotationRules must have a ScheduleExpression or AutomaticallyAfterDays from 1 to 1000.";

const unreadableExpressions = [
  ..."|daily|rate|rate()|rate(4)|rate(hours)|rate(4 weeks)|rate(-4 hours)|rate(4.5 hours)|rate(4hours)|rate(4 hourss)|rate( 4 hours)".split(
    "|",
  ),
  ..."Rate(4 hours)|rate(4 hours) |rate(4 hours|rate(5 minutes)|rate(90 seconds)|cron()|cron(0 8 * * *)|cron(0 8 * * ? * *)".split(
    "|",
  ),
  ..."cron(5 8 * * ? *)|cron(* 8 * * ? *)|cron(0/30 8 * * ? *)|cron(0 8 * * ? 2027)|cron(0 8 * * ? ?)|cron(0 8 * * * *)".split(
    "|",
  ),
  ..."cron(0 8 ? * ? *)|cron(0 8 1 * MON *)|cron(0 24 * * ? *)|cron(0 -1 * * ? *)|cron(0 ? * * ? *)|cron(0 * * * ? *)".split("|"),
  ..."cron(0 /3 * * ? *)|cron(0 8-12 * * ? *)|cron(0 8,11 * * ? *)|cron(0 /0 * * ? *)|cron(0 / * * ? *)|cron(0 L * * ? *)".split(
    "|",
  ),
  ..."cron(0 8 0 * ? *)|cron(0 8 32 * ? *)|cron(0 8 10-5 * ? *)|cron(0 8 1, * ? *)|cron(0 8 15W * ? *)|cron(0 8 LW * ? *)".split(
    "|",
  ),
  ..."cron(0 8 FOOL * ? *)|cron(0 8 8L * ? *)|cron(0 8 30 2 ? *)|cron(0 8 31 4,6,9,11 ? *)|cron(0 8 *-5 * ? *)".split("|"),
  ..."cron(0 8 1 0 ? *)|cron(0 8 1 13 ? *)|cron(0 8 1 JUNE ? *)|cron(0 8 1 MON ? *)|cron(0 8 1 ? ? *)|cron(0 8 1 L ? *)".split(
    "|",
  ),
  ..."cron(0 8 ? * 0 *)|cron(0 8 ? * 8 *)|cron(0 8 ? * TUE#0 *)|cron(0 8 ? * TUE#6 *)|cron(0 8 ? * #3 *)|cron(0 8 ? * TUES *)".split(
    "|",
  ),
  ..."cron(0 8 ? * 8#1 *)|cron(0 8 ? * JANL *)|cron(0 8 ? * FRI-MON *)|cron(0 8 ? * MON,? *)".split("|"),
];

const refusals: [rules: RotationRules, message: string][] = [
  ...unreadableExpressions.map((scheduleExpression): [RotationRules, string] => [{ scheduleExpression }, unreadable]),
  ...["0", "1", "3", "24", "9".repeat(200)].map((count): [RotationRules, string] => [
    { scheduleExpression: `rate(${count} hours)` },
    hoursText,
  ]),
  ...["0", "1000", "9".repeat(200)].map((count): [RotationRules, string] => [
    { scheduleExpression: `rate(${count} days)` },
    daysText,
  ]),
  ...["0h", "25h", "99h", "h", "2", "2d", "-1h", "1.5h", "100h", ""].flatMap((duration): [RotationRules, string][] => [
    [{ scheduleExpression: "rate(10 days)", duration }, lengthText],
    [{ scheduleExpression: "rate(12 hours)", duration }, lengthText],
    [{ scheduleExpression: "cron(0 0 1 * ? *)", duration }, lengthText],
    [{ automaticallyAfterDays: 10, duration }, lengthText],
  ]),
  [{ scheduleExpression: "rate(4 hours)", duration: "5h" }, overRate],
  [{ scheduleExpression: "rate(23 hours)", duration: "24h" }, overRate],
  [{ scheduleExpression: "cron(0 /8 * * ? *)", duration: "9h" }, overRate],
  [{ scheduleExpression: "cron(0 8 * * ? *)", duration: "17h" }, overDay],
  [{ scheduleExpression: "cron(0 23 L * ? *)", duration: "2h" }, overDay],
  [{ scheduleExpression: "cron(0 2/10 * * ? *)", duration: "3h" }, overDay],
  [{ scheduleExpression: "rate(10 days)", automaticallyAfterDays: 10 }, both],
  [{ scheduleExpression: "nonsense", automaticallyAfterDays: 10, duration: "0h" }, both],
  [{ scheduleExpression: "rate(3 hours)", duration: "0h" }, hoursText],
  ...[
    {},
    { duration: "2h" },
    ...[0, -1, 1001, 1.5, Number.NaN].map((automaticallyAfterDays) => ({ automaticallyAfterDays })),
  ].map((rules): [RotationRules, string] => [rules, neither]),
];
for (const [rules, message] of refusals) {
  test(`${JSON.stringify(rules)} is refused: ${message}`, () => {
    const expected = { name: "ServiceError", code: "InvalidParameterException", message };
    assert.throws(() => parseRotationRules(rules, { extended: false }), expected);
  });
}

test("extended rates have limits too, and no Duration beyond their interval", () => {
  const rows: [RotationRules, string][] = [
    [{ scheduleExpression: "rate(0 minutes)" }, "Rate in minute should be greater than 0 and less than 1440."],
    [{ scheduleExpression: "rate(1440 minutes)" }, "Rate in minute should be greater than 0 and less than 1440."],
    [{ scheduleExpression: "rate(86400 seconds)" }, "Rate in second should be greater than 0 and less than 86400."],
    [{ scheduleExpression: "rate(30 minutes)", duration: "1h" }, overRate],
    [{ scheduleExpression: "rate(3 hours)" }, hoursText],
    [{ scheduleExpression: "cron(0/5 * * * ? *)" }, unreadable],
  ];
  for (const [rules, message] of rows) assert.throws(() => parseRotationRules(rules, { extended: true }), { message });
});

test("NextRotationDate is the last second of the window, on the window's own day", () => {
  const window = nextWindow(parse("rate(10 days)"), { afterMs: newYear2026 });
  assert.equal(nextRotationDate(window), at("2026-01-11T23:59:59"));
});

test("AutomaticallyAfterDays as Describe shows it", () => {
  const rows: [string, string, number][] = [
    ["rate(10 days)", "2026-01-01T00:00:00", 10],
    ["rate(4 hours)", "2026-01-01T05:00:00", 1],
    ["cron(0 8 ? * MON-FRI *)", "2026-01-02T09:00:00", 3],
    ["cron(0 16 1,15 * ? *)", "2026-01-15T16:30:00", 17],
    ["cron(0 17 L * ? *)", "2026-01-31T18:00:00", 28],
    ["cron(0 0 29 2 ? *)", "2028-02-29T01:00:00", 1000],
  ];
  for (const [expression, rotatedAt, days] of rows)
    assert.equal(automaticallyAfterDays(parse(expression), at(rotatedAt)), days, expression);
  const days = parseRotationRules({ automaticallyAfterDays: 1000 }, { extended: false });
  assert.equal(automaticallyAfterDays(days, newYear2026), 1000);
});

const anyMoment = fc.integer({ min: Date.UTC(1999, 0, 1), max: Date.UTC(2110, 0, 1) });
const anyExpression = fc.oneof(
  fc.integer({ min: 4, max: 23 }).map((hours) => `rate(${hours} hours)`),
  fc.integer({ min: 1, max: 999 }).map((days) => `rate(${days} days)`),
  fc.constantFrom(...startTable.map(([expression]) => expression)),
);
const anyDuration = fc.option(
  fc.integer({ min: 1, max: 24 }).map((hours) => `${hours}h`),
  { nil: undefined },
);

function parseIfGood(expression: string, duration: string | undefined): Schedule {
  try {
    return parse(expression, duration);
  } catch {
    return parse(expression);
  }
}

test("windows start later than asked, on the hour, in order, apart from each other and within their UTC day", () => {
  fc.assert(
    fc.property(anyExpression, anyDuration, anyMoment, (expression, duration, afterMs) => {
      let previous: RotationWindow = { startsAt: afterMs, endsAt: afterMs };
      for (const window of windows(parseIfGood(expression, duration), afterMs, 4)) {
        assert(window.startsAt > previous.startsAt);
        assert(previous.startsAt === afterMs || window.startsAt >= previous.endsAt);
        assert.equal(window.startsAt % hour, 0);
        assert(window.endsAt > window.startsAt);
        assert(window.endsAt <= (Math.floor(window.startsAt / day) + 1) * day);
        previous = window;
      }
    }),
    { numRuns: 300 },
  );
});

test("asking later never gives an earlier window, and asking before a window's start gives that window", () => {
  fc.assert(
    fc.property(
      anyExpression,
      anyMoment,
      fc.nat(400 * day),
      fc.option(anyMoment, { nil: undefined }),
      (expression, afterMs, later, lastRotatedAt) => {
        const schedule = parse(expression);
        const first = nextWindow(schedule, { afterMs, lastRotatedAt });
        const second = nextWindow(schedule, { afterMs: afterMs + later, lastRotatedAt });
        assert(second.startsAt >= first.startsAt);
        const again = nextWindow(schedule, { afterMs: first.startsAt - 1, lastRotatedAt: lastRotatedAt ?? afterMs });
        assert.deepEqual(again, nextWindow(schedule, { afterMs, lastRotatedAt: lastRotatedAt ?? afterMs }));
      },
    ),
    { numRuns: 300 },
  );
});

test("cron agrees with going through the days one by one", () => {
  const list = (min: number, max: number) => fc.uniqueArray(fc.integer({ min, max }), { minLength: 1, maxLength: 4 });
  const fields = fc.record({
    hour: fc.integer({ min: 0, max: 23 }),
    months: list(1, 12),
    days: list(1, 28),
    weekdays: list(1, 7),
    byWeekday: fc.boolean(),
  });
  fc.assert(
    fc.property(fields, anyMoment, ({ hour: startHour, months, days, weekdays, byWeekday }, afterMs) => {
      const dayFields = byWeekday ? `? ${months.join(",")} ${weekdays.join(",")}` : `${days.join(",")} ${months.join(",")} ?`;
      const matches = (date: Date) =>
        months.includes(date.getUTCMonth() + 1) &&
        (byWeekday ? weekdays.includes(date.getUTCDay() + 1) : days.includes(date.getUTCDate()));
      let expected = Math.floor(afterMs / day) * day + startHour * hour;
      while (expected <= afterMs || !matches(new Date(expected))) expected += day;
      assert.equal(nextWindow(parse(`cron(0 ${startHour} ${dayFields} *)`), { afterMs }).startsAt, expected);
    }),
    { numRuns: 300 },
  );
});

test("a spread moment is inside the window and leaves its end free", () => {
  const seeds = fc.oneof(fc.constantFrom(0, 1 - 2 ** -53), fc.double({ min: 0, max: 1 - 2 ** -53, noNaN: true }));
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 42 }), fc.integer({ min: 1000, max: day }), seeds, (startsAt, length, seed) => {
      const moment = spreadMoment([{ from: startsAt, until: startsAt + length }], seed) ?? Number.NaN;
      assert(Number.isInteger(moment) && moment >= startsAt && moment < startsAt + length);
      assert(startsAt + length - moment >= Math.min(length / 4, hour / 4));
    }),
  );
  assert.equal(spreadMoment([{ from: 0, until: day }], 0), 0);
  assert.equal(spreadMoment([{ from: 0, until: day }], 0.5), (23.75 / 2) * hour);
});
