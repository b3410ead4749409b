// Faults as other managers have had them, planted in a copy of the program: a campaign that does not find them proves nothing.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export interface Hole {
  readonly name: string;
  readonly about: string;
  /** In which scenario it must be found. */
  readonly scenario: string;
  readonly changes: readonly Change[];
}

interface Change {
  readonly file: string;
  /** Occurs once in the file. */
  readonly from: string;
  readonly to: string;
}

export const holes: readonly Hole[] = [];

/** @throws Error when the program has changed and the hole does not fit any more. */
export function plant({ name, changes }: Hole, root: string): void {
  for (const { file, from, to } of changes) {
    const path = join(root, file);
    const text = readFileSync(path, "utf8");
    if (text.split(from).length !== 2) throw new Error(`hole ${name} does not fit ${file}: ${JSON.stringify(from)}`);
    writeFileSync(
      path,
      text.replace(from, () => to),
    );
  }
}
