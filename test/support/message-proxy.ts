// Between an agent and the server: passes requests on, and does to some of them what networks do.
import { once } from "node:events";
import { createServer, type IncomingMessage, request as requestHttp, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";

/**
 * `cut`: the server never gets it; `lose`: its answer is lost; `twice`: the server gets it twice, and the second answer is the
 * one that arrives; a number: the answer comes so many ms late.
 */
export type MessageFault = "cut" | "lose" | "twice" | number;

export interface MessageProxy extends AsyncDisposable {
  readonly port: number;
  /** What happens to the next requests, by their path, e.g. `/rekey/v1/agents/poll`. */
  fault: (path: string) => MessageFault | undefined;
  /** What becomes of answers on their way, JSON. */
  change: ((path: string, answer: Record<string, unknown>) => Record<string, unknown>) | undefined;
  /** Faults that happened. */
  readonly faults: number;
}

interface Answer {
  readonly status: number;
  readonly body: Buffer;
}

export async function startMessageProxy(to: number): Promise<MessageProxy> {
  let faults = 0;
  const proxy: MessageProxy = {
    port: 0,
    fault: () => undefined,
    change: undefined,
    get faults() {
      return faults;
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
  const handle = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const path = request.url ?? "/";
    const body = await buffer(request);
    const fault = proxy.fault(path);
    if (fault !== undefined) faults += 1;
    if (fault === "cut") return void response.destroy();
    const gone = new AbortController();
    response.on("close", () => gone.abort());
    const pass = () => send(to, { request, body, signal: gone.signal });
    const [, { status, body: answered }] = await Promise.all([fault === "twice" ? pass() : undefined, pass()]);
    if (fault === "lose") return void response.destroy();
    if (typeof fault === "number") await sleep(fault);
    response.writeHead(status, { "content-type": "application/json" }).end(changed(proxy, path, answered));
  };
  const server = createServer((request, response) => {
    handle(request, response).catch(() => response.destroy());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return Object.defineProperty(proxy, "port", { value: (server.address() as AddressInfo).port });
}

function changed({ change }: MessageProxy, path: string, answer: Buffer): Buffer | string {
  return change ? JSON.stringify(change(path, JSON.parse(answer.toString("utf8")))) : answer;
}

async function send(
  port: number,
  { request, body, signal }: { request: IncomingMessage; body: Buffer; signal: AbortSignal },
): Promise<Answer> {
  const { method, url: path, headers } = request;
  const sent = requestHttp({ host: "127.0.0.1", port, method, path, headers, signal, agent: false });
  sent.end(body);
  const [response] = (await once(sent, "response")) as [IncomingMessage];
  return { status: response.statusCode ?? 502, body: await buffer(response) };
}
