import { isIP, connect as openSocket } from "node:net";
import { ErrorReply, RedisClient } from "@redis/client";
import { type OutcomeClass, RotatorError } from "../core/error.ts";
import { readAuthorities } from "./authorities.ts";
import { withBoundedAnswers } from "./bounded-answers.ts";
import type { DatabaseLogin } from "./database-secret.ts";

type Failure = Exclude<OutcomeClass, "ok">;
export type Command = readonly [string, ...string[]];
export type RedisLogin = Omit<DatabaseLogin, "dbname">;

/** What every server speaks. */
const protocol = { RESP: 2 } as const;
/** Made once: it gives a class its several hundred commands, which takes ten times as long as a login. */
const newClient = RedisClient.factory(protocol);

export interface Session {
  /** @throws RotatorError */
  read<Reply>(command: Command): Promise<Reply>;
  /**
   * Sends all at once, so that none is left out when this process ends in between; gives the failure of each, if it failed.
   * From here on, a connection that ends without an answer means an `unknown` outcome.
   */
  change(commands: readonly Command[]): Promise<(RotatorError | undefined)[]>;
}

/**
 * Logs in, works, hangs up. Redis is told the password itself, so that it goes over verified TLS unless `ssl` is false; a
 * password that nobody has must be refused first.
 * @throws RotatorError of the class that the failure means; `invalid` when the server takes any password.
 */
export function withSession<T>(login: RedisLogin, deadlineAt: number, work: (db: Session) => Promise<T>): Promise<T> {
  return withBoundedAnswers(() => overConnection(login, deadlineAt, work));
}

async function overConnection<T>(login: RedisLogin, deadlineAt: number, work: (db: Session) => Promise<T>): Promise<T> {
  const socket = await socketOptions(login);
  const deadline = new AbortController();
  const abortable: object = { signal: deadline.signal }; // Node.js takes it for both kinds of socket; the client's types leave it out
  const late = Promise.withResolvers<never>();
  late.promise.catch(() => undefined);
  const client = newClient({
    ...protocol,
    disableClientInfo: true,
    maintNotifications: "disabled",
    commandOptions: { timeout: Math.max(1, deadlineAt - Date.now()) },
    socket: { ...socket, ...abortable, connectTimeout: 0, reconnectStrategy: false },
  });
  client.on("error", () => undefined); // told through the call that waits
  const timer = setTimeout(
    () => {
      deadline.abort();
      late.reject(new Error("deadline"));
    },
    Math.max(0, deadlineAt - Date.now()),
  );

  let changing = false;
  const who = `user ${login.username} at ${login.host}:${login.port}`;
  const answered = async <R>(call: Promise<R>): Promise<R> => {
    try {
      return await Promise.race([call, late.promise]);
    } catch (error) {
      const outcome = classify(error, { changing, late: deadline.signal.aborted });
      const hint = outcome === "timeout" && login.ssl !== false ? "; a server without TLS needs ssl: false" : "";
      throw new RotatorError(outcome, `${who}: ${describe(error, outcome)}${hint}`, { cause: wordsOnly(error) });
    }
  };
  const send = <R>(command: Command): Promise<R> => {
    const call = client.sendCommand<R>([...command]);
    call.catch(() => undefined); // whoever waits has perhaps been told of the deadline
    return answered(call);
  };
  try {
    await answered(client.connect());
    await logIn(login, send);
    return await work({
      read: send,
      change(commands) {
        changing = true;
        return Promise.all(commands.map((command) => send(command).then(() => undefined, ownFailure)));
      },
    });
  } finally {
    clearTimeout(timer);
    client.destroy();
    deadline.abort(); // a connection that was only being made
    if ("socket" in socket) socket.socket.destroy();
  }
}

async function logIn({ username, password, host, port }: RedisLogin, send: <R>(command: Command) => Promise<R>): Promise<void> {
  const wrong = send(["AUTH", username, `not-the-password-${crypto.randomUUID()}`]).then(() => undefined, ownFailure);
  const right = send(["AUTH", username, password]).then(() => undefined, ownFailure);
  const [met, failure] = await Promise.all([wrong, right]);
  if (failure) throw failure;
  if (!met) {
    throw new RotatorError(
      "invalid",
      `${host}:${port} accepts any password for user ${username}: take nopass away (acl setuser ${username} resetpass, then a password)`,
    );
  }
  if (met.outcome !== "refused") throw met;
}

