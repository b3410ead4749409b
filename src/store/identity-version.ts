import { readVersions } from "./identity.ts";
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

/** `followKeys` is told the revision of the ring keys at every look, and answered for before the version is. */
export function createIdentityVersion(
  sql: Sql,
  followKeys: (revision: number) => Promise<void> | undefined = () => undefined,
): IdentityVersion {
  const counter = changeCounter(sql);
  let known: { counter: number; version: string } | undefined;
  let asked: { counter: number | undefined; version: Promise<string> } | undefined;

  const ask = async (before: number | undefined): Promise<string> => {
    const { identity: version, keyRevision } = await readVersions(sql);
    const following = followKeys(keyRevision);
    if (following) await following;
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
