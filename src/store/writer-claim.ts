import { closeSync, existsSync, openSync, realpathSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { ConfigError } from "../core/error.ts";

export interface WriterClaim {
  release(): void;
}

const held = new Map<string, { database: DatabaseSync; holders: number }>();

/**
 * Makes this process the one that writes in folder `dir`, until released or ended: the claim is an open transaction on the
 * small database `rekey.lock`, so the system frees it with the process, however that ends. May be claimed again within a
 * process; the last release frees it.
 * @throws ConfigError naming the process id of the holder, when that is another process.
 */
export function claimWriter(dir: string): WriterClaim {
  const key = realpathSync(dir);
  const claim = held.get(key) ?? { database: takeClaim(key), holders: 0 };
  held.set(key, claim);
  claim.holders += 1;
  let released = false;
  return {
    release() {
      if (released) return;
      released = true;
      claim.holders -= 1;
      if (claim.holders > 0) return;
      held.delete(key);
      claim.database.close();
    },
  };
}

function takeClaim(dir: string): DatabaseSync {
  const path = join(dir, "rekey.lock");
  if (!existsSync(path)) closeSync(openSync(path, "a", 0o600)); // SQLite itself would make it readable for all
  const database = new DatabaseSync(path, { timeout: 200 });
  try {
    database.exec("create table if not exists holder (id integer primary key, pid integer not null)");
    // Others can read a row only once it is committed, and the commit ends the claim: so commit, claim again and look
    // whether the row is still ours.
    for (;;) {
      database.exec("begin immediate");
      if (database.prepare("select 1 from holder where pid = ?").get(process.pid)) return database;
      database
        .prepare("insert into holder (id, pid) values (1, ?) on conflict (id) do update set pid = excluded.pid")
        .run(process.pid);
      database.exec("commit");
    }
  } catch (error) {
    const busy = isBusy(error);
    const pid = busy ? holderOf(database) : undefined;
    database.close();
    if (!busy) throw error;
    const holder = pid === undefined || pid === process.pid ? "another process" : `process ${pid}`;
    throw new ConfigError([
      `${dir} is in use by ${holder}: only one process may write there; stop it, or use another data folder`,
    ]);
  }
}

/** SQLITE_BUSY, with or without an extended code. Source: SQLite, "Result and Error Codes". */
function isBusy(error: unknown): boolean {
  return error instanceof Error && "errcode" in error && typeof error.errcode === "number" && (error.errcode & 0xff) === 5;
}

function holderOf(database: DatabaseSync): number | undefined {
  try {
    return Number(database.prepare("select pid from holder").get()?.pid ?? Number.NaN) || undefined;
  } catch {
    return undefined; // the holder is just writing its number
  }
}
