import type { IncomingMessage } from "node:http";
import type { FastifyInstance } from "fastify";
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";

/** Numbers about this process for Prometheus. Labels are operations, outcomes and states: never names of secrets. */
export interface Metrics {
  /** One answered request; `outcome` is `ok` or the error code. */
  request(operation: string, outcome: string, seconds: number): void;
  /** The text of `GET /metrics`. */
  text(): Promise<string>;
}

/** `rotations` counts the rotations of each state, at every scrape. */
export function createMetrics(rotations: () => Promise<ReadonlyMap<string, number>>): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const registers = [registry];
  const requests = new Counter({
    name: "rekey_requests_total",
    help: "Requests answered, by operation and outcome.",
    labelNames: ["operation", "outcome"],
    registers,
  });
  const seconds = new Histogram({
    name: "rekey_request_duration_seconds",
    help: "Time from a request's arrival to its answer.",
    labelNames: ["operation"],
    buckets: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
    registers,
  });
  new Gauge({
    name: "rekey_rotations",
    help: "Rotations on record, by state.",
    labelNames: ["state"],
    registers,
    async collect() {
      const counts = await rotations();
      this.reset();
      for (const [state, count] of counts) this.set({ state }, count);
    },
  });
  return {
    request(operation, outcome, took) {
      requests.inc({ operation, outcome });
      seconds.observe({ operation }, took);
    },
    text: () => registry.metrics(),
  };
}

/** `GET /metrics`, for this machine only unless the address is one made for it (`--metrics-listen`). */
export function metricsRoute(app: FastifyInstance, metrics: Metrics, { everyone }: { everyone: boolean }): void {
  app.get("/metrics", async (request, reply) => {
    if (!everyone && !fromThisMachine(request.raw)) return reply.code(404).send({ status: "not found" });
    return reply.type(Registry.PROMETHEUS_CONTENT_TYPE).send(await metrics.text());
  });
}

/** A proxy on this machine speaks for somebody else. */
function fromThisMachine({ socket, headers }: IncomingMessage): boolean {
  const address = socket.remoteAddress?.replace(/^::ffff:/, "") ?? "";
  const local = address === "::1" || address.startsWith("127.");
  return local && headers["x-forwarded-for"] === undefined && headers.forwarded === undefined;
}
