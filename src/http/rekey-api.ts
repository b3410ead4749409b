import { randomUUID } from "node:crypto";
import type { ServerResponse } from "node:http";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { ServiceError } from "../core/error.ts";
import { isRegion } from "../core/region.ts";
import type { Operation } from "../operations/operation.ts";
import { type Api, type ApiRequest, dispatch, type Identified, logBug } from "./dispatch.ts";
import { readJsonObject } from "./json-body.ts";
import { type Shape, shapeOf, toMembers, toNative } from "./member-names.ts";
import { describeApi } from "./openapi.ts";
import { sendProblem } from "./problem.ts";
import { type RawRequest, rawRequest } from "./raw-request.ts";

export interface RekeyApiDoor {
  readonly api: Api;
  readonly operations: Iterable<Operation>;
  readonly maxBodyBytes: number;
  /** Bearer token or SigV4. @throws ServiceError when it cannot be told who calls. */
  authenticate(request: RawRequest): Identified | Promise<Identified>;
}

const root = "/rekey/v1";

/**
 * The native API: `POST /rekey/v1/<noun>/<verb>` for every operation, and `GET /rekey/v1/openapi.json`. JSON in camelCase,
 * ISO times, problems as RFC 9457 has them. Header `Rekey-Region` chooses a region when the caller shows a bearer token.
 */
export function rekeyApi(app: FastifyInstance, door: RekeyApiDoor): void {
  const operations = [...door.operations];
  void app.register(async (scope) => {
    scope.removeAllContentTypeParsers(); // a signature covers the bytes as they came
    scope.addContentTypeParser("*", { parseAs: "buffer", bodyLimit: door.maxBodyBytes }, (_request, body, done) =>
      done(null, body),
    );
    const description = JSON.stringify(describeApi(root, operations));
    scope.get(`${root}/openapi.json`, (_request, reply) => reply.type("application/json").send(description));
    for (const operation of operations) {
      const shape = shapeOf(operation.input);
      scope.post(`${root}/${operation.noun}/${operation.verb}`, (request, reply) =>
        answer(request, reply, { door, operation, shape }),
      );
    }
    scope.all(`${root}/*`, (request, reply) => {
      const text = `There is no ${request.method} ${request.url.split("?")[0]?.slice(0, 200)}. ${root}/openapi.json lists what there is.`;
      return sendProblem(reply, new ServiceError("UnknownOperationException", text), request.id);
    });
  });
}

interface Route {
  readonly door: RekeyApiDoor;
  readonly operation: Operation;
  readonly shape: Shape;
}

async function answer(request: FastifyRequest, reply: FastifyReply, { door, operation, shape }: Route): Promise<FastifyReply> {
  const raw = rawRequest(request.raw, Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0), request.id);
  const apiRequest: ApiRequest = {
    door: "rekey-api",
    requestId: raw.requestId,
    sourceIp: raw.sourceIp,
    userAgent: raw.userAgent,
    secure: raw.secure,
    get signal() {
      return whileOpen(reply.raw);
    },
    authenticate: async () => inRegion(await door.authenticate(raw), raw),
    operation: () => operation,
    body: () => withToken(toMembers(readJsonObject(raw.body), shape), shape, raw.headers["idempotency-key"]),
  };
  try {
    const output = await dispatch(apiRequest, door.api);
    return reply.type("application/json").send(JSON.stringify(toNative(output)));
  } catch (error) {
    logBug(error, raw.requestId, door.api.services.log);
    return sendProblem(reply, error, raw.requestId);
  }
}

function whileOpen(response: ServerResponse): AbortSignal {
  const gone = new AbortController();
  if (response.destroyed) gone.abort();
  response.once("close", () => gone.abort());
  return gone.signal;
}

/** A signature names its region; a bearer token leaves it to the header, else to the server's default. */
function inRegion(caller: Identified, { headers }: RawRequest): Identified {
  const region = headers["rekey-region"];
  if (region === undefined || !/^bearer /i.test(headers.authorization ?? "")) return caller;
  if (typeof region !== "string" || !isRegion(region))
    throw new ServiceError("ValidationException", "Header Rekey-Region must be an AWS region such as eu-central-1.");
  return { ...caller, region };
}

/**
 * `Idempotency-Key` is the ClientRequestToken of operations that have one; without either they get a fresh one. Where it
 * would have no effect it is refused, so that nobody repeats a request in a false belief.
 */
function withToken(members: unknown, shape: Shape, key: string | string[] | undefined): unknown {
  if (shape.properties?.ClientRequestToken === undefined) {
    if (key === undefined) return members;
    throw new ServiceError("ValidationException", "This operation takes no Idempotency-Key.");
  }
  const given = (members as { ClientRequestToken?: unknown }).ClientRequestToken;
  if (given !== undefined && key !== undefined && given !== key)
    throw new ServiceError("ValidationException", "Idempotency-Key and clientRequestToken differ; send one of them.");
  return { ...(members as object), ClientRequestToken: given ?? key ?? randomUUID() };
}
