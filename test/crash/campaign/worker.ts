// A process that rotates secrets without end, and kills itself at the n-th call of its ports: store, encryption, target,
// sockets; n = 0: somebody else kills it. First it heals what it finds. What it says, a line each: `healed`, `begun`, `ended`.
// The job comes as JSON in CAMPAIGN_JOB, the root key in ROOT_KEY.
import { writeSync } from "node:fs";
import { Socket } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { destination, pino } from "pino";
import { startEngine } from "../../../src/engine/loop.ts";
import type { EngineParts, RotatorFunction } from "../../../src/engine/parts.ts";
import { openPostgres } from "../../../src/store/postgres.ts";
import type { Sql } from "../../../src/store/sql.ts";
import { openSqlite } from "../../../src/store/sqlite.ts";
import type { AnyCredential } from "../../../src/targets/index.ts";
import type { Issuer, Rotator } from "../../../src/targets/target.ts";
import { findByName, openWorld } from "../../support/engine-world.ts";

/** What a worker is told. */
export interface Job {
  /** Of the embedded store; else `databaseUrl`. */
  readonly folder: string;
  /** Of a PostgreSQL that several workers share. */
  readonly databaseUrl?: string;
  readonly settings?: Partial<EngineParts["settings"]>;
  readonly killAt: number;
  /** Points of the healing count too. */
  readonly whileHealing: boolean;
  readonly functionName: string;
  /** Where no built-in one will do: what the function is. */
  readonly declared?: RotatorFunction;
  readonly secrets: readonly string[];
  /** Rotations begun together, one after another of the secrets. */
  readonly atOnce: number;
  /** So often; then it ends by itself and says `points n`. */
  readonly rounds: number;
}

const job = JSON.parse(process.env.CAMPAIGN_JOB ?? "") as Job;
let calls = 0;
let healed = false;

/** One point before a call and one after it: the call did not happen, or happened and nobody learned of it. */
function point(what: string): void {
  if (!healed && !job.whileHealing) return;
  calls += 1;
  if (calls !== job.killAt) return;
  writeSync(1, `point ${what}\n`);
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
      if (key === "issuer" && member) return counting("issuer", member as object, issuerCalls);
      if (typeof member !== "function") return member;
      const bound = member.bind(target);
      return methods.includes(String(key)) ? (...all: unknown[]) => counted(`${of}.${String(key)}`, () => bound(...all)) : bound;
    },
  });
}

const rotatorCalls: readonly (keyof Rotator<AnyCredential>)[] = ["create", "set", "test", "probe", "retire"];
const issuerCalls: readonly (keyof Issuer<AnyCredential>)[] = ["list", "issue", "delete"];

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
    transaction: (work, options) => counted("transaction", () => sql.transaction((tx) => work(writes(tx)), options)),
    close: () => sql.close(),
  };
}

/** Whatever driver it is: at each write to a target, and between that and the answer, when its effect is anybody's guess. */
function countSockets(): void {
  const socket = Socket.prototype as { write(...all: unknown[]): boolean };
  const { write } = socket;
  socket.write = function (...all) {
    point("before bytes leave");
    const went = write.apply(this, all);
    setImmediate(() => point("after bytes left"));
    return went;
  };
}

countSockets();
const sql = job.databaseUrl === undefined ? openSqlite(join(job.folder, "rekey.db")) : openPostgres(job.databaseUrl);
const world = await openWorld(sql, { rootKey: process.env.ROOT_KEY ?? "", ...(job.settings && { settings: job.settings }) });
const parts: EngineParts = {
  ...world.parts,
  sql: countingSql(sql),
  log: pino({ level: "info" }, destination({ fd: 2, sync: true })),
  envelope: counting("envelope", world.parts.envelope, ["seal", "open"]),
  findFunction: async (arn) => job.declared ?? world.parts.findFunction(arn),
  async findRotator(kind, declaration) {
    const rotator = await world.parts.findRotator(kind, declaration);
    return rotator && counting("rotator", rotator, rotatorCalls);
  },
};
const say = (text: string) => writeSync(1, `${text}\n`);

const busy = async (): Promise<boolean> => {
  const [row] = await sql.query<{ at: number | null }>(
    `select min(at) as at from (select started_at as at from rotations where state = 'running'
       union all select due_at from retirements where state in ('waiting', 'running') and due_at <= $1) as open`,
    [Date.now()],
  );
  return typeof row?.at === "number";
};
const allEnded = async (): Promise<void> => {
  while (await busy()) await sleep(2);
};

const engine = startEngine(parts);
await allEnded();
healed = true;
say("healed");
for (let round = 0, next = 0; round < job.rounds; round += 1) {
  for (let begun = 0; begun < job.atOnce; begun += 1, next += 1) {
    const name = job.secrets[next % job.secrets.length] ?? "";
    const secret = await findByName(sql, name);
    if (!secret) throw new Error(`no secret ${name}`);
    await world.begin(secret, { functionName: job.functionName });
  }
  engine.wake();
  if (round === 0) say("begun");
  await allEnded();
  say("ended");
}
await engine.stop();
await sql.close();
say(`points ${calls}`);
