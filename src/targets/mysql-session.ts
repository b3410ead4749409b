import { isIP, connect as openSocket, type Socket } from "node:net";
import type { Connection as Driver, RowDataPacket, SslOptions } from "mysql2";
import mysql from "mysql2";
import { RotatorError, UnfitCredential } from "../core/error.ts";
import { readAuthorities } from "./authorities.ts";
import { withBoundedAnswers } from "./bounded-answers.ts";
import type { DatabaseLogin } from "./database-secret.ts";
import { classify, describe, isUnfit, saysNoTls, withoutStatement } from "./mysql-errors.ts";

export interface Session {
  /** What `version()` says, e.g. `10.11.19-MariaDB-0+deb12u1` or `8.4.3`. */
  readonly version: string;
  /** Whether what is sent stays between us: verified TLS, or a connection within this machine. */
  readonly confidential: boolean;
  read<R extends object>(text: string): Promise<R[]>;
  /** From its first call on, a connection that ends without an answer means an `unknown` outcome. */
  change(text: string): Promise<void>;
}

type Work<T> = (db: Session) => Promise<T>;

/**
 * Logs in, works, logs out. The protocol proves nothing of the server: a password that nobody has must be refused first.
 * @throws RotatorError of the class that the failure means; `invalid` when the server takes any password.
 */
export function withSession<T>(login: DatabaseLogin, deadlineAt: number, work: Work<T>): Promise<T> {
  return overTls(login, async (ssl) => {
    await using connection = await connect(login, deadlineAt, ssl);
    await proveRefusal(login, deadlineAt, ssl);
    await connection.logInAgain(); // else the refused login would stay in the account's count of failures
    return await work(connection);
  });
}

/** The same for a look at what decides nothing about passwords: of a server that takes any this says nothing. @throws RotatorError */
export function withUnprovenSession<T>(login: DatabaseLogin, deadlineAt: number, work: Work<T>): Promise<T> {
  return overTls(login, async (ssl) => {
    await using connection = await connect(login, deadlineAt, ssl);
    return await work(connection);
  });
}

/** Verified TLS, or none where the server says that it has none and the secret does not ask for it. */
async function overTls<T>(login: DatabaseLogin, attempt: (ssl: SslOptions | undefined) => Promise<T>): Promise<T> {
  const ssl = await tlsOptions(login);
  return withBoundedAnswers(async () => {
    try {
      return await attempt(ssl);
    } catch (error) {
      if (login.ssl === undefined && error instanceof RotatorError && saysNoTls(error.cause)) return attempt(undefined);
      throw error;
    }
  });
}

async function proveRefusal(login: DatabaseLogin, deadlineAt: number, ssl: SslOptions | undefined): Promise<void> {
  const wrong = { ...login, password: `not-the-password-${crypto.randomUUID()}` };
  const outcome = await connect(wrong, deadlineAt, ssl).then(
    (connection) => connection[Symbol.asyncDispose]().then(() => "ok" as const),
    (error: unknown) => (error instanceof RotatorError ? error.outcome : Promise.reject(error)),
  );
  if (outcome !== "ok") return;
  throw new RotatorError(
    "invalid",
    `${place(login)} accepts any password for user ${login.username}: give the account an authentication plugin that checks it`,
  );
}

interface Connection extends Session, AsyncDisposable {
  logInAgain(): Promise<void>;
}

async function connect(login: DatabaseLogin, deadlineAt: number, ssl: SslOptions | undefined): Promise<Connection> {
  const confidential = ssl !== undefined || isLocal(login.host);
  let changing = false;
  let late = false;
  const driver = mysql.createConnection({
    stream: () => socketTo(login),
    host: login.host, // for the certificate
    user: login.username,
    password: login.password,
    ...(login.dbname === undefined ? {} : { database: login.dbname }),
    ...(ssl ? { ssl } : {}),
    ...(confidential ? {} : { authPlugins: withoutServerKey(login) }),
    charset: "utf8mb4_bin",
    connectTimeout: 0,
    multipleStatements: false,
  });
  driver.on("error", () => undefined); // told through the call that waits
  const timer = setTimeout(
    () => {
      late = true;
      driver.destroy();
      interrupted.reject(Object.assign(new Error("deadline"), { code: "ETIMEDOUT" }));
    },
    Math.max(0, deadlineAt - Date.now()),
  );
  const interrupted = Promise.withResolvers<never>();
  interrupted.promise.catch(() => undefined);

  const answered = async <R>(call: (done: (error: unknown, result?: R) => void) => void): Promise<R> => {
    try {
      const answer = new Promise<R>((resolve, reject) => call((error, result) => (error ? reject(error) : resolve(result as R))));
      return await Promise.race([answer, interrupted.promise]);
    } catch (error) {
      if (error instanceof RotatorError) throw error;
      const outcome = classify(error, { changing, late });
      const message = `user ${login.username} at ${place(login)}: ${describe(error, outcome)}`;
      const options = { cause: withoutStatement(error) };
      throw isUnfit(error) ? new UnfitCredential(outcome, message, options) : new RotatorError(outcome, message, options);
    }
  };
  const close = async (): Promise<void> => {
    clearTimeout(timer);
    driver.destroy();
  };
  const query = (text: string) =>
    answered<RowDataPacket[]>((done) => driver.query<RowDataPacket[]>(text, (error, rows) => done(error, rows)));
  try {
    await answered<void>((done) => driver.connect(done));
    await query("set session sql_mode = ''"); // quotes and backslashes as we write them
    const [about] = await query("select version() as version");
    return {
      version: String(about?.version),
      confidential,
      read: async <R extends object>(text: string) => (await query(text)) as unknown as R[],
      async change(text) {
        changing = true;
        await query(text);
      },
      logInAgain: () => answered<void>((done) => changeUser(driver, login, done)),
      [Symbol.asyncDispose]: close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

function changeUser(driver: Driver, { username, password, dbname }: DatabaseLogin, done: (error: unknown) => void): void {
  driver.changeUser({ user: username, password, ...(dbname === undefined ? {} : { database: dbname }) }, done);
}

/** The driver checks a certificate against the socket's host, which Node.js notes for names only, not for addresses. */
function socketTo({ host, port }: DatabaseLogin): Socket {
  const socket = openSocket(host.startsWith("/") ? { path: host } : { host, port });
  socket.setNoDelay(true);
  if (isIP(host)) Object.assign(socket, { _host: host });
  return socket;
}

/**
 * SHA-2 authentication, but for the case that the server asks for the password itself, encrypted under a key that it names:
 * nobody vouches for that key. Source: MySQL manual, caching_sha2_password.
 */
function withoutServerKey(login: DatabaseLogin) {
  const onServerPublicKey = () => {
    throw new RotatorError("invalid", `${place(login)} asks for the password itself over a connection that is not verified TLS`);
  };
  return {
    caching_sha2_password: mysql.authPlugins.caching_sha2_password({ onServerPublicKey }),
    sha256_password: mysql.authPlugins.sha256_password({ onServerPublicKey }),
  };
}

async function tlsOptions({ host, ssl, sslrootcert }: DatabaseLogin): Promise<SslOptions | undefined> {
  if (ssl === false || host.startsWith("/")) return undefined;
  const verified = { rejectUnauthorized: true, verifyIdentity: true };
  if (sslrootcert === undefined) return verified;
  return { ...verified, ca: await readAuthorities(sslrootcert) };
}

const isLocal = (host: string): boolean => host === "localhost" || host === "::1" || /^127\.|^\//.test(host);

const place = ({ host, port }: DatabaseLogin): string => (host.startsWith("/") ? host : `${host}:${port}`);
