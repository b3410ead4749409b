// What the kill campaign rotates credentials of: real servers, and those wire fakes that say so.
import { createHash, randomBytes, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import pg from "pg";
import type { OutcomeClass } from "../../../src/core/error.ts";
import type { RotatorFunction } from "../../../src/engine/parts.ts";
import { type AnyCredential, findRotator } from "../../../src/targets/index.ts";
import { startApiServer } from "../../support/http-api-server.ts";
import { declarationAt } from "../../support/http-api-world.ts";
import { startIamEndpoint } from "../../support/iam-endpoint.ts";
import { adminOf, newUser } from "../../support/ldap-entries.ts";
import { startMariaDb } from "../../support/mariadb-server.ts";
import { startMySqlWire } from "../../support/mysql-wire.ts";
import { isPassword } from "../../support/mysql-wire-auth.ts";
import { startPostgres } from "../../support/postgres-server.ts";
import { startRedis } from "../../support/redis-server.ts";
import { startSlapd } from "../../support/slapd-server.ts";
import { tools } from "../../targets/contract.ts";
import { superuserOf } from "./superuser.ts";

/** A server that can die. */
export interface Mortal {
  /** SIGKILL. */
  kill(): Promise<void>;
  /** With the same files, at the same place. */
  restart(): Promise<void>;
}

export interface Target extends AsyncDisposable {
  /** Absent: it cannot be killed. */
  readonly server?: Mortal;
  /** The superuser's credential; absent: none is needed. */
  readonly admin?: AnyCredential;
  /** A new account and the credential that it logs in with. */
  newAccount(name: string): Promise<AnyCredential>;
  logsIn(credential: AnyCredential): Promise<OutcomeClass>;
  /** As an application does, where that looks otherwise; else the same. */
  readonly login?: (credential: AnyCredential) => Promise<string>;
  /** What the target takes for this account now, as `fingerprint` names it; absent: it does not tell. */
  live?(credential: AnyCredential): Promise<readonly string[]>;
  fingerprint?(credential: AnyCredential): string;
  /** Where no built-in function will do: what rotates it, by way of this origin or its own. JSON all through. */
  declared?(origin?: string): RotatorFunction;
  /** Everything that the server has logged. */
  log(): Promise<string>;
}

/** What must not be seen anywhere. */
export const secretOf = ({ password, secretAccessKey, apiKey, value }: AnyCredential): string =>
  String(password ?? secretAccessKey ?? apiKey ?? value);

/** Logs in as the rotator does, which the suite of every target shows to refuse a wrong password. */
async function probeWith(kind: string, declaration?: unknown): Promise<(credential: AnyCredential) => Promise<OutcomeClass>> {
  const rotator = await findRotator(kind, declaration);
  if (!rotator) throw new Error(`no rotator ${kind}`);
  return (credential) => rotator.probe(credential, tools());
}

/** `named`: secrets name two users that take turns. */
export async function startPostgresTarget({ named = false } = {}): Promise<Target> {
  const server = await startPostgres();
  const superuser = superuserOf(server.url);
  const { host, port, user, password } = server;
  const login = { engine: "postgres", host, port };
  return {
    server: { kill: () => server.stop("SIGKILL"), restart: () => server.restart() },
    admin: { ...login, username: user, password },
    async newAccount(name) {
      const usernames = named ? [name, `${name}_b`] : [name];
      for (const one of usernames) await superuser.query(`create role ${one} login password 'first-${name}'`);
      if (named) await superuser.query(`comment on role ${name}_b is 'rekey: alternates with "${name}"'`);
      return { ...login, username: name, password: `first-${name}`, ...(named && { usernames }) };
    },
    logsIn: await probeWith("postgres"),
    login: logInToPostgres,
    log: async () => readFileSync(server.logFile, "utf8"),
    async [Symbol.asyncDispose]() {
      await superuser[Symbol.asyncDispose]();
      await server[Symbol.asyncDispose]();
    },
  };
}

/** By the driver itself: what looks like a rotation's session, the next rotation ends. Gives what went wrong else. */
async function logInToPostgres({ host, port, username, password }: AnyCredential): Promise<string> {
  const login = { host: String(host), port: Number(port), user: String(username), password: String(password) };
  const client = new pg.Client({ ...login, database: "postgres" });
  client.on("error", () => undefined); // it was logged in, and the server died
  try {
    await client.connect();
    return "ok";
  } catch (error) {
    return error instanceof pg.DatabaseError && error.code === "28P01" ? "refused" : String(error);
  } finally {
    await client.end().catch(() => undefined);
  }
}

export async function startMariaDbTarget(): Promise<Target> {
  const server = await startMariaDb();
  const client = await server.connect();
  const { host, port, user, password } = server;
  const login = { engine: "mariadb", host, port };
  return {
    admin: { ...login, username: user, password },
    async newAccount(name) {
      await client.query(`create user ${name}@'%' identified by 'first-${name}'`);
      return { ...login, username: name, password: `first-${name}` };
    },
    logsIn: await probeWith("mysql"),
    log: async () => server.log(),
    async [Symbol.asyncDispose]() {
      await client.end();
      await server[Symbol.asyncDispose]();
    },
  };
}

export async function startRedisTarget(): Promise<Target> {
  const password = randomUUID();
  const server = await startRedis({ password });
  const { host, port } = server;
  const login = { engine: "redis", host, port, ssl: false };
  const rights = ["+ping", "+acl|getuser", "+acl|setuser", "+acl|save"];
  return {
    server: { kill: () => server.stop(), restart: () => server.restart() },
    admin: { ...login, username: "default", password },
    async newAccount(name) {
      await server.run("ACL", "SETUSER", name, "on", `>first-${name}`, "-@all", ...rights);
      await server.run("ACL", "SAVE");
      return { ...login, username: name, password: `first-${name}` };
    },
    logsIn: await probeWith("redis"),
    async live({ username }) {
      const shown = (await server.run("ACL", "GETUSER", String(username))) as unknown[];
      return (shown[shown.indexOf("passwords") + 1] as string[] | undefined) ?? [];
    },
    fingerprint: (credential) => createHash("sha256").update(secretOf(credential)).digest("hex"),
    log: () => server.log(),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

export async function startIamTarget(): Promise<Target> {
  const endpoint = await startIamEndpoint();
  endpoint.delay = 1;
  const place = { endpoint: endpoint.url, stsEndpoint: endpoint.url, region: "us-east-1" };
  return {
    async newAccount(name) {
      const key = endpoint.addUser(name);
      return { engine: "aws-iam", username: name, accessKeyId: key.id, secretAccessKey: key.secret, ...place };
    },
    logsIn: await probeWith("aws-iam"),
    live: async ({ username }) => endpoint.keysOf(String(username)).map(({ id }) => id),
    fingerprint: ({ accessKeyId }) => String(accessKeyId),
    log: async () => JSON.stringify(endpoint.calls),
    [Symbol.asyncDispose]: () => endpoint[Symbol.asyncDispose](),
  };
}

export async function startLdapTarget(): Promise<Target> {
  const server = await startSlapd();
  return {
    admin: adminOf(server),
    newAccount: (name) => newUser(server, name, `first-${name}`),
    logsIn: await probeWith("ldap"),
    log: async () => server.log(),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

export async function startHttpApiTarget(): Promise<Target> {
  const api = await startApiServer();
  api.delay = 1;
  const { key, id } = api.addKey("ops", { admin: true });
  const declared = (origin = api.url) => ({ kind: "http-api", strategy: "issuer", declaration: declarationAt(origin) }) as const;
  return {
    admin: { keyId: id, apiKey: key, user: "ops", origin: api.url },
    async newAccount(name) {
      const made = api.addKey(name);
      return { keyId: made.id, apiKey: made.key, user: name, origin: api.url };
    },
    declared,
    logsIn: await probeWith("http-api", declared().declaration),
    live: async ({ user }) => [...api.keys.values()].filter(({ owner }) => owner === user).map((one) => one.id),
    fingerprint: ({ keyId }) => String(keyId),
    // Keys are in headers and bodies; nowhere else may they be.
    log: async () => api.seen.map(({ method, url }) => `${method} ${url}`).join("\n"),
    [Symbol.asyncDispose]: () => api[Symbol.asyncDispose](),
  };
}

export async function startMySqlWireTarget(): Promise<Target> {
  const server = await startMySqlWire();
  const { host, port, accounts, user, password } = server;
  const logsIn = await probeWith("mysql");
  // The first login has it make its keys, which takes longer than a call may.
  await logsIn({ engine: "mysql", host, port, username: user, password });
  const storedOf = ({ username }: AnyCredential) => {
    const { primary, secondary } = accounts.require(String(username), "%", "SHOW");
    return secondary ? [primary, secondary] : [primary];
  };
  return {
    async newAccount(name) {
      accounts.add(name, "%", `first-${name}`).grants.set("APPLICATION_PASSWORD_ADMIN ON *.*", false);
      return { engine: "mysql", host, port, username: name, password: `first-${name}` };
    },
    logsIn,
    live: async (credential) => storedOf(credential).map(({ digest }) => digest.toString("hex")),
    fingerprint: (credential) =>
      storedOf(credential)
        .find((stored) => isPassword(stored, secretOf(credential)))
        ?.digest.toString("hex") ?? "",
    log: async () => server.log(),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

/** No target at all: values that nobody else knows. */
export async function startNoTarget(): Promise<Target> {
  return {
    newAccount: async () => ({ type: "random", charset: "base64url", value: `first-${randomBytes(8).toString("hex")}` }),
    logsIn: await probeWith("random"),
    log: async () => "",
    [Symbol.asyncDispose]: async () => undefined,
  };
}
