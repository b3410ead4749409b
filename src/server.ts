import { createHmac, type KeyObject, randomInt } from "node:crypto";
import { readFileSync } from "node:fs";
import type { ServerResponse } from "node:http";
import { hostname } from "node:os";
import type { Logger } from "pino";
import { type Authenticator, createAuthenticator } from "./auth/authenticate.ts";
import { createAuthorizer } from "./auth/authorize.ts";
import { createSessionTokens } from "./auth/session-token.ts";
import { createWebIdentities } from "./auth/web-identity.ts";
import type { Config } from "./config.ts";
import { ConfigError } from "./core/error.ts";
import { generatePassword, rotationPasswordOptions } from "./core/password.ts";
import { isRegion } from "./core/region.ts";
import { planRotation } from "./core/rotation-schedule.ts";
import { Envelope } from "./crypto/envelope.ts";
import { openRootKey } from "./crypto/key-provider.ts";
import { type KeyRing, openKeyRing } from "./crypto/key-ring.ts";
import { startEngine } from "./engine/loop.ts";
import { type EngineParts, engineDefaults } from "./engine/parts.ts";
import { builtinFunction, functionRefusal } from "./functions/builtin.ts";
import { answerAwsJson, sendAwsError } from "./http/aws-json.ts";
import { answerAwsQuery, isQueryRequest } from "./http/aws-query.ts";
import type { Api, Identified } from "./http/dispatch.ts";
import { createFront, type Front } from "./http/front.ts";
import { health } from "./http/health.ts";
import { createMetrics, metricsRoute } from "./http/metrics.ts";
import type { RawRequest } from "./http/raw-request.ts";
import { rekeyApi } from "./http/rekey-api.ts";
import { checkAccount, initialise, isInitialised, writeCredentialsFile } from "./initialise.ts";
import { createLog } from "./log.ts";
import { makeDataFolder, openStore } from "./open-store.ts";
import { stsOperations } from "./operations/identity/index.ts";
import { operations } from "./operations/index.ts";
import { awsOperations } from "./operations/secrets/index.ts";
import type { Services } from "./operations/services.ts";
import { createMayRead } from "./rotation-rights.ts";
import { type AuditLog, openAudit } from "./store/audit.ts";
import { saveLastUses } from "./store/credentials.ts";
import { createIdentityVersion } from "./store/identity-version.ts";
import { ringKeyStore } from "./store/keys.ts";
import { LastReads, saveReads } from "./store/last-reads.ts";
import { migrate, pendingMigrations } from "./store/migrate.ts";
import { countRotations } from "./store/rotations.ts";
import { SecretCache } from "./store/secret-cache.ts";
import type { Sql } from "./store/sql.ts";
import { changeCounter } from "./store/sqlite.ts";
import { claimWriter, type WriterClaim } from "./store/writer-claim.ts";
import { findRotator } from "./targets/index.ts";

export interface RunningServer extends AsyncDisposable {
  /** `http://HOST:PORT`, as it is reached. */
  readonly endpoint: string;
  /** Finishes open requests, then stops. */
  close(): Promise<void>;
}

const housekeepingMs = 2_000;
const maxDataKeys = 20_000;

/** Starts the server that the settings describe. @throws ConfigError when it cannot start, in words. */
export async function startServer(config: Config): Promise<RunningServer> {
  const log = createLog(config.logLevel);
  await using opened = new AsyncDisposableStack();
  const store = await openParts(config, opened);
  const { sql, keys, envelope } = store;
  const audit = opened.use(
    await openAudit({
      sql,
      key: keys.deriveKey("audit"),
      ...(config.databaseUrl === undefined ? { dir: config.data } : {}),
      onError: (error) => log.error({ err: error }, "audit trail"),
    }),
  );
  const reads = new LastReads();
  const hint = { wake: () => {} };
  const services = createServices(config, { ...store, audit, log, reads, wakeEngine: () => hint.wake() });
  const authenticator = createAuthentication(config, services);
  const api: Api = { services, authorize: createAuthorizer() };
  const front = openFront(config, api, authenticator);
  opened.defer(() => front.close(config.drainSeconds * 1000));
  keepHouse(opened, { sql, audit, reads, authenticator, log });
  const address = await front.listen(config.listen);
  const endpoint = `${config.tlsCert ? "https" : "http"}://${address.host.includes(":") ? `[${address.host}]` : address.host}:${address.port}`;
  if (config.databaseUrl === undefined) await initialiseEmbedded(config, { sql, keys, envelope, endpoint });
  if (config.engine) {
    const engine = opened.use(startEngine(engineParts(config, api)));
    hint.wake = engine.wake;
  }
  const running = opened.move();
  let closing: Promise<void> | undefined;
  const close = () => (closing ??= running.disposeAsync());
  return { endpoint, close, [Symbol.asyncDispose]: close };
}

