// `rekey agent` as a child process, with its own data folder.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { program as ownProgram } from "./cli.ts";

export interface AgentProcess extends AsyncDisposable {
  readonly dataFolder: string;
  readonly pid: number;
  /** Its log, JSON lines and errors in words. */
  log(): string;
  /** Resolves when the log has a line that fits. */
  logged(pattern: RegExp): Promise<string>;
  /** Ends it with a signal; resolves with its exit code (null after SIGKILL). */
  stop(signal?: NodeJS.Signals): Promise<number | null>;
  /** It stays, and does nothing. */
  suspend(): void;
  resume(): void;
  /** Resolves with its exit code when it ends by itself. */
  readonly exited: Promise<number | null>;
}

export interface AgentOptions {
  readonly flags?: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
  /** Of an earlier agent: it stays when this one is disposed of. */
  readonly dataFolder?: string;
  /** Whether to wait until it works; default true. */
  readonly waits?: boolean;
  /** The file to run instead of that of `cli.ts`. */
  readonly program?: string;
}

/** Starts `rekey agent` and waits until it says that it works. */
export async function startAgent({
  flags = [],
  env = {},
  dataFolder,
  waits = true,
  program = ownProgram,
}: AgentOptions): Promise<AgentProcess> {
  const folder = dataFolder ?? mkdtempSync(join(tmpdir(), "rekey-agent-"));
  const child = spawn(process.execPath, [program, "agent", "--data", folder, ...flags], {
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const killWithUs = () => child.kill("SIGKILL");
  process.once("exit", killWithUs);
  let [out, log] = ["", ""];
  const seen = new Set<() => void>();
  const onText = (add: (text: string) => void) => (text: string) => {
    add(text);
    for (const look of seen) look();
  };
  child.stdout.setEncoding("utf8").on(
    "data",
    onText((text) => (out += text)),
  );
  child.stderr.setEncoding("utf8").on(
    "data",
    onText((text) => (log += text)),
  );
  const exited = once(child, "exit").then(([code]) => {
    process.off("exit", killWithUs);
    for (const look of seen) look();
    return code as number | null;
  });
  const until = <T>(found: () => T | undefined): Promise<T> =>
    new Promise((resolve, reject) => {
      const end = (settle: () => void) => {
        seen.delete(look);
        clearTimeout(timer);
        settle();
      };
      const look = () => {
        const value = found();
        if (value !== undefined) end(() => resolve(value));
        else if (child.exitCode !== null || child.signalCode !== null)
          end(() => reject(new Error(`the agent ended:\n${out}${log}`)));
      };
      // Far beyond what anything takes: better a word than a test that hangs.
      const timer = setTimeout(() => end(() => reject(new Error(`waited in vain:\n${out}${log}`))), 120_000);
      seen.add(look);
      look();
    });
  const agent: AgentProcess = {
    dataFolder: folder,
    pid: child.pid ?? 0,
    log: () => log,
    logged: (pattern) => until(() => log.split("\n").find((line) => pattern.test(line))),
    exited,
    suspend: () => child.kill("SIGSTOP"),
    resume: () => child.kill("SIGCONT"),
    async stop(signal = "SIGTERM") {
      if (child.exitCode === null && child.signalCode === null) child.kill(signal);
      return exited;
    },
    async [Symbol.asyncDispose]() {
      await agent.stop("SIGKILL");
      if (dataFolder === undefined) rmSync(folder, { recursive: true, force: true });
    },
  };
  if (waits) await until(() => (/ works for /.test(out) ? true : undefined));
  return agent;
}
