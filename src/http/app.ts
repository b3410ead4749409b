import { randomUUID } from "node:crypto";
import type { Server } from "node:http";
import Fastify, { type FastifyHttpOptions, type FastifyInstance } from "fastify";
import { ServiceError } from "../core/error.ts";
import { sendConfigError } from "./config-api-errors.ts";
import { sendProblem } from "./problem.ts";

interface AppOptions {
  readonly maxBodyBytes: number;
  refused?(outcome: string): void;
}

/** Everything but `POST /`. All answers carry a request id, are never cached and never taken for another type; no CORS. */
export function createApp(
  options: AppOptions,
  listening: Pick<FastifyHttpOptions<Server>, "serverFactory" | "clientErrorHandler">,
): FastifyInstance {
  const app = Fastify({
    ...listening,
    bodyLimit: options.maxBodyBytes,
    genReqId: () => randomUUID(),
    frameworkErrors: (_error, request, reply) => {
      options.refused?.("SerializationException");
      reply.headers(headersOf(request.id));
      const isConfigApi = request.raw.url?.startsWith("/v3/") === true;
      return isConfigApi ? sendConfigError(reply, unreadable(), request.id) : sendProblem(reply, unreadable(), request.id);
    },
  });
  app.addHook("onRequest", (request, reply, done) => {
    reply.headers(headersOf(request.id));
    done();
  });
  app.setErrorHandler((error, request, reply) => {
    const told = fromFastify(error, options.maxBodyBytes);
    options.refused?.(told instanceof ServiceError ? told.code : "InternalServiceError");
    return sendProblem(reply, told, request.id);
  });
  app.setNotFoundHandler((request, reply) => {
    options.refused?.("UnknownOperationException");
    const text = `There is no ${request.method} ${request.url.split("?")[0]?.slice(0, 200)}.`;
    return sendProblem(reply, new ServiceError("UnknownOperationException", text), request.id);
  });
  return app;
}

const headersOf = (requestId: string) => ({
  "x-amzn-requestid": requestId,
  "rekey-request-id": requestId,
  "cache-control": "no-store",
  "x-content-type-options": "nosniff",
});

const unreadable = () => new ServiceError("SerializationException", "The request could not be read.");

/** Fastify's own refusals; what else gets here is a bug and told as one. */
function fromFastify(error: unknown, maxBodyBytes: number): unknown {
  const status = error instanceof Error && "statusCode" in error ? error.statusCode : undefined;
  if (status === 413) return new ServiceError("RequestEntityTooLarge", `The request body is larger than ${maxBodyBytes} bytes.`);
  return typeof status === "number" && status < 500 ? unreadable() : error;
}
