import type { IncomingHttpHeaders, IncomingMessage } from "node:http";
import { ServiceError } from "../core/error.ts";

/** A request with its body as it came, which is what a signature covers. */
export interface RawRequest {
  readonly requestId: string;
  readonly method: string;
  readonly path: string;
  readonly query: string;
  readonly headers: IncomingHttpHeaders;
  readonly rawHeaders: readonly string[];
  readonly body: Buffer;
  readonly sourceIp: string;
  readonly userAgent: string;
  readonly secure: boolean;
}

/** Who sent a request, as the process that took the connection saw it. */
export interface Origin {
  readonly sourceIp: string;
  readonly secure: boolean;
}

/** Of requests that another process handed on. */
const origins = new WeakMap<IncomingMessage, Origin>();

/** Says where a request came from that did not come by a connection of its own. */
export function setOrigin(incoming: IncomingMessage, origin: Origin): void {
  origins.set(incoming, origin);
}

export function originOf(incoming: IncomingMessage): Origin {
  const { socket } = incoming;
  return origins.get(incoming) ?? { sourceIp: plainAddress(socket.remoteAddress), secure: "encrypted" in socket };
}

/** Reads the body, never more than `maxBytes`. @throws ServiceError RequestEntityTooLarge, SerializationException when it is cut off. */
export function readBody(incoming: IncomingMessage, maxBytes: number): Promise<Buffer> {
  const tooLarge = () => new ServiceError("RequestEntityTooLarge", `The request body is larger than ${maxBytes} bytes.`);
  const announced = Number(incoming.headers["content-length"] ?? 0);
  if (announced > maxBytes) return Promise.reject(tooLarge());
  return new Promise((resolve, reject) => {
    let held: Buffer = Buffer.alloc(0);
    let size = 0;
    incoming.on("data", (chunk: Buffer) => {
      if (size + chunk.length > maxBytes) {
        incoming.removeAllListeners("data");
        incoming.resume();
        reject(tooLarge());
        return;
      }
      // The usual request comes in one piece; of many small pieces none is kept, since each would hold far more than its bytes.
      if (size === 0 && chunk.length === announced) held = chunk;
      else {
        if (size + chunk.length > held.length) held = grown(held, size, size + chunk.length);
        chunk.copy(held, size);
      }
      size += chunk.length;
    });
    incoming.on("end", () => resolve(held.subarray(0, size)));
    const cut = () => reject(new ServiceError("SerializationException", "The request ended before its body did."));
    incoming.on("error", cut);
    incoming.on("close", () => {
      if (!incoming.readableEnded) cut(); // not for every request that is done: an error in vain costs much
    });
  });
}

function grown(held: Buffer, size: number, needed: number): Buffer {
  const larger = Buffer.allocUnsafe(Math.max(needed, held.length * 2, 4096));
  held.copy(larger, 0, 0, size);
  return larger;
}

/** What is known of a request before anyone has looked at what it says. */
export function rawRequest(incoming: IncomingMessage, body: Buffer, requestId: string): RawRequest {
  const url = incoming.url ?? "/";
  const mark = url.indexOf("?");
  return {
    requestId,
    method: incoming.method ?? "GET",
    path: mark < 0 ? url : url.slice(0, mark),
    query: mark < 0 ? "" : url.slice(mark + 1),
    headers: incoming.headers,
    rawHeaders: incoming.rawHeaders,
    body,
    ...originOf(incoming),
    userAgent: incoming.headers["user-agent"] ?? "",
  };
}

/** IPv4 in its own notation also where the socket speaks IPv6. */
function plainAddress(address: string | undefined): string {
  return address?.replace(/^::ffff:/, "") ?? "";
}
