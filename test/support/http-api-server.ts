// An HTTP API with keys on loopback, as a service would offer it; tests make it hostile request by request.
import { randomBytes, randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";

export interface ApiKey {
  readonly id: string;
  readonly key: string;
  readonly owner: string;
  readonly name: string;
  /** Manages everybody's keys. */
  readonly admin: boolean;
  readonly createdAt: number;
}

interface Seen {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingMessage["headers"];
  readonly body: string;
}

interface Answer {
  readonly status: number;
  readonly json?: unknown;
}

/** Answers in place of the API; `run` does what the API would have done, and gives its answer. */
export type Trick = (request: IncomingMessage, response: ServerResponse, run: () => Answer) => unknown;

export interface ApiServer extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  readonly keys: Map<string, ApiKey>;
  readonly seen: Seen[];
  /** Tricks to come, the next first, by method and path without ids: `POST /v1/users/keys`. */
  readonly tricks: Map<string, Trick[]>;
  /** Requests that a new key is still refused for. */
  delay: number;
  pageSize: number;
  addKey(owner: string, options?: { admin?: boolean; name?: string }): ApiKey;
}

const json = { "content-type": "application/json" };

export async function startApiServer(): Promise<ApiServer> {
  const keys = new Map<string, ApiKey>();
  const unknownFor = new Map<string, number>();
  const repeats = new Map<string, Answer>();

  const addKey: ApiServer["addKey"] = (owner, { admin = false, name = "by hand" } = {}) => {
    const made = {
      id: `key_${randomUUID()}`,
      key: randomBytes(24).toString("base64url"),
      owner,
      name,
      admin,
      createdAt: Date.now(),
    };
    keys.set(made.id, made);
    return made;
  };

  const callerOf = (request: IncomingMessage): ApiKey | undefined => {
    const [, shown] = /^Bearer (\S+)$/.exec(request.headers.authorization ?? "") ?? [];
    const key = [...keys.values()].find((one) => one.key === shown);
    const left = key ? (unknownFor.get(key.id) ?? 0) : 0;
    if (key && left > 0) unknownFor.set(key.id, left - 1);
    return left > 0 ? undefined : key;
  };

  const create = (request: IncomingMessage, owner: string, body: string): Answer => {
    const repeat = request.headers["idempotency-key"];
    const before = typeof repeat === "string" ? repeats.get(repeat) : undefined;
    if (before) return before;
    const { name, admin } = JSON.parse(body) as { name: string; admin?: boolean };
    const made = addKey(owner, { name, admin: admin === true });
    unknownFor.set(made.id, server.delay);
    const answer = { status: 201, json: { data: { id: made.id, key: made.key, name } } };
    if (typeof repeat === "string") repeats.set(repeat, answer);
    return answer;
  };

  const list = (url: URL): Answer => {
    const from = Number(url.searchParams.get("after") ?? 0);
    const all = [...keys.values()];
    const data = all.slice(from, from + server.pageSize).map(({ id, name, createdAt }) => ({
      id,
      name,
      created_at: new Date(createdAt).toISOString(),
    }));
    const after = from + server.pageSize;
    const next = after < all.length ? { next: `/v1/keys?after=${after}`, after } : {};
    return { status: 200, json: { data, ...next } };
  };

  const remove = (id: string): Answer => {
    if (id === "") keys.clear(); // what a careless API does with DELETE /v1/keys/
    return { status: keys.delete(decodeURIComponent(id)) ? 204 : 404 };
  };

  const run = (request: IncomingMessage, url: URL, body: string): Answer => {
    const caller = callerOf(request);
    if (!caller) return { status: 401, json: { error: `no such key: ${request.headers.authorization}` } };
    const [, , noun = "", first = "", second] = url.pathname.split("/");
    if (noun === "me") return { status: 200, json: { user: caller.owner, key_id: caller.id } };
    const mayManage = caller.admin || (noun === "users" && caller.owner === decodeURIComponent(first));
    if (!mayManage) return { status: 403, json: { error: "not yours" } };
    if (noun === "users" && second === "keys") return create(request, decodeURIComponent(first), body);
    if (request.method === "DELETE") return remove(first);
    return list(url);
  };

  const listener = createServer(async (request, response) => {
    const body = await text(request);
    const url = new URL(request.url ?? "/", "http://host");
    server.seen.push({ method: request.method ?? "", url: request.url ?? "", headers: request.headers, body });
    const route = `${request.method} ${url.pathname.replace(/\/(users|keys)\/[^/]+/, "/$1")}`;
    const trick = server.tricks.get(route)?.shift();
    if (trick) return trick(request, response, () => run(request, url, body));
    reply(response, run(request, url, body));
  });
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  const { port } = listener.address() as AddressInfo;
  const server: ApiServer = {
    url: `http://127.0.0.1:${port}`,
    port,
    keys,
    seen: [],
    tricks: new Map(),
    delay: 0,
    pageSize: 100,
    addKey,
    async [Symbol.asyncDispose]() {
      listener.closeAllConnections();
      listener.close();
      await once(listener, "close");
    },
  };
  return server;
}

export function reply(response: ServerResponse, { status, json: body }: Answer): void {
  response.writeHead(status, json).end(body === undefined ? undefined : JSON.stringify(body));
}
