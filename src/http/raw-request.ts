import { randomUUID } from "node:crypto";
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

/** Reads the body, never more than `maxBytes`. @throws ServiceError RequestEntityTooLarge */
export function readBody(incoming: IncomingMessage, maxBytes: number): Promise<Buffer> {
  const tooLarge = () => new ServiceError("RequestEntityTooLarge", `The request body is larger than ${maxBytes} bytes.`);
  if (Number(incoming.headers["content-length"] ?? 0) > maxBytes) return Promise.reject(tooLarge());
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    incoming.on("data", (chunk: Buffer) => {
      size += chunk.length;
      if (size > maxBytes) {
        incoming.removeAllListeners("data");
        incoming.resume();
        reject(tooLarge());
      } else chunks.push(chunk);
    });
    incoming.on("end", () => resolve(chunks.length === 1 && chunks[0] ? chunks[0] : Buffer.concat(chunks)));
    incoming.on("error", reject);
    incoming.on("close", () => reject(new ServiceError("SerializationException", "The request ended before its body did.")));
  });
}

/** What is known of a request before anyone has looked at what it says. */
export function rawRequest(incoming: IncomingMessage, body: Buffer): RawRequest {
  const url = incoming.url ?? "/";
  const mark = url.indexOf("?");
  return {
    requestId: randomUUID(),
    method: incoming.method ?? "GET",
    path: mark < 0 ? url : url.slice(0, mark),
    query: mark < 0 ? "" : url.slice(mark + 1),
    headers: incoming.headers,
    rawHeaders: incoming.rawHeaders,
    body,
    sourceIp: plainAddress(incoming.socket.remoteAddress),
    userAgent: incoming.headers["user-agent"] ?? "",
    secure: "encrypted" in incoming.socket,
  };
}

/** IPv4 in its own notation also where the socket speaks IPv6. */
function plainAddress(address: string | undefined): string {
  return address?.replace(/^::ffff:/, "") ?? "";
}
