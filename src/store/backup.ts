import { chmodSync, closeSync, existsSync, fsyncSync, openSync, renameSync, rmSync } from "node:fs";
import { dirname } from "node:path";
import { backup, DatabaseSync } from "node:sqlite";
import { ConfigError } from "../core/error.ts";

/**
 * Copies the embedded store in the file `from` to the new file `to` while it is in use: one moment of it, complete and on
 * disk when this resolves. Reads as another process would, so it needs no claim and stops nobody.
 * @throws ConfigError when `from` is missing or `to` is there already.
 */
export async function backupSqlite(from: string, to: string): Promise<void> {
  if (!existsSync(from)) throw new ConfigError([`there is no store at ${from}`]);
  if (existsSync(to)) throw new ConfigError([`${to} is there already: a backup replaces nothing`]);
  const part = `${to}.part`;
  rmSync(part, { force: true });
  closeSync(openSync(part, "wx", 0o600));
  const source = new DatabaseSync(from, { readOnly: true, timeout: 5_000 });
  try {
    await backup(source, part, { rate: 2_147_483_647 }); // all pages in one go: in steps it would start again at each commit of others
    chmodSync(part, 0o600);
    syncPath(part);
    renameSync(part, to);
    syncPath(dirname(to));
  } catch (error) {
    rmSync(part, { force: true });
    throw error;
  } finally {
    source.close();
  }
}

function syncPath(path: string): void {
  const file = openSync(path, "r");
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}
