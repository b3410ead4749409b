// Measures what Rekey claims about itself: `npm run bench`, `npm run bench -- --only get,start --quick --json`.
// Ends with 0 also when a goal is missed, as machines differ; with 1 when a measurement was void.
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { measureIdleAgents } from "./agents-idle.ts";
import { measureClaims } from "./claims.ts";
import { measureDownloads } from "./download.ts";
import { measureDue } from "./due.ts";
import { measureAgent, measureLambda } from "./far.ts";
import { type Figure, isMet, table } from "./figures.ts";
import { measureInterference } from "./interference.ts";
import { measureLeases } from "./lease.ts";
import { measureLeaseStart } from "./lease-start.ts";
import { Void } from "./load.ts";
import { describeMachine, type Machine } from "./machine.ts";
import { measureMicro } from "./micro.ts";
import { measurePeer } from "./peer.ts";
import { stopServers } from "./rekey.ts";
import { type Amount, measureRequests } from "./requests.ts";
import { measureRotations } from "./rotation.ts";
import { measureStart } from "./start.ts";
import { measureSwitches } from "./switch.ts";

/** In the order in which they run; `--only` takes their names. */
const parts: Readonly<Record<string, (amount: Amount) => Promise<Figure[]>>> = {
  micro: measureMicro,
  get: (amount) => measureRequests("get", amount),
  put: (amount) => measureRequests("put", amount),
  download: measureDownloads,
  peer: measurePeer,
  rotation: measureRotations,
  switch: measureSwitches,
  due: measureDue,
  lease: measureLeases,
  claims: measureClaims,
  start: measureStart,
  "lease-start": measureLeaseStart,
  p99: measureInterference,
  agent: measureAgent,
  lambda: measureLambda,
  "agents-idle": measureIdleAgents,
};
const conditions =
  "The program itself as a child process, embedded store on disk, audit durable before each answer, settleMs 0; " +
  "64 connections unless said otherwise; ratios are medians of rounds run in turn.";

const interrupted = Promise.withResolvers<"interrupted">();
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => interrupted.resolve("interrupted"));
process.exit(await main());

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      only: { type: "string" },
      quick: { type: "boolean", default: false },
      rounds: { type: "string" },
      json: { type: "boolean", default: false },
      markdown: { type: "string" },
    },
  });
  const names = values.only?.split(",") ?? Object.keys(parts);
  const unknown = names.find((name) => !parts[name]);
  const rounds = Number(values.rounds ?? (values.quick ? 3 : 7));
  if (unknown !== undefined || !Number.isSafeInteger(rounds) || rounds < 1) {
    console.error(`bench: --only takes ${Object.keys(parts).join(", ")}, --rounds a whole number from 1`);
    return 2;
  }
  const machine = describeMachine();
  const say = (text: string) => console.error(`bench: ${text}`);
  say(describe(machine));
  say(conditions);
  const figures: Figure[] = [];
  const voids: string[] = [];
  for (const name of names) {
    const part = measure(name, { rounds, quick: values.quick, say }, figures, voids);
    if ((await Promise.race([part, interrupted.promise])) === "interrupted") {
      say("interrupted");
      await stopServers();
      return 130;
    }
  }
  if (values.json)
    console.log(JSON.stringify({ machine, conditions, figures: figures.map((one) => ({ ...one, met: isMet(one) })), voids }));
  else console.log(`\n${describe(machine)}\n${conditions}\n\n${table(figures)}`);
  if (values.markdown !== undefined)
    writeFileSync(values.markdown, `${describe(machine)}\n\n${conditions}\n\n${table(figures, true)}\n`);
  for (const text of voids) console.error(`bench: void: ${text}`);
  return voids.length > 0 ? 1 : 0;
}

async function measure(name: string, amount: Amount, figures: Figure[], voids: string[]): Promise<void> {
  try {
    figures.push(...((await parts[name]?.(amount)) ?? []));
  } catch (error) {
    if (!(error instanceof Void)) throw error;
    voids.push(`${name}: ${error.message}`);
  }
}

function describe({ cpu, cores, memoryGiB, node, sqlite, openssl, fsyncMs }: Machine): string {
  const fsync = `fdatasync ${fsyncMs.p50.toFixed(2)} ms (p99 ${fsyncMs.p99.toFixed(2)})`;
  return `${cpu}, ${cores} cores, ${memoryGiB} GiB; ${fsync}; Node ${node}, SQLite ${sqlite}, OpenSSL ${openssl}`;
}
