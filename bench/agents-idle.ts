// What agents cost that wait for work and get none: two servers alike, one of them with 1,000 of them, over the same time.
import { randomUUID } from "node:crypto";
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { agentArn } from "../src/core/rekey-arn.ts";
import { newFarKeys, publicFarKeys } from "../src/crypto/message-keys.ts";
import { newToken } from "../src/operations/identity/new-credentials.ts";
import { chooseAgent, insertAgent } from "../src/store/agents.ts";
import type { Sql } from "../src/store/sql.ts";
import { openSqlite } from "../src/store/sqlite.ts";
import { nativeOk } from "../test/support/aws.ts";
import { atMost, type Figure } from "./figures.ts";
import type { IdleJob, IdleSeen } from "./idle-client.ts";
import { endChild, type LoadClient, nextMessage, startChild, startLoadClient, Void } from "./load.ts";
import { cpuMs, residentMiB, writtenKiB } from "./machine.ts";
import { type BenchServer, connections, fill, nameOf, newCaller, newFolder, startServer } from "./rekey.ts";
import type { Amount } from "./requests.ts";
import { type Signer, signedRequest } from "./signed-request.ts";
import { median, percentile } from "./statistics.ts";

const agents = 1_000;
const secrets = 1_000;
const network = "far";
const readMs = 3_000;
/** What is to be reached by the 1,000, beyond what a server without them takes. */
const goals = { cpuMsPerMinute: 3_000, mib: 60, auditRecordsPerMinute: 0, p99: 1.25, chooseUs: 2_000 };

interface Place {
  readonly account: string;
  readonly region: string;
}

interface Side {
  readonly bench: BenchServer;
  readonly caller: Signer;
}

export async function measureIdleAgents(amount: Amount): Promise<Figure[]> {
  await using opened = new AsyncDisposableStack();
  const client = opened.use(startLoadClient());
  const alone = await newSide(opened, client, async () => undefined);
  let tokens: string[] = [];
  let chosenUs: number[] = [];
  const beside = await newSide(opened, client, async (sql, place) => {
    tokens = await insertAgents(sql, place);
    chosenUs = await timeChoices(sql, amount.rounds);
  });
  const ask = startIdle(opened, { port: beside.bench.port, tokens, kid: await signingKeyOf(beside.bench) });
  await until(ask, ({ waiting }) => waiting === agents);
  amount.say(`${agents} agents are waiting`);
  await sleep(5_000); // they are written down
  const costs = await measureCosts([alone, beside], amount.quick ? 30 : 120, amount);
  const [idle, busy]: [number[], number[]] = [[], []];
  for (let round = 0; round <= amount.rounds; round += 1) {
    const [p99Alone, p99Beside] = [await read(client, alone), await read(client, beside)];
    amount.say(`p99, round ${round}: without agents ${p99Alone.toFixed(1)} ms, beside them ${p99Beside.toFixed(1)} ms`);
    if (round === 0) continue;
    idle.push(p99Alone);
    busy.push(p99Beside);
  }
  const { failure } = await ask();
  if (failure !== undefined) throw new Void(`a poll failed: ${failure}`);
  const ratios = busy.map((ms, round) => ms / (idle[round] ?? Number.NaN));
  return [
    ...costs,
    { name: `${name}: GetSecretValue p99 without them`, measured: median(idle), unit: "ms", rounds: idle },
    { name: `${name}: GetSecretValue p99 beside them`, measured: median(busy), unit: "ms", rounds: busy },
    {
      name: `${name}: GetSecretValue p99 beside them over without`,
      measured: median(ratios),
      unit: "x",
      rounds: ratios,
      goal: atMost(goals.p99),
    },
    {
      name: `${name}, all of one network: choosing one for a call`,
      measured: median(chosenUs),
      unit: "us",
      rounds: chosenUs,
      goal: atMost(goals.chooseUs),
    },
  ];
}

const name = `${agents.toLocaleString("en-US")} idle agents`;

/** A server with secrets; `prepare` writes to its store while it is stopped. */
async function newSide(
  opened: AsyncDisposableStack,
  client: LoadClient,
  prepare: (sql: Sql, place: Place) => Promise<unknown>,
): Promise<Side> {
  const dataFolder = newFolder();
  opened.defer(() => rmSync(dataFolder, { recursive: true, force: true }));
  let caller: Signer;
  let place: Place;
  {
    await using bench = await startServer({ dataFolder });
    await fill(bench, client, { to: secrets });
    caller = await newCaller(bench);
    place = bench.server.credentials;
    await nativeOk(bench.server, "networks/create", { name: network });
  }
  const sql = openSqlite(join(dataFolder, "rekey.db"));
  try {
    await prepare(sql, place);
  } finally {
    await sql.close();
  }
  return { bench: opened.use(await startServer({ dataFolder })), caller };
}

