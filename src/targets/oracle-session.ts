import type { Socket } from "node:net";
import { RotatorError, UnfitCredential } from "../core/error.ts";
import { readAuthorities } from "./authorities.ts";
import { withBoundedAnswers } from "./bounded-answers.ts";
import type { DatabaseLogin } from "./database-secret.ts";
import { loadDriver } from "./driver.ts";
import { classify, describe, isUnfit } from "./oracle-errors.ts";

/** What Rekey uses of a connection of node-oracledb. */
export interface OracleConnection {
  /** Shown in V$SESSION; at most 64 bytes. */
  clientId: string;
  /** Ms; a call that lasts longer is cancelled at the server. */
  callTimeout: number;
  execute(text: string, binds: Record<string, unknown>, options: { outFormat: number }): Promise<{ rows?: object[] | undefined }>;
  /** Encrypted for the session: neither password crosses the network readably, with TLS or without. */
  changePassword(user: string, password: string, newPassword: string): Promise<void>;
  close(options: { drop: boolean }): Promise<void>;
}

/** What Rekey uses of node-oracledb, in its thin mode. */
export interface OracleDriver {
  readonly OUT_FORMAT_OBJECT: number;
  getConnection(options: Record<string, unknown>): Promise<OracleConnection>;
}

/** @throws RotatorError `invalid` when it is not installed */
export const oracleDriver = (): Promise<OracleDriver> =>
  // @ts-expect-error the driver has no types
  loadDriver("oracledb", async () => (await import("oracledb")).default as OracleDriver);

export interface SessionOptions {
  readonly driver: () => Promise<OracleDriver>;
  readonly clientId: string;
  /** Epoch ms. */
  readonly deadlineAt: number;
}

export interface Session {
  /** Whether the secret says that statements may carry a password: over TLS, or by its `ssl: false`. */
  readonly maySayPasswords: boolean;
  read<R extends object>(text: string, binds?: Record<string, unknown>): Promise<R[]>;
  /** From its first call on, a connection that ends without an answer means an `unknown` outcome. */
  change(text: string): Promise<void>;
  /** Of the user that is logged in; likewise. */
  changePassword(old: string, password: string): Promise<void>;
}

/**
 * Logs in, works, logs out. The driver has the server prove that it knows the password.
 * @throws RotatorError of the class that the failure means; `invalid` when the server cannot prove it.
 */
export async function withSession<T>(
  login: DatabaseLogin,
  options: SessionOptions,
  work: (db: Session) => Promise<T>,
): Promise<T> {
  // The driver offers no way to end a login that hangs: its sockets are ended.
  return withBoundedAnswers(async (sockets) => {
    await using session = await connect(login, options, sockets);
    return await work(session);
  });
}

async function connect(
  login: DatabaseLogin,
  options: SessionOptions,
  sockets: ReadonlySet<Socket>,
): Promise<Session & AsyncDisposable> {
  const driver = await options.driver();
  const user = userText(login.username);
  const settings = { ...(await addressOf(login)), user, password: login.password };
  let changing = false;
  let late = false;
  const leftMs = () => Math.max(1, options.deadlineAt - Date.now());
  if (options.deadlineAt <= Date.now()) throw new RotatorError("timeout", `user ${login.username}: the time was over`);
  const interrupted = Promise.withResolvers<never>();
  interrupted.promise.catch(() => undefined);
  const timer = setTimeout(() => {
    late = true;
    interrupted.reject(new Error("deadline"));
  }, leftMs());
  const answered = async <R>(call: Promise<R>): Promise<R> => {
    try {
      return await Promise.race([call, interrupted.promise]);
    } catch (error) {
      const outcome = classify(error, { changing, late });
      // No cause: the driver's errors keep the server's texts, which may quote the statement.
      const message = `user ${login.username} at ${place(login)}: ${describe(error, outcome)}`;
      throw isUnfit(error) ? new UnfitCredential(outcome, message) : new RotatorError(outcome, message);
    }
  };
  let connection: OracleConnection | undefined;
  const close = async (): Promise<void> => {
    clearTimeout(timer);
    // Answered or not, the sockets go.
    const goodbye = connection?.close({ drop: true }).catch(() => undefined);
    await Promise.race([goodbye, new Promise((resolve) => setTimeout(resolve, Math.min(500, leftMs())).unref())]);
    for (const socket of sockets) socket.destroy();
  };
  try {
    const seconds = Math.ceil(leftMs() / 1_000);
    connection = await answered(driver.getConnection({ ...settings, connectTimeout: seconds, transportConnectTimeout: seconds }));
  } catch (error) {
    await close();
    throw error;
  }
  const { execute, changePassword } = bound(connection);
  connection.clientId = options.clientId;
  connection.callTimeout = leftMs();
  const query = (text: string, binds: Record<string, unknown>) =>
    answered(execute(text, binds, { outFormat: driver.OUT_FORMAT_OBJECT }));
  return {
    maySayPasswords: login.ssl !== undefined || isLocal(login.host),
    read: async <R extends object>(text: string, binds = {}) => ((await query(text, binds)).rows ?? []) as R[],
    async change(text) {
      changing = true;
      await query(text, {});
    },
    async changePassword(old, password) {
      changing = true;
      await answered(changePassword(user, old, password));
    },
    [Symbol.asyncDispose]: close,
  };
}

