import { z } from "zod";
import { RotatorError } from "../core/error.ts";

/** How a database's SQL quotes: what is between quotes, and in comments, holds no placeholder. */
export interface SqlDialect {
  /** From the opening to the end; alternatives are tried in order, at each character. Sticky. */
  readonly quoted: readonly RegExp[];
  /** What opens such a stretch: met alone, it has no end. Sticky. */
  readonly opening: RegExp;
}

/** Source: PostgreSQL documentation, "Lexical Structure". */
export const postgresDialect: SqlDialect = {
  quoted: [
    /(?<![\w$\u0080-\uffff])[eE]'(?:[^'\\]|\\.|'')*'/sy,
    /'(?:[^']|'')*'/y,
    /"(?:[^"]|"")*"/y,
    /--[^\n]*/y,
    /(?<![\w$\u0080-\uffff])\$([A-Za-z_\u0080-\uffff][\w\u0080-\uffff]*)?\$.*?\$\1\$/sy,
  ],
  opening: /(?<![\w$\u0080-\uffff])[eE]'|['"]|\/\*|(?<![\w$\u0080-\uffff])\$[\w\u0080-\uffff]*\$/y,
};

/** Source: MySQL manual, "String Literals", "Comments". Quotes of either kind are taken to hold backslash escapes. */
export const mysqlDialect: SqlDialect = {
  quoted: [/'(?:[^'\\]|\\.|'')*'/sy, /"(?:[^"\\]|\\.|"")*"/sy, /`(?:[^`]|``)*`/y, /--(?=\s|$)[^\n]*/y, /#[^\n]*/y],
  opening: /['"`]|\/\*/y,
};

const maxStatements = 20;
const maxCharacters = 8_192;
const placeholder = /\{\{\s*([A-Za-z]\w*)\s*\}\}/y;
/** With what a value in its own quotes would become another text: letters, quotes, `U&`, `@`, braces, the next placeholder. */
const sticks = /[\p{L}\p{N}_$"'`\\@&{}]/u;

type Part = { readonly text: string } | { readonly name: string };

/**
 * Statements with typed placeholders, each sent by itself and never split: `{{username}}` becomes a quoted name,
 * `{{password}}` a quoted text. `names`: the placeholders that may be used; `needed`: that must be.
 */
export const statementList = (dialect: SqlDialect, names: readonly string[], needed: readonly string[] = []) =>
  z
    .array(z.string().min(1).max(maxCharacters))
    .min(1)
    .max(maxStatements)
    .superRefine((statements, context) => {
      const used = new Set<string>();
      for (const [index, statement] of statements.entries()) {
        for (const problem of problemsOf(statement, dialect, names, used))
          context.addIssue({ code: "custom", path: [index], message: problem });
      }
      for (const name of needed.filter((one) => !used.has(one)))
        context.addIssue({ code: "custom", message: `must use {{${name}}}` });
    });

function problemsOf(statement: string, dialect: SqlDialect, names: readonly string[], used: Set<string>): string[] {
  try {
    const found = parse(statement, dialect).flatMap((part) => ("name" in part ? [part.name] : []));
    for (const name of found) used.add(name);
    const allowed = names.map((name) => `{{${name}}}`).join(", ");
    return found.filter((name) => !names.includes(name)).map((name) => `has no placeholder {{${name}}}; here are ${allowed}`);
  } catch (error) {
    if (error instanceof RotatorError) return [error.message];
    throw error;
  }
}

/** `values`: SQL by the placeholder's name, quoted already. @throws RotatorError `invalid` */
export function renderStatement(statement: string, dialect: SqlDialect, values: Readonly<Record<string, string>>): string {
  return parse(statement, dialect)
    .map((part) => ("text" in part ? part.text : sqlOf(part.name, values)))
    .join("");
}

function sqlOf(name: string, values: Readonly<Record<string, string>>): string {
  const value = Object.hasOwn(values, name) ? values[name] : undefined;
  if (value === undefined) throw new RotatorError("invalid", `has no placeholder {{${name}}}`);
  return value;
}

/** @throws RotatorError `invalid` for a placeholder where its value would be read as something else, and for open quotes */
function parse(statement: string, dialect: SqlDialect): Part[] {
  if (statement.includes("\0")) throw new RotatorError("invalid", "may not contain NUL");
  const parts: Part[] = [];
  let from = 0;
  for (let at = 0; at < statement.length; ) {
    const end = quotedUntil(statement, at, dialect);
    if (end > at || !statement.startsWith("{{", at)) {
      at = Math.max(end, at + 1);
      continue;
    }
    const { name, whole } = placeholderAt(statement, at);
    parts.push({ text: statement.slice(from, at) }, { name });
    at += whole.length;
    from = at;
  }
  return [...parts, { text: statement.slice(from) }];
}

function placeholderAt(statement: string, at: number): { name: string; whole: string } {
  placeholder.lastIndex = at;
  const [whole, name] = placeholder.exec(statement) ?? [];
  if (whole === undefined || name === undefined) throw new RotatorError("invalid", "has {{ that begins no placeholder");
  const [before = "", after = ""] = [statement[at - 1], statement[at + whole.length]];
  if (!sticks.test(before) && !sticks.test(after)) return { name, whole };
  throw new RotatorError("invalid", `${whole} must stand by itself, as it brings its own quotes`);
}

/** Where the quotes or comment that begin here end; `at` itself when none do. */
function quotedUntil(statement: string, at: number, dialect: SqlDialect): number {
  const end = stretchUntil(statement, at, dialect);
  const inside = /\{\{\s*[A-Za-z]\w*\s*\}\}/.exec(statement.slice(at, end))?.[0];
  if (inside === undefined) return end;
  throw new RotatorError("invalid", `${inside} stands inside quotes or a comment: it brings its own quotes`);
}

function stretchUntil(statement: string, at: number, { quoted, opening }: SqlDialect): number {
  const comment = statement.startsWith("/*", at) ? commentUntil(statement, at) : undefined;
  if (comment !== undefined) return comment;
  for (const pattern of quoted) {
    pattern.lastIndex = at;
    if (pattern.test(statement)) return pattern.lastIndex;
  }
  opening.lastIndex = at;
  if (opening.test(statement)) throw new RotatorError("invalid", "has a quote or comment without an end");
  return at;
}

/** Comments within comments are refused: databases do not agree on them. */
function commentUntil(statement: string, at: number): number {
  const end = statement.indexOf("*/", at + 2);
  if (end < 0) throw new RotatorError("invalid", "has a quote or comment without an end");
  if (statement.slice(at + 2, end).includes("/*")) throw new RotatorError("invalid", "has a comment within a comment");
  return end + 2;
}
