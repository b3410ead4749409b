// How long the program takes until it listens and how much memory it then holds, with few live leases and with a million.
import { rmSync } from "node:fs";
import { join } from "node:path";
import { openSqlite } from "../src/store/sqlite.ts";
import { atMost, type Figure } from "./figures.ts";
import { leaseBench } from "./lease.ts";
import { residentMiB } from "./machine.ts";
import { newFolder, startServer } from "./rekey.ts";
import type { Amount } from "./requests.ts";
import { median } from "./statistics.ts";

const few = 10_000;
const fillChunk = 50_000;
/** They are to be ended as soon as the server runs; their target is away. */
const due = 10;
const goals = { ms: 5_000, mib: 250, overFew: 1.2 };

interface Run {
  readonly ms: number;
  readonly mib: number;
}

export async function measureLeaseStart(amount: Amount): Promise<Figure[]> {
  const many = amount.quick ? 100_000 : 1_000_000;
  await using opened = new AsyncDisposableStack();
  const runs = new Map<number, Run[]>();
  const folders = new Map<number, string>();
  for (const leases of [few, many]) {
    const dataFolder = newFolder();
    opened.defer(() => rmSync(dataFolder, { recursive: true, force: true }));
    amount.say(`filling a store with ${leases.toLocaleString("en-US")} live leases`);
    await fillFolder(dataFolder, leases);
    folders.set(leases, dataFolder);
    runs.set(leases, []);
  }
  for (let round = 0; round <= amount.rounds; round += 1) {
    for (const [leases, dataFolder] of folders) {
      const run = await startOnce(dataFolder);
      amount.say(`start with ${leases} leases, round ${round}: ${run.ms.toFixed(0)} ms, ${run.mib.toFixed(0)} MiB`);
      if (round > 0) runs.get(leases)?.push(run);
    }
  }
  return figuresOf(runs, many);
}

async function startOnce(dataFolder: string): Promise<Run> {
  const startedAt = performance.now();
  await using bench = await startServer({ dataFolder });
  return { ms: performance.now() - startedAt, mib: residentMiB(bench.server.pid) ?? Number.NaN };
}

/** One lease is issued; all others are like it, but that they end in a month. */
async function fillFolder(dataFolder: string, leases: number): Promise<void> {
  let id: string;
  {
    await using opened = new AsyncDisposableStack();
    const { issue } = await leaseBench(opened, { dataFolder });
    id = await issue();
  }
  const sql = openSqlite(join(dataFolder, "rekey.db"));
  try {
    const [row] = await sql.query("select * from leases where id = $1", [id]);
    const columns = Object.keys(row ?? {});
    const endsAt = Date.now() + 30 * 86_400_000;
    const own: Readonly<Record<string, string>> = {
      id: "printf('00000000-0000-4000-8000-%012d', i)",
      name: "name || '_' || i",
      created_at: "created_at + i",
      expires_at: `${endsAt} + i`,
      max_expires_at: `${endsAt} + i`,
      due_at: `case when i < ${due} then 1 else ${endsAt} + i end`,
      request_hash: "null",
    };
    const values = columns.map((column) => own[column] ?? column).join(", ");
    for (let from = 0; from < leases; from += fillChunk) {
      await sql.query(
        `insert into leases (${columns.join(", ")})
         with recursive n (i) as (select cast($2 as bigint) union all select i + 1 from n where i + 1 < $3)
         select ${values} from n, leases where id = $1`,
        [id, from, Math.min(from + fillChunk, leases)],
      );
    }
  } finally {
    await sql.close();
  }
}

function figuresOf(runs: ReadonlyMap<number, readonly Run[]>, many: number): Figure[] {
  const of = (leases: number, what: keyof Run) => (runs.get(leases) ?? []).map((run) => run[what]);
  return [few, many].flatMap((leases): Figure[] => {
    const [ms, mib] = [of(leases, "ms"), of(leases, "mib")];
    const name = `with ${leases.toLocaleString("en-US")} live leases`;
    const own: Figure[] = [
      { name: `start to listening, ${name}`, measured: median(ms), unit: "ms", goal: atMost(goals.ms), rounds: ms },
      { name: `memory after the start, ${name}`, measured: median(mib), unit: "MiB", goal: atMost(goals.mib), rounds: mib },
    ];
    if (leases === few) return own;
    const share = (what: keyof Run) => of(leases, what).map((value, round) => value / (of(few, what)[round] ?? Number.NaN));
    const over = (what: keyof Run, text: string): Figure => ({
      name: `${text}, ${name} over few`,
      measured: median(share(what)),
      unit: "x",
      goal: atMost(goals.overFew),
      rounds: share(what),
    });
    return [...own, over("ms", "start to listening"), over("mib", "memory after the start")];
  });
}
