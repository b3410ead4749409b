// GetSecretValue while something else is going on in the same process: how much later the slowest answers come.
import { rmSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { nativeOk } from "../test/support/aws.ts";
import type { Figure } from "./figures.ts";
import { type LoadClient, startLoadClient, Void } from "./load.ts";
import { type BenchServer, connections, fill, nameOf, newCaller, newFolder, startServer } from "./rekey.ts";
import type { Amount } from "./requests.ts";
import { rotationWorld } from "./rotation.ts";
import { type Signer, signedRequest } from "./signed-request.ts";
import { median, percentile } from "./statistics.ts";

const secrets = 10_000;
const roundMs = 3_000;
const rotationsAtOnce = 8;

interface Reader {
  /** p99 in ms of GetSecretValue for about `ms`. */
  read(ms?: number): Promise<number>;
}

export async function measureInterference(amount: Amount): Promise<Figure[]> {
  await using opened = new AsyncDisposableStack();
  const dataFolder = newFolder();
  opened.defer(() => rmSync(dataFolder, { recursive: true, force: true }));
  const client = opened.use(startLoadClient());
  const purged = amount.quick ? secrets / 10 : secrets;
  amount.say(`filling a store with ${secrets + purged} secrets`);
  await prepare(dataFolder, client, purged);
  const purge = await whilePurging(dataFolder, client, amount);

  const { bench, rotate } = await rotationWorld(opened, async (log) =>
    opened.use(await startServer({ dataFolder, onLog: log.read })),
  );
  const reader = newReader(bench, client, await newCaller(bench));
  await reader.read();
  const others = { "ListSecrets with filters": () => listFiltered(bench), "8 rotations at once": () => rotate(rotationsAtOnce) };
  const figures: Figure[] = [];
  for (const [name, work] of Object.entries(others)) {
    const [idle, busy]: [number[], number[]] = [[], []];
    for (let round = 0; round < amount.rounds; round += 1) {
      idle.push(await reader.read());
      busy.push(await during(work, () => reader.read()));
    }
    figures.push(...compared(name, idle, busy));
    amount.say(`p99 during ${name}: ${median(busy).toFixed(1)} ms, idle ${median(idle).toFixed(1)} ms`);
  }
  const idle = [];
  for (let round = 0; round < amount.rounds; round += 1) idle.push(await reader.read());
  return [...figures, ...compared(`a purge of ${purged.toLocaleString("en-US")} secrets`, idle, purge)];
}

function compared(name: string, idle: readonly number[], busy: readonly number[]): Figure[] {
  return [
    { name: `GetSecretValue p99, idle otherwise (beside ${name})`, measured: median(idle), unit: "ms", rounds: idle },
    { name: `GetSecretValue p99 during ${name}`, measured: median(busy), unit: "ms", rounds: busy },
    { name: `GetSecretValue p99 during ${name}, over idle`, measured: median(busy) / median(idle), unit: "x" },
  ];
}

function newReader(bench: BenchServer, client: LoadClient, caller: Signer): Reader {
  return {
    async read(ms = roundMs) {
      const first = Math.floor(Math.random() * secrets);
      const requests = Array.from({ length: 512 }, (_, turn) =>
        signedRequest(caller, bench.port, "GetSecretValue", { SecretId: nameOf((first + turn * 7) % secrets) }),
      );
      const { latenciesMs } = await client.run({ port: bench.port, requests, connections, count: 200_000, maxMs: ms });
      return percentile(latenciesMs, 0.99);
    },
  };
}

/** Repeats `work` for as long as `measure` takes. */
async function during(work: () => Promise<unknown>, measure: () => Promise<number>): Promise<number> {
  let over = false;
  const repeating = (async () => {
    while (!over) await work();
  })();
  const measuring = measure().finally(() => {
    over = true;
  });
  const [measured] = await Promise.all([measuring, repeating]);
  return measured;
}

async function listFiltered({ server }: BenchServer): Promise<void> {
  await nativeOk(server, "secrets/list", {
    limit: 100,
    filters: [
      { key: "tag-value", values: ["team-7"] },
      { key: "name", values: ["bench/"] },
    ],
  });
}

/** Secrets that stay, and others that wait for their deletion. */
async function prepare(dataFolder: string, client: LoadClient, purged: number): Promise<void> {
  await using bench = await startServer({ dataFolder });
  await fill(bench, client, { to: secrets + purged });
  const requests = Array.from({ length: purged }, (_, index) =>
    signedRequest(bench.root, bench.port, "DeleteSecret", { SecretId: nameOf(secrets + index), RecoveryWindowInDays: 7 }),
  );
  await client.run({ port: bench.port, requests, connections, count: requests.length, maxMs: 240_000 });
}

/** Ends the recovery windows at once, by a hand in the store as no caller may, and times reads until all are purged. */
async function whilePurging(dataFolder: string, client: LoadClient, amount: Amount): Promise<number[]> {
  await using bench = await startServer({ dataFolder });
  const reader = newReader(bench, client, await newCaller(bench));
  await reader.read(1_000);
  const store = new DatabaseSync(join(dataFolder, "rekey.db"), { timeout: 5_000 });
  const during: number[] = [];
  try {
    store.prepare("update secrets set purge_at = ? where purge_at is not null").run(Date.now());
    const waiting = store.prepare("select 1 from secrets where purge_at is not null limit 1");
    while (waiting.get()) during.push(await reader.read(1_000));
  } finally {
    store.close();
  }
  if (during.length === 0) throw new Void("the purge was over before a read began");
  amount.say(`p99 during a purge: ${median(during).toFixed(1)} ms, which took about ${during.length} s`);
  return during;
}
