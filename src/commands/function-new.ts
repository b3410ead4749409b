import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import type { Command } from "commander";
import { functionNamePattern } from "../core/function.ts";
import { exampleText } from "./api-command.ts";
import { CommandError } from "./command-error.ts";
import { printJson, printLine } from "./output.ts";

/** What a folder under `functions/templates` is for. */
const templates: Readonly<Record<string, { readonly file: string }>> = {
  node: { file: "index.mjs" },
  python: { file: "lambda_function.py" },
};
const folder = join(import.meta.dirname, "../functions/templates");

/** `rekey function new`: asks no server. */
export function addFunctionNew(noun: Command): void {
  noun
    .command("new <folder>")
    .description("Write a rotation function to begin with, complete but for the target, and how to go on")
    .option("--template <language>", "node or python (required)")
    .option("--json", "print what was written as JSON")
    .addHelpText("after", exampleText(["rekey function new --template node rotate-app"]))
    .action((path: string, { template, json }: { template?: string; json?: boolean }) => {
      const written = writeTemplate(template, path);
      if (json === true) printJson(written);
      else for (const file of written.files) printLine(file);
      if (json !== true)
        printLine(`read ${join(path, "README.md")}, then run: rekey function test ${written.file} --secret NAME`);
    });
}

/** @throws CommandError for usage */
function writeTemplate(template: string | undefined, path: string): { file: string; files: string[] } {
  const known = template !== undefined && Object.hasOwn(templates, template) ? templates[template] : undefined;
  if (template === undefined || !known) throw new CommandError(2, "--template must be node or python");
  const name = basename(resolve(path));
  if (!functionNamePattern.test(name))
    throw new CommandError(2, `${name} cannot be a function's name: take 1 to 64 letters, digits, - and _ for the folder`);
  const source = join(folder, template);
  const files = readdirSync(source).sort();
  try {
    mkdirSync(path, { recursive: true });
    const there = readdirSync(path);
    if (there.length > 0) throw new CommandError(1, `${path} is not empty: name a folder that is not there yet`);
    for (const file of files)
      writeFileSync(join(path, file), readFileSync(join(source, file), "utf8").replaceAll("NAME", name), { mode: 0o644 });
  } catch (error) {
    if (error instanceof CommandError || !(error instanceof Error && "code" in error)) throw error;
    throw new CommandError(1, `${path} cannot be written (${error.code})`, { cause: error });
  }
  return { file: join(path, known.file), files: files.map((file) => join(path, file)) };
}