/** Their tokens. All have the same keys, which nothing is sealed to here. */
async function insertAgents(sql: Sql, place: Place): Promise<string[]> {
  const { signing, sealing } = publicFarKeys(await newFarKeys());
  const enrolledBy = `arn:aws:iam::${place.account}:root`;
  const made = Array.from({ length: agents }, () => ({ id: randomUUID(), ...newTokenOf() }));
  await sql.transaction(async (tx) => {
    for (const [index, { id, hash: tokenHash }] of made.entries())
      await insertAgent(tx, {
        id,
        arn: agentArn(place, id),
        network,
        name: `agent-${index}`,
        signingKey: JSON.stringify(signing),
        sealingKey: JSON.stringify(sealing),
        version: "0.1.0",
        kinds: ["postgres", "mysql", "redis"],
        enrolmentId: randomUUID(),
        enrolledBy,
        enrolledAt: Date.now(),
        tokenHash,
      });
  });
  return made.map(({ token }) => token);
}

function newTokenOf() {
  const { token, hash } = newToken("agent");
  return { token, hash };
}

/** Microseconds that a call to the network takes to choose one of them, for each round. */
async function timeChoices(sql: Sql, rounds: number): Promise<number[]> {
  const turns = 50;
  const took: number[] = [];
  for (let round = 0; round <= rounds; round += 1) {
    const startedAt = performance.now();
    for (let turn = 0; turn < turns; turn += 1)
      if (!(await chooseAgent(sql, { network, kind: "postgres", nowMs: Date.now(), not: [], maxOpen: 256 })))
        throw new Void("no agent was chosen");
    if (round > 0) took.push(((performance.now() - startedAt) * 1000) / turns);
  }
  return took;
}

async function signingKeyOf({ server }: BenchServer): Promise<string> {
  const answer = await fetch(`${server.endpoint}/.well-known/jwks.json`);
  const { keys } = (await answer.json()) as { keys: { kid: string }[] };
  return keys[0]?.kid ?? "";
}

function startIdle(opened: AsyncDisposableStack, job: IdleJob): () => Promise<IdleSeen> {
  const child = startChild("idle-client.ts");
  opened.defer(() => endChild(child));
  child.send(job);
  return () => {
    const seen = nextMessage<IdleSeen>(child);
    child.send({});
    return seen;
  };
}

async function until(ask: () => Promise<IdleSeen>, isThere: (seen: IdleSeen) => boolean): Promise<void> {
  for (const endsAt = Date.now() + 120_000; ; await sleep(500)) {
    const seen = await ask();
    if (seen.failure !== undefined) throw new Void(`a poll failed: ${seen.failure}`);
    if (isThere(seen)) return;
    if (Date.now() > endsAt) throw new Void(`only ${seen.waiting} of ${agents} agents were waiting`);
  }
}

interface Spent {
  readonly cpu: number;
  readonly written: number;
  readonly records: number;
}

const spentBy = ({ bench: { server } }: Side): Spent => ({
  cpu: cpuMs(server.pid) ?? Number.NaN,
  written: writtenKiB(server.pid) ?? Number.NaN,
  records: auditRecords(server.dataFolder),
});

function auditRecords(dataFolder: string): number {
  const folder = join(dataFolder, "audit");
  const lines = (file: string) => readFileSync(join(folder, file), "latin1").split("\n").length - 1;
  return readdirSync(folder).reduce((sum, file) => sum + (file.endsWith(".log") ? lines(file) : 0), 0);
}

async function measureCosts(sides: readonly Side[], seconds: number, { say }: Amount): Promise<Figure[]> {
  const before = sides.map(spentBy);
  await sleep(seconds * 1000);
  const [alone, beside] = sides.map((side, index) => perMinute(spentBy(side), before[index], seconds));
  const [mibAlone, mibBeside] = sides.map(({ bench }) => residentMiB(bench.server.pid) ?? Number.NaN);
  say(`CPU in a minute: ${alone?.cpu.toFixed(0)} ms without agents, ${beside?.cpu.toFixed(0)} ms with ${agents}`);
  const figures = (what: string, unit: string, [without, with_]: readonly (number | undefined)[], goal?: number): Figure[] => {
    const own = (text: string, measured = Number.NaN): Figure => ({ name: `${name}: ${what}${text}`, measured, unit });
    const added = own(", more than without them", (with_ ?? Number.NaN) - (without ?? Number.NaN));
    return [own("", with_), { ...added, ...(goal !== undefined && { goal: atMost(goal) }) }];
  };
  return [
    ...figures("CPU of the server", "ms/min", [alone?.cpu, beside?.cpu], goals.cpuMsPerMinute),
    ...figures("memory of the server", "MiB", [mibAlone, mibBeside], goals.mib),
    ...figures("written to disk", "KiB/min", [alone?.written, beside?.written]),
    ...figures("audit records", "/min", [alone?.records, beside?.records], goals.auditRecordsPerMinute),
  ];
}

function perMinute(after: Spent, before: Spent | undefined, seconds: number): Spent {
  const share = (what: keyof Spent) => ((after[what] - (before?.[what] ?? Number.NaN)) * 60) / seconds;
  return { cpu: share("cpu"), written: share("written"), records: share("records") };
}

/** p99 in ms of GetSecretValue. */
async function read(client: LoadClient, { bench, caller }: Side): Promise<number> {
  const requests = Array.from({ length: 512 }, (_, turn) =>
    signedRequest(caller, bench.port, "GetSecretValue", { SecretId: nameOf((turn * 7) % secrets) }),
  );
  const { latenciesMs } = await client.run({ port: bench.port, requests, connections, count: 200_000, maxMs: readMs });
  return percentile(latenciesMs, 0.99);
}
