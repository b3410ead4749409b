import { randomUUID } from "node:crypto";
import { type ServerResponse, STATUS_CODES } from "node:http";
import type { Socket } from "node:net";

/** Answers what cannot become a request: broken or oversized headers, and requests that do not arrive in time. */
export class Connections {
  /** Those without a request so far. */
  readonly #unused = new Set<Socket>();
  /** The youngest answer of each connection. */
  readonly #answers = new WeakMap<Socket, ServerResponse>();
  readonly #refused: (status: number) => void;

  constructor(refused: (status: number) => void) {
    this.#refused = refused;
  }

  opened(socket: Socket): void {
    this.#unused.add(socket);
    socket.once("close", () => this.#unused.delete(socket));
  }

  /** Every request is told here before it is answered. Whether no earlier one of its connection waits for its answer. */
  begin(response: ServerResponse): boolean {
    const { socket } = response;
    if (!socket) return false;
    this.#unused.delete(socket);
    const alone = this.#answers.get(socket)?.writableFinished ?? true;
    this.#answers.set(socket, response);
    return alone;
  }

  /** Ends what Node does not count as idle: connections that never brought a request. */
  closeUnused(): void {
    for (const socket of this.#unused) socket.destroy();
  }

  /**
   * Ends a connection whose bytes are no HTTP, with an answer where one can be given: not before the answer of an earlier
   * request, which its sender would take for that one, nor into the middle of one.
   */
  refuse(error: Error & { code?: string }, socket: Socket): void {
    if (error.code === "ECONNRESET" || !socket.writable) {
      socket.destroy();
      return;
    }
    const answer = this.#answers.get(socket);
    if (answer && !answer.writableEnded && (answer.headersSent || answer.req.complete)) {
      answer.once("finish", () => socket.end());
      return;
    }
    const status = statusOf[error.code ?? ""] ?? 400;
    this.#refused(status);
    const head = Object.entries(headersOf(status)).map(([name, value]) => `${name}: ${value}`);
    socket.end(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${head.join("\r\n")}\r\n\r\n${bodyOf(status)}`, () =>
      socket.destroy(),
    );
  }

  /** The same for a request that was read but is not wanted. */
  refuseRequest(status: number, response: ServerResponse): void {
    this.#refused(status);
    response.writeHead(status, headersOf(status)).end(bodyOf(status));
  }
}

/** Source: Node.js documentation, "Event: 'clientError'"; RFC 9110 and RFC 6585 for the statuses. */
const statusOf: Readonly<Record<string, number>> = {
  ERR_HTTP_REQUEST_TIMEOUT: 408,
  HPE_CHUNK_EXTENSIONS_OVERFLOW: 413,
  HPE_HEADER_OVERFLOW: 431,
};

/** In a form that clients of every door can read. */
const bodyOf = (status: number): string => JSON.stringify({ __type: "SerializationException", message: STATUS_CODES[status] });

const headersOf = (status: number) => ({
  "x-amzn-RequestId": randomUUID(),
  "Content-Type": "application/x-amz-json-1.1",
  "Content-Length": String(Buffer.byteLength(bodyOf(status))),
  Connection: "close",
});
