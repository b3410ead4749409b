import { randomUUID } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Authenticator } from "./auth/authenticate.ts";
import type { Config } from "./config.ts";
import { isRegion } from "./core/region.ts";
import { type AwsJsonDoor, answerAwsJson, sendAwsError, targetOperation } from "./http/aws-json.ts";
import { type AwsQueryDoor, answerAwsQuery, errorAnswer, isQueryRequest, type QueryAnswer } from "./http/aws-query.ts";
import { configApi } from "./http/config-api.ts";
import { writeConfigError } from "./http/config-api-errors.ts";
import { type Api, type Identified, logBug } from "./http/dispatch.ts";
import type { Forwarder } from "./http/forward.ts";
import { createFront, type Front, type FrontOptions } from "./http/front.ts";
import { health } from "./http/health.ts";
import { keySet, keySetPath } from "./http/key-set.ts";
import { loginPage } from "./http/login-page.ts";
import { type Metrics, metricsRoute } from "./http/metrics.ts";
import { writeProblem } from "./http/problem.ts";
import { type RawRequest, rawRequest, readBody } from "./http/raw-request.ts";
import { rekeyApi } from "./http/rekey-api.ts";
import { readTlsFiles } from "./http/tls.ts";
import { unframedBody } from "./http/unframed-delete.ts";
import { stsOperations } from "./operations/identity/index.ts";
import { operations } from "./operations/index.ts";
import { awsOperations } from "./operations/secrets/index.ts";

interface FrontParts {
  readonly config: Config;
  readonly api: Api;
  readonly authenticator: Authenticator;
  readonly metrics: Metrics;
  /** What `GET /metrics` answers: the same, or that of all processes. */
  allMetrics(): Promise<string>;
}

/** All doors, answered by this process. */
export function openFront({ config, api, authenticator, metrics, allMetrics }: FrontParts): Front {
  const json = jsonDoor(api, authenticator);
  const query: AwsQueryDoor = {
    api,
    operations: byName(stsOperations),
    authenticate: (request) => authenticator.signed(request, ["sts"]),
    webIdentity: (token, sourceIp) => authenticator.webIdentity(token, sourceIp),
  };
  const front = createFront({
    ...limits(config, api, metrics),
    answer: async (request, response) =>
      isQueryRequest(request)
        ? sendQueryAnswer(request, response, await answerAwsQuery(request, query))
        : answerAwsJson(request, response, json),
  });
  rekeyApi(front.app, {
    api,
    operations,
    maxBodyBytes: config.maxBodyBytes,
    authenticate: (request) => nativeCaller(request, authenticator),
  });
  configApi(front.app, {
    api,
    operations,
    maxBodyBytes: config.maxBodyBytes,
    maxStreams: Math.floor(config.maxConnections / 2),
    closing: front.closing,
    bearer: (token, sourceIp) => authenticator.bearer(token, sourceIp),
    webIdentity: (token, sourceIp) => authenticator.webIdentity(token, sourceIp),
    anyone: (sourceIp) => authenticator.anonymous(sourceIp),
  });
  loginPage(front.app);
  addHealth(front, api);
  if (!config.metricsListen) metricsRoute(front.app, { text: allMetrics });
  return front;
}

const ownPaths: ReadonlySet<string> = new Set(["/healthz", "/readyz", keySetPath]);

/** The doors of a process that only reads: it answers AWS's reading operations, and hands everything else on. */
export function openReaderFront({ config, api, authenticator, metrics }: FrontParts, forwarder: Forwarder): Front {
  const { log } = api.services;
  const json = jsonDoor(api, authenticator);
  const handOn = async (request: RawRequest, response: ServerResponse, refuse: (error: unknown) => void): Promise<void> => {
    try {
      await forwarder.send(request, response);
    } catch (error) {
      const why = error instanceof Error && error.cause instanceof Error ? error.cause.message : String(error);
      log.warn({ requestId: request.requestId, why }, "a request could not be handed to the process that writes");
      refuse(error);
    }
  };
  const handOnElsewhere = async (incoming: IncomingMessage, response: ServerResponse): Promise<void> => {
    const requestId = randomUUID();
    const write = incoming.url?.startsWith("/v3/") ? writeConfigError : writeProblem;
    const refuse = (error: unknown) => write(response, error, requestId);
    try {
      const unframed = await unframedBody(incoming);
      const body = unframed ?? (await readBody(incoming, config.maxBodyBytes));
      const request = rawRequest(incoming, body, requestId);
      await handOn(unframed ? framed(request) : request, response, refuse);
    } catch (error) {
      refuse(error);
    }
  };
  const front = createFront({
    ...limits(config, api, metrics),
    answer(request, response) {
      if (isQueryRequest(request))
        return handOn(request, response, (error) =>
          sendQueryAnswer(request, response, errorAnswer(error, "", request.requestId)),
        );
      if (targetOperation(request, json.operations)?.mode !== "write") return answerAwsJson(request, response, json);
      return handOn(request, response, (error) => sendAwsError(response, error, request.requestId));
    },
    elsewhere(incoming, response) {
      if (ownPaths.has(incoming.url ?? "")) return false;
      void handOnElsewhere(incoming, response);
      return true;
    },
  });
  addHealth(front, api);
  return front;
}

/** With its body's length in the head, for the process that it is handed to. */
function framed(request: RawRequest): RawRequest {
  const length = ["content-length", String(request.body.length)];
  return { ...request, rawHeaders: [...request.rawHeaders, ...length] };
}

function limits(config: Config, { services }: Api, metrics: Metrics): Omit<FrontOptions, "answer"> {
  const { maxBodyBytes, maxConnections, requestTimeoutSeconds, tlsCert, tlsKey } = config;
  return {
    maxBodyBytes,
    maxConnections,
    requestTimeoutMs: requestTimeoutSeconds * 1000,
    ...(tlsCert && tlsKey ? { tls: readTlsFiles(tlsCert, tlsKey) } : {}),
    refuse(error, response, requestId) {
      logBug(error, requestId, services.log);
      sendAwsError(response, error, requestId);
    },
    refused: (outcome) => metrics.request("http", "unknown", outcome),
  };
}

const byName = (list: typeof operations) => new Map(list.map((operation) => [operation.name, operation]));

function jsonDoor(api: Api, authenticator: Authenticator): AwsJsonDoor {
  return {
    api,
    operations: byName(awsOperations),
    authenticate: (request) => authenticator.signed(request, ["secretsmanager"]),
  };
}

function addHealth({ app }: Front, { services }: Api): void {
  keySet(app, () => services.signingKeys.served(services.now()));
  health(app, { store: () => services.sql.query("select 1"), key: () => services.keys.check() }, services.log);
}

function sendQueryAnswer(request: RawRequest, response: ServerResponse, { status, contentType, body }: QueryAnswer): void {
  if (response.headersSent || response.destroyed) return;
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
