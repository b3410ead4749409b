// The command line as a user runs it: a child process with an environment of its own.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { buffer, text } from "node:stream/consumers";

/** The file that starts `rekey`: `src/cli.ts`. */
export const program = join(import.meta.dirname, "../../src/cli.ts");

export interface Ran {
  readonly code: number | null;
  readonly out: string;
  /** What `out` was made of. */
  readonly bytes: Buffer;
  readonly err: string;
}

export interface RunOptions {
  /** For standard input. */
  readonly input?: string | Uint8Array;
  /** Further variables; only PATH and the place of compiled code are inherited. */
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
}

/** Runs `rekey` to its end. */
export async function run(args: readonly string[], { input = "", env, cwd }: RunOptions = {}): Promise<Ran> {
  const { PATH, NODE_COMPILE_CACHE } = process.env;
  const child = spawn(process.execPath, [program, ...args], {
    env: { PATH, NODE_COMPILE_CACHE, HOME: "/nowhere", ...env }, // no login of whoever runs the tests
    cwd,
  });
  child.stdin.on("error", () => undefined); // it may end without having read all of it
  child.stdin.end(input);
  const [bytes, err] = await Promise.all([buffer(child.stdout), text(child.stderr), once(child, "close")]);
  return { code: child.exitCode, out: bytes.toString("utf8"), bytes, err };
}

/** Client commands as one user of one server. */
export interface CommandLine {
  readonly env: NodeJS.ProcessEnv;
  run(command: string | readonly string[], input?: string | Uint8Array): Promise<Ran>;
  /** Expects it to be done, with words or a table for people. */
  ask(command: string | readonly string[], input?: string | Uint8Array): Promise<string>;
  /** Expects it to be done, with --json. */
  askJson(command: string | readonly string[], input?: string): Promise<Record<string, unknown>>;
}

export function commandLine(endpoint: string, token: string, cwd: string): CommandLine {
  const env = { REKEY_ENDPOINT: endpoint, REKEY_TOKEN: token };
  const words = (command: string | readonly string[]) => (typeof command === "string" ? command.split(" ") : command);
  const runOne = (command: string | readonly string[], input: string | Uint8Array = "") =>
    run(words(command), { env, cwd, input });
  return {
    env,
    run: runOne,
    async ask(command, input) {
      const { code, out, err } = await runOne(command, input);
      assert.equal(code, 0, `${command}: ${err}`);
      assert.equal(err, "");
      assert.throws(() => JSON.parse(out), `${command} prints JSON without --json`);
      return out;
    },
    async askJson(command, input) {
      const { code, out, err } = await runOne([...words(command), "--json"], input);
      assert.equal(code, 0, `${command}: ${err}`);
      return JSON.parse(out);
    },
  };
}

/** A port that nobody listens on, as far as one can tell. */
export async function closedPort(): Promise<number> {
  const listener = createServer().listen(0, "127.0.0.1");
  await once(listener, "listening");
  const { port } = listener.address() as AddressInfo;
  listener.close();
  await once(listener, "close");
  return port;
}
