// What an application meets while its credential is rotated: it logs in every few milliseconds with what it last read, reads
// anew all the time, and at once when a login is refused. Rotations follow one another as fast as they go.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { GetSecretValueCommand, type SecretsManagerClient } from "@aws-sdk/client-secrets-manager";
import { createClient } from "@redis/client";
import pg from "pg";
import type { AnyCredential } from "../src/targets/index.ts";
import { nativeOk, secretsClient } from "../test/support/aws.ts";
import { startPostgres } from "../test/support/postgres-server.ts";
import { redisSkip, startRedis } from "../test/support/redis-server.ts";
import { atMost, type Figure } from "./figures.ts";
import { Void } from "./load.ts";
import { type BenchServer, startServer } from "./rekey.ts";
import type { Amount } from "./requests.ts";
import { RotationLog } from "./rotation.ts";
import { percentile } from "./statistics.ts";

const loginEveryMs = 5;
const readEveryMs = 50;
/** The server's own default: readers settle before the switch. */
const settleMs = 100;
/** Of one secret, as it keeps at most 100 versions of a day. */
const rotationsOfSecret = 50;
const gaps = { p50: 15, p99: 50 };

interface Kind {
  readonly name: string;
  readonly functionName: string;
  /** Two credentials are in force at once: no login may be refused. */
  readonly overlap: boolean;
  newAccount(name: string): Promise<AnyCredential>;
  login(credential: AnyCredential): Promise<"ok" | "refused">;
}

interface Met {
  logins: number;
  refused: number;
  /** From a refusal to the next login that went well. */
  readonly gapsMs: number[];
}

export async function measureSwitches(amount: Amount): Promise<Figure[]> {
  await using opened = new AsyncDisposableStack();
  const log = new RotationLog();
  const bench = opened.use(await startServer({ onLog: log.read, settleMs }));
  const client = secretsClient(bench.server);
  opened.defer(() => client.destroy());
  const rotations = amount.quick ? 100 : 1_000;
  const figures: Figure[] = [];
  for (const kind of await openKinds(bench, opened, amount)) {
    amount.say(`${kind.name}: ${rotations} rotations under an application that logs in every ${loginEveryMs} ms`);
    const met: Met = { logins: 0, refused: 0, gapsMs: [] };
    for (let done = 0; done < rotations; done += rotationsOfSecret) await underLogins({ kind, bench, client, log }, met);
    figures.push(...figuresOf(kind, met, rotations));
  }
  return figures;
}

interface Running {
  readonly kind: Kind;
  readonly bench: BenchServer;
  readonly client: SecretsManagerClient;
  readonly log: RotationLog;
}

async function underLogins({ kind, bench, client, log }: Running, met: Met): Promise<void> {
  const name = `switch_${randomUUID().slice(0, 8)}`;
  const { region, account } = bench.server.credentials;
  await nativeOk(bench.server, "secrets/create", {
    name,
    clientRequestToken: randomUUID(),
    secretString: JSON.stringify(await kind.newAccount(name)),
  });
  const ended = new AbortController();
  let failure: unknown;
  const application = runApplication(kind, () => read(client, name), met, ended.signal).catch((error: unknown) => {
    failure = error;
  });
  try {
    for (let turn = 0; turn < rotationsOfSecret; turn += 1) {
      await nativeOk(bench.server, "secrets/rotate", {
        secretId: name,
        clientRequestToken: randomUUID(),
        rotationLambdaArn: `arn:aws:lambda:${region}:${account}:function:${kind.functionName}`,
        rotationRules: { automaticallyAfterDays: 30 },
      });
      await log.finished(1);
      // Whoever reads every so often has the new one before the next rotation.
      await sleep(2 * readEveryMs);
    }
  } finally {
    ended.abort();
    await application;
  }
  if (failure !== undefined) throw failure;
}

async function read(client: SecretsManagerClient, SecretId: string): Promise<AnyCredential> {
  const { SecretString } = await client.send(new GetSecretValueCommand({ SecretId }));
  return JSON.parse(SecretString ?? "") as AnyCredential;
}

async function runApplication(kind: Kind, readNow: () => Promise<AnyCredential>, met: Met, ended: AbortSignal): Promise<void> {
  let credential = await readNow();
  let readAt = performance.now();
  let refusedAt: number | undefined;
  while (!ended.aborted) {
    const startedAt = performance.now();
    if (refusedAt !== undefined || startedAt - readAt >= readEveryMs) {
      credential = await readNow();
      readAt = performance.now();
    }
    met.logins += 1;
    if ((await kind.login(credential)) === "refused") {
      met.refused += 1;
      refusedAt ??= performance.now();
    } else if (refusedAt !== undefined) {
      met.gapsMs.push(performance.now() - refusedAt);
      refusedAt = undefined;
    }
    await sleep(Math.max(0, loginEveryMs - (performance.now() - startedAt)));
  }
}

