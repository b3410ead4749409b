import { readIdentityVersion } from "./identity.ts";
import type { Sql } from "./sql.ts";
import { changeCounter } from "./sqlite.ts";

/**
 * Whether what was read of users, keys, roles and policies still holds: `current` is another text after every change of
 * them, by any node. Answers at once while the embedded store has seen no commit at all; else asks the database, once a
 * turn of the event loop for all callers of that turn.
 */
export interface IdentityVersion {
  current(): string | Promise<string>;
}

export function createIdentityVersion(sql: Sql): IdentityVersion {
  const counter = changeCounter(sql);
  let known: { counter: number; version: string } | undefined;
  let asked: { counter: number | undefined; version: Promise<string> } | undefined;

  const ask = async (before: number | undefined): Promise<string> => {
    const version = await readIdentityVersion(sql);
    if (before !== undefined) known = { counter: before, version };
    return version;
  };

  return {
    current() {
      const now = counter();
      if (known && known.counter === now) return known.version;
      if (asked && asked.counter === now) return asked.version;
      asked = { counter: now, version: ask(now) };
      setImmediate(() => {
        asked = undefined;
      });
      return asked.version;
    },
  };
}
