import { type UploadedSecret, unreadable } from "./config-uploaded.ts";

const assignment = /(?:export[ \t]+)?[^\s=:"'`#]+[ \t]*=(?:[ \t]+(?!#))?/y;
const nameInside = /[^\s=]+(?=[ \t]*=)/;
const blank = /[ \t]*(?:#[^\n]*)?(?:\n|$)/y;
const indent = /[ \t]*/y;
/** To the end of the line, or to a `#` after white space. */
const plain = /(?:[^ \t\n#]|[ \t]+(?![ \t#]|$|\n)|#)*/y;

const quotes: Readonly<Record<string, RegExp>> = {
  '"': /"[^"\\]*(?:\\[\s\S][^"\\]*)*"/y,
  "'": /'[^']*'/y,
  "`": /`[^`]*`/y,
};

/**
 * Lines of `NAME=value`, with `export` before or not, blank lines and comments (`#`, after white space too). Quoted values may
 * go over lines. In double quotes `\n`, `\r` and `\t` are those characters and `\\`, `\"`, `\$` and `` \` `` what they escape; any other
 * backslash stays. In single quotes, backticks and bare values all stays as it is. `$NAME` is text; line breaks are `\n`, be they
 * CRLF in the file or not.
 */
export function* readEnv(file: string): Generator<UploadedSecret> {
  const cursor = { text: file.replaceAll("\r\n", "\n").replaceAll("\r", "\n"), at: 0, line: 1 };
  while (cursor.at < cursor.text.length) {
    if (take(cursor, blank) !== undefined) continue;
    take(cursor, indent);
    const { line } = cursor;
    const name = take(cursor, assignment)?.match(nameInside)?.[0];
    if (name === undefined) throw unreadable(line, "expected NAME=value.");
    const value = takeValue(cursor);
    if (take(cursor, blank) === undefined) throw unreadable(cursor.line, "only a comment may follow the closing quotation mark.");
    yield { name, value, line };
  }
}

interface Cursor {
  readonly text: string;
  at: number;
  line: number;
}

function takeValue(cursor: Cursor): string {
  const { line } = cursor;
  const quote = cursor.text.charAt(cursor.at);
  const rule = quotes[quote];
  if (!rule) return take(cursor, plain) ?? "";
  const quoted = take(cursor, rule);
  if (quoted === undefined) throw unreadable(line, "the value's quotation mark is not closed.");
  const inside = quoted.slice(1, -1);
  return quote === '"' ? unescaped(inside) : inside;
}

/** What `rule`, which is sticky, finds; then the cursor is behind it. */
function take(cursor: Cursor, rule: RegExp): string | undefined {
  rule.lastIndex = cursor.at;
  const found = rule.exec(cursor.text)?.[0];
  if (found === undefined) return undefined;
  cursor.at += found.length;
  cursor.line += found.split("\n").length - 1;
  return found;
}

const meaning: Readonly<Record<string, string>> = { n: "\n", r: "\r", t: "\t", "\\": "\\", '"': '"', $: "$", "`": "`" };

function unescaped(text: string): string {
  return text.replace(/\\([\s\S])/g, (both, character: string) => meaning[character] ?? both);
}
