import { randomUUID } from "node:crypto";
import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from "node:http";
import { createServer as createTlsServer, type Server as TlsServer } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import type { FastifyInstance } from "fastify";
import { ServiceError } from "../core/error.ts";
import { createApp } from "./app.ts";
import { Connections } from "./connections.ts";
import { LargeBodies } from "./large-bodies.ts";
import { type RawRequest, rawRequest, readBody } from "./raw-request.ts";
import { cannotListen, closeListener } from "./server-socket.ts";
import type { TlsFiles } from "./tls.ts";
import { UnframedBodies } from "./unframed-delete.ts";

export interface FrontOptions {
  /** Answers `POST /`, which needs the body as it came. */
  answer(request: RawRequest, response: ServerResponse): Promise<void>;
  /** Answers a `POST /` whose body could not be read, or whose answer failed. */
  refuse(error: unknown, response: ServerResponse, requestId: string): void;
  /** Takes a request to another path than `/` unless it answers false; then Fastify answers. */
  elsewhere?(incoming: IncomingMessage, response: ServerResponse): boolean;
  /** Told of requests that were refused before they reached an operation; `HTTP 431` or an error code. */
  refused?(outcome: string): void;
  readonly maxBodyBytes: number;
  readonly maxConnections: number;
  /** For a whole request to arrive. */
  readonly requestTimeoutMs: number;
  readonly tls?: TlsFiles;
}

/** The listening side: `POST /` goes straight to the AWS doors, all other paths to Fastify. */
export interface Front {
  readonly app: FastifyInstance;
  /** Aborted when the end begins: answers without an end of their own then end. */
  readonly closing: AbortSignal;
  /** Answers a request that came by another way than this listener; only once it listens. */
  handle(incoming: IncomingMessage, response: ServerResponse): void;
  /** The address in use, once listening. @throws ConfigError when it cannot listen there. */
  listen(listen: { host: string; port: number }): Promise<{ host: string; port: number }>;
  /** Connections from now on see this certificate. */
  setTls(files: TlsFiles): void;
  /** Takes no new connections and waits for open requests, at most `drainMs`; `handle` goes on working. */
  drain(drainMs: number): Promise<void>;
  /** Drains, then ends all of it. */
  close(drainMs: number): Promise<void>;
}

const maxHeadersMs = 10_000;
const keepAliveMs = 65_000;
const handshakeTimeoutMs = 10_000;
const checkTimeoutsMs = 1_000;
const maxHeaderBytes = 16_384;
/** Beyond its own bound Node refuses, or in some releases drops headers without a word: one more is let in, and refused here. */
const maxHeaders = 100;

export function createFront(options: FrontOptions): Front {
  let server: Server | TlsServer | undefined;
  const closing = new AbortController();
  const unframed = new UnframedBodies();
  const connections = new Connections((status) => options.refused?.(`HTTP ${status}`));
  let handle: RequestListener = (_incoming, response) => response.destroy();
  const app = createApp(options, {
    serverFactory: (handler) => {
      handle = receive(options, handler, { connections, unframed, closing: closing.signal });
      server = listener(options, handle);
      server.on(options.tls ? "secureConnection" : "connection", (socket: Socket) => connections.opened(socket));
      server.on("checkExpectation", (_incoming, response: ServerResponse) => connections.refuseRequest(417, response));
      return server;
    },
    clientErrorHandler: (error, socket) => {
      if (!unframed.take(error, socket)) connections.refuse(error, socket);
    },
  });
  let draining: Promise<void> | undefined;
  const drain = (drainMs: number): Promise<void> => {
    closing.abort();
    connections.closeUnused();
    draining ??= server ? closeListener(server, drainMs) : Promise.resolve();
    return draining;
  };
  return {
    app,
    closing: closing.signal,
    drain,
    handle: (incoming, response) => handle(incoming, response),
    async listen({ host, port }) {
      await app.listen({ host, port }).catch((error: unknown) => {
        throw cannotListen(error, "--listen", { host, port });
      });
      const address = server?.address() as AddressInfo;
      return { host, port: address.port };
    },
    setTls(files) {
      if (server && "setSecureContext" in server) server.setSecureContext({ ...files, minVersion: "TLSv1.2" });
    },
    async close(drainMs) {
      await drain(drainMs); // before Fastify knows of it, which would refuse what comes by open connections
      await app.close();
    },
  };
}

function listener(options: FrontOptions, onRequest: RequestListener): Server | TlsServer {
  const settings = {
    keepAliveTimeout: keepAliveMs,
    headersTimeout: Math.min(maxHeadersMs, options.requestTimeoutMs),
    requestTimeout: options.requestTimeoutMs,
    connectionsCheckingInterval: checkTimeoutsMs,
    maxHeaderSize: maxHeaderBytes,
    insecureHTTPParser: false,
    requireHostHeader: false, // looked at below: every refusal has a request id
  };
  const server = options.tls
    ? createTlsServer({ ...settings, ...options.tls, minVersion: "TLSv1.2", handshakeTimeout: handshakeTimeoutMs }, onRequest)
    : createServer(settings, onRequest);
  server.maxConnections = options.maxConnections;
  // Among several processes: else what one has no room for is offered round and round, as fast as they can.
  Object.assign(server, { dropMaxConnection: true });
  server.maxHeadersCount = maxHeaders + 1;
  return server;
}

interface Around {
  readonly connections: Connections;
  readonly unframed: UnframedBodies;
  readonly closing: AbortSignal;
}

function receive(options: FrontOptions, handler: RequestListener, { connections, unframed, closing }: Around): RequestListener {
  const largeBodies = new LargeBodies(options.maxBodyBytes);
  return (incoming, response) => {
    const alone = connections.begin(response);
    unframed.begin(incoming, response, alone);
    if (closing.aborted) response.setHeader("Connection", "close");
    if (incoming.headers.host === undefined && incoming.httpVersion === "1.1") return connections.refuseRequest(400, response);
    if (incoming.rawHeaders.length / 2 > maxHeaders) return connections.refuseRequest(431, response);
    if (!largeBodies.hasRoom(incoming, response)) return connections.refuseRequest(429, response);
    const isRoot = incoming.url === "/" || incoming.url?.startsWith("/?");
    if (incoming.method === "POST" && isRoot) void answerRoot(options, incoming, response);
    else if (!options.elsewhere?.(incoming, response)) handler(incoming, response);
  };
}

/** Requests that came in one turn of the event loop are worked on together: alternating with reading and writing costs far more. */
const turn = {
  ends: undefined as Promise<void> | undefined,
  over(): Promise<void> {
    turn.ends ??= new Promise((resolve) => {
      setImmediate(() => {
        turn.ends = undefined;
        resolve();
      });
    });
    return turn.ends;
  },
};

/** Never rejects: nobody would hear it. */
async function answerRoot(options: FrontOptions, incoming: IncomingMessage, response: ServerResponse): Promise<void> {
  const requestId = randomUUID();
  try {
    const body = await read(options, incoming);
    await turn.over();
    await options.answer(rawRequest(incoming, body, requestId), response);
  } catch (error) {
    try {
      options.refuse(error, response, requestId);
    } catch {
      response.destroy(); // an end without an answer is better than none
    }
  }
}

async function read(options: FrontOptions, incoming: IncomingMessage): Promise<Buffer> {
  try {
    return await readBody(incoming, options.maxBodyBytes);
  } catch (error) {
    options.refused?.(error instanceof ServiceError ? error.code : "InternalServiceError");
    throw error;
  }
}
