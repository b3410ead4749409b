// Rotations of a single user by the engine on a real PostgreSQL, against the same SQL without any Rekey.
import { randomUUID } from "node:crypto";
import pg from "pg";
import { scramVerifier } from "../src/targets/scram.ts";
import { nativeOk } from "../test/support/aws.ts";
import { type PostgresServer, startPostgres } from "../test/support/postgres-server.ts";
import { compareWithHand, type Login, newPassword, onConnection, postgresLogin } from "./by-hand.ts";
import type { Figure } from "./figures.ts";
import { Void } from "./load.ts";
import { type BenchServer, startServer } from "./rekey.ts";
import type { Amount } from "./requests.ts";

/** Rotations under way in Rekey, told by its log. */
export class RotationLog {
  #finished = 0;
  #failed: string | undefined;
  #awaited: { count: number; resolve(): void; reject(error: Error): void } | undefined;
  #rest = "";

  readonly read = (text: string): void => {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop() ?? "";
    for (const line of lines) if (line.includes('"msg":"rotation"')) this.#take(line);
  };

  /** Resolves when `count` more rotations have succeeded than when the log was last waited for. @throws Void when one fails */
  async finished(count: number): Promise<void> {
    if (this.#failed !== undefined) throw new Void(`a rotation failed: ${this.#failed}`);
    if (this.#finished < count) await new Promise<void>((resolve, reject) => (this.#awaited = { count, resolve, reject }));
    this.#finished -= count;
  }

  #take(line: string): void {
    const { state } = JSON.parse(line) as { state: string };
    if (state === "succeeded") this.#finished += 1;
    else this.#failed = line;
    const awaited = this.#awaited;
    if (!awaited || (this.#failed === undefined && this.#finished < awaited.count)) return;
    this.#awaited = undefined;
    if (this.#failed === undefined) awaited.resolve();
    else awaited.reject(new Void(`a rotation failed: ${this.#failed}`));
  }
}

const functionName = "SecretsManagerRDSPostgreSQLRotationSingleUser";
/** How many at once, and what is to be reached: wall time over that of the SQL by hand. */
const compared = new Map([
  [1, 1.1],
  [8, 1.1],
  [32, 1.15],
]);
/** While it starts, a server takes half of what it may. */
const limits = ["--rotations-at-once", "80", "--rotations-per-target", "80"];
const mostAtOnce = 32;
/** Many take turns, as a secret has at most 100 versions of one day. */
const users = 64;
const warmUpWaves = 16;

type Rotate = (count: number) => Promise<void>;

/** A PostgreSQL with users, each with its password in a secret; `rotate` rotates the next `count` and waits for the end. */
export async function rotationWorld(
  opened: AsyncDisposableStack,
  startBench: (log: RotationLog) => Promise<BenchServer>,
): Promise<{ postgres: PostgresServer; bench: BenchServer; rotate: Rotate; inNetwork(network: string): Promise<Rotate> }> {
  // As a server that keeps what it was told: both sides' changes are durable.
  const settings = ["max_connections=100", "fsync=on", "synchronous_commit=on"];
  const postgres = opened.use(await startPostgres({ settings }));
  const log = new RotationLog();
  const bench = await startBench(log);
  return {
    postgres,
    bench,
    rotate: rotating(bench, log, await newSecrets(bench, postgres, "kept")),
    async inNetwork(network) {
      const kept = await newSecrets(bench, postgres, network);
      for (const { user: secretId } of kept) await nativeOk(bench.server, "rotations/put-policy", { secretId, network });
      return rotating(bench, log, kept);
    },
  };
}

/** New users, each with its password in a secret of its name. */
async function newSecrets({ server }: BenchServer, postgres: PostgresServer, prefix: string): Promise<Login[]> {
  const kept = await newUsers(postgres, prefix);
  for (const { host, port, user, password, database } of kept) {
    const value = { engine: "postgres", host, port, username: user, password, dbname: database, ssl: "false" };
    const secretString = JSON.stringify(value);
    await nativeOk(server, "secrets/create", { name: user, clientRequestToken: randomUUID(), secretString });
  }
  return kept;
}

function rotating({ server }: BenchServer, log: RotationLog, kept: Login[]): Rotate {
  const { region, account } = server.credentials;
  const rotationLambdaArn = `arn:aws:lambda:${region}:${account}:function:${functionName}`;
  return async (count) => {
    const started = next(kept, count).map(({ user }) =>
      nativeOk(server, "secrets/rotate", {
        secretId: user,
        clientRequestToken: randomUUID(),
        rotationLambdaArn,
        rotationRules: { automaticallyAfterDays: 30 },
      }),
    );
    await Promise.all([...started, log.finished(count)]);
  };
}

/** The first ones, which then go to the end. */
function next(logins: Login[], count: number): Login[] {
  const taken = logins.splice(0, count);
  logins.push(...taken);
  return taken;
}

export async function measureRotations(amount: Amount): Promise<Figure[]> {
  await using opened = new AsyncDisposableStack();
  const { postgres, rotate } = await rotationWorld(opened, async (log) =>
    opened.use(await startServer({ onLog: log.read, moreFlags: limits })),
  );
  const byHand = await newUsers(postgres, "by_hand");
  await warmUp(byHand, rotate);
  const figures: Figure[] = [];
  for (const [atOnce, goal] of compared) {
    const hand = () => Promise.all(next(byHand, atOnce).map(rotateByHand));
    const rekey = () => rotate(atOnce);
    figures.push(...(await compareWithHand({ what: "rotation", by: "the engine", atOnce, goal, hand, rekey }, amount)));
  }
  const version = await onConnection(postgresLogin(postgres), (client) =>
    client.query<{ server_version: string }>("show server_version"),
  );
  amount.say(`PostgreSQL ${version.rows[0]?.server_version}, fsync on`);
  return figures;
}

/** A program's first requests take several times as long as all later ones. */
async function warmUp(byHand: Login[], rotate: Rotate): Promise<void> {
  for (let wave = 0; wave < warmUpWaves; wave += 1) {
    await rotate(mostAtOnce);
    await Promise.all(next(byHand, mostAtOnce).map(rotateByHand));
  }
}

/**
 * What no single-user rotation can do without: log in with the password in force, replace it as psql's `\password` does (the
 * server is given a verifier only), log out; log in with the new one, see that it works, log out.
 */
async function rotateByHand(login: Login): Promise<void> {
  const password = newPassword();
  await onConnection(login, async (client) => {
    const verifier = pg.escapeLiteral(await scramVerifier(password));
    await client.query(`alter role ${pg.escapeIdentifier(login.user)} password ${verifier}`);
  });
  login.password = password;
  await onConnection(login, (client) => client.query("select 1"));
}

async function newUsers(postgres: PostgresServer, prefix: string): Promise<Login[]> {
  const made = Array.from({ length: users }, (_, number) => ({
    ...postgresLogin(postgres),
    user: `${prefix}_${number}`,
    password: newPassword(),
  }));
  await onConnection(postgresLogin(postgres), async (client) => {
    for (const { user, password } of made)
      await client.query(`create role ${pg.escapeIdentifier(user)} login password ${pg.escapeLiteral(password)}`);
  });
  return made;
}
