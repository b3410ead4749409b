// What an agent takes for its server, in the hands of a test: it enrols agents, hands out whatever it is told to, and keeps what they say.
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { type AddressInfo, createServer as createTcpServer } from "node:net";
import { json } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import type { JWK } from "jose";
import { enrolmentTokenText } from "../../src/core/agent.ts";
import { type FarKeys, importSigningKey, newPrivateJwk, publicJwk, readPublicJwk } from "../../src/crypto/message-keys.ts";
import { type FarRequest, type SentRequest, writeRequest } from "../../src/crypto/messages.ts";
import { farCallType } from "../../src/functions/far-request.ts";

/** As an agent sends them. */
interface Said {
  readonly id: string;
  readonly reply?: string;
  readonly refused?: string;
}
interface Poll {
  readonly most: number;
  readonly waitSeconds: number;
  readonly holding: readonly string[];
  readonly knownKeys: readonly string[];
  readonly clockSkewMs?: number;
  readonly leaving?: boolean;
}
interface Offered {
  readonly key: JWK;
  readonly endorsement?: string;
}

export interface HostileServer extends AsyncDisposable {
  readonly url: string;
  readonly token: string;
  /** Private: what the enrolment token names. */
  readonly key: JWK;
  /** Everything that agents answered, in order. */
  readonly said: Said[];
  readonly polls: Poll[];
  readonly enrolments: object[];
  /** Handed out with the next poll that takes jobs. */
  readonly jobs: { id: string; message: string }[];
  /** Offered at every poll. */
  keys: Offered[];
  /** What its key set shows. */
  published: JWK;
  clockAheadMs: number;
  /** In place of an answer, while it is there; `false`: answer as always. */
  disturb: ((operation: string, response: ServerResponse) => boolean) | undefined;
  /** Agent that enrolled last. */
  agent(): { keys: FarKeys; arn: string };
  /** A job as a good server would write it, but for what the test changes; it is not handed out. */
  write(changes?: Partial<FarRequest>, by?: By): Promise<SentJob>;
  /** The same, handed out. */
  send(changes?: Partial<FarRequest>, by?: By): Promise<SentJob>;
  /** The agent's answer to a job: the `nth`, counted from 1. */
  answer(id: string, nth?: number): Promise<Said>;
}

interface By {
  readonly key?: JWK;
  readonly receiver?: FarKeys;
  readonly issuer?: string;
  readonly nowMs?: number;
}

interface SentJob extends SentRequest {
  readonly id: string;
}

