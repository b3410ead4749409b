// How long the program takes until it listens and how much memory it then holds, with few secrets and with many.

import { execFileSync } from "node:child_process";
import { rmSync } from "node:fs";
import { atMost, type Figure } from "./figures.ts";
import { startLoadClient } from "./load.ts";
import { residentMiB } from "./machine.ts";
import { fill, newFolder, startServer } from "./rekey.ts";
import type { Amount } from "./requests.ts";
import { median } from "./statistics.ts";

const few = 100;

export async function measureStart(amount: Amount): Promise<Figure[]> {
  const many = amount.quick ? 10_000 : 100_000;
  await using opened = new AsyncDisposableStack();
  const folders = new Map<number, string>();
  for (const secrets of [few, many]) {
    const folder = newFolder();
    opened.defer(() => rmSync(folder, { recursive: true, force: true }));
    folders.set(secrets, folder);
    amount.say(`filling a store with ${secrets} secrets`);
    await fillFolder(folder, secrets);
  }
  const runs = new Map<number, { ms: number; mib: number }[]>([few, many].map((secrets) => [secrets, []]));
  for (let round = 0; round <= amount.rounds; round += 1) {
    for (const [secrets, dataFolder] of folders) {
      const startedAt = performance.now();
      await using bench = await startServer({ dataFolder });
      const ms = performance.now() - startedAt;
      if (round > 0) runs.get(secrets)?.push({ ms, mib: residentMiB(bench.server.pid) ?? Number.NaN });
    }
  }
  const figures = [few, many].flatMap((secrets): Figure[] => {
    const measured = runs.get(secrets) ?? [];
    const [ms, mib] = [measured.map((run) => run.ms), measured.map((run) => run.mib)];
    const with_ = `with ${secrets.toLocaleString("en-US")} secrets`;
    return [
      { name: `start to listening, ${with_}`, measured: median(ms), unit: "ms", rounds: ms },
      { name: `memory after the start, ${with_}`, measured: median(mib), unit: "MiB", goal: atMost(150), rounds: mib },
    ];
  });
  return [...figures, ...measureImports(amount)];
}

async function fillFolder(dataFolder: string, secrets: number): Promise<void> {
  await using client = startLoadClient();
  await using bench = await startServer({ dataFolder });
  await fill(bench, client, { to: secrets });
}

/** Those of its start; others come with their first use. */
const libraries = ["node:http", "node:sqlite", "fastify", "pino", "croner", "zod", "commander"];

/** Whole processes that import the server's libraries and end, beside ones that import nothing. */
function measureImports(amount: Amount): Figure[] {
  const time = (source: string) => {
    const startedAt = performance.now();
    execFileSync(process.execPath, ["--input-type=module", "--eval", source], { cwd: import.meta.dirname });
    return performance.now() - startedAt;
  };
  const [bare, all]: [number[], number[]] = [[], []];
  for (let round = 0; round <= amount.rounds; round += 1) {
    const [nothing, everything] = [time(""), time(libraries.map((name) => `import ${JSON.stringify(name)};`).join(""))];
    if (round === 0) continue;
    bare.push(nothing);
    all.push(everything);
  }
  return [
    { name: "a process that imports nothing", measured: median(bare), unit: "ms", rounds: bare },
    { name: "a process that imports the server's libraries", measured: median(all), unit: "ms", goal: atMost(150), rounds: all },
  ];
}
