import { closeSync, fstatSync, openSync, readFileSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { CommandError } from "./command-error.ts";
import { isAbsent } from "./private-file.ts";

/** What a folder's `.rekey.yaml` chooses. It names no server and no token: whoever wrote it would get the other. */
export interface ScopeFile {
  readonly path: string;
  readonly project?: string;
  readonly config?: string;
}

export const scopeFileName = ".rekey.yaml";

/** The nearest `.rekey.yaml`, here or in a folder above. @throws CommandError when it is not ours or says something else. */
export async function findScopeFile(directory: string): Promise<ScopeFile | undefined> {
  for (let folder = directory; ; folder = dirname(folder)) {
    const path = join(folder, scopeFileName);
    const text = readOwned(path, directory);
    if (text !== undefined) return parse(path, text);
    if (dirname(folder) === folder) return undefined;
  }
}

/**
 * Above us may be a folder where everybody writes, such as /tmp: a stranger's file there would choose what our programs are
 * given. Whoever owns the folder where we are is none.
 */
function readOwned(path: string, directory: string): string | undefined {
  let file: number;
  try {
    file = openSync(path, "r");
  } catch (error) {
    if (isAbsent(error)) return undefined;
    const code = error instanceof Error && "code" in error ? String(error.code) : "unreadable";
    throw new CommandError(2, `${path} cannot be read (${code}): give --project and --config`, { cause: error });
  }
  try {
    const { uid } = fstatSync(file);
    if (uid !== 0 && uid !== process.getuid?.() && uid !== statSync(directory).uid)
      throw new CommandError(2, `${path} belongs to another user, so it is not used: give --project and --config`);
    return readFileSync(file, "utf8");
  } finally {
    closeSync(file);
  }
}

async function parse(path: string, text: string): Promise<ScopeFile> {
  const { parse: parseYaml, YAMLParseError } = await import("yaml");
  let read: unknown;
  try {
    read = parseYaml(text);
  } catch (error) {
    if (!(error instanceof YAMLParseError)) throw error;
    throw new CommandError(2, `${path} is not YAML (line ${error.linePos?.[0].line ?? 1}): run rekey setup to write it anew`);
  }
  if (read === null || read === undefined) return { path };
  const members = typeof read === "object" && !Array.isArray(read) ? Object.entries(read) : undefined;
  const wrong = members?.find(([name, value]) => !["project", "config"].includes(name) || typeof value !== "string");
  if (!members || wrong)
    throw new CommandError(2, `${path} may hold project and config, both texts${wrong ? `, but has ${wrong[0]}` : ""}`);
  return { path, ...Object.fromEntries(members) };
}

/** The text of a `.rekey.yaml`. */
export async function scopeFileText(scope: { readonly project: string; readonly config: string }): Promise<string> {
  const { stringify } = await import("yaml");
  return stringify({ project: scope.project, config: scope.config });
}
