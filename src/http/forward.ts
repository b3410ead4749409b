import { Agent, createServer, request as httpRequest, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { pipeline } from "node:stream/promises";
import { ServiceError } from "../core/error.ts";
import { type Origin, type RawRequest, setOrigin } from "./raw-request.ts";

/** Hands requests to another process over a socket in the file system. */
export interface Forwarder {
  /**
   * Sends the request as it came and its answer as it comes.
   * @throws ServiceError InternalServiceError when there is no answer: whether anything was done cannot be told.
   */
  send(request: RawRequest, response: ServerResponse): Promise<void>;
  close(): void;
}

/** First header of a request that is handed on. It means something on that socket only, where the other process put it. */
const originHeader = "rekey-origin";
/** Longer than any request is worked on, and than agents' polls wait. */
const longestSilenceMs = 60_000;
const maxHeaderBytes = 64 * 1024;
/** They speak of one connection, not of the answer. */
const connectionHeaders: ReadonlySet<string> = new Set(["connection", "keep-alive", "transfer-encoding"]);

export function createForwarder(socketPath: string): Forwarder {
  const agent = new Agent({ keepAlive: true });
  return {
    async send(request, response) {
      try {
        const answer = await ask(request, response, { socketPath, agent });
        response.writeHead(answer.statusCode ?? 500, withoutConnection(answer.rawHeaders));
        await pipeline(answer, response);
      } catch (cause) {
        if (response.headersSent || response.destroyed)
          response.destroy(); // the caller must not take half an answer for a whole one
        else throw unanswered(cause);
      }
    },
    close: () => agent.destroy(),
  };
}

/** Headers go as they came, in their order: a signature covers them. */
function ask(request: RawRequest, response: ServerResponse, way: { socketPath: string; agent: Agent }): Promise<IncomingMessage> {
  const { method, path, query, rawHeaders, body, sourceIp, secure } = request;
  const origin: Origin = { sourceIp, secure };
  return new Promise((resolve, reject) => {
    const outgoing = httpRequest({
      ...way,
      method,
      path: query === "" ? path : `${path}?${query}`,
      headers: [originHeader, JSON.stringify(origin), ...rawHeaders],
      timeout: longestSilenceMs,
    });
    outgoing.on("response", resolve);
    // A caller that is gone waits for nothing: the other process is to know.
    response.once("close", () => outgoing.destroy());
    outgoing.on("error", reject);
    outgoing.on("timeout", () => outgoing.destroy(new Error(`no answer within ${longestSilenceMs} ms`)));
    outgoing.end(body);
  });
}

function unanswered(cause: unknown): ServiceError {
  const text = "The process that makes changes did not answer. Try again; with the same token nothing is done twice.";
  return new ServiceError("InternalServiceError", text, { cause });
}

function withoutConnection(rawHeaders: readonly string[]): string[] {
  const kept: string[] = [];
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const [name = "", value = ""] = rawHeaders.slice(at, at + 2);
    if (!connectionHeaders.has(name.toLowerCase())) kept.push(name, value);
  }
  return kept;
}

/** The other end, to be listened with on a socket that only this user can open: gives `handle` the request as it first came. */
export function createForwardListener(handle: (incoming: IncomingMessage, response: ServerResponse) => void): Server {
  const settings = { keepAliveTimeout: 0, requestTimeout: 0, headersTimeout: 0, maxHeaderSize: maxHeaderBytes };
  const server = createServer(settings, (incoming, response) => {
    if (takeOrigin(incoming)) handle(incoming, response);
    else response.writeHead(400).end();
  });
  server.maxHeadersCount = 0;
  return server;
}

/** Takes our header off, which is the first; one of that name that the caller sent stays where it was. */
function takeOrigin(incoming: IncomingMessage): boolean {
  const [name, text, ...rest] = incoming.rawHeaders;
  if (name !== originHeader || text === undefined) return false;
  setOrigin(incoming, JSON.parse(text) as Origin);
  incoming.rawHeaders = rest;
  const others = rest.filter((_value, index) => index % 2 === 1 && rest[index - 1]?.toLowerCase() === originHeader);
  if (others.length === 0) delete incoming.headers[originHeader];
  else incoming.headers[originHeader] = others.join(", ");
  return true;
}
