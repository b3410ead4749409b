// Leases of PostgreSQL users: issued through the API against the same SQL without any Rekey, and ended as fast as they fall due.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { isObject } from "../src/core/json-object.ts";
import { scramVerifier } from "../src/targets/scram.ts";
import { nativeOk } from "../test/support/aws.ts";
import { type PostgresServer, startPostgres } from "../test/support/postgres-server.ts";
import { compareWithHand, newPassword, onConnection, postgresLogin } from "./by-hand.ts";
import { atMost, type Figure } from "./figures.ts";
import { Void } from "./load.ts";
import { type BenchServer, startServer } from "./rekey.ts";
import type { Amount } from "./requests.ts";

/** How many at once, and what is to be reached: wall time over that of the SQL by hand. */
const compared = new Map([
  [1, 1.25],
  [8, 1.25],
  [32, 1.25],
]);
const mostAtOnce = 32;
const warmUpWaves = 8;
/** While it starts, a server takes half of what it may. */
const issueLimits = ["--rotations-at-once", "80", "--rotations-per-target", "80"];
const perTarget = 10;
const group = "bench_readers";
const place = { project: "bench", config: "dev", dynamicSecret: "DB" };
/** The shortest life of a lease is a minute, and they take some time to be issued. */
const lifeMs = 90_000;
const goneWithinSeconds = 60;
const awayMs = 5_000;
const settings = ["max_connections=100", "fsync=on", "synchronous_commit=on"];

export interface LeaseBench {
  readonly bench: BenchServer;
  readonly postgres: PostgresServer;
  readonly issue: Issue;
}

/** A server with a dynamic secret of a PostgreSQL of its own. */
export async function leaseBench(opened: AsyncDisposableStack, options: Parameters<typeof startServer>[0]): Promise<LeaseBench> {
  const postgres = opened.use(await startPostgres({ settings }));
  const bench = opened.use(await startServer(options));
  return { bench, postgres, issue: await newDynamicSecret(bench, postgres) };
}

type Issue = (ttlSeconds?: number) => Promise<string>;

/** Issues leases of the PostgreSQL, directly or through the network that is named. */
export async function newDynamicSecret({ server }: BenchServer, postgres: PostgresServer, network?: string): Promise<Issue> {
  const { host, port, user: username, password } = postgres;
  const own = { ...place, dynamicSecret: network === undefined ? place.dynamicSecret : "DB_FAR" };
  if (network === undefined) {
    await onConnection(postgresLogin(postgres), (client) => client.query(`create role ${group}`));
    await nativeOk(server, "projects/create", { name: place.project });
  }
  const data = { host, port, username, password, ssl: "false" };
  const integration = network ?? "main";
  await nativeOk(server, "integrations/create", { name: integration, type: "postgres", data, network });
  const [maxLeases, maxLeasesPerPrincipal] = [20_000, 20_000];
  await nativeOk(server, "dynamic-secrets/create", {
    project: own.project,
    config: own.config,
    name: own.dynamicSecret,
    integration,
    settings: { roles: [group] },
    maxLeases,
    maxLeasesPerPrincipal,
  });
  return async (ttlSeconds) => {
    const request = { ...own, clientRequestToken: randomUUID(), ...(ttlSeconds !== undefined && { ttlSeconds }) };
    const { lease } = await nativeOk(server, "leases/issue", request);
    if (!isObject(lease) || typeof lease.id !== "string") throw new Void("no lease was answered");
    return lease.id;
  };
}

const times = <T>(count: number, work: () => Promise<T>): Promise<T[]> => Promise.all(Array.from({ length: count }, work));

export async function measureLeases(amount: Amount): Promise<Figure[]> {
  return [...(await measureIssues(amount)), ...(await measureEnds(amount))];
}

async function measureIssues(amount: Amount): Promise<Figure[]> {
  await using opened = new AsyncDisposableStack();
  const { postgres, issue } = await leaseBench(opened, { moreFlags: issueLimits });
  const byHand = () => issueByHand(postgres);
  for (let wave = 0; wave < warmUpWaves; wave += 1) {
    await times(mostAtOnce, () => issue());
    await times(mostAtOnce, byHand);
  }
  const figures: Figure[] = [];
  for (const [atOnce, goal] of compared) {
    const [hand, rekey] = [() => times(atOnce, byHand), () => times(atOnce, () => issue())];
    figures.push(...(await compareWithHand({ what: "lease", by: "the API", atOnce, goal, hand, rekey }, amount)));
  }
  return figures;
}

/** What nobody who issues a user can do without: log in, make it with a verifier and an end, log out. */
async function issueByHand(postgres: PostgresServer): Promise<void> {
  const verifier = pg.escapeLiteral(await scramVerifier(newPassword()));
  const until = pg.escapeLiteral(new Date(Date.now() + 1_800_000).toISOString());
  const name = pg.escapeIdentifier(`by_hand_${randomUUID()}`);
  await onConnection(postgresLogin(postgres), (client) =>
    client.query(`create role ${name} login password ${verifier} valid until ${until} in role ${group}`),
  );
}

async function measureEnds(amount: Amount): Promise<Figure[]> {
  const count = amount.quick ? 100 : 1_000;
  await using opened = new AsyncDisposableStack();
  const world = await leaseBench(opened, { moreFlags: ["--rotations-per-target", String(perTarget)] });
  const name = `${count.toLocaleString("en-US")} leases due at one second`;

  const dueAt = await issueDue(world, count, amount);
  await sleep(dueAt - Date.now());
  const seconds = (await allGone(world.postgres)) - dueAt;
  const inTime = seconds / 1_000;

  const laterDueAt = await issueDue(world, count, amount);
  await sleep(laterDueAt - Date.now() - awayMs);
  await world.postgres.stop();
  await sleep(laterDueAt - Date.now() + awayMs);
  const startedAt = Date.now();
  await world.postgres.restart();
  const late = ((await allGone(world.postgres)) - startedAt) / 1_000;
  return [
    { name: `${name}: until none is at the target`, measured: inTime, unit: "s" },
    { name: `${name}: ended`, measured: count / inTime, unit: "/s" },
    {
      name: `${name}, and the target away for 10 s: from its start until none is there`,
      measured: late,
      unit: "s",
      goal: atMost(goneWithinSeconds),
    },
  ];
}

/** Issues leases that end within the same second; when that is. */
async function issueDue({ issue, postgres }: LeaseBench, count: number, { say }: Amount): Promise<number> {
  say(`issuing ${count} leases that end at one second`);
  const dueAt = Date.now() + lifeMs;
  const inTurn = async (_: unknown, worker: number) => {
    for (let index = worker; index < count; index += mostAtOnce) await issue(Math.ceil((dueAt - Date.now()) / 1_000));
  };
  await Promise.all(Array.from({ length: mostAtOnce }, inTurn));
  const there = await onConnection(postgresLogin(postgres), countUsers);
  if (there !== count || Date.now() >= dueAt - 2_000) throw new Void(`${there} of ${count} leases were there in time`);
  return dueAt;
}

/** When the last one was gone. */
function allGone(postgres: PostgresServer): Promise<number> {
  return onConnection(postgresLogin(postgres), async (client) => {
    while ((await countUsers(client)) > 0) await sleep(20);
    return Date.now();
  });
}

async function countUsers(client: pg.Client): Promise<number> {
  const { rows } = await client.query<{ count: string }>("select count(*) as count from pg_roles where rolname like 'rk\\_%'");
  return Number(rows[0]?.count);
}
