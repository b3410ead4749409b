import { join } from "node:path";
import type { Logger } from "pino";
import { createAuthorizer } from "./auth/authorize.ts";
import { createSessionTokens } from "./auth/session-token.ts";
import type { Config } from "./config.ts";
import { ConfigError } from "./core/error.ts";
import { startEngine } from "./engine/loop.ts";
import { readPublishers } from "./functions/code-publishers.ts";
import type { Api } from "./http/dispatch.ts";
import { createForwarder, createForwardListener } from "./http/forward.ts";
import type { Front } from "./http/front.ts";
import { createMetrics, type Metrics } from "./http/metrics.ts";
import { createRequestRate } from "./http/request-rate.ts";
import { closeListener, listenAt } from "./http/server-socket.ts";
import { readTlsFiles } from "./http/tls.ts";
import { initialise, writeCredentialsFile } from "./initialise.ts";
import { createLog } from "./log.ts";
import { openMetrics } from "./open-metrics.ts";
import { auditKeyPurpose } from "./open-store.ts";
import type { Services } from "./operations/services.ts";
import { openFront, openReaderFront } from "./server-front.ts";
import { createFunctionDoor, createServerFunctions } from "./server-functions.ts";
import { keepHouse } from "./server-house.ts";
import { createAuthentication, createServices, engineParts, openParts } from "./server-parts.ts";
import type { Listen } from "./setting.ts";
import { countAgentStates } from "./store/agents.ts";
import { openAudit } from "./store/audit.ts";
import { countHeartbeats } from "./store/heartbeats.ts";
import { LastReads } from "./store/last-reads.ts";
import { countSilentTargets } from "./store/rotation-waits.ts";
import { countRotations } from "./store/rotations.ts";
import { createNotes, createNotesListener, saveNoted } from "./worker-notes.ts";
import { boundYoungGeneration } from "./young-generation.ts";

export interface RunningServer extends AsyncDisposable {
  /** `http://HOST:PORT`, as it is reached. */
  readonly endpoint: string;
  /** Connections from now on see the certificate that the files hold now; one that cannot be used changes nothing. */
  reloadTls(): void;
  /** Finishes open requests, then stops. */
  close(): Promise<void>;
}

export interface RunningNode extends RunningServer {
  /** Answers open requests and takes no others, but for those that other processes hand on. */
  drain(): Promise<void>;
  /** Of this process. */
  metrics(): Promise<string>;
  /** Tells this process's engine that work may be due. */
  wakeEngine(): void;
}

/** A process's part among several: of one embedded store exactly one is the `writer`. */
export interface Part {
  readonly role: "alone" | "writer" | "reader";
  /** Where the writer listens for the readers; a folder that only this user can enter. */
  readonly socketFolder: string;
  /** For a process without engine: tells the one that has it. */
  wakeEngine?(): void;
  /** The metrics of all processes, where there are several. */
  metrics?(): Promise<string>;
}

