import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { FastifyInstance } from "fastify";
import type { ProcessMetrics, StoreCounts } from "./process-metrics.ts";
import { originOf } from "./raw-request.ts";
import { type DoorName, RequestCounts } from "./request-counts.ts";
import { cannotListen } from "./server-socket.ts";

/** Numbers about this process for Prometheus. Labels are operations, outcomes and states: never names of secrets. */
export interface Metrics {
  /** One answered request of an operation, or `unknown`; `outcome` is `ok` or the error code. */
  request(door: DoorName, operation: string, outcome: string, seconds?: number): void;
  /** The text of `GET /metrics`. */
  text(): Promise<string>;
}

export function createMetrics(counts?: StoreCounts): Metrics {
  const requests = new RequestCounts();
  let process: Promise<ProcessMetrics> | undefined;
  return {
    request: (door, operation, outcome, seconds) => requests.add(door, operation, outcome, seconds),
    async text() {
      // With the first scrape: without one, the library's memory is for nothing.
      process ??= import("./process-metrics.ts").then(({ createProcessMetrics }) => createProcessMetrics(counts));
      return `${await (await process).text()}\n${requests.text()}`;
    },
  };
}

/** Source: Prometheus documentation, "Exposition formats". */
const headers = {
  "Content-Type": "text/plain; version=0.0.4; charset=utf-8",
  "Cache-Control": "no-store",
  "X-Content-Type-Options": "nosniff",
};

/** `GET /metrics` beside everything else: for this machine only. */
export function metricsRoute(app: FastifyInstance, metrics: Pick<Metrics, "text">): void {
  app.get("/metrics", async (request, reply) => {
    if (!fromThisMachine(request.raw)) return reply.callNotFound();
    return reply.headers(headers).send(await metrics.text());
  });
}

/** A proxy on this machine speaks for somebody else. */
function fromThisMachine(incoming: IncomingMessage): boolean {
  const { sourceIp } = originOf(incoming);
  const local = sourceIp === "::1" || sourceIp.startsWith("127.");
  return local && incoming.headers["x-forwarded-for"] === undefined && incoming.headers.forwarded === undefined;
}

export interface MetricsListener extends AsyncDisposable {
  readonly port: number;
}

const maxScrapers = 64;

/** `GET /metrics` on an address of its own, for whoever can reach that. @throws ConfigError when it cannot listen there. */
export async function listenForMetrics(
  metrics: Pick<Metrics, "text">,
  { host, port }: { host: string; port: number },
): Promise<MetricsListener> {
  const server = createServer({ requestTimeout: 10_000, headersTimeout: 5_000 }, (request, response) => {
    void answerScrape(metrics, request, response);
  });
  server.maxConnections = maxScrapers;
  const listening = Promise.withResolvers<void>();
  server.once("error", listening.reject);
  server.listen(port, host, listening.resolve);
  await listening.promise.catch((error: unknown) => {
    throw cannotListen(error, "--metrics-listen", { host, port });
  });
  server.off("error", listening.reject);
  return {
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      const closed = Promise.withResolvers<void>();
      server.close(() => closed.resolve());
      server.closeAllConnections();
      await closed.promise;
    },
  };
}

async function answerScrape(metrics: Pick<Metrics, "text">, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const path = request.url?.split("?")[0];
  if (path !== "/metrics" || (request.method !== "GET" && request.method !== "HEAD")) {
    response.writeHead(404, { "Content-Length": 0 }).end();
    return;
  }
  try {
    const text = await metrics.text();
    response.writeHead(200, headers).end(request.method === "HEAD" ? undefined : text);
  } catch {
    response.destroy(); // a scraper takes an end without an answer for what it is: down
  }
}
