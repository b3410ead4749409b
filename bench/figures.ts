/** One line of the result. */
export interface Figure {
  /** `get 1 process: share of bare node:http` */
  readonly name: string;
  readonly measured: number;
  readonly unit: string;
  /** What is to be reached, if anything was set. */
  readonly goal?: { readonly at: number; readonly least?: boolean };
  /** Of the single rounds or runs, for who wants to see how steady it was. */
  readonly rounds?: readonly number[];
  /** What else is worth knowing about it. */
  readonly note?: string;
}

export const atLeast = (at: number) => ({ at, least: true });
export const atMost = (at: number) => ({ at });

/** Whether the goal is reached; undefined without one. */
export function isMet({ goal, measured }: Figure): boolean | undefined {
  if (!goal) return undefined;
  return goal.least ? measured >= goal.at : measured <= goal.at;
}

function rounded(value: number): string {
  if (!Number.isFinite(value)) return "-";
  const size = Math.abs(value);
  if (size >= 1000) return Math.round(value).toLocaleString("en-US");
  return size >= 100 ? value.toFixed(0) : size >= 10 ? value.toFixed(1) : value.toFixed(2);
}

/** Columns for people; `markdown` for a document. */
export function table(figures: readonly Figure[], markdown = false): string {
  const head = ["measured", "value", "goal", "met", "rounds"];
  const rows = figures.map((figure) => {
    const goal = figure.goal ? `${figure.goal.least ? ">=" : "<="} ${rounded(figure.goal.at)}` : "";
    const met = isMet(figure);
    const rounds = figure.rounds ?? [];
    const spread =
      rounds.length > 1 ? `${rounded(Math.min(...rounds))} to ${rounded(Math.max(...rounds))} in ${rounds.length}` : "";
    const name = figure.note ? `${figure.name} (${figure.note})` : figure.name;
    return [name, `${rounded(figure.measured)} ${figure.unit}`.trim(), goal, met === undefined ? "" : met ? "yes" : "no", spread];
  });
  if (markdown) return [head, head.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`).join("\n");
  const widths = head.map((_, column) => Math.max(...[head, ...rows].map((row) => row[column]?.length ?? 0)));
  return [head, ...rows]
    .map((row) =>
      row
        .map((cell, i) => cell.padEnd(widths[i] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}
