// Operations and an engine over one store, and a real PostgreSQL in which leases live.
import { randomBytes, randomInt } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { pino } from "pino";
import { createAuthorizer } from "../../src/auth/authorize.ts";
import { rootArn } from "../../src/core/identity.ts";
import { generatePassword, rotationPasswordOptions } from "../../src/core/password.ts";
import type { Principal } from "../../src/core/principal.ts";
import type { RootKeyProvider } from "../../src/crypto/key-provider.ts";
import { type Engine, startEngine } from "../../src/engine/loop.ts";
import { type EngineParts, engineDefaults } from "../../src/engine/parts.ts";
import { createTargets, type Ways } from "../../src/far-routes.ts";
import { type Api, dispatch } from "../../src/http/dispatch.ts";
import { operations } from "../../src/operations/index.ts";
import type { Sql } from "../../src/store/sql.ts";
import type { LeaseTarget } from "../../src/targets/lease-target.ts";
import { account, region } from "./keys.ts";
import { type Answer, operationsWorld } from "./operations-world.ts";
import type { PostgresServer } from "./postgres-server.ts";

/** As IssueLease answers. */
export interface IssuedLease {
  readonly Lease: { readonly Id: string; readonly User: string; readonly State: string; readonly ExpiresAt: Date };
  readonly Fields: Readonly<Record<string, string>>;
}

export interface LeaseWorld extends AsyncDisposable {
  readonly sql: Sql;
  /** Added to the time. */
  readonly clock: { offsetMs: number; readonly now: number };
  readonly parts: EngineParts;
  /** JSON lines of the log. */
  readonly log: string[];
  /** Any operation by its name, as root or `principal`. @throws ServiceError */
  call(name: string, input: object, principal?: Principal): Promise<Answer>;
  /** A config with an integration to the server, and a dynamic secret of it. */
  setUp(server: PostgresServer, more?: object): Promise<void>;
  issue(more?: object, principal?: Principal): Promise<IssuedLease>;
  engine(more?: Partial<EngineParts>): Engine;
}

export interface LeaseWorldOptions {
  readonly rootKey?: RootKeyProvider;
  readonly settings?: Partial<EngineParts["settings"]>;
  /** Into networks. */
  readonly ways?: Ways;
  /** What is put around targets. */
  wrap?(target: LeaseTarget): LeaseTarget;
}

export const root: Principal = {
  kind: "root",
  arn: rootArn(account),
  accountId: account,
  userId: account,
  tags: {},
  policies: [],
};
/** Of PROJECT/CONFIG. */
export const place = { Project: "shop", Config: "dev" };
export const secretName = "DB";

export async function leaseWorld(
  sql: Sql,
  dir: string,
  { rootKey, settings = {}, ways = {}, wrap }: LeaseWorldOptions = {},
): Promise<LeaseWorld> {
  const clock = {
    offsetMs: 0,
    get now() {
      return Date.now() + this.offsetMs;
    },
  };
  const world = await operationsWorld(sql, dir, clock, rootKey);
  const log: string[] = [];
  const running: Engine[] = [];
  const targets = createTargets(sql, ways);
  const find = async (kind: string, network?: string) => {
    const target = await targets.findLeaseTarget(kind, network);
    return target && wrap ? wrap(target) : target;
  };
  const services = {
    ...world.services,
    findLeaseTarget: find,
    findRotator: targets.findRotator,
    wakeEngine: () => {
      for (const engine of running) engine.wake();
    },
  };
  const parts: EngineParts = {
    ...services,
    log: pino({ level: "info" }, { write: (line: string) => void log.push(line) }),
    random: Math.random,
    generatePassword: (asked) => generatePassword(rotationPasswordOptions(asked), randomInt),
    findFunction: async () => undefined,
    kindOfEngine: () => undefined,
    findInvoked: async () => undefined,
    mayRun: async () => undefined,
    mayRead: async () => undefined,
    settings: { ...engineDefaults, node: "test", ownsStore: sql.dialect === "sqlite", settleMs: 0, warmUpMs: 0, ...settings },
  };
  const api: Api = { services, authorize: createAuthorizer() };
  const byName = new Map(operations.map((operation) => [operation.name, operation]));
  const call = async (name: string, input: object, principal = root): Promise<Answer> => {
    const operation = byName.get(name);
    if (!operation) throw new Error(`no operation ${name}`);
    const request = {
      requestId: randomBytes(8).toString("hex"),
      sourceIp: "127.0.0.1",
      userAgent: "tests",
      secure: true,
    } as const;
    const steps = { authenticate: () => ({ principal, region }), operation: () => operation, body: () => input };
    return (await dispatch({ ...request, door: "rekey-api", ...steps }, api)) as Answer;
  };
  return {
    sql,
    clock,
    parts,
    log,
    call,
    async setUp(server, more = {}) {
      await onServer(server, "create role readers");
      await call("CreateProject", { Name: place.Project });
      await call("CreateIntegration", { Name: "main", Type: "postgres", Data: loginOf(server) });
      await call("CreateDynamicSecret", {
        ...place,
        Name: secretName,
        Integration: "main",
        Settings: { roles: ["readers"] },
        ...more,
      });
    },
    issue: async (more = {}, principal = root) =>
      (await call("IssueLease", { ...place, DynamicSecret: secretName, ...more }, principal)) as unknown as IssuedLease,
    engine(more = {}) {
      const engine = startEngine({ ...parts, ...more });
      running.push(engine);
      return engine;
    },
    async [Symbol.asyncDispose]() {
      for (const engine of running) await engine.stop();
      await world[Symbol.asyncDispose]();
    },
  };
}

export const loginOf = ({ host, port, user: username, password }: PostgresServer) => ({ host, port, username, password });

export async function onServer(server: PostgresServer, text: string, values: readonly string[] = []): Promise<Answer[]> {
  const client = new pg.Client(server.url);
  await client.connect();
  try {
    return (await client.query(text, [...values])).rows;
  } finally {
    await client.end();
  }
}

/** Names of all users with a mark. */
export async function leasedUsers(server: PostgresServer): Promise<string[]> {
  const rows = await onServer(server, "select rolname from pg_roles where rolname like 'rk\\_%' order by rolname");
  return rows.map(({ rolname }) => String(rolname));
}

/** Names of all leases that have not ended. */
export async function liveNames(sql: Sql): Promise<string[]> {
  const rows = await sql.query<{ name: string }>("select name from leases where state <> 'ended' order by name");
  return rows.map(({ name }) => name);
}

/** Whether the server takes the credential: true, or the SQLSTATE of its refusal. */
export async function logsIn({
  Fields: { HOST: host, PORT, USERNAME: user, PASSWORD: password, DATABASE: database },
}: IssuedLease): Promise<true | string> {
  const client = new pg.Client({ host, port: Number(PORT), user, password, database, ssl: false });
  client.on("error", () => undefined);
  try {
    await client.connect();
    await client.end();
    return true;
  } catch (error) {
    return error instanceof pg.DatabaseError ? (error.code ?? "") : String(error);
  }
}

/** Far beyond what anything takes: better a word than a test that hangs. */
const mostLooks = 3_000;

export async function until(what: string, is: () => Promise<boolean>): Promise<void> {
  for (let looks = 0; !(await is()); looks++) {
    if (looks > mostLooks) throw new Error(`waited in vain: ${what}`);
    await sleep(20);
  }
}
