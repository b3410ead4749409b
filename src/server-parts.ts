import { createHmac, type KeyObject, randomInt } from "node:crypto";
import { hostname } from "node:os";
import { join } from "node:path";
import type { Logger } from "pino";
import { type Authenticator, createAuthenticator } from "./auth/authenticate.ts";
import type { WebIdentities } from "./auth/web-identity.ts";
import type { Config } from "./config.ts";
import { ConfigError } from "./core/error.ts";
import { generatePassword, rotationPasswordOptions } from "./core/password.ts";
import { isRegion } from "./core/region.ts";
import { planRotation } from "./core/rotation-schedule.ts";
import type { SessionTokens } from "./core/session.ts";
import { Envelope } from "./crypto/envelope.ts";
import { openRootKey } from "./crypto/key-provider.ts";
import { type KeyRing, openKeyRing } from "./crypto/key-ring.ts";
import { SealedCache } from "./crypto/sealed-cache.ts";
import { type EngineParts, engineDefaults } from "./engine/parts.ts";
import { createTargets } from "./far-routes.ts";
import { type AgentRouteParts, createAgentRoute } from "./functions/agent-route.ts";
import { builtinFunction, kindOfEngine } from "./functions/builtin.ts";
import type { Api } from "./http/dispatch.ts";
import { checkAccount, isInitialised } from "./initialise.ts";
import { makeDataFolder, openStore } from "./open-store.ts";
import type { Services } from "./operations/services.ts";
import { createRotationRights } from "./rotation-rights.ts";
import type { ServerFunctions } from "./server-functions.ts";
import { createSigningKeys, ensureSigningKey } from "./signing-keys.ts";
import { AgentDesk } from "./store/agent-desk.ts";
import type { AuditLog } from "./store/audit.ts";
import { Hints } from "./store/hints.ts";
import { createIdentityVersion } from "./store/identity-version.ts";
import { installationId } from "./store/installation.ts";
import { ringKeyStore } from "./store/keys.ts";
import type { LastReads } from "./store/last-reads.ts";
import { migrate, pendingMigrations } from "./store/migrate.ts";
import { SecretCache } from "./store/secret-cache.ts";
import type { Sql } from "./store/sql.ts";
import { changeCounter } from "./store/sqlite.ts";
import { claimWriter, type WriterClaim } from "./store/writer-claim.ts";

const maxDataKeys = 20_000;

export interface StoreParts {
  readonly sql: Sql;
  readonly keys: KeyRing;
  readonly envelope: Envelope;
}

interface StoreUse {
  readonly readOnly?: boolean;
  /** Other processes of this server answer from the same embedded store. */
  readonly shared?: boolean;
}

/**
 * Store, schema and keys, closed again by `opened`. The embedded store is made when it is not there, unless it is only read.
 * @throws ConfigError when another process writes there, or the store and these settings do not belong together.
 */
export async function openParts(
  config: Config,
  opened: AsyncDisposableStack,
  { readOnly = false, shared = false }: StoreUse = {},
): Promise<StoreParts> {
  const owner = config.databaseUrl === undefined && !readOnly;
  if (owner) {
    makeDataFolder(config);
    const claim: WriterClaim = claimWriter(config.data);
    opened.defer(() => claim.release());
  }
  const sql = await openStore(config, { create: owner, readOnly, shared });
  opened.defer(() => sql.close());
  if (owner) await migrate(sql);
  else {
    const pending = await pendingMigrations(sql);
    if (pending.length > 0) throw new ConfigError([`The store lacks ${pending.join(", ")}; run rekey init or rekey migrate.`]);
    if (!(await isInitialised(sql))) throw new ConfigError(["This store is empty; run rekey init first."]);
  }
  await checkAccount(sql, config.account);
  const keyStore = ringKeyStore(sql);
  const fresh = owner && (await keyStore.load()).rootSecret === undefined;
  const rootKey = await openRootKey(config.rootKey, { env: process.env, create: fresh });
  const keys = await openKeyRing({ store: keyStore, rootKey, account: config.account, now: Date.now, initialise: owner });
  const envelope = new Envelope(keys, { maxDataKeys });
  if (!readOnly) await ensureSigningKey({ sql, keys, envelope, region: config.region, now: Date.now });
  return { sql, keys, envelope };
}

