// The real program as a child process on a free port, with its own data folder.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { program as ownProgram } from "./cli.ts";

export interface RekeyServer extends AsyncDisposable {
  readonly endpoint: string;
  readonly dataFolder: string;
  readonly pid: number;
  readonly credentials: { accessKeyId: string; secretAccessKey: string; token: string; region: string; account: string };
  /** Everything that it wrote to stderr: its log. */
  log(): string;
  /** Ends it with a signal; resolves with its exit code (null after SIGKILL). */
  stop(signal?: NodeJS.Signals): Promise<number | null>;
}

export interface StartOptions {
  /** Further flags. */
  readonly flags?: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
  /** A folder of an earlier server: it stays when this one is disposed of. */
  readonly dataFolder?: string;
  /** The file to run instead of that of `cli.ts`. */
  readonly program?: string;
  /** Gets what it writes to stderr as it comes. */
  onLog?(text: string): void;
  /** Gets the process before it listens. */
  onSpawn?(child: ChildProcess): void;
}

/** Starts `rekey server` and waits until it listens. */
export async function startRekey({
  flags = [],
  env = {},
  dataFolder,
  program = ownProgram,
  onLog,
  onSpawn,
}: StartOptions = {}): Promise<RekeyServer> {
  const folder = dataFolder ?? mkdtempSync(join(tmpdir(), "rekey-e2e-"));
  const args = [program, "server", "--data", folder, "--listen", "127.0.0.1:0", ...flags];
  const child = spawn(process.execPath, args, { env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] });
  const killWithUs = () => child.kill("SIGKILL");
  process.once("exit", killWithUs);
  let log = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    log += text;
    onLog?.(text);
  });
  const closed = once(child, "close");
  onSpawn?.(child);
  const endpoint = await listening(child).catch(async (error: unknown) => {
    process.off("exit", killWithUs);
    if (child.stdout?.readableEnded) await closed; // its last words
    throw new Error(`rekey did not start:\n${log}`, { cause: error });
  });
  const stop = async (signal: NodeJS.Signals = "SIGTERM") => {
    process.off("exit", killWithUs);
    if (child.exitCode === null && child.signalCode === null) {
      child.kill(signal);
      await once(child, "exit");
    }
    return child.exitCode;
  };
  return {
    endpoint,
    dataFolder: folder,
    pid: child.pid ?? 0,
    credentials: JSON.parse(readFileSync(join(folder, "root-credentials.json"), "utf8")),
    log: () => log,
    stop,
    async [Symbol.asyncDispose]() {
      await stop();
      if (dataFolder === undefined) rmSync(folder, { recursive: true, force: true });
    },
  };
}

async function listening(child: ChildProcess): Promise<string> {
  if (!child.stdout) throw new Error("no output to wait for");
  for await (const line of createInterface(child.stdout)) {
    const [, endpoint] = /^rekey: listening on (\S+)$/.exec(line) ?? [];
    if (endpoint) return endpoint;
  }
  throw new Error("it ended");
}
