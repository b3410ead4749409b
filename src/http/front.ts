import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import Fastify, { type FastifyInstance } from "fastify";
import { type RawRequest, rawRequest, readBody } from "./raw-request.ts";

export interface FrontOptions {
  /** Answers `POST /`, which needs the body as it came. */
  answer(request: RawRequest, response: ServerResponse): Promise<void>;
  /** Answers a `POST /` whose body could not be read. */
  refuse(error: unknown, response: ServerResponse): void;
  readonly maxBodyBytes: number;
  readonly maxConnections: number;
  readonly tls?: { readonly cert: string; readonly key: string };
}

/** The listening side: `POST /` goes straight to the AWS doors, all other paths to Fastify. */
export interface Front {
  readonly app: FastifyInstance;
  /** The address in use, once listening. */
  listen(listen: { host: string; port: number }): Promise<{ host: string; port: number }>;
  /** Takes no new connections and waits for open requests, at most `drainMs`. */
  close(drainMs: number): Promise<void>;
}

const headersTimeoutMs = 10_000;
const requestTimeoutMs = 30_000;
const keepAliveMs = 65_000;

export function createFront(options: FrontOptions): Front {
  let server: Server | undefined;
  const app = Fastify({
    bodyLimit: options.maxBodyBytes,
    requestTimeout: requestTimeoutMs,
    keepAliveTimeout: keepAliveMs,
    serverFactory: (handler) => {
      server = listener(options, handler);
      return server;
    },
  });
  return {
    app,
    async listen({ host, port }) {
      await app.listen({ host, port });
      const address = server?.address() as AddressInfo;
      return { host, port: address.port };
    },
    async close(drainMs) {
      const late = setTimeout(() => server?.closeAllConnections(), drainMs);
      server?.closeIdleConnections();
      await app.close();
      clearTimeout(late);
    },
  };
}

function listener(options: FrontOptions, handler: (request: IncomingMessage, response: ServerResponse) => void): Server {
  const onRequest = (incoming: IncomingMessage, response: ServerResponse): void => {
    const isRoot = incoming.url === "/" || incoming.url?.startsWith("/?");
    if (incoming.method === "POST" && isRoot) void answerRoot(options, incoming, response);
    else handler(incoming, response);
  };
  const settings = { keepAliveTimeout: keepAliveMs, headersTimeout: headersTimeoutMs, requestTimeout: requestTimeoutMs };
  const server = options.tls ? createTlsServer({ ...settings, ...options.tls }, onRequest) : createServer(settings, onRequest);
  server.maxConnections = options.maxConnections;
  return server;
}

async function answerRoot(options: FrontOptions, incoming: IncomingMessage, response: ServerResponse): Promise<void> {
  try {
    const body = await readBody(incoming, options.maxBodyBytes);
    await options.answer(rawRequest(incoming, body), response);
  } catch (error) {
    options.refuse(error, response);
  }
}