/** What operations work with. */
export function createServices(
  config: Config,
  parts: StoreParts & {
    audit: AuditLog;
    log: Logger;
    reads: LastReads;
    functions: ServerFunctions;
    sessionTokens: SessionTokens;
    wakeEngine(): void;
  },
): Services {
  const { sql, keys, envelope, audit, log, reads, functions, sessionTokens, wakeEngine } = parts;
  const digestKey: KeyObject = keys.deriveKey("value digest");
  const hints = new Hints();
  const agents = new AgentDesk(sql, hints);
  const signingKeys = createSigningKeys({ sql, envelope, now: Date.now });
  const toAgents: AgentRouteParts = {
    sql,
    hints,
    audit,
    region: config.region,
    now: Date.now,
    startedAt: Date.now(),
    signingKey: signingKeys.current,
    issuer: () => installationId(sql),
    count: agents.countJob,
  };
  return {
    sql,
    envelope,
    keys,
    audit,
    log,
    secrets: new SecretCache(sql, changeCounter(sql)),
    sessionTokens,
    signingKeys,
    account: config.account,
    region: config.region,
    functions,
    ...createTargets(sql, {
      agents: (network) => createAgentRoute(toAgents, network),
      lambda: functions.farSides.route,
      fit: functions.farSides.fit,
    }),
    extendedSchedules: config.extendedSchedules ?? false,
    readBarrierMs: config.readBarrierMs,
    digest: (value, context) => createHmac("sha256", digestKey).update(`${context}\n`).update(value).digest(),
    now: Date.now,
    agents,
    hints,
    reschedule: (secret, fromMs) => planRotation(secret, fromMs, Math.random()),
    wakeEngine,
    noteRead(secretId, versionId, principal, atMs) {
      reads.note(secretId, versionId, principal, atMs);
      functions.noteRead(secretId, principal);
    },
    noteFetch: (configId, atMs) => reads.noteFetch(configId, atMs),
    downloads: new SealedCache(),
  };
}

/** What the engine works with. */
export function engineParts(config: Config, { services, authorize }: Api, functions: ServerFunctions): EngineParts {
  return {
    ...services,
    elapsed: () => performance.now(),
    random: Math.random,
    generatePassword: (asked) => generatePassword(rotationPasswordOptions(asked), randomInt),
    findFunction: async (arn) => builtinFunction(arn) ?? functions.declared(arn),
    kindOfEngine,
    findInvoked: functions.invoked,
    lookAtFunctionCode: functions.lookAtCode,
    ...createRotationRights(services, authorize),
    settings: {
      ...engineDefaults,
      node: `${hostname()}-${process.pid}`,
      ownsStore: config.databaseUrl === undefined,
      settleMs: config.settleMs,
      readBarrierMs: config.readBarrierMs,
      concurrency: config.rotationsAtOnce,
      perTarget: config.rotationsPerTarget,
      historyDays: config.historyDays,
      epochFile: join(config.data, "epoch"),
    },
  };
}

/** Who calls; with every look at the identities' version the keys' revision is followed too. */
export function createAuthentication(config: Config, { sql, envelope, keys, sessionTokens }: Services): Authenticator {
  const { account, region } = config;
  return createAuthenticator({
    sql,
    identity: createIdentityVersion(sql, (revision) => keys.follow(revision)),
    account,
    region,
    sessionTokens,
    webIdentities: webIdentities(sql, account),
    openSecret: (secret, context) => envelope.open(secret, context),
    isRegion,
    now: Date.now,
    failedLogins: { maxFailures: config.maxFailedLoginsPerMinute },
  });
}

/** With the first token: most servers never see one, and need no library for them. */
function webIdentities(sql: Sql, account: string): WebIdentities {
  let made: Promise<WebIdentities> | undefined;
  return {
    async verify(token) {
      made ??= import("./auth/web-identity.ts").then((load) => load.createWebIdentities({ sql, account, now: Date.now }));
      return (await made).verify(token);
    },
  };
}
