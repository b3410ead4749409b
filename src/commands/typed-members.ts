import { CommandError } from "./command-error.ts";
import { fileText, secretBytes } from "./typed-values.ts";

/** Options that make a JSON object of what was typed. */
export const memberOptions = (what: string): Readonly<Record<string, string>> => ({
  "--file <path>": `${what}: JSON, - for standard input`,
  "--set <name=value...>": "a member beside those of the file; numbers, true, false, lists and objects are read as JSON",
});

export const secretMemberOptions: Readonly<Record<string, string>> = {
  "--secret <name>": "a secret member, asked for, or read from standard input",
  "--secret-file <name=path...>": "a secret member, from a file; its last line end is left out",
};

/** Names under which nobody should type a value: other users of the machine can read arguments. */
const secretName = /pass|secret|token|^key$|private/i;

/** @throws CommandError for usage. */
export async function membersOf(options: Readonly<Record<string, unknown>>): Promise<Record<string, unknown> | undefined> {
  const { file, set, secret, secretFile } = options;
  const members: Record<string, unknown> = file === undefined ? {} : objectIn(await fileText(String(file)), String(file));
  for (const [name, value] of pairs(set, "--set")) {
    if (secretName.test(name))
      throw new CommandError(
        2,
        `${name} looks like a secret, which others could read here: give it with --secret or --secret-file`,
      );
    members[name] = readValue(value);
  }
  for (const [name, path] of pairs(secretFile, "--secret-file")) {
    const bytes = await secretBytes({ path, text: false, question: "" });
    members[name] = bytes.toString("utf8").replace(/\r?\n$/, "");
  }
  if (typeof secret === "string")
    members[secret] = (await secretBytes({ path: undefined, text: true, question: secret })).toString("utf8");
  return Object.keys(members).length === 0 && file === undefined ? undefined : members;
}

function objectIn(text: string, path: string): Record<string, unknown> {
  try {
    const read: unknown = JSON.parse(text);
    if (typeof read === "object" && read !== null && !Array.isArray(read)) return read as Record<string, unknown>;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error; // its text quotes what may be secret
  }
  throw new CommandError(2, `${path} is not a JSON object`);
}

function pairs(texts: unknown, flag: string): [string, string][] {
  if (!Array.isArray(texts)) return [];
  return texts.map((text) => {
    const at = String(text).indexOf("=");
    if (at < 1) throw new CommandError(2, `${flag} is written NAME=VALUE`);
    return [String(text).slice(0, at), String(text).slice(at + 1)];
  });
}

function readValue(text: string): unknown {
  if (!/^(-?\d|true$|false$|[[{])/.test(text)) return text;
  try {
    return JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return text; // as 10.0.0.1
    throw error;
  }
}