function ownFailure(error: unknown): RotatorError {
  if (error instanceof RotatorError) return error;
  throw error;
}

async function socketOptions({ host, port, ssl, sslrootcert }: RedisLogin) {
  if (ssl === false) return { host, port };
  const ca = sslrootcert === undefined ? {} : { ca: await readAuthorities(sslrootcert) };
  const carrier = openSocket({ host, port }); // opened here, so that what comes in over it can be counted
  carrier.on("error", () => undefined); // told by the one above it
  return {
    tls: true,
    socket: carrier,
    host,
    rejectUnauthorized: true,
    ...(isIP(host) ? {} : { servername: host }),
    ...ca,
  } as const;
}

/** First word of an error answer. Source: Redis documentation, "Redis serialization protocol" and ACL. */
const byCode: Readonly<Record<string, Failure>> = {
  WRONGPASS: "refused", // also said of a user that is off or does not exist
  NOAUTH: "refused",
  NOPERM: "denied",
  DENIED: "denied", // protected mode
  LOADING: "unreachable",
  BUSY: "unreachable",
  MASTERDOWN: "unreachable",
  TRYAGAIN: "unreachable",
  CLUSTERDOWN: "unreachable",
};
const tlsCode = /^(ERR_TLS|ERR_SSL|EPROTO|CERT_|CRL_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO|HOSTNAME_MISMATCH|INVALID_CA|PATH_LENGTH)/;

/** Only an answer of the server is ever a refusal; silence while a change was under way is `unknown`. */
function classify(error: unknown, { changing, late }: { changing: boolean; late: boolean }): Failure {
  if (error instanceof ErrorReply) {
    if (/max number of clients/i.test(error.message)) return "unreachable";
    return byCode[codeOf(error) ?? ""] ?? "invalid"; // an error answer: nothing was done
  }
  if (changing) return "unknown";
  if (late) return "timeout";
  return tlsCode.test(codeOf(error) ?? "") ? "tls" : "unreachable";
}

const words: Readonly<Record<Failure, string>> = {
  refused: "the password is refused, or the user is off or does not exist",
  locked: "the user is off",
  expired: "the password has expired",
  unreachable: "the server cannot be reached",
  timeout: "the server did not answer in time",
  tls: "no verified TLS connection: see ssl and sslrootcert",
  denied: "the server denies this",
  invalid: "the server cannot do this as configured",
  unknown: "the connection ended before the answer",
};

/** Phrases of the server that say what is missing, and quote nothing that it was sent. */
const plainPhrases =
  /no permissions to run the '[a-z| ]+' command|not configured to use an ACL file|running without a config file|unknown command or category name in acl|unknown command|wrong number of arguments for 'auth' command/i;

function describe(error: unknown, outcome: Failure): string {
  const phrase = error instanceof ErrorReply ? plainPhrases.exec(error.message)?.[0] : undefined;
  const code = codeOf(error);
  return `${words[outcome]}${phrase ? `: ${phrase}` : code === undefined ? "" : ` (${code})`}`;
}

/** Whether the server answered with this phrase of `plainPhrases`. */
export const said = (error: unknown, phrase: string): boolean =>
  error instanceof RotatorError && error.cause instanceof Error && error.cause.message === phrase;

/** A server's texts may quote what it was sent, hashes of passwords among it. */
function wordsOnly(error: unknown): Error {
  if (!(error instanceof ErrorReply)) return error instanceof Error ? error : new Error("no error");
  return new Error(plainPhrases.exec(error.message)?.[0] ?? codeOf(error) ?? "an error answer");
}

function codeOf(error: unknown): string | undefined {
  if (error instanceof ErrorReply) return /^[A-Z]+(?= |$)/.exec(error.message)?.[0];
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;
}