interface StoreParts {
  readonly sql: Sql;
  readonly keys: KeyRing;
  readonly envelope: Envelope;
}

/** Store, schema and keys; the embedded store is made when it is not there. */
async function openParts(config: Config, opened: AsyncDisposableStack): Promise<StoreParts> {
  const embedded = config.databaseUrl === undefined;
  if (embedded) {
    makeDataFolder(config);
    const claim: WriterClaim = claimWriter(config.data);
    opened.defer(() => claim.release());
  }
  const sql = await openStore(config, { create: embedded });
  opened.defer(() => sql.close());
  if (embedded) await migrate(sql);
  else {
    const pending = await pendingMigrations(sql);
    if (pending.length > 0) throw new ConfigError([`The store lacks ${pending.join(", ")}; run rekey init or rekey migrate.`]);
    if (!(await isInitialised(sql))) throw new ConfigError(["This store is empty; run rekey init first."]);
  }
  await checkAccount(sql, config.account);
  const keyStore = ringKeyStore(sql);
  const fresh = embedded && (await keyStore.load()).rootSecret === undefined;
  const rootKey = await openRootKey(config.rootKey, { env: process.env, create: fresh });
  const keys = await openKeyRing({ store: keyStore, rootKey, account: config.account, now: Date.now, initialise: embedded });
  return { sql, keys, envelope: new Envelope(keys, { maxDataKeys }) };
}

async function initialiseEmbedded(config: Config, parts: StoreParts & { endpoint: string }): Promise<void> {
  const { account, region } = config;
  await initialise({ ...parts, account, region, now: Date.now }, (credentials) => writeCredentialsFile(config.data, credentials));
}

function createServices(
  config: Config,
  parts: StoreParts & { audit: AuditLog; log: Logger; reads: LastReads; wakeEngine(): void },
): Services {
  const { sql, keys, envelope, audit, log, reads, wakeEngine } = parts;
  const digestKey: KeyObject = keys.deriveKey("value digest");
  return {
    sql,
    envelope,
    keys,
    audit,
    log,
    secrets: new SecretCache(sql, changeCounter(sql)),
    sessionTokens: createSessionTokens(keys.deriveKey("session tokens")),
    account: config.account,
    region: config.region,
    functions: { refusal: (arn, secret) => functionRefusal(arn, secret, config.account) },
    extendedSchedules: config.extendedSchedules ?? false,
    digest: (value, context) => createHmac("sha256", digestKey).update(`${context}\n`).update(value).digest(),
    now: Date.now,
    reschedule: (secret, fromMs) => planRotation(secret, fromMs, Math.random()),
    wakeEngine,
    noteRead: (secretId, versionId, principal, atMs) => reads.note(secretId, versionId, principal, atMs),
  };
}

function engineParts(config: Config, { services, authorize }: Api): EngineParts {
  return {
    ...services,
    random: Math.random,
    generatePassword: ({ length, exclude } = {}) =>
      generatePassword(
        { ...rotationPasswordOptions, ...(length && { length }), ...(exclude !== undefined && { excludeCharacters: exclude }) },
        randomInt,
      ),
    findRotator,
    findFunction: builtinFunction,
    mayRead: createMayRead(services, authorize),
    settings: {
      ...engineDefaults,
      node: `${hostname()}-${process.pid}`,
      ownsStore: config.databaseUrl === undefined,
      settleMs: config.settleMs,
      concurrency: config.rotationsAtOnce,
    },
  };
}

