// The operations over one store with real keys and a real audit trail, called as root; only no socket, and a clock of its own.
import { createHmac, randomUUID } from "node:crypto";
import { pino } from "pino";
import { createAuthorizer } from "../../src/auth/authorize.ts";
import { createSessionTokens } from "../../src/auth/session-token.ts";
import { rootArn } from "../../src/core/identity.ts";
import { planRotation } from "../../src/core/rotation-schedule.ts";
import { Envelope } from "../../src/crypto/envelope.ts";
import type { RootKeyProvider } from "../../src/crypto/key-provider.ts";
import { SealedCache } from "../../src/crypto/sealed-cache.ts";
import { createTargets } from "../../src/far-routes.ts";
import { type Api, dispatch } from "../../src/http/dispatch.ts";
import { awsOperations } from "../../src/operations/secrets/index.ts";
import type { Services } from "../../src/operations/services.ts";
import { createSigningKeys } from "../../src/signing-keys.ts";
import { AgentDesk } from "../../src/store/agent-desk.ts";
import { openAudit } from "../../src/store/audit.ts";
import { Hints } from "../../src/store/hints.ts";
import { ringKeyStore } from "../../src/store/keys.ts";
import { LastReads, saveReads } from "../../src/store/last-reads.ts";
import { SecretCache } from "../../src/store/secret-cache.ts";
import type { Sql } from "../../src/store/sql.ts";
import { changeCounter } from "../../src/store/sqlite.ts";
import { account, openRing, randomRootKey, region } from "./keys.ts";
import { noFunctions } from "./no-functions.ts";

export type Answer = Record<string, unknown>;

export interface OperationsWorld extends AsyncDisposable {
  readonly services: Services;
  readonly clock: { now: number };
  /** One of the 23 operations. @throws ServiceError */
  call(name: string, input: object, inRegion?: string): Promise<Answer>;
  /** Writes the reads that were noted. */
  flushReads(): Promise<void>;
  /** Moves records of changes into the trail, and ships it. */
  settleAudit(): Promise<void>;
}

/** `dir` is the data folder of an embedded store. With one `rootKey` several are nodes of one deployment. */
export async function operationsWorld(
  sql: Sql,
  dir: string,
  clock = { now: 1_760_000_000_000 },
  rootKey?: RootKeyProvider,
): Promise<OperationsWorld> {
  const now = () => clock.now;
  const keys = await openRing(ringKeyStore(sql), rootKey ?? (await randomRootKey()));
  const digestKey = keys.deriveKey("value digest");
  const audit = await openAudit({ sql, dir, key: keys.deriveKey("audit") });
  const reads = new LastReads();
  const envelope = new Envelope(keys, { maxDataKeys: 1000 });
  const hints = new Hints();
  const services: Services = {
    sql,
    envelope,
    keys,
    secrets: new SecretCache(sql, changeCounter(sql)),
    audit,
    sessionTokens: createSessionTokens(keys.deriveKey("session tokens")),
    signingKeys: createSigningKeys({ sql, envelope, now }),
    log: pino({ level: "silent" }),
    account,
    region,
    functions: noFunctions,
    ...createTargets(sql, {}),
    extendedSchedules: false,
    readBarrierMs: 0,
    agents: new AgentDesk(sql, hints),
    hints,
    digest: (value, context) => createHmac("sha256", digestKey).update(`${context}\n`).update(value).digest(),
    now,
    reschedule: (secret, fromMs) => planRotation(secret, fromMs, 0),
    wakeEngine: () => undefined,
    noteRead: (secretId, versionId, principal, atMs) => reads.note(secretId, versionId, principal, atMs),
    noteFetch: (configId, atMs) => reads.noteFetch(configId, atMs),
    downloads: new SealedCache(),
  };
  const api: Api = { services, authorize: createAuthorizer() };
  const root = { kind: "root", arn: rootArn(account), accountId: account, userId: account, tags: {}, policies: [] } as const;
  const byName = new Map(awsOperations.map((operation) => [operation.name, operation]));
  return {
    services,
    clock,
    async call(name, input, inRegion = region) {
      const operation = byName.get(name);
      if (!operation) throw new Error(`no operation ${name}`);
      const request = {
        requestId: randomUUID(),
        sourceIp: "127.0.0.1",
        userAgent: "tests",
        secure: false,
        door: "aws-json",
      } as const;
      const identified = { principal: root, region: inRegion };
      const steps = { authenticate: () => identified, operation: () => operation, body: () => input };
      return (await dispatch({ ...request, ...steps }, api)) as Answer;
    },
    flushReads: () => saveReads(sql, reads.take()),
    async settleAudit() {
      await audit.settle();
      await audit.ship();
    },
    [Symbol.asyncDispose]: () => audit.close(),
  };
}
