// What it costs to find, claim and end due rotations among many that are not due, straight on the store: it has to grow
// with the due work only.
import { join } from "node:path";
import type { Rotation } from "../src/core/rotation.ts";
import { nextDueAt, secretsDueForRotation } from "../src/store/due.ts";
import { migrate } from "../src/store/migrate.ts";
import { openPostgres } from "../src/store/postgres.ts";
import { claimDue, recordRotation } from "../src/store/rotation-claims.ts";
import type { Sql } from "../src/store/sql.ts";
import { openSqlite } from "../src/store/sqlite.ts";
import { startPostgres } from "../test/support/postgres-server.ts";
import { atLeast, atMost, type Figure } from "./figures.ts";
import { Void } from "./load.ts";
import { newFolder } from "./rekey.ts";
import type { Amount } from "./requests.ts";
import { median } from "./statistics.ts";

const batch = 50;
/** Far behind every moment that is asked for. */
const notDueAt = 4_000_000_000_000;
const fillChunk = 50_000;

interface Measured {
  readonly claimsPerSecond: number;
  readonly pollUs: number;
  readonly dueUs: number;
}

export async function measureClaims(amount: Amount): Promise<Figure[]> {
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
        amount.say(`claims: filling ${name} with ${size.toLocaleString("en-US")} rotations that are not due`);
        const sql = await openStore(size);
        stores.set(size, sql);
        await fillStore(sql, size);
        // As PostgreSQL does by itself after a minute.
        if (sql.dialect === "postgres") await sql.query("analyze");
      }
      figures.push(...figuresOf(name, await compare(stores, amount)));
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

async function compare(stores: ReadonlyMap<number, Sql>, amount: Amount): Promise<Map<number, Measured[]>> {
  const measured = new Map<number, Measured[]>([...stores.keys()].map((size) => [size, []]));
  for (let round = 0; round <= amount.rounds; round += 1) {
    for (const [size, sql] of stores) {
      const one = await measureOnce(sql, round, amount.quick ? 10 : 40);
      if (round > 0) measured.get(size)?.push(one);
    }
  }
  return measured;
}

async function measureOnce(sql: Sql, round: number, batches: number): Promise<Measured> {
  const polls = 200;
  const polled = await timed(async () => {
    for (let turn = 0; turn < polls; turn += 1) await nextDueAt(sql);
  });
  const looked = await timed(async () => {
    for (let turn = 0; turn < polls; turn += 1) await secretsDueForRotation(sql, Date.now(), 100);
  });
  const due = batch * batches;
  await insertRows(sql, { prefix: `due-${round}`, from: 0, to: due, runAt: 1 });
  let claimed = 0;
  const ms = await timed(async () => {
    for (let found = batch; found > 0; claimed += found) found = await claimBatch(sql);
  });
  if (claimed !== due) throw new Void(`${claimed} of ${due} due rotations were claimed`);
  return { claimsPerSecond: (due / ms) * 1000, pollUs: (polled / polls) * 1000, dueUs: (looked / polls) * 1000 };
}

/** As the engine does: one durable transaction claims, another one records what became of each. */
async function claimBatch(sql: Sql): Promise<number> {
  const nowMs = Date.now();
  const claims = await sql.transaction((tx) => claimDue(tx, { node: "bench", nowMs, untilMs: nowMs + 20_000, limit: batch }));
  if (claims.length === 0) return 0;
  await sql.transaction(async (tx) => {
    for (const { rotation, fence } of claims) {
      const ended: Rotation = { ...rotation, step: "finishSecret", state: "succeeded", outcome: "ok", endedAt: nowMs };
      if (!(await recordRotation(tx, ended, fence))) throw new Void("a claim was lost");
    }
  });
  return claims.length;
}

async function fillStore(sql: Sql, size: number): Promise<void> {
  await migrate(sql);
  for (let from = 0; from < size; from += fillChunk)
    await insertRows(sql, { prefix: "later", from, to: Math.min(from + fillChunk, size), runAt: notDueAt });
}

interface Rows {
  readonly prefix: string;
  readonly from: number;
  readonly to: number;
  readonly runAt: number;
}

/** Secrets with a schedule that is not due, each with one running rotation. */
async function insertRows(sql: Sql, { prefix, from, to, runAt }: Rows): Promise<void> {
  const numbers = "with recursive n (i) as (select cast($2 as bigint) union all select i + 1 from n where i + 1 < $3)";
  const id = "cast($1 as text) || '-' || cast(i as text)";
  await sql.transaction(async (tx) => {
    await tx.query(
      `insert into secrets (id, region, name, arn, created_at, last_changed_at, generation, row_version, rotation_due_at)
       ${numbers} select ${id}, 'eu-central-1', ${id}, ${id}, 1, 1, 1, 1, ${notDueAt} + i from n`,
      [prefix, from, to],
    );
    await tx.query(
      `insert into rotations (id, secret_id, version_id, generation, origin, test_only, function_arn, principal, step, state,
         attempt, step_attempt, run_at, window_ends_at, fence, started_at)
       ${numbers} select ${id}, ${id}, ${id}, 1, 'schedule', 0, '', '', 'createSecret', 'running', 0, 0, $4 + i, ${notDueAt}, 0, 1 from n`,
      [prefix, from, to, runAt],
    );
  });
}

async function timed(work: () => Promise<void>): Promise<number> {
  const startedAt = performance.now();
  await work();
  return performance.now() - startedAt;
}

function figuresOf(store: string, measured: ReadonlyMap<number, Measured[]>): Figure[] {
  const [[, few = []] = []] = measured;
  const values = (runs: readonly Measured[], what: keyof Measured) => runs.map((run) => run[what]);
  const shares = (runs: readonly Measured[], what: keyof Measured) =>
    runs.map((run, round) => run[what] / (few[round]?.[what] ?? Number.NaN));
  return [...measured].flatMap(([size, runs]) => {
    const name = `${store}, ${size.toLocaleString("en-US")} rotations:`;
    const figure = (what: keyof Measured, text: string, unit: string): Figure => ({
      name: `${name} ${text}`,
      measured: median(values(runs, what)),
      unit,
      rounds: values(runs, what),
    });
    const own = [
      figure("claimsPerSecond", `due ones claimed and ended, ${batch} at once`, "/s"),
      figure("pollUs", "looking when the next one is due", "us"),
      figure("dueUs", "looking for secrets whose schedule is due", "us"),
    ];
    if (runs === few) return own;
    const [claims, polls] = [shares(runs, "claimsPerSecond"), shares(runs, "pollUs")];
    return [
      ...own,
      { name: `${name} claims, share of few rows`, measured: median(claims), unit: "x", goal: atLeast(0.75), rounds: claims },
      { name: `${name} looking, over few rows`, measured: median(polls), unit: "x", goal: atMost(1.5), rounds: polls },
    ];
  });
}