function createAuthentication(config: Config, { sql, envelope, sessionTokens }: Services): Authenticator {
  const { account, region } = config;
  return createAuthenticator({
    sql,
    identity: createIdentityVersion(sql),
    account,
    region,
    sessionTokens,
    webIdentities: createWebIdentities({ sql, account, now: Date.now }),
    openSecret: (secret, context) => envelope.open(secret, context),
    isRegion,
    now: Date.now,
  });
}

function openFront(config: Config, api: Api, authenticator: Authenticator): Front {
  const { services } = api;
  const byName = (list: typeof operations) => new Map(list.map((operation) => [operation.name, operation]));
  const json = {
    api,
    operations: byName(awsOperations),
    authenticate: (request: RawRequest) => authenticator.signed(request, ["secretsmanager"]),
  };
  const query = {
    api,
    operations: byName(stsOperations),
    authenticate: (request: RawRequest) => authenticator.signed(request, ["sts"]),
    webIdentity: (token: string, sourceIp: string) => authenticator.webIdentity(token, sourceIp),
  };
  const front = createFront({
    maxBodyBytes: config.maxBodyBytes,
    maxConnections: config.maxConnections,
    ...(config.tlsCert && config.tlsKey
      ? { tls: { cert: readFileSync(config.tlsCert, "utf8"), key: readFileSync(config.tlsKey, "utf8") } }
      : {}),
    answer: (request, response) =>
      isQueryRequest(request) ? answerQuery(request, response, query) : answerAwsJson(request, response, json),
    refuse: (error, response) => sendAwsError(response, error, ""),
  });
  rekeyApi(front.app, {
    api,
    operations,
    maxBodyBytes: config.maxBodyBytes,
    authenticate: (request) => nativeCaller(request, authenticator),
  });
  health(front.app, { store: () => services.sql.query("select 1"), key: () => services.keys.check() });
  if (!config.metricsListen)
    metricsRoute(
      front.app,
      createMetrics(() => countRotations(services.sql)),
      { everyone: false },
    );
  return front;
}

async function answerQuery(
  request: RawRequest,
  response: ServerResponse,
  door: Parameters<typeof answerAwsQuery>[1],
): Promise<void> {
  const { status, contentType, body } = await answerAwsQuery(request, door);
  response.writeHead(status, {
    "Content-Type": contentType,
    "x-amzn-RequestId": request.requestId,
    "Content-Length": Buffer.byteLength(body),
  });
  response.end(body);
}

/** The native API takes bearer tokens, and signatures for its own service name or that of Secrets Manager. */
async function nativeCaller(request: RawRequest, authenticator: Authenticator): Promise<Identified> {
  const [, token] = /^Bearer (.+)$/i.exec(request.headers.authorization ?? "") ?? [];
  if (token === undefined) return authenticator.signed(request, ["rekey", "secretsmanager"]);
  const caller = await authenticator.bearer(token, request.sourceIp);
  const region = request.headers["rekey-region"];
  return typeof region === "string" && isRegion(region) ? { ...caller, region } : caller;
}

interface HouseParts {
  readonly sql: Sql;
  readonly audit: AuditLog;
  readonly reads: LastReads;
  readonly authenticator: Authenticator;
  readonly log: Logger;
}

/** Writes what is gathered in memory, now and then and at the end. */
function keepHouse(opened: AsyncDisposableStack, { sql, audit, reads, authenticator, log }: HouseParts): void {
  const flush = async () => {
    const uses = authenticator.takeLastUses();
    await saveReads(sql, reads.take());
    if (uses.accessKeys.size + uses.tokens.size > 0) await sql.transaction((tx) => saveLastUses(tx, uses));
    await audit.ship();
  };
  let running = Promise.resolve();
  const next = () => {
    running = running.then(flush).catch((error: unknown) => log.error({ err: error }, "housekeeping"));
    return running;
  };
  const timer = setInterval(() => void next(), housekeepingMs);
  opened.defer(async () => {
    clearInterval(timer);
    await next();
  });
}
