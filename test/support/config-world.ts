// Configs over one store: every operation by its name, called by whom a test says.
import { randomUUID } from "node:crypto";
import { createAuthorizer } from "../../src/auth/authorize.ts";
import { rootArn } from "../../src/core/identity.ts";
import type { Principal } from "../../src/core/principal.ts";
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

export async function configWorld(sql: Sql, dir: string): Promise<ConfigWorld> {
  const world = await operationsWorld(sql, dir);
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