/** Starts all of a server that runs in this process. @throws ConfigError when it cannot start, in words. */
export async function startNode(config: Config, part: Part = { role: "alone", socketFolder: "" }): Promise<RunningNode> {
  boundYoungGeneration();
  await checkPublishers(config);
  const readOnly = part.role === "reader";
  const log = createLog(config.logLevel);
  const drainMs = config.drainSeconds * 1000;
  await using opened = new AsyncDisposableStack();
  const store = await openParts(config, opened, { readOnly, shared: part.role !== "alone" });
  const { sql, keys } = store;
  const auditKey = keys.deriveKey(auditKeyPurpose);
  const notes = readOnly ? createNotes(socketsIn(part.socketFolder).notes) : undefined;
  const audit = opened.use(
    await openAudit({
      sql,
      key: auditKey,
      ...(config.databaseUrl === undefined ? { dir: config.data } : {}),
      ...(notes ? { owner: false, keepAnchors: notes.keepAnchors } : {}),
      onError: (error) => log.error({ err: error }, "audit trail"),
    }),
  );
  const reads = new LastReads();
  const hint = { wake: () => part.wakeEngine?.() };
  const authorize = createAuthorizer();
  const sessionTokens = createSessionTokens(keys.deriveKey("session tokens"));
  const door = createFunctionDoor((incoming, response) => front.handle(incoming, response));
  opened.defer(async () => door.close());
  const functions = createServerFunctions(config, { ...store, audit, log, authorize, sessionTokens, door });
  const shared = { ...store, audit, log, reads, functions, sessionTokens };
  const services = createServices(config, { ...shared, wakeEngine: () => hint.wake() });
  const authenticator = createAuthentication(config, services);
  const metrics = metricsOf(config, part, services);
  const rate = createRequestRate(config.maxRequestsPerSecond);
  const api: Api = { services, authorize, rate, count: metrics.request };
  const agents = readOnly ? undefined : services.agents;
  keepHouse(opened, { audit, reads, authenticator, agents, log, keep: notes?.keep ?? ((noted) => saveNoted(sql, noted)) });
  const front = openDoors({ config, api, authenticator, metrics, allMetrics: part.metrics ?? metrics.text }, part, opened);
  front.closing.addEventListener("abort", () => services.agents.close());
  const closing: (() => Promise<void>)[] = [() => front.close(drainMs), () => functions.close(drainMs)];
  opened.defer(async () => void (await Promise.all(closing.map((close) => close()))));
  const endpoint = endpointAt(await front.listen(config.listen), config);
  if (config.metricsListen && !part.metrics) opened.use(await openMetrics(metrics, config.metricsListen, log));
  if (config.databaseUrl === undefined && !readOnly) {
    const { account, region } = config;
    await initialise({ ...store, account, region, endpoint, now: Date.now }, (made) => writeCredentialsFile(config.data, made));
  }
  if (part.role === "writer") {
    const sockets = socketsIn(part.socketFolder);
    const listeners = { notes: createNotesListener({ sql, auditKey, log }), requests: createForwardListener(front.handle) };
    for (const name of ["notes", "requests"] as const) {
      await listenAt(listeners[name], sockets[name]);
      closing.push(() => closeListener(listeners[name], drainMs));
    }
  }
  if (config.engine && !readOnly) {
    const engine = startEngine(engineParts(config, api, functions));
    closing.push(engine.stop);
    hint.wake = engine.wake;
  }
  const running = opened.move();
  let closed: Promise<void> | undefined;
  const close = () => (closed ??= running.disposeAsync());
  const reloadTls = () => renewCertificate(config, front, log);
  const drain = () => front.drain(drainMs);
  return {
    endpoint,
    drain,
    close,
    reloadTls,
    metrics: metrics.text,
    wakeEngine: () => hint.wake(),
    [Symbol.asyncDispose]: close,
  };
}

/** A list that cannot be used is told now, not when a function is called. @throws ConfigError */
async function checkPublishers({ codePublishers }: Config): Promise<void> {
  if (codePublishers !== undefined) await readPublishers(codePublishers);
}

function endpointAt({ host, port }: Listen, { tlsCert }: Config): string {
  return `${tlsCert ? "https" : "http"}://${host.includes(":") ? `[${host}]` : host}:${port}`;
}

function renewCertificate({ tlsCert, tlsKey }: Config, front: Front, log: Logger): void {
  if (tlsCert === undefined || tlsKey === undefined) return;
  try {
    front.setTls(readTlsFiles(tlsCert, tlsKey));
    log.info("the certificate was read again");
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    log.error({ err: error }, "the certificate stays as it was");
  }
}

/** Rotations are counted once among several processes. */
function metricsOf({ engine }: Config, { role, metrics }: Part, { sql, agents, now }: Services): Metrics {
  const counts = metrics === undefined || (engine && role !== "reader");
  if (!counts) return createMetrics();
  return createMetrics({
    rotations: () => countRotations(sql),
    heartbeats: () => countHeartbeats(sql),
    targets: async () => new Map([["silent", await countSilentTargets(sql)]]),
    agents: () => countAgentStates(sql, now()),
    agentJobs: () => agents.jobs,
  });
}

const socketsIn = (folder: string) => ({ requests: join(folder, "requests"), notes: join(folder, "notes") });

function openDoors(parts: Parameters<typeof openFront>[0], part: Part, opened: AsyncDisposableStack): Front {
  if (part.role !== "reader") return openFront(parts);
  const forwarder = createForwarder(socketsIn(part.socketFolder).requests);
  opened.defer(() => forwarder.close());
  return openReaderFront(parts, forwarder);
}
