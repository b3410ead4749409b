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

/** Where a secret value comes from. */
export interface ValueSource {
  /** A file, `-` for standard input: its bytes as they are. */
  readonly path: string | undefined;
  /** Without a path, whether to leave standard input's last line end out, which `echo` adds. */
  readonly text: boolean;
  readonly question: string;
}

/**
 * A secret value from a file, standard input or, with neither, asked for on the terminal without showing it. Never an
 * argument: other users of the machine can read those.
 * @throws CommandError for usage.
 */
export async function secretBytes({ path, text, question }: ValueSource): Promise<Buffer> {
  if (path !== undefined && path !== "-") return readFile(path);
  if (path === "-" || !process.stdin.isTTY) {
    const bytes = await readBytes(process.stdin);
    if (path === "-" || !text || bytes.at(-1) !== 10) return bytes;
    return bytes.subarray(0, bytes.length - (bytes.at(-2) === 13 ? 2 : 1));
  }
  const { isCancel, password } = await import("@clack/prompts");
  const answer = await password({ message: question, output: process.stderr });
  if (isCancel(answer)) throw new CommandError(1, "nothing was changed");
  return Buffer.from(answer, "utf8");
}

const unitSeconds: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3_600, d: 86_400 };

/** A duration of an option, as `90s`, `15m`, `24h` or `30d`, in seconds. @throws CommandError for usage. */
export function secondsOf(text: unknown, flag: string): number | undefined {
  if (text === undefined) return undefined;
  const [, count, unit = ""] = /^(\d{1,9})([smhd])$/.exec(String(text)) ?? [];
  if (count === undefined) throw new CommandError(2, `${flag} must be a duration such as 90s, 15m, 24h or 30d`);
  return Number(count) * (unitSeconds[unit] ?? 1);
}

/** The moment, as ISO text, at which a duration that begins now is over. @throws CommandError for usage. */
export function momentAfter(text: unknown, flag: string): string | undefined {
  const seconds = secondsOf(text, flag);
  return seconds === undefined ? undefined : new Date(Date.now() + seconds * 1000).toISOString();
}

/** @throws CommandError for usage. */
export function yesOrNo(text: unknown, flag: string): boolean | undefined {
  if (text === undefined) return undefined;
  if (text !== "yes" && text !== "no") throw new CommandError(2, `${flag} must be yes or no`);
  return text === "yes";
}

/** One of the texts that an option may be. @throws CommandError for usage. */
export function chosenOf<const V extends string>(text: unknown, values: readonly V[], flag: string): V | undefined {
  if (text === undefined) return undefined;
  const found = values.find((value) => value === text);
  if (found === undefined) throw new CommandError(2, `${flag} must be one of ${values.join(", ")}`);
  return found;
}
