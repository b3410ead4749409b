// Many scheduled secrets of which a thousand fall due at one second, at one target.
import { randomUUID } from "node:crypto";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { openSqlite } from "../src/store/sqlite.ts";
import { nativeOk } from "../test/support/aws.ts";
import { startPostgres } from "../test/support/postgres-server.ts";
import { atMost, type Figure } from "./figures.ts";
import { startLoadClient } from "./load.ts";
import { connections, fill, newFolder, startServer } from "./rekey.ts";
import type { Amount } from "./requests.ts";
import { RotationLog } from "./rotation.ts";
import { signedRequest } from "./signed-request.ts";

const perTarget = 10;
const nameOf = (index: number): string => `due_${index}`;
/** Long enough to start. */
const dueInMs = 5_000;

export async function measureDue(amount: Amount): Promise<Figure[]> {
  const [all, due] = amount.quick ? [10_000, 200] : [100_000, 1_000];
  await using opened = new AsyncDisposableStack();
  const dataFolder = newFolder();
  opened.defer(() => rmSync(dataFolder, { recursive: true, force: true }));
  const postgres = opened.use(await startPostgres({ settings: ["max_connections=100", "fsync=on", "synchronous_commit=on"] }));
  const client = new pg.Client(postgres.url);
  await client.connect();
  opened.defer(() => client.end());
  amount.say(`filling a store with ${all} scheduled secrets, ${due} of real users`);
  await fillStore({ dataFolder, all, due }, client, postgres);
  const dueAt = Date.now() + dueInMs;
  await schedule(dataFolder, dueAt);

  const log = new RotationLog();
  const bench = opened.use(
    await startServer({ dataFolder, onLog: log.read, moreFlags: ["--rotations-per-target", `${perTarget}`] }),
  );
  const watched = new AbortController();
  const mostAtOnce = watch(client, watched.signal);
  await log.finished(due);
  const tookMs = Date.now() - dueAt;
  watched.abort();
  await nativeOk(bench.server, "rotations/list", { limit: 1 });
  const name = `${all.toLocaleString("en-US")} scheduled, ${due.toLocaleString("en-US")} due at one second:`;
  return [
    { name: `${name} until the last one has ended`, measured: tookMs / 1000, unit: "s" },
    { name: `${name} rotations`, measured: due / (tookMs / 1000), unit: "/s" },
    { name: `${name} sessions at the target, most at once`, measured: await mostAtOnce, unit: "", goal: atMost(perTarget) },
  ];
}

interface Filled {
  readonly dataFolder: string;
  readonly all: number;
  readonly due: number;
}

async function fillStore(
  { dataFolder, all, due }: Filled,
  client: pg.Client,
  { host, port }: { readonly host: string; readonly port: number },
): Promise<void> {
  await using bench = await startServer({ dataFolder });
  await using load = startLoadClient();
  await fill(bench, load, { to: all - due });
  const requests: Buffer[] = [];
  for (let index = 0; index < due; index += 1) {
    const username = nameOf(index);
    await client.query(`create role ${username} login password 'first-password'`);
    const value = { engine: "postgres", host, port, username, password: "first-password", ssl: "false" };
    requests.push(
      signedRequest(bench.root, bench.port, "CreateSecret", {
        Name: username,
        ClientRequestToken: randomUUID(),
        SecretString: JSON.stringify(value),
      }),
    );
  }
  await load.run({ port: bench.port, requests, connections, count: requests.length, maxMs: 60_000 });
  const { region, account } = bench.server.credentials;
  await nativeOk(bench.server, "secrets/rotate", {
    secretId: nameOf(0),
    clientRequestToken: randomUUID(),
    rotationLambdaArn: `arn:aws:lambda:${region}:${account}:function:SecretsManagerRDSPostgreSQLRotationSingleUser`,
    rotationRules: { automaticallyAfterDays: 30 },
    rotateImmediately: false,
  });
  for (;;) {
    const { rotations } = await nativeOk(bench.server, "rotations/list", { state: "running" });
    if (Array.isArray(rotations) && rotations.length === 0) return;
    await sleep(50);
  }
}

/** As the API would, one by one: every secret like the one that was configured through it. */
async function schedule(dataFolder: string, dueAt: number): Promise<void> {
  const sql = openSqlite(join(dataFolder, "rekey.db"));
  try {
    const columns = ["rotation_enabled", "rotation_function_arn", "rotation_rules", "rotation_principal"];
    const set = columns.map((column) => `${column} = (select ${column} from secrets where name = $1)`).join(", ");
    await sql.query(
      `update secrets set ${set}, next_rotation_at = $2 + 3600000,
         rotation_due_at = case when name like 'due_%' then $2 else $2 + 86400000 end`,
      [nameOf(0), dueAt],
    );
  } finally {
    await sql.close();
  }
}

/** The most sessions of rotations that were seen at the target at one time. */
async function watch(client: pg.Client, ended: AbortSignal): Promise<number> {
  let most = 0;
  while (!ended.aborted) {
    const { rows } = await client.query<{ count: string }>(
      "select count(*) as count from pg_stat_activity where application_name like 'rekey %'",
    );
    most = Math.max(most, Number(rows[0]?.count));
    await sleep(10);
  }
  return most;
}
