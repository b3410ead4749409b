import { readFileSync } from "node:fs";
import { text as readAll, buffer as readBytes } from "node:stream/consumers";
import { CommandError } from "./command-error.ts";

/** `Key=Value` texts as AWS's tags. @throws CommandError for usage. */
export function tagsOf(texts: unknown): { key: string; value: string }[] | undefined {
  if (!Array.isArray(texts) || texts.length === 0) return undefined;
  return texts.map((text) => {
    const at = String(text).indexOf("=");
    if (at < 1) throw new CommandError(2, "a tag is written KEY=VALUE");
    return { key: String(text).slice(0, at), value: String(text).slice(at + 1) };
  });
}

/** A whole number of an option. @throws CommandError for usage. */
export function numberOf(text: unknown, flag: string): number | undefined {
  if (text === undefined) return undefined;
  if (!/^\d{1,9}$/.test(String(text))) throw new CommandError(2, `${flag} must be a whole number`);
  return Number(text);
}

/** The text of a file that holds nothing secret, such as a policy; `-` is standard input. @throws CommandError for usage. */
export async function fileText(path: string): Promise<string> {
  return path === "-" ? readAll(process.stdin) : readFile(path).toString("utf8");
}

function readFile(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : "unreadable";
    throw new CommandError(2, `${path} cannot be read (${code}); check the path`, { cause: error });
  }
}

/**
 * A secret value: the file's bytes as they are; standard input without its last line end; else asked for on the terminal.
 * Never an argument: other users of the machine can read those.
 * @throws CommandError for usage.
 */
export async function secretBytes(path: string | undefined, question: string): Promise<Buffer> {
  if (path !== undefined && path !== "-") return readFile(path);
  if (path === "-" || !process.stdin.isTTY) {
    const bytes = await readBytes(process.stdin);
    const end = bytes.at(-1) === 10 ? (bytes.at(-2) === 13 ? 2 : 1) : 0;
    return bytes.subarray(0, bytes.length - end);
  }
  const { isCancel, password } = await import("@clack/prompts");
  const answer = await password({ message: question, output: process.stderr });
  if (isCancel(answer)) throw new CommandError(1, "nothing was changed");
  return Buffer.from(answer, "utf8");
}
