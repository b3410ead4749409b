/** Objects as the native API answers them. */
export type Answer = Readonly<Record<string, unknown>>;
/** Heading of a column and what stands in it; a text names the member. */
export type Columns = Readonly<Record<string, string | ((row: Answer) => unknown)>>;

/** A list that an answer holds; none when it holds something else. */
export const rows = (list: unknown): readonly Answer[] => (Array.isArray(list) ? list : []);

/** JSON with two spaces, for programs. */
export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, undefined, 2)}\n`);
}

export function printLine(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** Rows under headings; `nothing` is said when there are none. */
export function printTable(rows: readonly Answer[], columns: Columns, nothing: string): void {
  if (rows.length === 0) printLine(nothing);
  else growingTable(columns)(rows);
}

/** A table that may get further rows: headings come before the first, and columns only become wider. */
export function growingTable(columns: Columns): (rows: readonly Answer[]) => void {
  const headings = Object.keys(columns);
  let widths: number[] | undefined;
  return (rows) => {
    const lines = rows.map((row) => Object.values(columns).map((column) => cell(pick(row, column))));
    const first = widths === undefined;
    const known = widths ?? headings.map((heading) => heading.length);
    widths = known.map((width, index) => Math.max(width, ...lines.map((line) => line[index]?.length ?? 0)));
    for (const cells of first ? [headings, ...lines] : lines)
      printLine(
        cells
          .map((text, index) => text.padEnd(widths?.[index] ?? 0))
          .join("  ")
          .trimEnd(),
      );
  };
}

/** One object, a line for each member that is there. */
export function printFields(object: Answer, columns: Columns): void {
  const width = Math.max(...Object.keys(columns).map((heading) => heading.length));
  for (const [heading, column] of Object.entries(columns)) {
    const value = pick(object, column);
    if (value !== undefined && value !== null) printLine(`${heading.padEnd(width)}  ${cell(value)}`);
  }
}

const pick = (row: Answer, column: Columns[string]): unknown => (typeof column === "string" ? row[column] : column(row));

/** Text for one cell; control characters cannot move the cursor, colour what follows or turn its direction. */
export function cell(value: unknown): string {
  if (value === undefined || value === null) return "-";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (Array.isArray(value)) return value.length === 0 ? "-" : value.map(cell).join(", ");
  if (typeof value === "object") return JSON.stringify(value);
  return shortTime(String(value)).replaceAll(/[\p{Cc}\p{Bidi_Control}\u2028\u2029]/gu, " ");
}

/** `2026-01-02T03:04:05.678Z` → `2026-01-02 03:04:05Z` */
function shortTime(text: string): string {
  const match = /^(\d{4}-\d{2}-\d{2})T(\d{2}:\d{2}:\d{2})(\.\d+)?Z$/.exec(text);
  return match ? `${match[1]} ${match[2]}Z` : text;
}
