import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { type PostgresAddress, parsePostgresUrl } from "./postgres-url.ts";
import type { Row, Sql, SqlValue } from "./sql.ts";
import { checkValues, toSafeInteger } from "./sql-values.ts";
import { refuseInsideWork, runInScope } from "./transaction-scope.ts";

const maxNamedStatements = 500;
const maxAttempts = 8;
const connectTimeoutMs = 10_000;
const statementTimeoutMs = 30_000;

/** What a transaction may meet that is not its fault. Source: PostgreSQL, appendix "PostgreSQL Error Codes", class 40. */
const transientCodes = new Set(["40001", "40P01"]);

const { builtins, getTypeParser } = pg.types;

/** Integers and booleans as numbers and bytes as plain Uint8Array, as the embedded store has them. */
const parsers = new Map<number, (text: string) => unknown>([
  [builtins.INT8, toSafeInteger],
  [builtins.NUMERIC, (text) => (text.includes(".") ? Number(text) : toSafeInteger(text))],
  [builtins.BOOL, (text) => (text === "t" ? 1 : 0)],
  [builtins.BYTEA, toBytes],
]);

function toBytes(text: string): Uint8Array {
  const bytes: Buffer = getTypeParser(builtins.BYTEA)(text);
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

const types: pg.CustomTypesConfig = {
  getTypeParser: (oid: number, format?: "text" | "binary") => parsers.get(oid) ?? getTypeParser(oid, format as "text"),
};

/**
 * The store on a PostgreSQL of one or more nodes; see `parsePostgresUrl` for the URL. Connects on first use. Transactions
 * are READ COMMITTED: what a decision rests on is locked by `select … for update`. A transaction that meets a deadlock is
 * run again, its `work` from the start.
 * @throws ConfigError when the URL cannot be understood.
 */
export function openPostgres(url: string, { max = 10 }: { max?: number } = {}): Sql {
  const address = parsePostgresUrl(url);
  const pool = new pg.Pool({
    ...address,
    max,
    types,
    application_name: "rekey",
    keepAlive: true,
    connectionTimeoutMillis: connectTimeoutMs,
    statement_timeout: statementTimeoutMs,
    idle_in_transaction_session_timeout: statementTimeoutMs,
  });
  const ignore = () => undefined; // a lost connection is told by the call that uses it, and leaves the pool by itself
  pool.on("error", ignore);
  pool.on("connect", (client) => client.on("error", ignore));
  const nameOf = statementNames();
  let closing: Promise<void> | undefined;

  const connect = async (): Promise<pg.PoolClient> => {
    refuseInsideWork();
    if (closing) throw new Error("the store is closed");
    try {
      return await pool.connect();
    } catch (error) {
      throw describeConnectError(error, address);
    }
  };
  const run = async (client: pg.PoolClient, text: string, values: readonly SqlValue[]): Promise<Row[]> => {
    checkValues(values);
    const name = nameOf(text);
    const { rows } = await client.query<Row>({ ...(name && { name }), text, values: [...values] });
    return rows;
  };

  return {
    dialect: "postgres",
    async query<R extends object = Row>(text: string, values: readonly SqlValue[] = []): Promise<R[]> {
      const client = await connect();
      try {
        return (await run(client, text, values)) as R[];
      } finally {
        client.release();
      }
    },
    async transaction<T>(work: (tx: Sql) => Promise<T>): Promise<T> {
      for (let attempt = 1; ; attempt++) {
        const client = await connect();
        try {
          return await runTransaction(client, (text, values) => run(client, text, values), work);
        } catch (error) {
          if (attempt >= maxAttempts || !isTransient(error)) throw error;
        }
        await sleep(Math.random() * 5 * 2 ** attempt);
      }
    },
    async close() {
      closing ??= pool.end();
      await closing;
    },
  };
}

async function runTransaction<T>(
  client: pg.PoolClient,
  execute: (text: string, values: readonly SqlValue[]) => Promise<Row[]>,
  work: (tx: Sql) => Promise<T>,
): Promise<T> {
  let broken: boolean | Error = false;
  try {
    await client.query("begin");
    const result = await runInScope({ dialect: "postgres", execute }, work);
    await client.query("commit");
    return result;
  } catch (error) {
    await client.query("rollback").catch((lost: Error) => {
      broken = lost; // not to be used again
    });
    throw error;
  } finally {
    client.release(broken);
  }
}

function isTransient(error: unknown): boolean {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if (cause instanceof pg.DatabaseError && transientCodes.has(cause.code ?? "")) return true;
  }
  return false;
}

/** A name has the server keep the plan (measured: 3 to 4 times as fast). Only so many, as each connection keeps them all. */
function statementNames(): (text: string) => string | undefined {
  const names = new Map<string, string>();
  return (text) => {
    const known = names.get(text);
    if (known || names.size >= maxNamedStatements || !/^\s*(select|insert|update|delete|with)\b/i.test(text)) return known;
    const name = createHash("sha256").update(text).digest("base64url").slice(0, 32);
    names.set(text, name);
    return name;
  };
}

/** What the server itself said stays as it is; anything else tells where, as an unreachable server's own error may be empty. */
export function describeConnectError(error: unknown, { host, port, ssl }: PostgresAddress): unknown {
  if (error instanceof pg.DatabaseError || !(error instanceof Error)) return error;
  const reasons = error instanceof AggregateError ? error.errors.map((each: Error) => each.message).join("; ") : error.message;
  const hint = ssl && /does not support SSL/.test(reasons) ? " (give sslmode=disable to connect in cleartext)" : "";
  return new Error(`PostgreSQL at ${host}:${port} cannot be used: ${reasons}${hint}`, { cause: error });
}
