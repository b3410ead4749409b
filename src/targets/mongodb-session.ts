import { isIPv6 } from "node:net";
import type { Document, MongoClient, MongoClientOptions } from "mongodb";
import { RotatorError } from "../core/error.ts";
import { readAuthorities } from "./authorities.ts";
import { withBoundedAnswers } from "./bounded-answers.ts";
import type { DatabaseLogin } from "./database-secret.ts";
import { loadDriver } from "./driver.ts";
import { classify, describe, numberOf } from "./mongodb-errors.ts";

export interface SessionOptions {
  /** Shown by the server beside each operation; at most 128 bytes. */
  readonly appName: string;
  /** Epoch ms. */
  readonly deadlineAt: number;
  /** Absent: the named host only, whatever set it belongs to. */
  readonly replicaSet: string | undefined;
}

export interface Session {
  read(database: string, command: Document): Promise<Document>;
  /** From its first call on, a connection that ends without an answer means an `unknown` outcome. */
  change(database: string, command: Document): Promise<void>;
}

/** Users are kept by the database that they log in to. */
export const userDatabase = ({ dbname }: DatabaseLogin): string => dbname ?? "admin";

/**
 * Logs in by SCRAM, works, logs out. A server shows by SCRAM that it knows the password, and must also deny what is asked
 * without a login, since without access control it would do so for everybody.
 * @throws RotatorError of the class that the failure means; `invalid` when the server does not ask for a password.
 */
export async function withSession<T>(
  login: DatabaseLogin,
  options: SessionOptions,
  work: (db: Session) => Promise<T>,
): Promise<T> {
  return withBoundedAnswers(async () => {
    await using session = await connect(login, options, { username: login.username, password: login.password });
    await proveDenial(login, options);
    return await work(session);
  });
}

/** The same without that proof, for work on other users. @throws RotatorError */
export async function withUnprovenSession<T>(
  login: DatabaseLogin,
  options: SessionOptions,
  work: (db: Session) => Promise<T>,
): Promise<T> {
  return withBoundedAnswers(async () => {
    await using session = await connect(login, options, { username: login.username, password: login.password });
    return await work(session);
  });
}

async function proveDenial(login: DatabaseLogin, options: SessionOptions): Promise<void> {
  try {
    await using nobody = await connect(login, options, undefined);
    await nobody.read(userDatabase(login), { usersInfo: login.username });
  } catch (error) {
    if (error instanceof RotatorError) return;
    throw error;
  }
  throw new RotatorError("invalid", `${place(login)} lets everybody in: turn on its access control (security.authorization)`);
}

async function connect(
  login: DatabaseLogin,
  { appName, deadlineAt, replicaSet }: SessionOptions,
  auth: { username: string; password: string } | undefined,
): Promise<Session & AsyncDisposable> {
  const driver = await loadDriver("mongodb", () => import("mongodb"));
  let changing = false;
  let late = false;
  const leftMs = () => Math.max(1, deadlineAt - Date.now());
  const interrupted = Promise.withResolvers<never>();
  interrupted.promise.catch(() => undefined);
  const answered = async <R>(call: () => Promise<R>): Promise<R> => {
    try {
      return await Promise.race([call(), interrupted.promise]);
    } catch (error) {
      const outcome = classify(error, { changing, late });
      throw new RotatorError(outcome, `user ${login.username} at ${place(login)}: ${describe(error, outcome)}`, {
        cause: withoutAnswer(error),
      });
    }
  };

  const settings: MongoClientOptions = {
    ...(auth ? { auth, authSource: userDatabase(login) } : {}),
    ...(replicaSet === undefined ? { directConnection: true } : { replicaSet }),
    ...(await tlsOptions(login)),
    appName,
    connectTimeoutMS: leftMs(),
    serverSelectionTimeoutMS: leftMs(),
    maxPoolSize: 1,
    retryReads: false,
    retryWrites: false,
    serverMonitoringMode: "poll",
  };
  let client: MongoClient;
  try {
    client = new driver.MongoClient(`mongodb://${address(login)}/`, settings);
  } catch (cause) {
    throw new RotatorError("invalid", `the secret's host or replicaSet is none that MongoDB knows: ${place(login)}`, { cause });
  }
  const timer = setTimeout(() => {
    late = true;
    interrupted.reject(new Error("deadline"));
    client.close().catch(() => undefined);
  }, leftMs());
  // The driver would look for the server again and again, until the deadline.
  let reached = false;
  client.on("serverHeartbeatSucceeded", () => {
    reached = true;
  });
  client.on("serverHeartbeatFailed", ({ failure }) => {
    if (!reached) interrupted.reject(failure);
  });
  const close = async (): Promise<void> => {
    clearTimeout(timer);
    // Whatever the driver still waits for, its sockets are closed by then or with the deadline's own call.
    await Promise.race([client.close().catch(() => undefined), new Promise((resolve) => setTimeout(resolve, 500).unref())]);
  };
  try {
    await answered(() => client.connect());
  } catch (error) {
    await close();
    throw error;
  }
  const run = (database: string, command: Document) => answered(() => client.db(database).command(command));
  return {
    read: run,
    async change(database, command) {
      changing = true;
      // The server ends it by itself as well, so that no late effect is left behind.
      await run(database, { ...command, maxTimeMS: leftMs() });
    },
    [Symbol.asyncDispose]: close,
  };
}

/** A driver's error for the log, without the server's texts and the answer: these may quote the command. */
function withoutAnswer(error: unknown): unknown {
  if (!(error instanceof Error)) return undefined;
  const name = "codeName" in error ? ` ${String(error.codeName)}` : "";
  const code = "code" in error ? String(error.code) : "no code";
  return Object.assign(new Error(`${error.name} ${code}${name}`), { answer: numberOf(error) });
}

async function tlsOptions({ ssl, sslrootcert }: DatabaseLogin): Promise<MongoClientOptions> {
  if (ssl === false) return { tls: false };
  return sslrootcert === undefined ? { tls: true } : { tls: true, ca: await readAuthorities(sslrootcert) };
}

/** Encoded, so that a host can name no other host and no option. */
const address = ({ host, port }: DatabaseLogin): string =>
  host.startsWith("/") ? encodeURIComponent(host) : `${isIPv6(host) ? `[${host}]` : encodeURIComponent(host)}:${port}`;

const place = ({ host, port }: DatabaseLogin): string => (host.startsWith("/") ? host : `${host}:${port}`);
