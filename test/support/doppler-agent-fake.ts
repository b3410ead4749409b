// A stand-in for Doppler's published agents, for tests: what they check of a message, which shapes they take and what they
// answer, over real PostgreSQL and MySQL drivers. Written from the published protocol, not from their code.
import { compactVerify, createLocalJWKSet, decodeProtectedHeader, type JSONWebKeySet } from "jose";
import mysql from "mysql2/promise";
import pg from "pg";
import { z } from "zod";

const ssl = z
  .strictObject({
    ca: z.string().optional(),
    cert: z.string().optional(),
    key: z.string().optional(),
    rejectUauthorized: z.boolean().optional(),
  })
  .optional();
const login = z.strictObject({ username: z.string(), password: z.string() });
const rotateUser = z.strictObject({ username: z.string(), currentPassword: z.string(), newPassword: z.string() });
// Strict where the published ones pass over what they do not know: a wrong name must not go unseen in a test.
const postgresPlace = { host: z.string(), port: z.number(), database: z.string(), ssl };
const places = {
  postgres: postgresPlace,
  mysql: { ...postgresPlace, database: z.string().optional() },
  sqlserver: { host: z.string(), port: z.number(), database: z.string() },
};
const envelope = z.object({ type: z.string(), timestamp: z.string(), body: z.record(z.string(), z.unknown()) });

type Kind = keyof typeof places;
type Login = z.infer<typeof login>;
interface Place {
  readonly host: string;
  readonly port: number;
  readonly database?: string | undefined;
  readonly ssl?: { readonly ca?: string | undefined } | undefined;
}

export interface FakeAgent {
  readonly keySet: JSONWebKeySet;
  /** The messages that it took, as they were signed. */
  readonly seen: { readonly type: string; readonly body: Record<string, unknown> }[];
  /** Answers an event `{ body }`. */
  handle(event: unknown): Promise<object>;
}

/** `contained`: users of SQL Server's place and their passwords, as no such server runs in tests. */
export function dopplerAgent(kind: Kind, keySet: JSONWebKeySet, contained: Map<string, string> = new Map()): FakeAgent {
  const seen: FakeAgent["seen"] = [];
  const connect = (place: Place, user: Login) =>
    kind === "postgres"
      ? connectPostgres(place, user)
      : kind === "mysql"
        ? connectMysql(place, user)
        : connectContained(contained, user);

  async function test(body: unknown): Promise<object> {
    const { users, ...place } = z.strictObject({ ...places[kind], users: z.array(login) }).parse(body);
    try {
      for (const user of users) await (await connect(place, user)).end();
    } catch (error) {
      if (!isRefusal(error)) throw error;
      return { status: "ok", body: { type: "invalid", reason: (error as Error).message } };
    }
    return { status: "ok", body: { type: "valid" } };
  }

  async function update(body: unknown): Promise<object> {
    const managed = kind === "sqlserver" ? {} : { managingUser: login };
    const shape = z.strictObject({ ...places[kind], rotateUser, ...managed });
    const parsed = shape.parse(body) as Place & { rotateUser: z.infer<typeof rotateUser>; managingUser?: Login };
    const { rotateUser: user, managingUser, ...place } = parsed;
    try {
      await (await connect(place, { username: user.username, password: user.currentPassword })).end();
    } catch (error) {
      if (isRefusal(error)) throw new Error("Unable to update credential, current credential is not valid");
      throw error;
    }
    const by = await connect(place, managingUser ?? { username: user.username, password: user.currentPassword });
    await by.setPassword(user.username, user.newPassword);
    await by.end();
    return { status: "ok", body: {} };
  }

  return {
    keySet,
    seen,
    async handle(event) {
      try {
        const text = (event as { body: string }).body;
        if (decodeProtectedHeader(text).alg !== "ES512") throw new Error("Invalid algorithm");
        const { payload } = await compactVerify(text, createLocalJWKSet(keySet));
        const request = envelope.parse(JSON.parse(new TextDecoder().decode(payload)));
        const age = Math.abs(Date.parse(request.timestamp) - Date.now());
        if (!(age <= 30_000)) throw new Error(`Request age is outside of processing window: ${request.timestamp}`);
        seen.push(request);
        if (request.type === "status") return { status: "ok", body: {} };
        if (request.type === "testCredentials") return await test(request.body);
        if (request.type === "updateCredential") return await update(request.body);
        throw new Error("Unknown request type");
      } catch (error) {
        const { name, message, stack } = error as Error;
        const metadata = { name, className: name, message, superclasses: ["Error"], inspect: message, stack: [stack] };
        return { status: "error", metadata };
      }
    },
  };
}

interface Session {
  setPassword(username: string, password: string): Promise<void>;
  end(): Promise<void>;
}

async function connectPostgres({ host, port, database, ssl: tls }: Place, { username: user, password }: Login): Promise<Session> {
  const client = new pg.Client({
    host,
    port,
    user,
    password,
    database,
    ...(tls && { ssl: { ca: tls.ca } }),
    connectionTimeoutMillis: 3_000,
  });
  await client.connect();
  return {
    async setPassword(name, secret) {
      await client.query(`alter user ${client.escapeIdentifier(name)} with password ${client.escapeLiteral(secret)}`);
    },
    end: () => client.end(),
  };
}

async function connectMysql({ host, port, database, ssl: tls }: Place, { username: user, password }: Login): Promise<Session> {
  const options = { host, port, user, password, connectTimeout: 3_000 };
  const connection = await mysql.createConnection({
    ...options,
    ...(database !== undefined && { database }),
    ...(tls && { ssl: tls.ca === undefined ? {} : { ca: tls.ca } }),
  });
  return {
    async setPassword(name, secret) {
      await connection.query("alter user ? identified by ?", [name, secret]);
    },
    end: () => connection.end(),
  };
}

async function connectContained(users: Map<string, string>, { username, password }: Login): Promise<Session> {
  if (users.get(username) !== password)
    throw Object.assign(new Error(`Login failed for user '${username}'.`), { code: "ELOGIN" });
  return {
    async setPassword(name, secret) {
      users.set(name, secret);
    },
    async end() {},
  };
}

const isRefusal = (error: unknown): boolean =>
  error instanceof Error &&
  "code" in error &&
  ["28P01", "28000", "ER_ACCESS_DENIED_ERROR", "ELOGIN"].includes(String(error.code));