async function openKinds(bench: BenchServer, opened: AsyncDisposableStack, amount: Amount): Promise<Kind[]> {
  const postgres = opened.use(await startPostgres({ settings: ["max_connections=100", "fsync=on", "synchronous_commit=on"] }));
  const client = new pg.Client(postgres.url);
  await client.connect();
  opened.defer(() => client.end());
  const { host, port, user, password } = postgres;
  const login = { engine: "postgres", host, port, ssl: "false" };
  const master = await nativeOk(bench.server, "secrets/create", {
    name: "switch/postgres-admin",
    clientRequestToken: randomUUID(),
    secretString: JSON.stringify({ ...login, username: user, password }),
  });
  const ofPostgres = {
    async newAccount(name: string) {
      await client.query(`create role ${name} login password 'first-password'`);
      return { ...login, username: name, password: "first-password", masterarn: String(master.arn) };
    },
    login: logInToPostgres,
  };
  const functionName = (how: string) => `SecretsManagerRDSPostgreSQLRotation${how}`;
  const kinds: Kind[] = [
    { ...ofPostgres, name: "PostgreSQL, single user", functionName: functionName("SingleUser"), overlap: false },
    { ...ofPostgres, name: "PostgreSQL, alternating users", functionName: functionName("MultiUser"), overlap: true },
  ];
  if (redisSkip) amount.say(`no dual slot: ${redisSkip}`);
  else kinds.push(await redisKind(opened));
  return kinds;
}

async function redisKind(opened: AsyncDisposableStack): Promise<Kind> {
  const redis = opened.use(await startRedis({ password: randomUUID() }));
  const { host, port } = redis;
  return {
    name: "Redis, dual slot",
    functionName: "RekeyRedisRotation",
    overlap: true,
    async newAccount(name) {
      await redis.run(
        "ACL",
        "SETUSER",
        name,
        "on",
        ">first-password",
        "-@all",
        "+ping",
        "+acl|getuser",
        "+acl|setuser",
        "+acl|save",
      );
      return { engine: "redis", host, port, ssl: false, username: name, password: "first-password" };
    },
    login: logInToRedis,
  };
}

/** As an application logs in, by the driver itself: what looks like a rotation's session, the next rotation ends. */
async function logInToPostgres({ host, port, username, password }: AnyCredential): Promise<"ok" | "refused"> {
  const client = new pg.Client({
    host: String(host),
    port: Number(port),
    user: String(username),
    password: String(password),
    database: "postgres",
  });
  try {
    await client.connect();
    return "ok";
  } catch (error) {
    if (error instanceof pg.DatabaseError && error.code === "28P01") return "refused";
    throw new Void(`a login failed otherwise: ${String(error)}`);
  } finally {
    await client.end().catch(() => undefined);
  }
}

async function logInToRedis({ host, port, username, password }: AnyCredential): Promise<"ok" | "refused"> {
  const socket = { host: String(host), port: Number(port), reconnectStrategy: false as const };
  const client = createClient({
    RESP: 2,
    disableClientInfo: true,
    username: String(username),
    password: String(password),
    socket,
  });
  client.on("error", () => undefined); // told by the call
  try {
    await client.connect();
    return "ok";
  } catch (error) {
    if (error instanceof Error && error.message.startsWith("WRONGPASS")) return "refused";
    throw new Void(`a login failed otherwise: ${String(error)}`);
  } finally {
    client.destroy();
  }
}

function figuresOf({ name, overlap }: Kind, { logins, refused, gapsMs }: Met, rotations: number): Figure[] {
  const note = `${logins.toLocaleString("en-US")} logins in ${rotations.toLocaleString("en-US")} rotations`;
  const count: Figure = {
    name: `${name}: logins refused`,
    measured: refused,
    unit: "",
    note,
    ...(overlap && { goal: atMost(0) }),
  };
  if (overlap) return [count];
  const sorted = Float64Array.from(gapsMs);
  const gap = (share: number): number => (sorted.length === 0 ? 0 : percentile(sorted, share));
  const name_ = `${name}: from a refusal to the next login`;
  return [
    count,
    { name: `${name_}, p50`, measured: gap(0.5), unit: "ms", goal: atMost(gaps.p50) },
    { name: `${name_}, p99`, measured: gap(0.99), unit: "ms", goal: atMost(gaps.p99) },
  ];
}
