import { Cron } from "croner";

/** A `cron(…)` expression of AWS Secrets Manager, in UTC. */
export interface SecretsCron {
  /** Ascending, at least four apart. */
  readonly hours: readonly number[];
  /** The first matching hour after a moment; `undefined` when none is left before the calendar ends. */
  next(afterMs: number): number | undefined;
}

const minHoursApart = 4;
const months = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const weekdays = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

interface Field {
  readonly min: number;
  readonly max: number;
  /** Names of `min`, `min + 1` … */
  readonly names: readonly string[];
}
const hourField: Field = { min: 0, max: 23, names: [] };
const dayField: Field = { min: 1, max: 31, names: [] };
const monthField: Field = { min: 1, max: 12, names: months };
const weekdayField: Field = { min: 1, max: 7, names: weekdays };

/**
 * Reads `0 hours day-of-month month day-of-week *`, exactly one of the day fields being `?`; `undefined` when it is not that,
 * matches no day at all or asks for hours less than four apart. Hours may also be listed (`8,20`), which AWS does not promise.
 * Source: AWS Secrets Manager user guide, "Schedule expressions".
 */
export function parseSecretsCron(text: string): SecretsCron | undefined {
  const [minutes, hourText = "", day = "", monthText = "", weekday = "", year, ...rest] = text.toUpperCase().split(/ +/);
  if (minutes !== "0" || year !== "*" || rest.length > 0 || (day === "?") === (weekday === "?")) return undefined;
  const hours = parseField(hourText, hourField);
  const month = parseField(monthText, monthField);
  const days = weekday === "?" ? translateDay(day) : translateWeekday(weekday);
  if (!hours || !month || !days || tooClose(hours)) return undefined;
  // Written out in numbers: croner's weekdays start at 0, and its steps need not restart as AWS's do.
  const cron = new Cron(`0 0 ${hours.join(",")} ${days.day} ${month.join(",")} ${days.weekday}`, { utcOffset: 0 });
  const next = (afterMs: number) => cron.nextRun(new Date(afterMs))?.getTime();
  return next(0) === undefined ? undefined : { hours, next };
}

interface Days {
  readonly day: string;
  readonly weekday: string;
}

/** `L` is the month's last day, `SUNL` its last Sunday. */
function translateDay(text: string): Days | undefined {
  const lastWeekday = text.endsWith("L") ? weekdayNumber(text.slice(0, -1)) : undefined;
  if (lastWeekday !== undefined) return { day: "*", weekday: `${lastWeekday}#L` };
  const items = text.split(",").map((item) => (item === "L" ? "L" : parseField(item, dayField)?.join(",")));
  return items.includes(undefined) ? undefined : { day: items.join(","), weekday: "*" };
}

/** `TUE#3` is the third Tuesday, `FRIL` the last Friday, `L` alone the last day of the week. */
function translateWeekday(text: string): Days | undefined {
  const items = text.split(",").map(translateWeekdayItem);
  return items.includes(undefined) ? undefined : { day: "*", weekday: items.join(",") };
}

function translateWeekdayItem(item: string): string | undefined {
  if (item === "L") return "6";
  const [, name, place] = /^([A-Z0-9]+?)(L|#[1-5])$/.exec(item) ?? [];
  if (name === undefined || place === undefined) {
    return parseField(item, weekdayField)
      ?.map((number) => number - 1)
      .join(",");
  }
  const weekday = weekdayNumber(name);
  return weekday === undefined ? undefined : `${weekday}#${place.replace("#", "")}`;
}

/** 0 for Sunday, from AWS's `1` or `SUN`. */
function weekdayNumber(text: string): number | undefined {
  const number = parseValue(text, weekdayField);
  return number === undefined ? undefined : number - 1;
}

function parseField(text: string, field: Field): number[] | undefined {
  const values = new Set<number>();
  for (const item of text.split(",")) {
    const range = parseItem(item, field);
    if (!range) return undefined;
    for (let value = range.from; value <= range.to; value += range.step) values.add(value);
  }
  return [...values].sort((a, b) => a - b);
}

/** `*`, `4`, `2-5`, `/8` (from the field's start), `2/10` (to its end), `2-20/6`. */
function parseItem(item: string, field: Field): { from: number; to: number; step: number } | undefined {
  const [, first, last, stepText] = /^(\*|[A-Z0-9]*)(?:-([A-Z0-9]+))?(?:\/(\d{1,3}))?$/.exec(item) ?? [];
  if (first === undefined || (first === "" && stepText === undefined)) return undefined;
  const whole = first === "*" || first === "";
  if (whole && last !== undefined) return undefined;
  const from = whole ? field.min : parseValue(first, field);
  const lone = whole || stepText !== undefined ? field.max : from;
  const to = last === undefined ? lone : parseValue(last, field);
  const step = Number(stepText ?? 1);
  return from === undefined || to === undefined || from > to || step < 1 ? undefined : { from, to, step };
}

function parseValue(text: string, { min, max, names }: Field): number | undefined {
  const named = names.indexOf(text);
  if (named >= 0) return min + named;
  const value = /^\d{1,2}$/.test(text) ? Number(text) : Number.NaN;
  return value >= min && value <= max ? value : undefined;
}

function tooClose(hours: readonly number[]): boolean {
  return hours.some((hour, index) => index > 0 && hour - (hours[index - 1] ?? 0) < minHoursApart);
}
