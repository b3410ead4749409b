import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { ConfigError } from "../core/error.ts";
import { describeConnectError } from "./postgres.ts";
import { parsePostgresUrl } from "./postgres-url.ts";

/** Any number will do, as long as every program takes the same one. */
const advisoryLock = 7_310_548;
const connectTimeoutMs = 10_000;
const retryMs = 1_000;
const shared = "select pg_try_advisory_lock_shared($1) as taken";
const alone = "select pg_try_advisory_lock($1) as taken";

/** A claim on the store of a PostgreSQL, freed with the process at the latest. */
interface PostgresClaim {
  release(): Promise<void>;
}

/**
 * Says that a server uses the store of a PostgreSQL, until released or ended; any number of servers may. A connection of its
 * own carries the claim: when that breaks, the claim is made again as soon as the database answers.
 * @throws ConfigError while a command has the store for itself.
 */
export async function shareStore(url: string): Promise<PostgresClaim> {
  const state = { released: false };
  let client = await claim(url, shared);
  if (!client) throw new ConfigError(["A command is changing this store; start the server again when it is done."]);
  const watch = (current: pg.Client) => {
    current.once("end", () => {
      if (!state.released) void again();
    });
  };
  const again = async () => {
    for (;;) {
      await sleep(retryMs, undefined, { ref: false });
      if (state.released) return;
      // Whatever is wrong with the database, the server's own queries tell it.
      const next = await claim(url, shared).catch(() => undefined);
      if (!next) continue;
      client = next;
      if (state.released) await next.end();
      else watch(next);
      return;
    }
  };
  watch(client);
  return {
    async release() {
      state.released = true;
      await client?.end().catch(() => undefined);
    },
  };
}

/**
 * Has the store of a PostgreSQL for this process alone, until released or ended.
 * @throws ConfigError while a server or another command uses it.
 */
export async function claimStore(url: string): Promise<PostgresClaim> {
  const client = await claim(url, alone);
  if (!client)
    throw new ConfigError([
      "This PostgreSQL store is in use by a running server or another command: stop all of them, then try again.",
    ]);
  return { release: () => client.end().catch(() => undefined) };
}

async function claim(url: string, text: string): Promise<pg.Client | undefined> {
  const address = parsePostgresUrl(url);
  const client = new pg.Client({
    ...address,
    application_name: "rekey",
    keepAlive: true,
    connectionTimeoutMillis: connectTimeoutMs,
  });
  client.on("error", () => undefined); // "end" follows
  try {
    await client.connect();
  } catch (error) {
    await client.end().catch(() => undefined);
    throw describeConnectError(error, address);
  }
  const { rows } = await client.query<{ taken: boolean }>(text, [advisoryLock]);
  if (rows[0]?.taken) return client;
  await client.end();
  return undefined;
}
