import { readFile } from "node:fs/promises";
import type { ConnectionOptions } from "node:tls";
import pg from "pg";
import { RotatorError } from "../core/error.ts";
import type { DatabaseLogin } from "./database-secret.ts";
import { classify, describe } from "./postgres-errors.ts";

export interface SessionOptions {
  /** Shown by the server in `pg_stat_activity`; at most 63 bytes. */
  readonly applicationName: string;
  /** Epoch ms. */
  readonly deadlineAt: number;
}

export interface Session {
  read<R extends pg.QueryResultRow>(text: string, values?: readonly unknown[]): Promise<R[]>;
  /** From its first call on, a connection that ends without an answer means an `unknown` outcome. */
  change(text: string): Promise<void>;
}

/** How the server checked the password: `proven` by SCRAM, `sent` to it in a form that anybody could say yes to, or `never`. */
type Check = "proven" | "sent" | "never";

/**
 * Logs in, works, logs out. The password is sent only by SCRAM, or over verified TLS.
 * @throws RotatorError of the class that the failure means; `invalid` when the server did not ask for the password, or
 * takes any other as well.
 */
export async function withSession<T>(
  login: DatabaseLogin,
  options: SessionOptions,
  work: (db: Session) => Promise<T>,
): Promise<T> {
  const ssl = await tlsOptions(login);
  try {
    return await overConnection(login, options, ssl, work);
  } catch (error) {
    if (login.ssl === undefined && error instanceof RotatorError && saysNoTls(error.cause)) {
      return overConnection(login, options, false, work);
    }
    throw error;
  }
}

async function overConnection<T>(
  login: DatabaseLogin,
  options: SessionOptions,
  ssl: ConnectionOptions | false,
  work: (db: Session) => Promise<T>,
): Promise<T> {
  await using connection = await connect(login, options, ssl);
  if (connection.check === "never") throw anyPassword(login);
  if (connection.check === "sent") await proveRefusal(login, options, ssl);
  return await work(connection);
}

/** @throws RotatorError `invalid` when a password that nobody has is accepted too. */
async function proveRefusal(login: DatabaseLogin, options: SessionOptions, ssl: ConnectionOptions | false): Promise<void> {
  const wrong = { ...login, password: `not-the-password-${crypto.randomUUID()}` };
  const outcome = await connect(wrong, options, ssl).then(
    (connection) => connection[Symbol.asyncDispose]().then(() => "ok" as const),
    (error: unknown) => (error instanceof RotatorError ? error.outcome : Promise.reject(error)),
  );
  if (outcome === "ok") throw anyPassword(login);
}

function anyPassword(login: DatabaseLogin): RotatorError {
  return new RotatorError(
    "invalid",
    `${place(login)} accepts any password for role ${login.username}: give it a scram-sha-256 line in pg_hba.conf`,
  );
}

interface Connection extends Session, AsyncDisposable {
  readonly check: Check;
}

async function connect(login: DatabaseLogin, options: SessionOptions, ssl: ConnectionOptions | false): Promise<Connection> {
  let check: Check = "never";
  let changing = false;
  let late = false;
  const client = new pg.Client({
    host: login.host,
    port: login.port,
    user: login.username,
    database: login.dbname,
    application_name: options.applicationName,
    ssl,
    password: () => {
      if (check === "sent" && !ssl) {
        throw new RotatorError(
          "invalid",
          `${place(login)} asks for the password itself over a connection that is not verified TLS`,
        );
      }
      return login.password;
    },
  });
  for (const request of ["authenticationCleartextPassword", "authenticationMD5Password"]) {
    client.connection.on(request, () => {
      check = "sent";
    });
  }
  client.connection.on("authenticationSASLFinal", () => {
    check = "proven";
  });
  client.on("error", () => undefined); // a connection that ends tells it through the call that waits for it
  const timer = setTimeout(
    () => {
      late = true;
      client.connection.stream.destroy(new Error("deadline"));
    },
    Math.max(0, options.deadlineAt - Date.now()),
  );

  const answered = async <R>(call: Promise<R>): Promise<R> => {
    try {
      return await call;
    } catch (error) {
      if (error instanceof RotatorError) throw error;
      const outcome = classify(error, { changing, late });
      throw new RotatorError(outcome, `role ${login.username} at ${place(login)}: ${describe(error, outcome)}`, { cause: error });
    }
  };
  const close = async (): Promise<void> => {
    await client.end().catch(() => undefined);
    clearTimeout(timer);
  };
  try {
    await answered(client.connect());
  } catch (error) {
    await close();
    throw error;
  }
  return {
    check,
    read: async (text, values = []) => (await answered(client.query(text, [...values]))).rows,
    async change(text) {
      changing = true;
      await answered(client.query(text));
    },
    [Symbol.asyncDispose]: close,
  };
}

async function tlsOptions({ host, ssl, sslrootcert }: DatabaseLogin): Promise<ConnectionOptions | false> {
  if (ssl === false || host.startsWith("/")) return false;
  if (sslrootcert === undefined) return { rejectUnauthorized: true };
  if (sslrootcert.includes("-----BEGIN CERTIFICATE-----")) return { rejectUnauthorized: true, ca: sslrootcert };
  try {
    return { rejectUnauthorized: true, ca: await readFile(sslrootcert, "utf8") };
  } catch (cause) {
    throw new RotatorError("invalid", "sslrootcert names a file that cannot be read", { cause });
  }
}

const saysNoTls = (error: unknown): boolean =>
  error instanceof Error && error.message === "The server does not support SSL connections";

const place = ({ host, port }: DatabaseLogin): string => `${host}:${port}`;
