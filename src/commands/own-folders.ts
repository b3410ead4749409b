import { mkdirSync } from "node:fs";
import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";

/**
 * Folders of this user for what `rekey` keeps between runs: `config` for logins, `state` for what may be lost.
 * Source: XDG Base Directory Specification; a path there that is not absolute is ignored.
 */
export function ownFolder(kind: "config" | "state", env: NodeJS.ProcessEnv = process.env): string {
  const given = kind === "config" ? env.XDG_CONFIG_HOME : env.XDG_STATE_HOME;
  const standard = kind === "config" ? ".config" : join(".local", "state");
  const above = given !== undefined && isAbsolute(given) ? given : join(env.HOME || homedir(), standard);
  return join(above, "rekey");
}

/** Makes a folder that only this user may enter. */
export function makeOwnFolder(path: string): void {
  mkdirSync(path, { recursive: true, mode: 0o700 });
}
