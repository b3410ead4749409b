import { type UploadedSecret, unreadable } from "./config-uploaded.ts";

// biome-ignore lint/suspicious/noControlCharactersInRegex: JSON lets none stand in a string.
const quoted = /"[^"\\\x00-\x1f]*(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*)*"/y;
const bare = /(?:-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false)(?![\w.+-])/y;
const space = /[ \t\r\n]*/y;

/** One flat JSON object of strings, numbers and booleans; numbers stay as they are written, be it `1.10` or of 20 digits. */
export function* readJson(text: string): Generator<UploadedSecret> {
  const cursor = { text, at: 0, line: 1 };
  if (!take(cursor, /\{/y)) throw unreadable(cursor.line, "expected an object, which begins with {.");
  if (!take(cursor, /\}/y)) {
    do {
      yield member(cursor);
    } while (take(cursor, /,/y));
    if (!take(cursor, /\}/y)) throw unreadable(cursor.line, "expected a comma or the object's end, }.");
  }
  if (take(cursor, /$/y) === undefined) throw unreadable(cursor.line, "the object ends here, yet more follows.");
}

interface Cursor {
  readonly text: string;
  at: number;
  line: number;
}

function member(cursor: Cursor): UploadedSecret {
  const name = take(cursor, quoted);
  const { line } = cursor;
  if (!name) throw unreadable(line, "expected a name in double quotes.");
  if (!take(cursor, /:/y)) throw unreadable(cursor.line, "expected a colon after the name.");
  const text = take(cursor, quoted);
  const value = text ? unquoted(text) : take(cursor, bare);
  if (value === undefined) throw unreadable(cursor.line, "a value must be a string in double quotes, a number, true or false.");
  return { name: unquoted(name), value, line };
}

const unquoted = (text: string): string => String(JSON.parse(text));

/** What `rule`, which is sticky, finds after white space; then the cursor is behind it. */
function take(cursor: Cursor, rule: RegExp): string | undefined {
  space.lastIndex = cursor.at;
  const between = space.exec(cursor.text)?.[0] ?? "";
  cursor.at += between.length;
  cursor.line += between.split("\n").length - 1;
  rule.lastIndex = cursor.at;
  const found = rule.exec(cursor.text)?.[0];
  if (found !== undefined) cursor.at += found.length;
  return found;
}
