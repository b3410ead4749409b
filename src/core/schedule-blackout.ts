import { utc, type Zone } from "./schedule-zone.ts";

/** When rotations may not start, by the clock of a zone: what is absent does not restrict. */
export interface Blackout {
  /** As it was written. */
  readonly text: string;
  /** 0 is Sunday. */
  readonly weekdays: ReadonlySet<number> | undefined;
  /** First and last day, as wall times of their midnights. */
  readonly dates: { readonly first: number; readonly last: number } | undefined;
  /** From midnight; `untilMs` is beyond a day where the range goes on into the next. */
  readonly hours: { readonly fromMs: number; readonly untilMs: number };
}

/** From `from` on, before `until`; epoch ms. */
export interface Span {
  readonly from: number;
  readonly until: number;
}

const dayMs = 24 * 3_600_000;
const weekdayNames = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/**
 * Reads days, dates and hours, of which each may be absent: `sat,sun`, `mon-fri 08:00-18:00`, `2026-12-20..2027-01-03`,
 * `2026-12-31 12:00-24:00`, `22:00-06:00` (into the next day). `undefined` when it is not that.
 */
export function parseBlackout(text: string): Blackout | undefined {
  const found: { weekdays?: Blackout["weekdays"]; dates?: Blackout["dates"]; hours?: Blackout["hours"] } = {};
  for (const word of text.trim().toLowerCase().split(/ +/)) {
    const [name, read] = /^\d{4}-/.test(word)
      ? (["dates", parseDates(word)] as const)
      : /^\d/.test(word)
        ? (["hours", parseHours(word)] as const)
        : (["weekdays", parseWeekdays(word)] as const);
    if (read === undefined || found[name] !== undefined) return undefined;
    Object.assign(found, { [name]: read });
  }
  return { text, weekdays: found.weekdays, dates: found.dates, hours: found.hours ?? { fromMs: 0, untilMs: dayMs } };
}

function parseWeekdays(word: string): ReadonlySet<number> | undefined {
  const days = new Set<number>();
  for (const item of word.split(",")) {
    const [from = "", to = from, ...rest] = item.split("-");
    const [first, last] = [weekdayNames.indexOf(from), weekdayNames.indexOf(to)];
    if (first < 0 || last < 0 || rest.length > 0) return undefined;
    for (let day = first; ; day = (day + 1) % 7) {
      days.add(day);
      if (day === last) break;
    }
  }
  return days;
}

function parseDates(word: string): Blackout["dates"] {
  const [from = "", to = from, ...rest] = word.split("..");
  const [first, last] = [parseDate(from), parseDate(to)];
  return first === undefined || last === undefined || last < first || rest.length > 0 ? undefined : { first, last };
}

function parseDate(text: string): number | undefined {
  const at = /^\d{4}-\d{2}-\d{2}$/.test(text) ? Date.parse(`${text}T00:00:00Z`) : Number.NaN;
  // The 30th of February is read as a day of March.
  return Number.isNaN(at) || new Date(at).toISOString().slice(0, 10) !== text ? undefined : at;
}

function parseHours(word: string): Blackout["hours"] | undefined {
  const [, from, until] = /^(\d{2}:\d{2})-(\d{2}:\d{2})$/.exec(word) ?? [];
  const [fromMs, untilMs] = [timeOfDay(from), timeOfDay(until)];
  if (fromMs === undefined || untilMs === undefined || fromMs === dayMs || fromMs === untilMs) return undefined;
  return { fromMs, untilMs: untilMs > fromMs ? untilMs : untilMs + dayMs };
}

function timeOfDay(text = ""): number | undefined {
  const [hours = 0, minutes = 0] = text.split(":").map(Number);
  const ms = (hours * 60 + minutes) * 60_000;
  return text === "" || minutes > 59 || ms > dayMs ? undefined : ms;
}

/** What the blackouts leave of a span, in order; empty when it is wholly blacked out. */
export function freeSpans(span: Span, blackouts: readonly Blackout[], zone: Zone = utc): Span[] {
  let free = [span];
  for (const blackout of blackouts)
    for (const dark of darkSpans(span, blackout, zone)) free = free.flatMap((part) => cut(part, dark));
  return free;
}

/** The blackout that covers a moment; `undefined` when none does. */
export function blackoutAt(at: number, blackouts: readonly Blackout[], zone: Zone = utc): Blackout | undefined {
  return blackouts.find((blackout) => darkSpans({ from: at, until: at + 1 }, blackout, zone).length > 0);
}

function darkSpans({ from, until }: Span, { weekdays, dates, hours }: Blackout, zone: Zone): Span[] {
  const spans: Span[] = [];
  // A day earlier: its hours may go on into the first one.
  const last = startOfDay(zone.toWall(until));
  for (let day = startOfDay(zone.toWall(from)) - dayMs; day <= last; day += dayMs) {
    if (weekdays && !weekdays.has(new Date(day).getUTCDay())) continue;
    if (dates && (day < dates.first || day > dates.last)) continue;
    const dark = { from: zone.toInstant(day + hours.fromMs), until: zone.toInstant(day + hours.untilMs) };
    if (dark.from < until && dark.until > from) spans.push(dark);
  }
  return spans;
}

function cut(part: Span, dark: Span): Span[] {
  const left = { from: part.from, until: Math.min(part.until, dark.from) };
  const right = { from: Math.max(part.from, dark.until), until: part.until };
  return [left, right].filter(({ from, until }) => from < until);
}

function startOfDay(at: number): number {
  return Math.floor(at / dayMs) * dayMs;
}
