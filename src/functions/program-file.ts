import { constants } from "node:fs";
import { access, realpath, stat } from "node:fs/promises";
import { dirname, extname, isAbsolute, join, relative, sep } from "node:path";
import { RotatorError } from "../core/error.ts";
import type { ProcessSettings } from "../core/function.ts";
import { requireReadable } from "./process-users.ts";

/** A file of the functions folder as it is now; `changedAt` tells that it became another one. */
export interface ProgramFile {
  readonly path: string;
  readonly changedAt: number;
}

const extensions: Readonly<Record<ProcessSettings["runtime"], readonly string[] | undefined>> = {
  node: [".mjs", ".cjs", ".js"],
  python: [".py"],
  executable: undefined,
};
const maxPathChars = 512;
const handlerName = /^[A-Za-z_$][A-Za-z0-9_$]{0,127}$/;

/** What is wrong with the settings as they stand, whatever the folder holds; `undefined`: nothing. */
export function settingsProblem({ runtime, file, handler }: ProcessSettings): string | undefined {
  if (file === "" || file.length > maxPathChars || file.includes("\0"))
    return `File must be a path of 1 to ${maxPathChars} characters`;
  if (isAbsolute(file) || file.split(/[\\/]/).includes("..")) return "File must be a path below the functions folder, without ..";
  const allowed = extensions[runtime];
  if (allowed && !allowed.includes(extname(file))) return `File must end in ${allowed.join(", ")} for runtime ${runtime}`;
  if (handler === undefined) return undefined;
  if (runtime === "executable") return "Handler is for the runtimes node and python: an executable has none";
  return handlerName.test(handler) ? undefined : "Handler must be the name of a function that the file exports";
}

/**
 * The file that a process function names, with no link followed out of the functions folder. Asked before every start, since
 * what lies there may have changed. `forOthers`: other users of the system run it.
 * @throws RotatorError `denied` when this server runs no processes or the file is outside; `invalid` when it cannot be run.
 */
export async function findProgramFile(
  folder: string | undefined,
  settings: ProcessSettings,
  forOthers = false,
): Promise<ProgramFile> {
  if (folder === undefined)
    throw new RotatorError("denied", "this server runs no process functions: start it with --functions-dir to name their folder");
  const problem = settingsProblem(settings);
  if (problem !== undefined) throw new RotatorError("invalid", problem);
  const root = await resolved(folder, "the functions folder");
  const path = await resolved(join(root, settings.file), settings.file);
  const inside = relative(root, path);
  if (inside === "" || inside === ".." || inside.startsWith(`..${sep}`) || isAbsolute(inside))
    throw new RotatorError("denied", `${settings.file} leads out of the functions folder`);
  await requireClosed(dirname(path), root);
  if (forOthers) await requireReadable([path]);
  const { mode, mtimeMs, ino } = await requireRegular(path, settings.file);
  if ((mode & 0o002) !== 0) throw new RotatorError("denied", `${settings.file} may be written by every user of the machine`);
  if (settings.runtime === "executable" && !(await isExecutable(path)))
    throw new RotatorError("invalid", `${settings.file} is not executable`);
  return { path, changedAt: mtimeMs + ino };
}

/** Else another user of the machine could put a file of theirs in place of one. @throws RotatorError `denied` */
export async function requireClosed(folder: string, root: string): Promise<void> {
  for (let each = folder; ; each = dirname(each)) {
    if (((await stat(each)).mode & 0o002) !== 0)
      throw new RotatorError("denied", `folder ${relative(root, each) || root} may be written by every user of the machine`);
    if (each === root || each === dirname(each)) return;
  }
}

async function resolved(path: string, name: string): Promise<string> {
  try {
    return await realpath(path);
  } catch (cause) {
    throw new RotatorError("invalid", `${name} cannot be read: is it there?`, { cause });
  }
}

async function requireRegular(path: string, name: string): Promise<{ mode: number; mtimeMs: number; ino: number }> {
  const found = await stat(path);
  if (!found.isFile()) throw new RotatorError("invalid", `${name} is not a file`);
  return found;
}

async function isExecutable(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
