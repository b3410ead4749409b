import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { ServiceError } from "../core/error.ts";
import type { Operation } from "../operations/operation.ts";
import { absenceOf } from "./config-api-absent.ts";
import { accessRoutes } from "./config-api-access.ts";
import { about, authenticate, type ConfigApiDoor, inputOf, readAsked } from "./config-api-call.ts";
import { dynamicRoutes } from "./config-api-dynamic.ts";
import { type FieldNames, sendConfigError } from "./config-api-errors.ts";
import { peopleRoutes } from "./config-api-people.ts";
import { projectRoutes } from "./config-api-projects.ts";
import { type ConfigRoute, RawAnswer } from "./config-api-route.ts";
import { secretRoutes } from "./config-api-secrets.ts";
import { configWatch } from "./config-api-watch.ts";
import { dispatch, logBug } from "./dispatch.ts";

const root = "/v3";

/** All endpoints of the config API but the one that streams. */
export const configRoutes: readonly ConfigRoute[] = [
  ...projectRoutes,
  ...secretRoutes,
  ...accessRoutes,
  ...peopleRoutes,
  ...dynamicRoutes,
];

/**
 * The config API: Doppler's paths, words and errors for the same operations. Source: Doppler's OpenAPI document, and what its
 * CLI and Node SDK send and read.
 */
export function configApi(app: FastifyInstance, door: ConfigApiDoor): void {
  const operations = new Map([...door.operations].map((operation) => [operation.name, operation]));
  void app.register(async (scope) => {
    scope.removeAllContentTypeParsers(); // clients say JSON also where they send nothing
    scope.addContentTypeParser("*", { parseAs: "buffer", bodyLimit: door.maxBodyBytes }, (_request, body, done) =>
      done(null, body),
    );
    scope.addHook("onRequest", (request, reply, done) => {
      reply.header("x-request-id", request.id);
      done();
    });
    scope.setErrorHandler((error, request, reply) => sendConfigError(reply, fromFastify(error, door), request.id));
    for (const route of configRoutes) {
      const served = { door, route, operation: found(operations, route.operation), names: namesOf(route) };
      const handler = (request: FastifyRequest, reply: FastifyReply) => answer(request, reply, served);
      scope.route({ method: route.method, url: route.path, exposeHeadRoute: false, handler });
    }
    configWatch(scope, door, found(operations, "GetConfig"));
    for (const path of [root, `${root}/*`]) {
      scope.all(path, (request, reply) => {
        const text = absenceOf(request.method, request.url);
        return sendConfigError(reply, new ServiceError("UnknownOperationException", text), request.id);
      });
    }
  });
}

function found(operations: ReadonlyMap<string, Operation>, name: string): Operation {
  const operation = operations.get(name);
  if (!operation) throw new Error(`the config API has a route for operation ${name}, which is not there`);
  return operation;
}

const namesOf = ({ input }: ConfigRoute): FieldNames =>
  new Map(Object.entries(input).map(([member, field]) => [member, field.name]));

interface Served {
  readonly door: ConfigApiDoor;
  readonly route: ConfigRoute;
  readonly operation: Operation;
  readonly names: FieldNames;
}

async function answer(request: FastifyRequest, reply: FastifyReply, served: Served): Promise<FastifyReply> {
  const { door, route, operation, names } = served;
  try {
    const asked = await readAsked(request);
    const output = await dispatch(
      {
        ...about(asked),
        authenticate: () => authenticate(asked, route.caller ?? "header", door),
        operation: () => operation,
        body: () => inputOf(asked, route),
        counted: (most, count, atMs) => tellRate(reply, most, count, atMs),
      },
      door.api,
    );
    return send(reply, route.answer(output, asked));
  } catch (error) {
    logBug(error, request.id, door.api.services.log);
    return sendConfigError(reply, error, request.id, names);
  }
}

/** What is left for the caller, and by when (seconds since 1970) it is whole again: of the process that answers. */
function tellRate(reply: FastifyReply, most: number, count: number, atMs: number): void {
  reply.header("x-ratelimit-limit", most);
  reply.header("x-ratelimit-remaining", Math.max(0, most - count));
  reply.header("x-ratelimit-reset", Math.ceil(atMs / 1000) + 1);
}

function send(reply: FastifyReply, body: object): FastifyReply {
  if (body instanceof RawAnswer) return reply.code(body.status).headers(body.headers).send(body.body);
  return reply.type("application/json").send(JSON.stringify(body));
}

/** Fastify's own refusals; what else gets here is a bug and told as one. */
function fromFastify(error: unknown, { maxBodyBytes, api }: ConfigApiDoor): unknown {
  const status = error instanceof Error && "statusCode" in error ? error.statusCode : undefined;
  if (status === 413) return new ServiceError("RequestEntityTooLarge", `The request body is larger than ${maxBodyBytes} bytes.`);
  if (typeof status === "number" && status < 500)
    return new ServiceError("SerializationException", "The request could not be read.");
  api.services.log.error({ err: error }, "config API");
  return error;
}
