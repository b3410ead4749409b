// Between an agent and the server: passes requests on, and does to some of them what networks do.
import { once } from "node:events";
import { createServer, type IncomingMessage, request as requestHttp, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";

/**
 * `cut`: the server never gets it; `lose`: its answer is lost; `twice`: the server gets it twice, and the second answer is the
 * one that arrives; `again`: the jobs in its answer come once more with the next answer that has a place for jobs; late by so
 * many ms: the request, or its answer.
 */
export type MessageFault = "cut" | "lose" | "twice" | "again" | { readonly requestMs: number } | { readonly answerMs: number };

export interface MessageProxy extends AsyncDisposable {
  readonly port: number;
  /** What happens to the next requests, by their path, e.g. `/rekey/v1/agents/poll`. */
  fault: (path: string) => MessageFault | undefined;
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
    get faults() {
      return faults;
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
  const jobs = new Repeated();
  const handle = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const path = request.url ?? "/";
    const body = await buffer(request);
    const fault = proxy.fault(path);
    if (fault !== undefined) faults += 1;
    if (fault === "cut") return void response.destroy();
    if (typeof fault === "object" && "requestMs" in fault) await sleep(fault.requestMs);
    const gone = new AbortController();
    response.on("close", () => gone.abort());
    const pass = () => send(to, { request, body, signal: gone.signal });
    const [, { status, body: answered }] = await Promise.all([fault === "twice" ? pass() : undefined, pass()]);
    if (fault === "lose") return void response.destroy();
    if (typeof fault === "object" && "answerMs" in fault) await sleep(fault.answerMs);
    response.writeHead(status, { "content-type": "application/json" }).end(jobs.pass(answered, fault === "again"));
  };
  const server = createServer((request, response) => {
    handle(request, response).catch(() => response.destroy());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return Object.defineProperty(proxy, "port", { value: (server.address() as AddressInfo).port });
}

/** Jobs of answers that have passed. */
class Repeated {
  #held: unknown[] = [];

  pass(answer: Buffer, again: boolean): Buffer | string {
    if (!again && this.#held.length === 0) return answer;
    const told = JSON.parse(answer.toString("utf8")) as { jobs?: unknown[] };
    if (!Array.isArray(told.jobs)) return answer;
    const held = this.#held;
    this.#held = again ? told.jobs : [];
    return held.length === 0 ? answer : JSON.stringify({ ...told, jobs: [...told.jobs, ...held] });
  }
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
