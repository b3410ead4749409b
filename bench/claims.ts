// What it costs to find, claim and end due rotations and leases among many that are not due, straight on the store: it has to
// grow with the due work only.
import { join } from "node:path";
import { migrate } from "../src/store/migrate.ts";
import { openPostgres } from "../src/store/postgres.ts";
import type { Sql } from "../src/store/sql.ts";
import { openSqlite } from "../src/store/sqlite.ts";
import { startPostgres } from "../test/support/postgres-server.ts";
import { type DueWork, leases, notDueAt, rotations } from "./due-work.ts";
import { atLeast, atMost, type Figure } from "./figures.ts";
import { Void } from "./load.ts";
import { newFolder } from "./rekey.ts";
import type { Amount } from "./requests.ts";
import { median } from "./statistics.ts";

const fillChunk = 50_000;

interface Measured {
  readonly claimsPerSecond: number;
  /** One for each of `looks`. */
  readonly looksUs: readonly number[];
}

export const measureClaims = async (amount: Amount): Promise<Figure[]> => [
  ...(await measureDueWork(rotations, amount)),
  ...(await measureDueWork(leases, amount)),
];

async function measureDueWork(work: DueWork, amount: Amount): Promise<Figure[]> {
  const sizes = amount.quick ? [10_000, 100_000] : [10_000, 100_000, 1_000_000];
  const figures: Figure[] = [];
  await using postgres = await startPostgres({ settings: ["fsync=on", "synchronous_commit=on"] });
  const open: Readonly<Record<string, (size: number) => Promise<Sql>>> = {
    SQLite: async () => openSqlite(join(newFolder(), "rekey.db")),
    PostgreSQL: async (size) => openPostgres(await newDatabase(postgres.url, `claims_${size}`)),
  };
  for (const [name, openStore] of Object.entries(open)) {
    const stores = new Map<number, Sql>();
    try {
      for (const size of sizes) {
        amount.say(`claims: filling ${name} with ${size.toLocaleString("en-US")} ${work.name} that are not due`);
        const sql = await openStore(size);
        stores.set(size, sql);
        await fillStore(work, sql, size);
        // As PostgreSQL does by itself after a minute.
        if (sql.dialect === "postgres") await sql.query("analyze");
      }
      figures.push(...figuresOf(work, name, await compare(work, stores, amount)));
    } finally {
      for (const sql of stores.values()) await sql.close();
    }
  }
  return figures;
}

async function newDatabase(url: string, name: string): Promise<string> {
  const admin = openPostgres(url, { max: 1 });
  await admin.query(`create database ${name}`);
  await admin.close();
  const own = new URL(url);
  own.pathname = name;
  return own.href;
}

async function compare(work: DueWork, stores: ReadonlyMap<number, Sql>, amount: Amount): Promise<Map<number, Measured[]>> {
  const measured = new Map<number, Measured[]>([...stores.keys()].map((size) => [size, []]));
  for (let round = 0; round <= amount.rounds; round += 1) {
    for (const [size, sql] of stores) {
      const one = await measureOnce(work, sql, round, amount.quick ? 10 : 40);
      if (round > 0) measured.get(size)?.push(one);
    }
  }
  return measured;
}

async function measureOnce(work: DueWork, sql: Sql, round: number, batches: number): Promise<Measured> {
  const turns = 200;
  const looksUs: number[] = [];
  for (const { look } of work.looks) {
    const ms = await timed(async () => {
      for (let turn = 0; turn < turns; turn += 1) await look(sql);
    });
    looksUs.push((ms / turns) * 1000);
  }
  const due = work.batch * batches;
  await work.insert(sql, { prefix: `due-${round}`, from: 0, to: due, runAt: 1 });
  let claimed = 0;
  const ms = await timed(async () => {
    for (let found = work.batch; found > 0; claimed += found) found = await work.claimBatch(sql);
  });
  if (claimed !== due) throw new Void(`${claimed} of ${due} due ${work.name} were claimed`);
  return { claimsPerSecond: (due / ms) * 1000, looksUs };
}

async function fillStore(work: DueWork, sql: Sql, size: number): Promise<void> {
  await migrate(sql);
  for (let from = 0; from < size; from += fillChunk)
    await work.insert(sql, { prefix: "later", from, to: Math.min(from + fillChunk, size), runAt: notDueAt });
}

async function timed(work: () => Promise<void>): Promise<number> {
  const startedAt = performance.now();
  await work();
  return performance.now() - startedAt;
}

function figuresOf(work: DueWork, store: string, measured: ReadonlyMap<number, Measured[]>): Figure[] {
  const [[, few = []] = []] = measured;
  return [...measured].flatMap(([size, runs]) => {
    const name = `${store}, ${size.toLocaleString("en-US")} ${work.name}:`;
    const figures = (what: string, unit: string, goal: Figure["goal"], of: (run: Measured) => number): Figure[] => {
      const values = runs.map(of);
      const own = { name: `${name} ${what}`, measured: median(values), unit, rounds: values };
      if (runs === few) return [own];
      const shares = values.map((value, round) => value / (few.map(of)[round] ?? Number.NaN));
      return [
        own,
        { name: `${own.name}, over few rows`, measured: median(shares), unit: "x", rounds: shares, ...(goal && { goal }) },
      ];
    };
    const claims = `due ones claimed and ended, ${work.batch} at once`;
    return [
      ...figures(claims, "/s", atLeast(0.75), (run) => run.claimsPerSecond),
      ...work.looks.flatMap(({ what }, index) => figures(what, "us", atMost(1.5), (run) => run.looksUs[index] ?? Number.NaN)),
    ];
  });
}
