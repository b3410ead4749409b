// A process that issues, renews and revokes leases, and kills itself at the n-th call of its ports: store, encryption, target.
// Arguments: folder of the store, n; the root key comes in ROOT_KEY. Says `issued NAME`, `renewed NAME MS` and `revoked NAME`.
import { writeSync } from "node:fs";
import { join } from "node:path";
import pg from "pg";
import { openRootKey } from "../../src/crypto/key-provider.ts";
import type { Sql } from "../../src/store/sql.ts";
import { openSqlite } from "../../src/store/sqlite.ts";
import type { LeaseTarget } from "../../src/targets/lease-target.ts";
import { leaseWorld } from "../support/lease-world.ts";

const [folder = "", killAt = ""] = process.argv.slice(2);
const deadly = Number(killAt);
let calls = 0;
let counting = false;

const say = (text: string) => writeSync(1, `${text}\n`);

/** One point before a call and one after it: the call did not happen, or happened and nobody learned of it. */
function point(what: string): void {
  if (!counting) return;
  calls += 1;
  if (calls !== deadly) return;
  say(`killed ${what}`);
  process.kill(process.pid, "SIGKILL");
}

async function counted<T>(what: string, call: () => Promise<T>): Promise<T> {
  point(`before ${what}`);
  const result = await call();
  point(`after ${what}`);
  return result;
}

/** Calls of an object's methods become points; everything else stays. */
function counts<T extends object>(of: string, port: T, methods: readonly string[]): T {
  return new Proxy(port, {
    get(target, key) {
      const member: unknown = Reflect.get(target, key);
      if (typeof member !== "function") return member;
      const bound = member.bind(target);
      return methods.includes(String(key)) ? (...all: unknown[]) => counted(`${of}.${String(key)}`, () => bound(...all)) : bound;
    },
  });
}

/** Only writes that concern leases: a kill at a read is one before the next write. */
function countingSql(sql: Sql): Sql {
  const writes = (tx: Sql): Sql => ({
    ...tx,
    query: (text, values) =>
      /^\s*select/i.test(text) || !text.includes("leases")
        ? tx.query(text, values)
        : counted(text.trim().slice(0, 40), () => tx.query(text, values)),
  });
  return {
    dialect: sql.dialect,
    query: (text, values) => sql.query(text, values),
    transaction: async (work, options) => {
      let concerns = false;
      const result = await sql.transaction((tx) => {
        const counted = writes(tx);
        return work({
          ...counted,
          query: (text, values) => {
            concerns ||= text.includes("leases");
            return counted.query(text, values);
          },
        });
      }, options);
      if (concerns) point("after a commit");
      return result;
    },
    close: () => sql.close(),
  };
}

/** At the target's driver also between a statement's leaving and its answer: its effect is then anybody's guess. */
function countDriver(): void {
  const client = pg.Client.prototype as { query(...all: unknown[]): Promise<unknown> };
  const { query } = client;
  client.query = async function (...all) {
    point("before a statement");
    const answer = query.apply(this, all);
    await new Promise((resolve) => setImmediate(resolve));
    point("after a statement left");
    return answer;
  };
}

countDriver();
const verbs: readonly (keyof LeaseTarget)[] = ["create", "renew", "revoke"];
const rootKey = await openRootKey("env:ROOT_KEY", { env: process.env });
const sql = countingSql(openSqlite(join(folder, "rekey.db")));
const world = await leaseWorld(sql, folder, { rootKey, wrap: (target) => counts("target", target, verbs) });
const engine = world.engine({ envelope: counts("envelope", world.parts.envelope, ["seal", "open"]) });
counting = true;

const { Lease: first } = await world.issue({ TtlSeconds: 600 });
say(`issued ${first.User}`);
const { Lease: second } = await world.issue({ TtlSeconds: 600 });
say(`issued ${second.User}`);
const { Lease: renewed } = (await world.call("RenewLease", { LeaseId: first.Id, TtlSeconds: 1_200 })) as {
  Lease: { ExpiresAt: Date };
};
say(`renewed ${first.User} ${renewed.ExpiresAt.getTime()}`);
await world.call("RevokeLease", { LeaseId: second.Id });
say(`revoked ${second.User}`);
counting = false;
await engine.stop();
await world[Symbol.asyncDispose]();
await sql.close();
say("not killed");
