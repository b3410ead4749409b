import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { constants } from "node:os";
import { CommandError } from "../command-error.ts";

/** What a run starts: a program with its arguments, or a text for a shell. */
export type Task = { readonly program: string; readonly args: readonly string[] } | { readonly shellText: string };

/** A program that runs with our terminal, input and output. */
export interface Child {
  /** Its exit code; 128 + the number of the signal that ended it. */
  readonly exited: Promise<number>;
  signal(name: NodeJS.Signals): void;
  /** SIGTERM, and SIGKILL when it is still there after `graceMs`. */
  stop(graceMs: number): Promise<void>;
}

/** @throws CommandError when the program cannot be started. */
export async function startChild(task: Task, env: NodeJS.ProcessEnv): Promise<Child> {
  const [program, args] = "shellText" in task ? ["/bin/sh", ["-c", task.shellText]] : [task.program, task.args];
  const child = spawn(program, args, { env, stdio: "inherit" });
  const exited = new Promise<number>((resolve) => {
    child.once("exit", (code, signal) => resolve(code ?? signalCode(signal)));
  });
  await started(child, program);
  return {
    exited,
    signal: (name) => void child.kill(name),
    async stop(graceMs) {
      child.kill("SIGTERM");
      const late = setTimeout(() => child.kill("SIGKILL"), graceMs);
      await exited;
      clearTimeout(late);
    },
  };
}

/** The exit code that shells give for a program that a signal ended. */
export const signalCode = (signal: NodeJS.Signals | null): number => 128 + (signal === null ? 0 : constants.signals[signal]);

async function started(child: ChildProcess, program: string): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  child.once("spawn", resolve);
  child.once("error", (error: NodeJS.ErrnoException) => {
    reject(new StartFailure(program, error.code ?? error.message));
  });
  await promise;
}

/** The program could not be started: exit code 127 when there is none, 126 otherwise, as in shells. */
export class StartFailure extends CommandError {
  readonly childCode: 126 | 127;

  constructor(program: string, code: string) {
    super(1, `${program} cannot be started: ${code === "ENOENT" ? "there is no such program" : code}`);
    this.childCode = code === "ENOENT" ? 127 : 126;
  }
}

/** Signals that are passed on to the child. */
export const passedSignals = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"] as const;
/** Those that a terminal sends to everybody in its foreground by itself. */
const terminalSignals: ReadonlySet<string> = new Set(["SIGINT", "SIGQUIT"]);

/** Whether the child has got a signal already, as the terminal sent it to both of us. */
export const cameFromTerminal = (signal: NodeJS.Signals): boolean => terminalSignals.has(signal) && isInForeground();

/** Whether the terminal, if there is one, is ours at this moment. */
function isInForeground(): boolean {
  try {
    const stat = readFileSync("/proc/self/stat", "utf8");
    // After the name, which may hold anything: state, parent, process group, session, terminal, its foreground group.
    const [, , group, , terminal, foreground] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return terminal !== "0" && group === foreground;
  } catch (error) {
    if (error instanceof Error && "code" in error) return process.stdin.isTTY; // a system without /proc
    throw error;
  }
}
