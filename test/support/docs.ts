// The documentation as programs: its fenced blocks, in order, and the shell script that they make together.
import { readFileSync } from "node:fs";
import { basename } from "node:path";

/** A fenced block whose info string says that it is run, and the output shown under it. */
export interface Example {
  readonly line: number;
  /** `sh`, `js`, `python`, `sql`, or that of a file to be written. */
  readonly language: string;
  /** `run`; `server`: goes on in the background; `fails`: must end with an error; `file=NAME`: is saved under that name. */
  readonly how: string;
  readonly text: string;
  /** What it prints; `…` stands for anything. */
  readonly output?: string;
}

/** Between blocks: ends the servers that run. */
const stopMark = "<!-- stop servers -->";

/** The runnable examples of a page. */
export function readExamples(path: string): Example[] {
  const lines = readFileSync(path, "utf8").split("\n");
  const found: Example[] = [];
  for (let at = 0; at < lines.length; at += 1) {
    if (lines[at] === stopMark) found.push({ line: at + 1, language: "sh", how: "stop", text: "" });
    const [, language = "", how] = /^```(\w+) ([\w=./-]+)$/.exec(lines[at] ?? "") ?? [];
    if (how === undefined) continue;
    const end = lines.indexOf("```", at);
    const text = lines.slice(at + 1, end).join("\n");
    const last = found.at(-1);
    if (how === "output" && last) found.splice(-1, 1, { ...last, output: text });
    else found.push({ line: at + 1, language, how, text });
    at = end;
  }
  return found;
}

/** The lines of the blocks of a page that have this language alone: what a reader pastes elsewhere. */
export function pastedLines(path: string, language: string): string[] {
  const blocks = readFileSync(path, "utf8").matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\`$`, "gm"));
  return [...blocks].flatMap(([, text = ""]) => text.trimEnd().split("\n"));
}

const mark = (index: number): string => `@@ example ${index} @@`;

/** One bash script, so that what an example exports is there for the next. Stops at the first that does not go well. */
export function toScript(examples: readonly Example[]): string {
  return ["set -eu", ...examples.flatMap((example, index) => [`echo "${mark(index)}"`, command(example, index)])].join("\n");
}

/** The file in which an example that is not shell text is kept. */
export function fileOf({ language, how }: Example, index: number): string | undefined {
  if (how.startsWith("file=")) return basename(how.slice("file=".length));
  if (language === "js") return `example-${index}.mjs`;
  return language === "sh" ? undefined : `example-${index}.${language}`;
}

function command(example: Example, index: number): string {
  const { language, how, text } = example;
  const file = fileOf(example, index);
  if (how.startsWith("file=")) return ":";
  if (how === "stop") return "kill $(jobs -p); wait";
  if (how === "server")
    return `(exec ${text.replace(/^command /, "")}) > server-${index}.log 2>&1 &\nserver=$!\nuntil_listening server-${index}.log`;
  if (how === "fails") return `if ( ${text}\n) 2>&1; then exit 90; fi`;
  if (language === "js") return `node ${file}`;
  if (language === "python") return `python3 ${file}`;
  return language === "sql" ? `node sql.mjs ${file}` : text;
}

/** What each example printed. */
export function splitOutput(stdout: string, count: number): (string | undefined)[] {
  return Array.from({ length: count }, (_, index) => {
    const [, after] = stdout.split(`${mark(index)}\n`);
    return after?.split("@@ example ")[0];
  });
}

/** Whether text printed is the text shown: `…` stands for anything, and blanks do not count, since some are for terminals only. */
export function looksLike(printed: string, shown: string): boolean {
  const words = (text: string) => text.replaceAll(/\s+/g, "");
  const pattern = words(shown)
    .split("…")
    .map((piece) => piece.replaceAll(/[\\^$.*+?()[\]{}|]/g, "\\$&"))
    .join("[\\s\\S]*?");
  return new RegExp(`^${pattern}$`).test(words(printed));
}

/** Targets of the links of a page, and the anchors of its headings as GitHub makes them. */
export function readLinks(text: string): { links: string[]; anchors: Set<string> } {
  const prose = text.replaceAll(/^```[\s\S]*?^```$/gm, "").replaceAll(/`[^`\n]*`/g, (code) => code.replaceAll(/[[\]]/g, ""));
  const links = [...prose.matchAll(/\]\(([^)\s]+)\)/g)].map((match) => match[1] ?? "");
  const headings = [...text.replaceAll(/^```[\s\S]*?^```$/gm, "").matchAll(/^#+ (.+)$/gm)].map((match) => match[1] ?? "");
  const anchor = (heading: string) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}\s_-]/gu, "")
      .replaceAll(" ", "-");
  return { links, anchors: new Set(headings.map(anchor)) };
}
