import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { stat } from "node:fs/promises";
import { dirname } from "node:path";
import { ConfigError, RotatorError } from "../core/error.ts";

/** Numbers of users of the operating system, first and last included. */
export interface UserRange {
  readonly first: number;
  readonly last: number;
}

/** Users that processes of functions run as: each process has one to itself, so that it sees neither the server's files nor another's. */
export class ProcessUsers {
  readonly #free: number[];
  readonly #cleared = new Set<number>();

  constructor({ first, last }: UserRange) {
    this.#free = Array.from({ length: last - first + 1 }, (_, index) => first + index);
  }

  /** `undefined` when all are in use. What a server that crashed left of the user's processes is ended first. */
  async take(): Promise<number | undefined> {
    const user = this.#free.shift();
    if (user === undefined || this.#cleared.has(user)) return user;
    await endAllOf(user);
    this.#cleared.add(user);
    return user;
  }

  giveBack(user: number): void {
    this.#free.push(user);
  }
}

/** Processes of its users are ended as a whole: they must be nobody's. @throws ConfigError */
export function requireNobodys({ first, last }: UserRange): void {
  const lines = existsSync("/etc/passwd") ? readFileSync("/etc/passwd", "utf8").split("\n") : [];
  for (const [name, , user] of lines.map((line) => line.split(":")))
    if (user !== undefined && Number(user) >= first && Number(user) <= last)
      throw new ConfigError([`--functions-users must name numbers that nobody has: ${user} is ${name}.`]);
}

/** Ends every process of the user, whatever session it moved itself to. The kernel does it at one stroke: none can fork away. */
export function endAllOf(user: number): Promise<void> {
  const child = spawn("/bin/sh", ["-c", "kill -KILL -1 2>/dev/null"], { uid: user, gid: user, stdio: "ignore" });
  return new Promise((resolve) => {
    child.once("exit", () => resolve());
    child.once("error", () => resolve());
  });
}

/** @throws RotatorError `invalid` when other users of the system cannot read one of the files, or get to it. */
export async function requireReadable(paths: readonly string[]): Promise<void> {
  for (const path of paths) {
    const closed = await closedPart(path);
    if (closed !== undefined)
      throw new RotatorError("invalid", `the users of --functions-users may not read ${closed}: chmod o+rX lets them`);
  }
}

async function closedPart(path: string): Promise<string | undefined> {
  if (((await stat(path)).mode & 0o004) === 0) return path;
  for (let folder = dirname(path); ; folder = dirname(folder)) {
    if (((await stat(folder)).mode & 0o001) === 0) return folder;
    if (folder === dirname(folder)) return undefined;
  }
}
