import { readFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { functionLimits } from "../core/function.ts";

/** One call as a function's process gets it. */
interface Invocation {
  readonly requestId: string;
  readonly functionArn: string;
  /** Epoch ms. */
  readonly deadlineAt: number;
  /** JSON text. */
  readonly payload: string;
}

/** What the process answered. `init-error`: it could not begin. */
export interface RuntimeAnswer {
  readonly kind: "response" | "error" | "init-error";
  /** JSON text; of errors `{errorMessage, errorType, stackTrace}`. */
  readonly payload: string;
}

/** The AWS Lambda Runtime API for one process. */
export interface RuntimeApi {
  /** `127.0.0.1:PORT`, for AWS_LAMBDA_RUNTIME_API. */
  readonly address: string;
  /** Resolves when the process asks for work; again after each call that it has answered. */
  ready(): Promise<void>;
  /** Hands a call to the process and resolves with its answer. One at a time. */
  call(invocation: Invocation): Promise<RuntimeAnswer>;
  /** Resolves when the process said that it cannot begin. */
  readonly initFailed: Promise<RuntimeAnswer>;
  close(): void;
}

const root = "/2018-06-01/runtime";
const ownUid = process.getuid?.();

/**
 * Opens it on a port of its own on loopback: the port says which process asks. Where the system tells whose a connection
 * is, other users of the machine are refused. Source: AWS Lambda Developer Guide, "Using the Lambda runtime API".
 */
export async function openRuntimeApi(user = ownUid): Promise<RuntimeApi> {
  const room = new WaitingRoom();
  const server = createServer({ requestTimeout: 0, headersTimeout: 10_000, keepAliveTimeout: 0 }, (incoming, response) => {
    void serve(room, user, incoming, response).catch(() => response.destroy());
  });
  server.listen(0, "127.0.0.1");
  await new Promise<void>((resolve, reject) => {
    server.once("listening", resolve);
    server.once("error", reject);
  });
  const { port } = server.address() as AddressInfo;
  return {
    address: `127.0.0.1:${port}`,
    ready: () => room.ready(),
    call: (invocation) => room.call(invocation),
    initFailed: room.initFailed,
    close() {
      server.close();
      server.closeAllConnections();
    },
  };
}

/** Where the process waits for work, and a call for its answer. */
class WaitingRoom {
  readonly initFailed: Promise<RuntimeAnswer>;
  #failInit: (answer: RuntimeAnswer) => void = () => undefined;
  #waiting: ServerResponse | undefined;
  #called: { readonly requestId: string; readonly answer: (answer: RuntimeAnswer) => void } | undefined;
  #arrived: (() => void)[] = [];

  constructor() {
    this.initFailed = new Promise((resolve) => {
      this.#failInit = resolve;
    });
  }

  ready(): Promise<void> {
    if (this.#waiting) return Promise.resolve();
    return new Promise((resolve) => this.#arrived.push(resolve));
  }

  call({ requestId, functionArn, deadlineAt, payload }: Invocation): Promise<RuntimeAnswer> {
    const response = this.#waiting;
    if (!response) throw new Error("the process does not wait for work");
    this.#waiting = undefined;
    return new Promise((answer) => {
      this.#called = { requestId, answer };
      response.writeHead(200, {
        "Content-Type": "application/json",
        "Lambda-Runtime-Aws-Request-Id": requestId,
        "Lambda-Runtime-Deadline-Ms": String(deadlineAt),
        "Lambda-Runtime-Invoked-Function-Arn": functionArn,
      });
      response.end(payload);
    });
  }

  wait(response: ServerResponse): void {
    this.#waiting?.destroy();
    this.#waiting = response;
    response.once("close", () => {
      if (this.#waiting === response) this.#waiting = undefined;
    });
    for (const arrived of this.#arrived.splice(0)) arrived();
  }

  /** False when no call of this id is under way. */
  answer(requestId: string, answer: RuntimeAnswer): boolean {
    if (this.#called?.requestId !== requestId) return false;
    const { answer: resolve } = this.#called;
    this.#called = undefined;
    resolve(answer);
    return true;
  }

  failInit(answer: RuntimeAnswer): void {
    this.#failInit(answer);
  }
}

async function serve(
  room: WaitingRoom,
  user: number | undefined,
  incoming: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { method, url = "" } = incoming;
  if (!(await isOf(user, incoming))) return refuse(response, 403, "Forbidden");
  if (method === "GET" && url === `${root}/invocation/next`) return room.wait(response);
  const [, requestId = "", kind] = /^\/2018-06-01\/runtime\/invocation\/([0-9a-f-]{36})\/(response|error)$/.exec(url) ?? [];
  const isInit = url === `${root}/init/error`;
  if (method !== "POST" || (kind === undefined && !isInit)) return refuse(response, 404, "NotFound");
  const payload = await readText(incoming);
  if (payload === undefined) {
    const errorMessage = `Response payload size exceeded maximum allowed payload size (${functionLimits.payloadBytes} bytes).`;
    const error = JSON.stringify({ errorMessage, errorType: "Function.ResponseSizeTooLarge" });
    room.answer(requestId, { kind: "error", payload: error });
    return refuse(response, 413, "RequestEntityTooLarge");
  }
  if (isInit) room.failInit({ kind: "init-error", payload });
  else if (!room.answer(requestId, { kind: kind === "error" ? "error" : "response", payload }))
    return refuse(response, 400, "InvalidRequestID");
  response.writeHead(202, { "Content-Type": "application/json" }).end('{"status":"OK"}');
}

function refuse(response: ServerResponse, status: number, errorType: string): void {
  response.writeHead(status, { "Content-Type": "application/json", Connection: "close" });
  response.end(JSON.stringify({ errorMessage: errorType, errorType }));
}

/** `undefined` when it is too long. */
async function readText(incoming: IncomingMessage): Promise<string | undefined> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of incoming as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > functionLimits.payloadBytes) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

const known = new WeakSet<object>();

/** Whether the other end is of this user, as Linux tells; where it cannot be told, it is taken to be. */
async function isOf(user: number | undefined, { socket }: IncomingMessage): Promise<boolean> {
  if (known.has(socket) || process.platform !== "linux" || user === undefined) return true;
  const uids = await Promise.all(["/proc/net/tcp", "/proc/net/tcp6"].map((path) => uidOf(path, socket)));
  const own = uids.every((uid) => uid === undefined || uid === user);
  if (own) known.add(socket);
  return own;
}

/** Source: Linux kernel documentation, proc_net_tcp: `sl local_address rem_address st tx:rx tr:when retrnsmt uid …`. */
async function uidOf(
  path: string,
  { localPort, remotePort }: { localPort?: number | undefined; remotePort?: number | undefined },
): Promise<number | undefined> {
  const table = await readFile(path, "utf8").catch(() => "");
  const hex = (port = 0) => port.toString(16).toUpperCase().padStart(4, "0");
  for (const line of table.split("\n").slice(1)) {
    const [, local = "", remote = "", , , , , uid = ""] = line.trim().split(/\s+/);
    if (local.endsWith(`:${hex(remotePort)}`) && remote.endsWith(`:${hex(localPort)}`)) return Number(uid);
  }
  return undefined;
}
