import { Socket } from "node:net";
import type { ConnectionOptions } from "node:tls";
import pg from "pg";
import { RotatorError } from "../core/error.ts";
import { readAuthorities } from "./authorities.ts";
import { boundAnswers, withBoundedAnswers } from "./bounded-answers.ts";
import type { DatabaseLogin } from "./database-secret.ts";
import { classify, describe } from "./postgres-errors.ts";
import { proveByScram } from "./postgres-scram.ts";
import type { ScramKeys } from "./scram.ts";

export interface SessionOptions {
  /** Shown by the server in `pg_stat_activity`; at most 63 bytes. */
  readonly applicationName: string;
  /** Epoch ms. */
  readonly deadlineAt: number;
  /** Names mean the server's own, whatever the database's owner has put in their place: else that owner gets the login's rights. */
  readonly serverNames?: boolean;
  /** Of the login's password, made before. */
  readonly scramKeys?: ScramKeys | undefined;
}

export interface Session {
  /** Whether what is sent stays between us: verified TLS. */
  readonly confidential: boolean;
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
  return withBoundedAnswers(async () => {
    try {
      return await overConnection(login, options, ssl, work);
    } catch (error) {
      if (login.ssl === undefined && error instanceof RotatorError && saysNoTls(error.cause)) {
        return overConnection(login, options, false, work);
      }
      throw error;
    }
  });
}

async function overConnection<T>(
  login: DatabaseLogin,
  options: SessionOptions,
  ssl: ConnectionOptions | false,
  work: (db: Session) => Promise<T>,
): Promise<T> {
  const connection = await connect(login, options, ssl);
  try {
    if (connection.check === "never") throw anyPassword(login);
    if (connection.check === "sent") await proveRefusal(login, options, ssl);
    return await work(connection);
  } finally {
    connection.close();
  }
}

/** @throws RotatorError `invalid` when a password that nobody has is accepted too. */
async function proveRefusal(login: DatabaseLogin, options: SessionOptions, ssl: ConnectionOptions | false): Promise<void> {
  const wrong = { ...login, password: `not-the-password-${crypto.randomUUID()}` };
  const outcome = await connect(wrong, options, ssl).then(
    (connection) => {
      connection.close();
      return "ok" as const;
    },
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

interface Connection extends Session {
  readonly check: Check;
  /** Logs out; nobody waits for the end. */
  close(): void;
}

/** Connections that are logging out, and where: until they are gone the server counts them. */
const leaving = new Map<Promise<void>, string>();

async function connect(login: DatabaseLogin, options: SessionOptions, ssl: ConnectionOptions | false): Promise<Connection> {
  const before = [...leaving].filter(([, at]) => at === place(login)).map(([gone]) => gone);
  try {
    return await logIn(login, options, ssl);
  } catch (error) {
    if (before.length === 0 || !(error instanceof RotatorError && saysFull(error.cause))) throw error;
    await Promise.all(before);
    return logIn(login, options, ssl);
  }
}

async function logIn(login: DatabaseLogin, options: SessionOptions, ssl: ConnectionOptions | false): Promise<Connection> {
  let check: Check = "never";
  let changing = false;
  let late = false;
  const client = new pg.Client({
    host: login.host,
    port: login.port,
    user: login.username,
    database: login.dbname,
    application_name: options.applicationName,
    ...(options.serverNames && { options: "-c search_path=pg_catalog" }),
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
  if (client.connection.stream instanceof Socket) boundAnswers(client.connection.stream);
  for (const request of ["authenticationCleartextPassword", "authenticationMD5Password"]) {
    client.connection.on(request, () => {
      check = "sent";
    });
  }
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
  const close = (): void => {
    const gone = client
      .end()
      .catch(() => undefined)
      .finally(() => {
        clearTimeout(timer);
        leaving.delete(gone);
      });
    leaving.set(gone, place(login));
    const { stream } = client.connection;
    // A server that does not let go keeps no process from ending.
    if (stream instanceof Socket) stream.unref();
    timer.unref();
  };
  try {
    const connected = client.connect();
    proveByScram(client.connection, {
      password: login.password,
      known: options.scramKeys,
      onProven: () => {
        check = "proven";
      },
    });
    await answered(connected);
  } catch (error) {
    close();
    throw error;
  }
  return {
    check,
    confidential: ssl !== false,
    read: async (text, values = []) => (await answered(client.query(text, [...values]))).rows,
    async change(text) {
      changing = true;
      await answered(client.query(text));
    },
    close,
  };
}

async function tlsOptions({ host, ssl, sslrootcert }: DatabaseLogin): Promise<ConnectionOptions | false> {
  if (ssl === false || host.startsWith("/")) return false;
  if (sslrootcert === undefined) return { rejectUnauthorized: true };
  return { rejectUnauthorized: true, ca: await readAuthorities(sslrootcert) };
}

/** Too many connections, of the role or in all. Source: PostgreSQL documentation, appendix A. */
const saysFull = (error: unknown): boolean => error instanceof pg.DatabaseError && error.code === "53300";

const saysNoTls = (error: unknown): boolean =>
  error instanceof Error && error.message === "The server does not support SSL connections";

const place = ({ host, port }: DatabaseLogin): string => `${host}:${port}`;
