import { lstatSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { CommandError } from "./command-error.ts";
import { makeOwnFolder } from "./own-folders.ts";
import { isAbsent, readPrivateFile, writePrivateFile } from "./private-file.ts";

/** Files of an agent, in a folder that nobody else may enter. */
export interface AgentFolder {
  readonly path: string;
  readonly journalFile: string;
  readonly identityFile: string;
  readonly allowFile: string;
  /** @throws CommandError when others may read or replace it */
  readIdentity(): string | undefined;
  /** Whole or not at all. */
  writeIdentity(text: string): void;
  /** Lines without comments; `undefined` when there is no such file. @throws CommandError when others may write it */
  readAllow(): readonly string[] | undefined;
  writeAllow(rules: readonly string[]): void;
}

export const identityName = "agent.json";

/** Makes the folder when it is missing. @throws CommandError when it is not ours alone */
export function openAgentFolder(path: string): AgentFolder {
  makeOwnFolder(path);
  const { mode, uid } = statSync(path);
  if (uid !== process.getuid?.()) throw new CommandError(1, `${path} belongs to another user, so no keys are kept there`);
  if ((mode & 0o077) !== 0) throw new CommandError(1, `others may enter ${path}, so no keys are kept there: chmod 700 ${path}`);
  const identityFile = join(path, identityName);
  const allowFile = join(path, "allow");
  return {
    path,
    journalFile: join(path, "journal.db"),
    identityFile,
    allowFile,
    readIdentity: () => readPrivateFile(identityFile),
    writeIdentity: (text) => writePrivateFile(identityFile, text),
    readAllow: () => readRules(allowFile),
    writeAllow: (rules) => writePrivateFile(allowFile, `${rules.join("\n")}\n`),
  };
}

/** It may be root's, and be read by everybody; what it says decides where credentials are sent. */
function readRules(path: string): readonly string[] | undefined {
  try {
    const { mode, uid } = lstatSync(path);
    if ((mode & 0o022) !== 0) throw new CommandError(1, `others may write ${path}, so it is not used: chmod 600 ${path}`);
    if (uid !== 0 && uid !== process.getuid?.())
      throw new CommandError(1, `${path} belongs to another user, so it is not used: remove it`);
    const lines = readFileSync(path, "utf8").split("\n");
    return lines.map((line) => line.replace(/#.*/, "").trim()).filter((line) => line !== "");
  } catch (error) {
    if (isAbsent(error)) return undefined;
    throw error;
  }
}
