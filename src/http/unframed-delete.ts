import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { ServiceError } from "../core/error.ts";

/** Doppler's SDK sends a few ids. */
const maxBytes = 16 * 1024;
const waitMs = 2_000;

/** What Node tells of bytes that are no HTTP. */
interface ParseFailure extends Error {
  readonly code?: string;
  readonly rawPacket?: Buffer;
  readonly bytesParsed?: number;
}

interface Waiting {
  readonly chunks: Buffer[];
  size: number;
  /** The first bytes come with the packet that the head ended in. */
  begun: boolean;
  end(body: Buffer | ServiceError): void;
}

/** Of requests whose body may come without any framing. */
const bodies = new WeakMap<IncomingMessage, Promise<Buffer | ServiceError>>();

/**
 * The body of a DELETE that came without any framing; undefined for all other requests, whose bodies are read as usual.
 * As much as came: what is no JSON object has to be refused. @throws ServiceError RequestEntityTooLarge
 */
export async function unframedBody(incoming: IncomingMessage): Promise<Buffer | undefined> {
  const body = await bodies.get(incoming);
  if (body instanceof ServiceError) throw body;
  return body;
}

/**
 * Doppler's Node SDK writes JSON after the head of a DELETE that has neither Content-Length nor Transfer-Encoding. By HTTP's
 * rules that request has no body and the JSON is a broken request behind it, which is where Node reports it. Those bytes are
 * kept for the DELETE, and nothing on that connection is read as a request any more: the parser has failed, and the answer
 * closes it. Only for that SDK, only a JSON object that stands alone, only where no other request is open on the connection:
 * else a proxy before us and we could differ on where requests end.
 */
export class UnframedBodies {
  readonly #waiting = new WeakMap<Socket, Waiting>();

  /** Every request is told here before it is answered; `alone`: the connection has no other open one. */
  begin(incoming: IncomingMessage, response: ServerResponse, alone: boolean): void {
    const { socket } = incoming;
    this.#waiting.get(socket)?.end(Buffer.alloc(0)); // what came behind it was a request, so it had no body
    if (!isUnframed(incoming)) return;
    response.setHeader("Connection", "close");
    if (!alone) return;
    const body = new Promise<Buffer | ServiceError>((resolve) => {
      const end = (found: Buffer | ServiceError): void => {
        clearTimeout(late);
        resolve(found);
      };
      const waiting: Waiting = { chunks: [], size: 0, begun: false, end };
      const endAsItIs = () => end(Buffer.concat(waiting.chunks)); // a part of a JSON object is none, and refused as such
      const late = setTimeout(endAsItIs, waitMs);
      socket.once("close", endAsItIs);
      this.#waiting.set(socket, waiting);
    });
    bodies.set(incoming, body);
  }

  /** Whether what the parser could not read belongs to such a request; then the connection stays open for its answer. */
  take(error: Error, socket: Socket): boolean {
    const waiting = this.#waiting.get(socket);
    const { code, rawPacket, bytesParsed } = error as ParseFailure;
    if (!waiting || code !== "HPE_INVALID_METHOD" || !rawPacket) return false;
    const bytes = waiting.begun ? rawPacket : rawPacket.subarray(bytesParsed ?? 0);
    if (!waiting.begun && bytes[0] !== 0x7b) return false;
    waiting.begun = true;
    waiting.size += bytes.length;
    if (waiting.size > maxBytes) {
      waiting.chunks.length = 0;
      waiting.end(tooLarge());
    } else {
      waiting.chunks.push(Buffer.from(bytes)); // a copy: the packet's memory is used again
      const whole = Buffer.concat(waiting.chunks);
      if (isJsonObject(whole)) waiting.end(whole);
    }
    return true;
  }
}

function isUnframed({ method, url, headers }: IncomingMessage): boolean {
  if (method !== "DELETE" || !url?.startsWith("/v3/")) return false;
  if (headers["content-length"] !== undefined || headers["transfer-encoding"] !== undefined) return false;
  return isDopplerSdk(headers["user-agent"]);
}

/** Whether a request comes from Doppler's Node SDK, by what it says of itself. */
export function isDopplerSdk(userAgent: string | undefined): boolean {
  return /(^| )DopplerSDK\/\d/.test(userAgent ?? "");
}

/** Looked at only where it may be whole: not for each of many small pieces. */
function isJsonObject(bytes: Buffer): boolean {
  if (bytes.at(-1) !== 0x7d) return false;
  try {
    JSON.parse(bytes.toString("utf8"));
    return true;
  } catch {
    return false; // more is to come
  }
}

const tooLarge = () => new ServiceError("RequestEntityTooLarge", `The body of this DELETE is larger than ${maxBytes} bytes.`);