/** `target`: where the verbs of jobs connect to. */
export async function startHostileServer(target: { readonly port: number }): Promise<HostileServer> {
  const key = await newPrivateJwk("sig");
  const [said, polls, enrolments, jobs]: [Said[], Poll[], object[], { id: string; message: string }[]] = [[], [], [], []];
  let agent: { keys: FarKeys; arn: string } | undefined;
  let polled: (() => void) | undefined;
  const issuer = "install1";
  const current = () => {
    if (!agent) throw new Error("no agent enrolled");
    return agent;
  };

  async function enrol(input: { keys: { signing: unknown; sealing: unknown } }): Promise<object> {
    enrolments.push(input);
    const signing = await readPublicJwk(input.keys.signing, "reply");
    const sealing = await readPublicJwk(input.keys.sealing, "enc");
    if (!signing || !sealing) throw new Error("no keys");
    const arn = "arn:aws:rekey:us-east-1:000000000000:agent/a1";
    agent = { keys: { signing, sealing }, arn };
    const nowMs = Date.now();
    const { text } = await writeRequest(
      {
        ...{ type: "agent.enrolled", audience: signing.kid ?? "", id: randomUUID(), subject: "a1", step: "enrol", fence: 0 },
        ...{ notBeforeAt: nowMs, expiresAt: nowMs + 60_000 },
        body: { agentId: "a1", arn, network: "plant", name: "one", token: `dp.ag.${"x".repeat(40)}` },
      },
      { key: await importSigningKey(key), issuer, nowMs, receiver: agent.keys },
    );
    return { message: text, keys: [{ key: publicJwk(key) }] };
  }

  async function poll(input: Poll, response: ServerResponse): Promise<object> {
    polls.push(input);
    for (let waits = 0; jobs.length === 0 && waits < input.waitSeconds * 20 && input.most > 0 && !response.destroyed; waits++) {
      const news = new Promise<void>((resolve) => {
        polled = resolve;
      });
      await Promise.race([news, sleep(50, undefined, { ref: false })]);
    }
    const taken = input.most > 0 && !response.destroyed ? jobs.splice(0) : [];
    return { jobs: taken, serverTime: new Date(Date.now() + server.clockAheadMs).toISOString(), keys: server.keys };
  }

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (request.url === "/.well-known/jwks.json")
      return void response.writeHead(200).end(JSON.stringify({ keys: [publicJwk(server.published)] }));
    const operation = request.url?.replace("/rekey/v1/agents/", "") ?? "";
    const input = (await json(request)) as never;
    if (server.disturb?.(operation, response)) return;
    const told = operation === "enrol" ? await enrol(input) : operation === "poll" ? await poll(input, response) : take(input);
    response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(told));
  }
  function take({ answers }: { answers: Said[] }): object {
    said.push(...answers);
    return { results: answers.map(({ id }) => ({ id, outcome: "taken" })) };
  }

  const http = createServer((request, response) => void handle(request, response).catch(() => response.destroy()));
  http.listen(0, "127.0.0.1");
  await once(http, "listening");
  const { port } = http.address() as AddressInfo;
  const enrolment = { id: randomUUID(), secret: `dp.ae.${"y".repeat(40)}`, network: "plant", keys: [publicJwk(key).kid ?? ""] };
  const server: HostileServer = {
    url: `http://127.0.0.1:${port}`,
    token: enrolmentTokenText(enrolment),
    ...{ key, said, polls, enrolments, jobs, keys: [], published: key, clockAheadMs: 0, disturb: undefined, agent: current },
    async write(changes = {}, by = {}) {
      const nowMs = by.nowMs ?? Date.now() + server.clockAheadMs;
      const credential = { engine: "postgres", username: "app", password: "a-secret-of-a-job", dbname: "app" };
      const request = {
        ...{ type: farCallType, audience: current().arn, id: randomUUID(), subject: randomUUID(), fence: 1 },
        ...{ step: "rotator.probe", notBeforeAt: nowMs, expiresAt: nowMs + 120_000 },
        body: { kind: "postgres", input: { credential: { ...credential, host: "127.0.0.1", port: target.port } } },
        ...changes,
      };
      const signer = await importSigningKey(by.key ?? key);
      const options = { key: signer, issuer: by.issuer ?? issuer, nowMs, receiver: by.receiver ?? current().keys };
      const sent = await writeRequest(request, options);
      return { id: request.id, ...sent };
    },
    async send(changes, by) {
      const sent = await server.write(changes, by);
      jobs.push({ id: sent.id, message: sent.text });
      polled?.();
      return sent;
    },
    async answer(id, nth = 1) {
      for (const giveUpAt = Date.now() + 120_000; Date.now() < giveUpAt; await sleep(20)) {
        const found = said.filter((each) => each.id === id)[nth - 1];
        if (found) return found;
      }
      throw new Error(`no answer to ${id}`);
    },
    async [Symbol.asyncDispose]() {
      http.close();
      http.closeAllConnections();
      await once(http, "close");
    },
  };
  return server;
}

export interface CountingTarget extends AsyncDisposable {
  readonly port: number;
  connections: number;
}

/** Ends every connection, and counts them: whether a verb was run. */
export async function startCountingTarget(): Promise<CountingTarget> {
  const tcp = createTcpServer((socket) => {
    target.connections += 1;
    socket.on("error", () => undefined).destroy();
  });
  tcp.listen(0, "127.0.0.1");
  await once(tcp, "listening");
  const target: CountingTarget = {
    port: (tcp.address() as AddressInfo).port,
    connections: 0,
    async [Symbol.asyncDispose]() {
      tcp.close();
      await once(tcp, "close");
    },
  };
  return target;
}
