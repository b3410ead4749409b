import type { FastifyInstance } from "fastify";
import type { Logger } from "pino";

/** What must work before this process should get requests; each check rejects when its part does not. */
export interface ReadinessChecks {
  store(): Promise<unknown>;
  key(): Promise<unknown>;
}

const maxCheckMs = 2_000;
/** Whoever may ask needs no credentials, so asking must stay cheap, also where the key is another service's. */
const keptMs = 500;

/** `GET /healthz`: the process answers. `GET /readyz`: store and key are usable, else 503 saying in words what is not. */
export function health(app: FastifyInstance, checks: ReadinessChecks, log: Logger): void {
  const readiness = kept(async () => {
    const [store, key] = await Promise.all([problemOf("store", checks.store, log), problemOf("key", checks.key, log)]);
    return { store, key };
  });
  app.get("/healthz", () => ({ status: "ok" }));
  app.get("/readyz", async (_request, reply) => {
    const { store, key } = await readiness();
    if (!store && !key) return { status: "ready", store: "ok", key: "ok" };
    const reason = [store, key].filter((problem) => problem !== undefined).join(" ");
    return reply.code(503).send({ status: "not ready", store: store ? "failed" : "ok", key: key ? "failed" : "ok", reason });
  });
}

/** Callers within a short time get the same answer. */
function kept<T>(ask: () => Promise<T>): () => Promise<T> {
  let asked: Promise<T> | undefined;
  return () => {
    asked ??= ask().finally(() => {
      setTimeout(() => {
        asked = undefined;
      }, keptMs).unref();
    });
    return asked;
  };
}

/** What does not work, in words for everyone; its cause goes to the log. Undefined: all is well. */
async function problemOf(part: keyof ReadinessChecks, check: () => Promise<unknown>, log: Logger): Promise<string | undefined> {
  const late = Promise.withResolvers<string>();
  const timer = setTimeout(() => late.resolve(`The ${part} did not answer within ${maxCheckMs / 1000} seconds.`), maxCheckMs);
  const done = (async () => check())().then(
    () => undefined,
    (error: unknown) => {
      log.warn({ err: error, part }, "not ready");
      return part === "store"
        ? "The store cannot be read; the server's log says why."
        : "The root key cannot unwrap the store's keys; the server's log says why.";
    },
  );
  try {
    return await Promise.race([done, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}
