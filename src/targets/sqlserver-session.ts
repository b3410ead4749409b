import type { Connection as Driver } from "tedious";
import { RotatorError, UnfitCredential } from "../core/error.ts";
import { readAuthorities } from "./authorities.ts";
import { withBoundedAnswers } from "./bounded-answers.ts";
import type { DatabaseLogin } from "./database-secret.ts";
import { loadDriver } from "./driver.ts";
import { classify, describe, isUnfit } from "./sqlserver-errors.ts";

export interface SessionOptions {
  /** Shown by the server as the session's program; at most 128 characters. */
  readonly appName: string;
  /** Epoch ms. */
  readonly deadlineAt: number;
}

export interface Session {
  read<R extends object>(text: string): Promise<R[]>;
  /** From its first call on, a connection that ends without an answer means an `unknown` outcome. */
  change(text: string): Promise<void>;
}

/**
 * Logs in, works, logs out. The protocol proves nothing of the server: a password that nobody has must be refused first.
 * @throws RotatorError of the class that the failure means; `invalid` when the server takes any password.
 */
export async function withSession<T>(
  login: DatabaseLogin,
  options: SessionOptions,
  work: (db: Session) => Promise<T>,
): Promise<T> {
  mustBeConfidential(login);
  return withBoundedAnswers(async () => {
    await using session = await connect(login, options);
    await proveRefusal(login, options);
    await (await connect(login, options))[Symbol.asyncDispose](); // else the refused login would stay in the count of failures
    return await work(session);
  });
}

/** The login holds the password in a form that anybody can read, and so do the statements that change it. */
function mustBeConfidential({ host, ssl }: DatabaseLogin): void {
  if (ssl !== false || isLocal(host)) return;
  throw new RotatorError(
    "invalid",
    "SQL Server is told passwords themselves, which needs verified TLS: the secret's ssl may not be false",
  );
}

async function proveRefusal(login: DatabaseLogin, options: SessionOptions): Promise<void> {
  const wrong = { ...login, password: `not-the-password-${crypto.randomUUID()}` };
  const outcome = await connect(wrong, options).then(
    (session) => session[Symbol.asyncDispose]().then(() => "ok" as const),
    (error: unknown) => (error instanceof RotatorError ? error.outcome : Promise.reject(error)),
  );
  if (outcome === "ok") throw new RotatorError("invalid", `${place(login)} accepts any password for login ${login.username}`);
}

async function connect(login: DatabaseLogin, { appName, deadlineAt }: SessionOptions): Promise<Session & AsyncDisposable> {
  const { Connection, Request } = await loadDriver("tedious", () => import("tedious"));
  let changing = false;
  let late = false;
  let numbers: number[] = [];
  const leftMs = () => Math.max(1, deadlineAt - Date.now());
  const ca = login.sslrootcert === undefined ? undefined : await readAuthorities(login.sslrootcert);
  const driver: Driver = new Connection({
    server: login.host,
    authentication: { type: "default", options: { userName: login.username, password: login.password } },
    options: {
      port: login.port,
      ...(login.dbname === undefined ? {} : { database: login.dbname }),
      appName,
      encrypt: login.ssl !== false,
      trustServerCertificate: false,
      ...(ca === undefined ? {} : { cryptoCredentialsDetails: { ca } }),
      connectTimeout: leftMs(),
      requestTimeout: 0, // the deadline is kept here
      maxRetriesOnTransientErrors: 0,
      useColumnNames: true,
    },
  });
  const interrupted = Promise.withResolvers<never>();
  interrupted.promise.catch(() => undefined);
  driver.on("error", () => undefined); // a connection that ends tells it through the call that waits for it
  driver.on("errorMessage", ({ number }: { number: number }) => numbers.push(number));
  const timer = setTimeout(() => {
    late = true;
    interrupted.reject(new Error("deadline"));
    driver.close();
  }, leftMs());

  const answered = async <R>(call: (done: (error: unknown, result: R) => void) => void): Promise<R> => {
    numbers = [];
    try {
      const answer = new Promise<R>((resolve, reject) => call((error, result) => (error ? reject(error) : resolve(result))));
      return await Promise.race([answer, interrupted.promise]);
    } catch (error) {
      const outcome = classify(error, { changing, late, numbers });
      const words = describe(error, outcome, numbers);
      // No cause: the driver's errors keep the server's texts, which may quote the statement.
      const message = `login ${login.username} at ${place(login)}: ${words}`;
      throw isUnfit(numbers) ? new UnfitCredential(outcome, message) : new RotatorError(outcome, message);
    }
  };
  const query = (text: string) =>
    answered<Record<string, unknown>[]>((done) => {
      const rows: Record<string, unknown>[] = [];
      const request = new Request(text, (error) => done(error, rows));
      request.on("row", (columns: Record<string, { value: unknown }>) => {
        rows.push(Object.fromEntries(Object.entries(columns).map(([name, { value }]) => [name, value])));
      });
      driver.execSqlBatch(request);
    });
  const close = async (): Promise<void> => {
    clearTimeout(timer);
    driver.close();
  };
  try {
    await answered<void>((done) => driver.connect((error) => done(error)));
    await query(`set lock_timeout ${leftMs()}`); // the server waits for nothing longer than that
  } catch (error) {
    await close();
    throw error;
  }
  return {
    read: async <R extends object>(text: string) => (await query(text)) as R[],
    async change(text) {
      changing = true;
      await query(text);
    },
    [Symbol.asyncDispose]: close,
  };
}

const isLocal = (host: string): boolean => host === "localhost" || host === "::1" || /^127\./.test(host);

const place = ({ host, port }: DatabaseLogin): string => `${host}:${port}`;
