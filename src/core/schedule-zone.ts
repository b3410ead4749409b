/** Wall time is written as the epoch milliseconds that the same reading of the clock has in UTC. */
export interface Zone {
  toWall(at: number): number;
  /** Of a reading that comes twice, the first; one that is skipped is the moment of the jump. */
  toInstant(wall: number): number;
}

export const utc: Zone = { toWall: (at) => at, toInstant: (wall) => wall };

const dayMs = 24 * 3_600_000;
const known = new Map<string, Zone>();

/** Whether an IANA name, as `Europe/Berlin`, is known here; offsets as `+02:00` are none. */
export function isZone(name: string): boolean {
  try {
    return /^[A-Za-z]/.test(name) && new Intl.DateTimeFormat("en", { timeZone: name }).resolvedOptions().timeZone !== "";
  } catch (error) {
    if (error instanceof RangeError) return false;
    throw error;
  }
}

/** The zone of an IANA name; UTC without one. @throws RangeError for a name that is not known */
export function zoneOf(name: string | undefined): Zone {
  if (name === undefined) return utc;
  const key = name.toLowerCase(); // however it is written, it is kept once
  const zone = known.get(key) ?? makeZone(name);
  known.set(key, zone);
  return zone;
}

function makeZone(name: string): Zone {
  const format = new Intl.DateTimeFormat("en-US", {
    timeZone: name,
    calendar: "gregory",
    numberingSystem: "latn",
    hourCycle: "h23",
    year: "numeric",
    month: "numeric",
    day: "numeric",
    hour: "numeric",
    minute: "numeric",
    second: "numeric",
  });
  const toWall = (at: number): number => {
    const read: Record<string, number> = {};
    for (const { type, value } of format.formatToParts(at)) read[type] = Number(value);
    const { year = 0, month = 1, day = 1, hour = 0, minute = 0, second = 0 } = read;
    return Date.UTC(year, month - 1, day, hour, minute, second) + (((at % 1000) + 1000) % 1000);
  };
  return { toWall, toInstant: (wall) => instantOf(wall, toWall) };
}

/** No zone has two jumps within two days of one another. */
function instantOf(wall: number, toWall: (at: number) => number): number {
  const before = wall - offset(wall - dayMs, toWall);
  const after = wall - offset(wall + dayMs, toWall);
  for (const at of [Math.min(before, after), Math.max(before, after)]) if (toWall(at) === wall) return at;
  return jumpBetween(Math.min(before, after), Math.max(before, after), wall, toWall);
}

function offset(at: number, toWall: (at: number) => number): number {
  return toWall(at) - at;
}

/** The clock reads less than `wall` before the jump and more after it. */
function jumpBetween(from: number, to: number, wall: number, toWall: (at: number) => number): number {
  let [low, high] = [from, to];
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (toWall(middle) < wall) low = middle;
    else high = middle;
  }
  return high;
}
