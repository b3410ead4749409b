import type { FastifyInstance } from "fastify";

/** What must work before this process should get requests; each check rejects when its part does not. */
export interface ReadinessChecks {
  store(): Promise<unknown>;
  key(): Promise<unknown>;
}

const maxCheckMs = 2_000;

/** `GET /healthz`: the process answers. `GET /readyz`: store and key are usable, else 503 naming the part that is not. */
export function health(app: FastifyInstance, checks: ReadinessChecks): void {
  const readiness = shared(async () => ({ store: await outcome(checks.store()), key: await outcome(checks.key()) }));
  app.get("/healthz", () => ({ status: "ok" }));
  app.get("/readyz", async (_request, reply) => {
    const parts = await readiness();
    const ready = parts.store === "ok" && parts.key === "ok";
    return reply.code(ready ? 200 : 503).send({ status: ready ? "ready" : "not ready", ...parts });
  });
}

/** Callers at the same time get the same answer: whoever may ask needs no credentials, so asking must stay cheap. */
function shared<T>(ask: () => Promise<T>): () => Promise<T> {
  let asked: Promise<T> | undefined;
  return () => {
    asked ??= ask().finally(() => {
      asked = undefined;
    });
    return asked;
  };
}

async function outcome(check: Promise<unknown>): Promise<"ok" | "failed"> {
  const late = Promise.withResolvers<"failed">();
  const timer = setTimeout(() => late.resolve("failed"), maxCheckMs);
  try {
    const done = check.then(
      () => "ok" as const,
      () => "failed" as const,
    );
    return await Promise.race([done, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}
