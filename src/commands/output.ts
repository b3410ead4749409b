import { styleText } from "node:util";

/** Objects as the native API answers them. */
export type Answer = Readonly<Record<string, unknown>>;
/** Heading of a column and what stands in it; a text names the member. */
export type Columns = Readonly<Record<string, string | ((row: Answer) => unknown)>>;

/** JSON with two spaces, for programs. */
export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, undefined, 2)}\n`);
}

export function printLine(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** Rows under headings; `nothing` is said when there are none. */
export function printTable(rows: readonly Answer[], columns: Columns, nothing: string): void {
  if (rows.length === 0) {
    printLine(nothing);
    return;
  }
  const headings = Object.keys(columns);
  const lines = rows.map((row) => Object.values(columns).map((column) => cell(pick(row, column))));
  const widths = headings.map((heading, index) => Math.max(heading.length, ...lines.map((line) => line[index]?.length ?? 0)));
  const join = (cells: readonly string[]) =>
    cells
      .map((text, index) => text.padEnd(widths[index] ?? 0))
      .join("  ")
      .trimEnd();
  printLine(paint("bold", join(headings)));
  for (const line of lines) printLine(join(line));
}

/** One object, a line for each member that is there. */
export function printFields(object: Answer, columns: Columns): void {
  const width = Math.max(...Object.keys(columns).map((heading) => heading.length));
  for (const [heading, column] of Object.entries(columns)) {
    const value = pick(object, column);
    if (value === undefined || value === null) continue;
    printLine(`${paint("bold", heading.padEnd(width))}  ${cell(value)}`);
  }
}

const pick = (row: Answer, column: Columns[string]): unknown => (typeof column === "string" ? row[column] : column(row));

/** Text for one cell; control characters cannot move the cursor or colour what follows. */
export function cell(value: unknown): string {
  if (value === undefined || value === null) return "-";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (Array.isArray(value)) return value.length === 0 ? "-" : value.map(cell).join(", ");
  if (typeof value === "object") return JSON.stringify(value);
  return shortTime(String(value)).replaceAll(/\p{Cc}/gu, " ");
}

/** `2026-01-02T03:04:05.678Z` → `2026-01-02 03:04:05Z` */
function shortTime(text: string): string {
  const match = /^(\d{4}-\d{2}-\d{2})T(\d{2}:\d{2}:\d{2})(\.\d+)?Z$/.exec(text);
  return match ? `${match[1]} ${match[2]}Z` : text;
}

/** Colour for people: none when standard output is not a terminal or NO_COLOR is set. */
export function paint(style: "bold" | "green" | "yellow" | "red", text: string): string {
  return styleText(style, text, { stream: process.stdout });
}
