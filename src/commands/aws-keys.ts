import { existsSync, writeFileSync } from "node:fs";
import type { Command } from "commander";
import { exampleText } from "./api-command.ts";
import { CommandError } from "./command-error.ts";
import { printJson, printLine } from "./output.ts";
import { writePrivateFile } from "./private-file.ts";

/** `rekey aws keys`: makes the keys of a function; asks nobody. */
export function addAwsKeys(noun: Command): void {
  noun
    .command("keys <file>")
    .description("Make a function's own keys: what is sent to it can be read, and its answers signed, by it alone")
    .option("--json", "print what was written as JSON")
    .addHelpText(
      "after",
      `\nThe file becomes the function's variable REKEY_FAR_KEYS, and only that. FILE.pub is for --far-key of rekey function.\n${exampleText(["rekey aws keys rekey-postgres.keys.json"])}`,
    )
    .action(async (file: string, { json }: { json?: boolean }) => {
      const written = await writeKeys(file);
      if (json === true) printJson(written);
      else {
        printLine(`${written.keys}: keep it secret; give it to the template as FarKeys, then delete it`);
        printLine(`${written.public}: for rekey function create --far-key`);
      }
    });
}

async function writeKeys(file: string): Promise<{ keys: string; public: string }> {
  const publicFile = `${file}.pub`;
  for (const path of [file, publicFile])
    if (existsSync(path)) throw new CommandError(1, `${path} is there already: name another file, or remove it`);
  const { newFarKeys, publicFarKeys } = await import("../crypto/message-keys.ts");
  const keys = await newFarKeys();
  try {
    writePrivateFile(file, JSON.stringify(keys));
    writeFileSync(publicFile, `${JSON.stringify(publicFarKeys(keys))}\n`, { mode: 0o644, flag: "wx" });
  } catch (error) {
    if (!(error instanceof Error && "code" in error)) throw error;
    throw new CommandError(1, `${file} cannot be written (${error.code})`, { cause: error });
  }
  return { keys: file, public: publicFile };
}
