import { randomBytes } from "node:crypto";
import { closeSync, fstatSync, fsyncSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { CommandError } from "./command-error.ts";
import { makeOwnFolder } from "./own-folders.ts";

/** Whether a failure says that there is no such file or folder. */
export const isAbsent = (error: unknown): boolean =>
  error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ENOTDIR");

/** Whether a failure says that a file or folder is not there, or not for us. */
export const isOutOfReach = (error: unknown): boolean =>
  isAbsent(error) || (error instanceof Error && "code" in error && error.code === "EACCES");

/**
 * The text of a file that only this user may read; `undefined` when there is none.
 * @throws CommandError when others may read it or somebody else made it: its content would be theirs to know or to choose.
 */
export function readPrivateFile(path: string): string | undefined {
  let file: number;
  try {
    file = openSync(path, "r");
  } catch (error) {
    if (isAbsent(error)) return undefined;
    const code = error instanceof Error && "code" in error ? String(error.code) : "unreadable";
    throw new CommandError(1, `${path} cannot be read (${code})`, { cause: error });
  }
  try {
    const { mode, uid } = fstatSync(file);
    if ((mode & 0o077) !== 0) throw new CommandError(1, `others may read ${path}, so it is not used: chmod 600 ${path}`);
    if (uid !== process.getuid?.()) throw new CommandError(1, `${path} belongs to another user, so it is not used: remove it`);
    return readFileSync(file, "utf8");
  } finally {
    closeSync(file);
  }
}

/** Written whole or not at all, readable by this user only; its folder is made when it is missing. */
export function writePrivateFile(path: string, text: string): void {
  makeOwnFolder(dirname(path));
  const draft = `${path}.${randomBytes(6).toString("hex")}`;
  const file = openSync(draft, "wx", 0o600);
  try {
    writeFileSync(file, text);
    fsyncSync(file);
    renameSync(draft, path);
  } catch (error) {
    rmSync(draft, { force: true });
    throw error;
  } finally {
    closeSync(file);
  }
}
