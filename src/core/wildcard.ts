/** `*`, any run of characters, the empty one included. */
export const anyRun = Symbol("*");
/** `?`, any one character (UTF-16 code unit). */
export const anyOne = Symbol("?");

/** A piece of a wildcard pattern: literal text or a wildcard. */
export type GlobToken = string | typeof anyRun | typeof anyOne;

/** A stretch between two `*`: of fixed length, so that the leftmost place it fits is always a right one. */
interface Segment {
  readonly length: number;
  fitsAt(subject: string, at: number): boolean;
  /** The first place at or after `from`, or -1. */
  find(subject: string, from: number): number;
}

/** `*` and `?` as wildcards, all else as itself. */
export function globTokens(pattern: string): GlobToken[] {
  return pattern
    .split(/([*?])/)
    .filter((piece) => piece !== "")
    .map((piece) => (piece === "*" ? anyRun : piece === "?" ? anyOne : piece));
}

/**
 * A test of whole subjects against a pattern. Never backtracks: at worst (length of subject) * (longest stretch with `?`) / 64
 * word steps, whatever the pattern.
 */
export function compileGlob(tokens: readonly GlobToken[]): (subject: string) => boolean {
  const runs = split(tokens);
  const [only] = runs;
  if (runs.length === 1 && only)
    return only.length === 1 && typeof only[0] === "string" ? equalTo(only[0]) : whole(segment(only));
  const segments = runs.map(segment);
  const [first, last] = [segments[0], segments.at(-1)];
  if (!first || !last) return (subject) => subject === "";
  if (first.length === 0 && last.length === 0 && segments.length === 2) return () => true;
  const middle = segments.slice(1, -1).filter(({ length }) => length > 0);
  const shortest = first.length + last.length + middle.reduce((sum, { length }) => sum + length, 0);
  return (subject) => {
    const end = subject.length - last.length;
    if (subject.length < shortest || !first.fitsAt(subject, 0) || !last.fitsAt(subject, end)) return false;
    let at = first.length;
    for (const part of middle) {
      const found = part.find(subject, at);
      if (found < 0) return false;
      at = found + part.length;
    }
    return at <= end;
  };
}

function equalTo(text: string): (subject: string) => boolean {
  return (subject) => subject === text;
}

function whole(part: Segment): (subject: string) => boolean {
  return (subject) => subject.length === part.length && part.fitsAt(subject, 0);
}

/** The stretches between the runs; `a*b` has two, `*` two empty ones. Neighbouring literals become one. */
function split(tokens: readonly GlobToken[]): Exclude<GlobToken, typeof anyRun>[][] {
  const runs: Exclude<GlobToken, typeof anyRun>[][] = [[]];
  for (const token of tokens) {
    const run = runs.at(-1);
    const before = run?.at(-1);
    if (token === anyRun) runs.push([]);
    else if (typeof token === "string" && typeof before === "string") run?.splice(-1, 1, before + token);
    else if (token !== "") run?.push(token);
  }
  return runs;
}

function segment(run: readonly Exclude<GlobToken, typeof anyRun>[]): Segment {
  const [text = ""] = run;
  if (run.length <= 1 && typeof text === "string") {
    return {
      length: text.length,
      fitsAt: (subject, at) => subject.startsWith(text, at),
      find: (subject, from) => subject.indexOf(text, from),
    };
  }
  const codes = run.flatMap((token) => (token === anyOne ? [-1] : codesOf(token)));
  const fitsAt = (subject: string, at: number): boolean =>
    at >= 0 && at + codes.length <= subject.length && codes.every((code, i) => code < 0 || subject.charCodeAt(at + i) === code);
  return { length: codes.length, fitsAt, find: bitSearch(codes) };
}

function codesOf(text: string): number[] {
  return text.split("").map((character) => character.charCodeAt(0));
}

/** Shift-and: bit i of `state` says that the first i + 1 codes fit here. `-1` is any code. */
function bitSearch(codes: readonly number[]): Segment["find"] {
  const bitsOf = (wanted: number): bigint =>
    BigInt(
      `0b${codes
        .map((code) => (code < 0 || code === wanted ? "1" : "0"))
        .reverse()
        .join("")}`,
    );
  const masks = new Map(codes.map((code) => [code, bitsOf(code)]));
  const others = bitsOf(-1);
  const found = 1n << BigInt(codes.length - 1);
  return (subject, from) => {
    let state = 0n;
    for (let i = from; i < subject.length; i++) {
      state = ((state << 1n) | 1n) & (masks.get(subject.charCodeAt(i)) ?? others);
      if ((state & found) !== 0n) return i - codes.length + 1;
    }
    return -1;
  };
}
