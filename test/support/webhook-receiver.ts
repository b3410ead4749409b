// An HTTP server on loopback that keeps what it was told.
import { once } from "node:events";
import { createServer, type IncomingHttpHeaders, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

interface Received {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

export interface WebhookReceiver extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  readonly received: Received[];
  /** What it answers from now on; default 204. */
  answer: (received: Received, response: Parameters<RequestListener>[1]) => void;
  /** Waits until it was told so many times. */
  told(count: number): Promise<readonly Received[]>;
}

export async function startReceiver(port = 0): Promise<WebhookReceiver> {
  const received: Received[] = [];
  const receiver = {
    received,
    answer: ((_received, response) => response.writeHead(204).end()) as WebhookReceiver["answer"],
  };
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const one = { path: request.url ?? "", headers: request.headers, body: Buffer.concat(chunks).toString("utf8") };
    received.push(one);
    receiver.answer(one, response);
  }).listen(port, "127.0.0.1");
  await once(server, "listening");
  const { port: taken } = server.address() as AddressInfo;
  return Object.assign(receiver, {
    url: `http://127.0.0.1:${taken}/hook`,
    port: taken,
    async told(count: number) {
      while (received.length < count) await sleep(5);
      return received;
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  });
}
