import type { ServerResponse } from "node:http";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { ServiceError } from "../core/error.ts";
import type { Principal } from "../core/principal.ts";
import type { Operation, Resource } from "../operations/operation.ts";
import { about, authenticate, type ConfigApiDoor, inputOf, readAsked } from "./config-api-call.ts";
import { sendConfigError } from "./config-api-errors.ts";
import type { Asked } from "./config-api-input.ts";
import { config } from "./config-api-route.ts";
import type { ConfigOutput } from "./config-api-shapes.ts";
import { ConfigWatches } from "./config-watches.ts";
import { dispatch, logBug } from "./dispatch.ts";

const path = "/v3/configs/config/secrets/watch";
const permission = "rekey:GetConfigSecrets";
/** Rights are looked at so often, and before every event. */
const recheckMs = 5_000;
/** Below any time after which a silent connection is taken for dead. */
const pingMs = 10_000;
/** The CLI drops two events that it reads at once, which a busy one does when they come in quick succession. */
const spacingMs = 1_000;
/** A client that does not read gets no more. */
const maxUnreadBytes = 16 * 1024;

type EventType = "connected" | "secrets.update" | "ping";

/** Doppler's event stream: tells that a config's download is another one now. @param operation GetConfig */
export function configWatch(scope: FastifyInstance, door: ConfigApiDoor, operation: Operation): void {
  const { sql, hints, log } = door.api.services;
  const watches = new ConfigWatches({ sql, hints, log });
  const open = new OpenStreams(door.maxStreams);
  door.closing.addEventListener("abort", () => open.endAll());
  scope.get(path, { exposeHeadRoute: false }, async (request, reply) => {
    try {
      const asked = await readAsked(request);
      const { output, ...caller } = await find(asked, door, operation);
      if (door.closing.aborted || !open.hasRoom(caller.principal)) throw new ServiceError("ThrottlingException", tooMany);
      const stream = new Stream(begin(request, reply), () => mayStill(asked, caller.resource, door));
      open.add(stream, caller.principal);
      const stop = watches.add(output.Config.Id, output.Config.Generation, {
        changed: () => stream.tell("secrets.update"),
        gone: () => stream.end(),
      });
      stream.onEnd(stop);
      return reply;
    } catch (error) {
      logBug(error, request.id, log);
      return sendConfigError(reply, error, request.id);
    }
  });
}

const tooMany = "Too many streams are open; try again later, or ask for the secrets now and then instead.";

interface Found {
  readonly principal: Principal;
  readonly resource: Resource;
  readonly output: { readonly Config: ConfigOutput };
}

/** Which config it is, whether the caller may see what it holds, and the record that they asked. */
async function find(asked: Asked, door: ConfigApiDoor, operation: Operation): Promise<Found> {
  let caller: { principal: Principal; resource: Resource } | undefined;
  const reading: Operation = { ...operation, action: permission };
  const output = await dispatch(
    {
      ...about(asked),
      authenticate: () => authenticate(asked, "header", door),
      operation: () => reading,
      body: () => inputOf(asked, { input: config }),
      allowed: (principal, resource) => {
        caller = { principal, resource };
      },
    },
    door.api,
  );
  if (!caller) throw new Error("answered without a caller");
  return { ...caller, output: output as Found["output"] };
}

/** False when it is certain that the caller may not any more; what could not be asked is asked again later. */
async function mayStill(asked: Asked, resource: Resource, { api, ...door }: ConfigApiDoor): Promise<boolean> {
  const { sourceIp, userAgent, secure } = asked.raw;
  try {
    const { principal, region } = await authenticate(asked, "header", door);
    const facts = { sourceIp, userAgent, secure, region, now: api.services.now() };
    return api.authorize(principal, permission, resource, facts) === undefined;
  } catch (error) {
    return !(error instanceof ServiceError) || error.code === "ThrottlingException";
  }
}

function begin(request: FastifyRequest, reply: FastifyReply): ServerResponse {
  reply.hijack();
  const headers = { ...reply.getHeaders(), "content-type": "text/event-stream", "x-accel-buffering": "no" };
  request.raw.socket.setNoDelay(true); // each event in a packet of its own
  reply.raw.writeHead(200, headers as Record<string, string>);
  return reply.raw;
}

/** One client that listens. */
class Stream {
  readonly #response: ServerResponse;
  readonly #mayStill: () => Promise<boolean>;
  readonly #timer: NodeJS.Timeout;
  readonly #ended: (() => void)[] = [];
  #toldAt = Number.NEGATIVE_INFINITY;
  #waiting: NodeJS.Timeout | undefined;
  #over = false;

  constructor(response: ServerResponse, mayStill: () => Promise<boolean>) {
    this.#response = response;
    this.#mayStill = mayStill;
    this.#timer = setInterval(() => void this.#look(), recheckMs);
    response.on("error", () => this.end());
    response.once("close", () => this.end());
    this.#write("connected");
  }

  /** Told at once when the stream is over already. */
  onEnd(ended: () => void): void {
    if (this.#over) ended();
    else this.#ended.push(ended);
  }

  /** Several within a short while are told as one. */
  tell(type: EventType): void {
    if (this.#over || this.#waiting) return;
    const wait = Math.max(0, this.#toldAt + spacingMs - performance.now());
    this.#waiting = setTimeout(() => {
      this.#waiting = undefined;
      void this.#look(type);
    }, wait);
  }

  end(): void {
    if (this.#over) return;
    this.#over = true;
    clearInterval(this.#timer);
    clearTimeout(this.#waiting);
    for (const ended of this.#ended) ended();
    if (!this.#response.destroyed) this.#response.end();
  }

  async #look(type?: EventType): Promise<void> {
    const may = await this.#mayStill();
    if (this.#over) return;
    if (!may) return this.end();
    if (type !== undefined) this.#write(type);
    else if (!this.#waiting && performance.now() - this.#toldAt >= pingMs) this.#write("ping");
  }

  #write(type: EventType): void {
    this.#toldAt = performance.now();
    this.#response.write(`event: message\ndata: ${JSON.stringify({ type })}\n\n`);
    if (this.#response.writableLength > maxUnreadBytes) this.#response.destroy();
  }
}

/** A bound to what listens, in all and of one caller. */
class OpenStreams {
  readonly #max: number;
  readonly #streams = new Set<Stream>();
  readonly #counts = new Map<string, number>();

  constructor(max: number) {
    this.#max = max;
  }

  hasRoom({ arn }: Principal): boolean {
    return this.#streams.size < this.#max && (this.#counts.get(arn) ?? 0) < this.#max / 2;
  }

  add(stream: Stream, { arn }: Principal): void {
    this.#streams.add(stream);
    this.#counts.set(arn, (this.#counts.get(arn) ?? 0) + 1);
    stream.onEnd(() => {
      this.#streams.delete(stream);
      const left = (this.#counts.get(arn) ?? 1) - 1;
      if (left === 0) this.#counts.delete(arn);
      else this.#counts.set(arn, left);
    });
  }

  endAll(): void {
    for (const stream of [...this.#streams]) stream.end();
  }
}
