// What the kill campaign rotates: real targets, each with one strategy.
import { createHash, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import pg from "pg";
import type { OutcomeClass } from "../../../src/core/error.ts";
import { type AnyCredential, findRotator } from "../../../src/targets/index.ts";
import type { Strategy } from "../../../src/targets/target.ts";
import { startIamEndpoint } from "../../support/iam-endpoint.ts";
import { mariadbSkip, startMariaDb } from "../../support/mariadb-server.ts";
import { postgresSkip, startPostgres } from "../../support/postgres-server.ts";
import { redisSkip, startRedis } from "../../support/redis-server.ts";
import { tools } from "../../targets/contract.ts";

export interface Target extends AsyncDisposable {
  /** The superuser's credential; absent: none is needed. */
  readonly admin?: AnyCredential;
  /** A new account and the credential that it logs in with. */
  newAccount(name: string): Promise<AnyCredential>;
  logsIn(credential: AnyCredential): Promise<OutcomeClass>;
  /** What the target takes for this account now, as `fingerprint` names it; absent: it does not tell. */
  live?(credential: AnyCredential): Promise<readonly string[]>;
  fingerprint?(credential: AnyCredential): string;
  /** Everything that the server has logged. */
  log(): Promise<string>;
}

export interface Scenario {
  readonly name: string;
  readonly functionName: string;
  readonly strategy: Strategy;
  /** Why it cannot run here; false when it can. */
  readonly skip: string | false;
  /** Current and old credential are in force at once: no login is ever refused (I1). */
  readonly overlap: boolean;
  /** The old credential stays until this long after a rotation; 0: it is ended at once. */
  readonly retireAfterSeconds?: number;
  start(): Promise<Target>;
}

const secretOf = (credential: AnyCredential): string => String(credential.password ?? credential.secretAccessKey);

/** Logs in as the rotator does, which the suite of every target shows to refuse a wrong password. */
async function probeWith(kind: string): Promise<(credential: AnyCredential) => Promise<OutcomeClass>> {
  const rotator = await findRotator(kind);
  if (!rotator) throw new Error(`no rotator ${kind}`);
  return (credential) => rotator.probe(credential, tools());
}

async function startPostgresTarget(): Promise<Target> {
  const server = await startPostgres();
  const client = new pg.Client(server.url);
  await client.connect();
  const { host, port, user, password } = server;
  const login = { engine: "postgres", host, port };
  return {
    admin: { ...login, username: user, password },
    async newAccount(name) {
      await client.query(`create role ${name} login password 'first-${name}'`);
      return { ...login, username: name, password: `first-${name}` };
    },
    logsIn: await probeWith("postgres"),
    log: async () => readFileSync(server.logFile, "utf8"),
    async [Symbol.asyncDispose]() {
      await client.end();
      await server[Symbol.asyncDispose]();
    },
  };
}

async function startMariaDbTarget(): Promise<Target> {
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

async function startRedisTarget(): Promise<Target> {
  const password = randomUUID();
  const server = await startRedis({ password });
  const { host, port } = server;
  const login = { engine: "redis", host, port, ssl: false };
  const rights = ["+ping", "+acl|getuser", "+acl|setuser", "+acl|save"];
  return {
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

async function startIamTarget(): Promise<Target> {
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

const hourSeconds = 3_600;

export const scenarios: readonly Scenario[] = [
  {
    name: "postgres/single-user",
    functionName: "SecretsManagerRDSPostgreSQLRotationSingleUser",
    strategy: "single-user",
    skip: postgresSkip,
    overlap: false,
    start: startPostgresTarget,
  },
  {
    name: "postgres/alternating-users",
    functionName: "SecretsManagerRDSPostgreSQLRotationMultiUser",
    strategy: "alternating-users",
    skip: postgresSkip,
    overlap: true,
    start: startPostgresTarget,
  },
  {
    name: "postgres/alternating-users, retired",
    functionName: "SecretsManagerRDSPostgreSQLRotationMultiUser",
    strategy: "alternating-users",
    skip: postgresSkip,
    overlap: true,
    retireAfterSeconds: 0,
    start: startPostgresTarget,
  },
  {
    name: "mariadb/single-user",
    functionName: "SecretsManagerRDSMariaDBRotationSingleUser",
    strategy: "single-user",
    skip: mariadbSkip,
    overlap: false,
    start: startMariaDbTarget,
  },
  {
    name: "mariadb/alternating-users",
    functionName: "SecretsManagerRDSMariaDBRotationMultiUser",
    strategy: "alternating-users",
    skip: mariadbSkip,
    overlap: true,
    start: startMariaDbTarget,
  },
  {
    name: "redis/dual-slot",
    functionName: "RekeyRedisRotation",
    strategy: "dual-slot",
    skip: redisSkip,
    overlap: true,
    retireAfterSeconds: hourSeconds,
    start: startRedisTarget,
  },
  {
    name: "redis/dual-slot, retired",
    functionName: "RekeyRedisRotation",
    strategy: "dual-slot",
    skip: redisSkip,
    overlap: true,
    retireAfterSeconds: 0,
    start: startRedisTarget,
  },
  {
    name: "aws-iam/issuer",
    functionName: "RekeyIAMAccessKeyRotation",
    strategy: "issuer",
    skip: false,
    overlap: true,
    retireAfterSeconds: 0,
    start: startIamTarget,
  },
  {
    name: "aws-iam/issuer, kept",
    functionName: "RekeyIAMAccessKeyRotation",
    strategy: "issuer",
    skip: false,
    overlap: true,
    // Shorter than what a rotation waits for room at the target.
    retireAfterSeconds: 4,
    start: startIamTarget,
  },
];
