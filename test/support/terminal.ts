// A real terminal, made by `script` of util-linux.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { until } from "./config-cli.ts";

const hasScript = /util-linux/.test(spawnSync("script", ["--version"], { encoding: "utf8" }).stdout ?? "");

/** A reason to skip, but none under CI. */
export const withoutTerminal = hasScript || process.env.CI ? false : "no script (util-linux) to make a terminal";

export interface Terminal {
  /** Everything that was shown so far. */
  shown(): string;
  /** Types something after what is shown matches. */
  type(after: RegExp, text: string): Promise<void>;
  /** Waits until it is over; the exit code. */
  readonly code: Promise<number | null>;
  /** Of the program that makes the terminal: its end hangs the terminal up. */
  readonly pid: number;
}

export const quoted = (words: readonly string[]): string => words.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(" ");

/** Runs a text for a shell on a terminal. */
export function openTerminal(text: string, { env, cwd }: { env: NodeJS.ProcessEnv; cwd: string }): Terminal {
  const command = `stty columns 120 rows 40; ${text}`; // without a size everything is wrapped
  const child = spawn("script", ["--quiet", "--return", "--command", command, "/dev/null"], {
    env: { PATH: process.env.PATH, NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE, TERM: "xterm", ...env },
    cwd,
  });
  let shown = "";
  child.stdout.setEncoding("utf8").on("data", (piece: string) => {
    shown += piece;
  });
  child.stdin.on("error", () => undefined);
  return {
    shown: () => shown,
    async type(after, typed) {
      await until(`${String(after)} is shown; there is: ${shown}`, () => after.test(shown));
      child.stdin.write(typed);
    },
    code: once(child, "close").then(() => child.exitCode),
    pid: child.pid ?? 0,
  };
}