const bound = (connection: OracleConnection) => ({
  execute: connection.execute.bind(connection),
  changePassword: connection.changePassword.bind(connection),
});

/** A name that needs no quotes means itself in capitals. Source: Oracle SQL Language Reference, "Database object naming rules". */
export const userName = (name: string): string => (needsNoQuotes(name) ? name.toUpperCase() : name);

const needsNoQuotes = (name: string): boolean => /^[A-Za-z][\w$#]*$/.test(name);

/** @throws RotatorError `invalid` for a name that Oracle cannot have */
export function quotedName(name: string): string {
  if (!/["\0]/.test(name)) return `"${name}"`;
  throw new RotatorError("invalid", "a name contains a quotation mark, which Oracle does not take");
}

/** @throws RotatorError `invalid` for a password that Oracle cannot have */
export function quotedPassword(password: string): string {
  if (!/["\0]/.test(password)) return `"${password}"`;
  throw new RotatorError("invalid", "the password contains a quotation mark, which Oracle does not take");
}

const userText = (name: string): string => (needsNoQuotes(name) ? userName(name) : quotedName(name));

/** @throws RotatorError `invalid` for what would say more than a host or a service */
async function addressOf({ host, port, dbname, ssl, sslrootcert }: DatabaseLogin): Promise<Record<string, unknown>> {
  if (dbname === undefined) throw new RotatorError("invalid", "the secret's dbname is missing: the name of the service");
  if (!/^[\w.:-]+$/.test(host)) throw new RotatorError("invalid", "the secret's host is none");
  if (!/^[\w.$#-]+$/.test(dbname)) throw new RotatorError("invalid", "the secret's dbname is no name of a service");
  const address = `(ADDRESS=(PROTOCOL=${ssl ? "TCPS" : "TCP"})(HOST=${host})(PORT=${port}))`;
  const connectString = `(DESCRIPTION=${address}(CONNECT_DATA=(SERVICE_NAME=${dbname})))`;
  if (!ssl || sslrootcert === undefined) return { connectString };
  // A file's name could lead to a key of somebody else's, to be shown to a server that the secret's writer chooses.
  if (!sslrootcert.includes("-----BEGIN"))
    throw new RotatorError("invalid", "for Oracle sslrootcert is the wallet's text itself");
  const walletContent = await readAuthorities(sslrootcert);
  if (/-----BEGIN [A-Z ]*PRIVATE KEY-----/.test(walletContent)) return { connectString, walletContent };
  throw new RotatorError(
    "invalid",
    "for Oracle sslrootcert is a wallet in PEM form, with a client's key; name a mere authority to Node.js (NODE_EXTRA_CA_CERTS)",
  );
}

const isLocal = (host: string): boolean => host === "localhost" || host === "::1" || /^127\./.test(host);

const place = ({ host, port }: DatabaseLogin): string => `${host}:${port}`;
