// A process that works on one queued rotation and kills itself at the n-th call of its ports: store, encryption, target.
// Arguments: folder of the store, n, name of the secret, single-user or alternating-users; the root key comes in ROOT_KEY.
import { writeSync } from "node:fs";
import { join } from "node:path";
import pg from "pg";
import { startEngine } from "../../src/engine/loop.ts";
import type { EngineParts } from "../../src/engine/parts.ts";
import { listRotations } from "../../src/store/rotations.ts";
import type { Sql } from "../../src/store/sql.ts";
import { openSqlite } from "../../src/store/sqlite.ts";
import { findByName, openWorld } from "../support/engine-world.ts";

const [folder = "", killAt = "", name = "", how = ""] = process.argv.slice(2);
const deadly = Number(killAt);
let calls = 0;

/** One point before a call and one after it: the call did not happen, or happened and nobody learned of it. */
function point(what: string): void {
  calls += 1;
  if (calls !== deadly) return;
  writeSync(1, `${what}\n`);
  process.kill(process.pid, "SIGKILL");
}

async function counted<T>(what: string, call: () => Promise<T>): Promise<T> {
  point(`before ${what}`);
  const result = await call();
  point(`after ${what}`);
  return result;
}

/** Calls of an object's methods become points; everything else stays. */
function counting<T extends object>(of: string, port: T, methods: readonly string[]): T {
  return new Proxy(port, {
    get(target, key) {
      const member: unknown = Reflect.get(target, key);
      if (typeof member !== "function") return member;
      const bound = member.bind(target);
      return methods.includes(String(key)) ? (...all: unknown[]) => counted(`${of}.${String(key)}`, () => bound(...all)) : bound;
    },
  });
}

/** Only writes: a kill at a read is one before the next write. */
function countingSql(sql: Sql): Sql {
  const writes = (tx: Sql): Sql => ({
    ...tx,
    query: (text, values) =>
      /^\s*select/i.test(text) ? tx.query(text, values) : counted(text.trim().slice(0, 40), () => tx.query(text, values)),
  });
  return {
    dialect: sql.dialect,
    query: (text, values) => sql.query(text, values),
    transaction: (work) => counted("transaction", () => sql.transaction((tx) => work(writes(tx)))),
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
const sql = openSqlite(join(folder, "rekey.db"));
const world = await openWorld(sql, { rootKey: process.env.ROOT_KEY ?? "" });
const secret = await findByName(sql, name);
if (!secret) throw new Error(`no secret ${name}`);
const rotationId = await world.begin(secret, { function: how === "single-user" ? "SingleUser" : "MultiUser" });

const parts: EngineParts = {
  ...world.parts,
  sql: countingSql(sql),
  envelope: counting("envelope", world.parts.envelope, ["seal", "open"]),
  async findRotator(kind) {
    const rotator = await world.parts.findRotator(kind);
    return rotator && counting("rotator", rotator, ["create", "set", "test", "probe"]);
  },
};
const engine = startEngine(parts);
for (;;) {
  const [rotation] = (await listRotations(sql, { limit: 1_000 })).filter(({ id }) => id === rotationId);
  if (rotation?.state !== "running") break;
  await new Promise((resolve) => setTimeout(resolve, 2));
}
await engine.stop();
await sql.close();
writeSync(1, "not killed\n");
