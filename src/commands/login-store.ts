import { hash } from "node:crypto";
import { readdirSync, rmSync } from "node:fs";
import { join, sep } from "node:path";
import { CommandError } from "./command-error.ts";
import { ownFolder } from "./own-folders.ts";
import { isOutOfReach, readPrivateFile, writePrivateFile } from "./private-file.ts";

/** A token that this user logged in with: for one server, in one folder and those below. */
export interface Login {
  readonly endpoint: string;
  /** An absolute path; `/` is everywhere. */
  readonly scope: string;
  readonly token: string;
  /** Whom the server knows behind it. */
  readonly name: string;
}

const folder = (): string => join(ownFolder("config"), "logins");
/** One file for each, so that two logins at the same time do not lose each other. */
const fileOf = ({ endpoint, scope }: Pick<Login, "endpoint" | "scope">): string =>
  join(folder(), `${hash("sha256", `${endpoint}\n${scope}`).slice(0, 32)}.json`);

export function keepLogin(login: Login): void {
  writePrivateFile(fileOf(login), `${JSON.stringify(login, undefined, 2)}\n`);
}

export function forgetLogin(login: Login): void {
  rmSync(fileOf(login), { force: true });
}

/** The logins that hold in a folder, the one with the nearest scope first. @throws CommandError when a file is not safe or damaged. */
export function loginsFor(directory: string): Login[] {
  return allLogins()
    .filter(({ scope }) => scope === "/" || directory === scope || directory.startsWith(`${scope}${sep}`))
    .sort((a, b) => b.scope.length - a.scope.length || a.endpoint.localeCompare(b.endpoint));
}

function allLogins(): Login[] {
  let names: string[];
  try {
    names = readdirSync(folder());
  } catch (error) {
    if (isOutOfReach(error)) return []; // HOME may be another user's
    throw error;
  }
  return names.filter((name) => name.endsWith(".json")).flatMap((name) => readLogin(join(folder(), name)) ?? []);
}

function readLogin(path: string): Login | undefined {
  const text = readPrivateFile(path);
  if (text === undefined) return undefined; // a logout beside us
  try {
    const read: unknown = JSON.parse(text);
    if (isLogin(read)) return read;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  throw new CommandError(1, `${path} is damaged: remove it and log in again`);
}

function isLogin(read: unknown): read is Login {
  if (typeof read !== "object" || read === null) return false;
  const members = new Map(Object.entries(read));
  return ["endpoint", "scope", "token", "name"].every((name) => typeof members.get(name) === "string");
}
