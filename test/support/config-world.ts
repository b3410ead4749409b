// Configs over one store: every operation by its name, called by whom a test says.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createAuthorizer } from "../../src/auth/authorize.ts";
import { rootArn } from "../../src/core/identity.ts";
import type { Principal } from "../../src/core/principal.ts";
import type { RootKeyProvider } from "../../src/crypto/key-provider.ts";
import { type Api, dispatch } from "../../src/http/dispatch.ts";
import { operations } from "../../src/operations/index.ts";
import type { Services } from "../../src/operations/services.ts";
import type { Sql } from "../../src/store/sql.ts";
import { account, region } from "./keys.ts";
import { type Answer, operationsWorld } from "./operations-world.ts";

export type Call = (name: string, input: object) => Promise<Answer>;

export interface ConfigWorld extends AsyncDisposable {
  readonly services: Services;
  readonly clock: { now: number };
  /** As the root user. */
  readonly call: Call;
  as(principal: Principal): Call;
  flushReads(): Promise<void>;
  settleAudit(): Promise<void>;
}

/** `dir` is a folder of its own. With one `rootKey` several are nodes of one deployment. */
export async function configWorld(sql: Sql, dir: string, rootKey?: RootKeyProvider): Promise<ConfigWorld> {
  const world = await operationsWorld(sql, dir, undefined, rootKey);
  const api: Api = { services: world.services, authorize: createAuthorizer() };
  const byName = new Map(operations.map((operation) => [operation.name, operation]));
  const as =
    (principal: Principal): Call =>
    async (name, input) => {
      const operation = byName.get(name);
      if (!operation) throw new Error(`no operation ${name}`);
      const request = { requestId: randomUUID(), sourceIp: "127.0.0.1", userAgent: "tests", secure: true } as const;
      const steps = { authenticate: () => ({ principal, region }), operation: () => operation, body: () => input };
      return (await dispatch({ ...request, door: "rekey-api", ...steps }, api)) as Answer;
    };
  return { ...world, as, call: as(rootPrincipal()), [Symbol.asyncDispose]: () => world[Symbol.asyncDispose]() };
}

function rootPrincipal(): Principal {
  return { kind: "root", arn: rootArn(account), accountId: account, userId: account, tags: {}, policies: [] };
}

/** A user who may do these things, and nothing else. */
export function userWith(allowed: Readonly<Record<string, readonly string[]>>, kind: Principal["kind"] = "user"): Principal {
  const statements = Object.entries(allowed).map(([action, resources]) => ({
    Effect: "Allow",
    Action: action.split(" "),
    Resource: resources.map((resource) => (resource === "*" ? "*" : `arn:aws:rekey:*:${account}:${resource}`)),
  }));
  const document = JSON.stringify({ Version: "2012-10-17", Statement: statements });
  return {
    kind,
    arn: `arn:aws:iam::${account}:user/tester`,
    accountId: account,
    userId: "AIDATESTER",
    userName: "tester",
    tags: {},
    policies: [{ name: "test", document }],
  };
}

export const newFolder = (): string => mkdtempSync(join(tmpdir(), "rekey-configs-"));

/** Runs a test's work in a new world on a new store. */
export function configWorldOn(open: () => Promise<Sql>): (work: (world: ConfigWorld) => Promise<void>) => Promise<void> {
  return async (work) => {
    await using world = await configWorld(await open(), newFolder());
    await work(world);
  };
}

interface Shown {
  Name: string;
  Raw: string | null;
  Computed: string | null;
  ComputedVisibility: string;
  Note: string;
}

/** For `assert.rejects`: a refusal with this code, whose text tells of something. */
export const refused =
  (code: string, text = /./) =>
  (error: unknown) => {
    assert.equal((error as { code?: string }).code, code, String(error));
    assert.match((error as Error).message, text);
    return true;
  };

/** A config's own and taken-in values with references put in, as the caller sees them. */
export async function values(call: Call, Project: string, Config: string): Promise<Record<string, string | null>> {
  const { Secrets } = (await call("ListConfigSecrets", { Project, Config, IncludeManagedSecrets: false })) as {
    Secrets: Shown[];
  };
  return Object.fromEntries(Secrets.map(({ Name, Computed }) => [Name, Computed]));
}

export const set = (call: Call, Project: string, Config: string, Secrets: Record<string, string | null>) =>
  call("SetConfigSecrets", { Project, Config, Secrets });

export async function generation(call: Call, Project: string, Config: string): Promise<number> {
  const { Config: shown } = (await call("GetConfig", { Project, Config })) as { Config: { Generation: number } };
  return shown.Generation;
}
