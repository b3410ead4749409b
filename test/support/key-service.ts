// A service with accounts, their keys and two passwords each, over HTTP on loopback, and the rotator that speaks to it. It is
// slow, silent or forgetful when told so, and never lies about what it did.
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { z } from "zod";
import { type OutcomeClass, RotatorError } from "../../src/core/error.ts";
import type { AnyCredential } from "../../src/targets/index.ts";
import type { Access, Issued, Rotator, RotatorTools } from "../../src/targets/target.ts";

interface Key {
  readonly key: string;
  readonly account: string;
  readonly createdAt: number;
  readonly rotationId: string | undefined;
  /** So many logins are still refused. */
  unknownFor: number;
}

export interface KeyService extends AsyncDisposable {
  readonly url: string;
  readonly masterKey: string;
  readonly keys: Map<string, Key>;
  /** By account: the password in use, and the one before it. */
  readonly passwords: Map<string, { primary: string; secondary: string | undefined }>;
  /** Method and path of each request. */
  readonly seen: string[];
  /** New keys are refused for so many logins. */
  delay: number;
  /** What happens to the next requests for a new key: `lost`, done without an answer; `late`, done after the connection was cut. */
  readonly faults: ("lost" | "late")[];
  /** Refuses all connections' requests without an answer. */
  away: boolean;
  addKey(account: string): { id: string; key: string };
  liveOf(account: string): string[];
}

export async function startKeyService(): Promise<KeyService> {
  const keys = new Map<string, Key>();
  const state: Omit<KeyService, "url" | typeof Symbol.asyncDispose> = {
    masterKey: randomBytes(12).toString("hex"),
    keys,
    passwords: new Map(),
    seen: [],
    delay: 0,
    faults: [],
    away: false,
    addKey: (account) => {
      const { id, key } = newKey(account, undefined, 0);
      return { id, key };
    },
    liveOf: (account) => [...keys].filter(([, each]) => each.account === account).map(([id]) => id),
  };

  function newKey(account: string, rotationId: string | undefined, unknownFor: number): { id: string; key: string } {
    const id = `key_${randomBytes(4).toString("hex")}`;
    const key = randomBytes(12).toString("hex");
    keys.set(id, { key, account, createdAt: Date.now(), rotationId, unknownFor });
    return { id, key };
  }

  /** Who logs in, with key or password; counts as one login of a key that is not known yet. */
  function login(request: IncomingMessage): { account: string } | undefined {
    const given = (request.headers.authorization ?? "").replace("Bearer ", "");
    if (given === state.masterKey) return { account: "*" };
    for (const key of keys.values()) if (key.key === given && isKnown(key)) return { account: key.account };
    const owner = [...state.passwords].find(([, { primary, secondary }]) => given === primary || given === secondary);
    return owner && { account: owner[0] };
  }
  function isKnown(key: Key): boolean {
    if (key.unknownFor === 0) return true;
    key.unknownFor -= 1;
    return false;
  }

  function manageKeys(request: IncomingMessage, account: string, id: string | undefined): [number, unknown] {
    const of = (each: string | undefined) => (each === undefined ? undefined : keys.get(each));
    if (request.method === "POST")
      return [201, newKey(account, String(request.headers["x-mark"] ?? "") || undefined, state.delay)];
    if (request.method === "GET") {
      const own = [...keys].filter(([, each]) => each.account === account);
      return [200, own.map(([each, { createdAt, rotationId }]) => ({ id: each, createdAt, rotationId }))];
    }
    if (of(id)?.account !== account) return [404, {}];
    keys.delete(id ?? "");
    return [204, {}];
  }

  function managePasswords(request: IncomingMessage, account: string, body: string): [number, unknown] {
    const now = state.passwords.get(account);
    if (!now) return [404, {}];
    if (request.method === "DELETE") now.secondary = undefined;
    else if (now.primary !== body) state.passwords.set(account, { primary: body, secondary: now.primary });
    return [204, {}];
  }

  const server = createServer((request, response) => void answer(request, response));
  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await text(request);
    state.seen.push(`${request.method} ${request.url}`);
    if (state.away) return void request.socket.destroy();
    const [, area = "", account = "", what = "", id] = (request.url ?? "").split("/");
    const who = login(request);
    const reply = (status: number, value: unknown) => response.writeHead(status).end(JSON.stringify(value));
    if (!who) return void reply(401, {});
    if (area === "whoami") return void reply(200, who);
    if (who.account !== "*" && who.account !== account) return void reply(403, {});
    const work = () => (what === "keys" ? manageKeys(request, account, id) : managePasswords(request, account, body));
    if (!meetsFault(request, work)) reply(...work());
  }
  function meetsFault(request: IncomingMessage, work: () => void): boolean {
    const fault = request.method === "POST" ? state.faults.shift() : undefined;
    if (fault === "late") setTimeout(work, 150);
    if (fault === "lost") work();
    if (fault) request.socket.destroy();
    return fault !== undefined;
  }
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return Object.assign(state, {
    url,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  });
}

interface KeyCredential extends AnyCredential {
  readonly url: string;
  readonly account: string;
  readonly id: string;
  readonly key: string;
}

const credential = z.looseObject({ url: z.string(), account: z.string(), id: z.string(), key: z.string() });
const admin = z.looseObject({ masterKey: z.string() });
type Admin = z.infer<typeof admin>;

const outcomes: Readonly<Record<number, Exclude<OutcomeClass, "ok">>> = { 401: "refused", 403: "denied", 404: "invalid" };

/** `changes`: no answer leaves it open what was done. */
async function request(url: string, key: string, options: RequestInit & { changes?: boolean } = {}): Promise<unknown> {
  const { changes = false, ...init } = options;
  let response: Response;
  try {
    response = await fetch(url, { ...init, headers: { ...init.headers, authorization: `Bearer ${key}` } });
  } catch (error) {
    throw new RotatorError(changes ? "unknown" : "unreachable", `${new URL(url).host}: no answer`, { cause: error });
  }
  if (response.ok) return response.status === 204 ? undefined : response.json();
  throw new RotatorError(outcomes[response.status] ?? "invalid", `${new URL(url).host} answered ${response.status}`);
}

/** What a service of this kind may have or lack. */
export interface Features {
  readonly most?: number;
  readonly marks?: boolean;
  readonly lists?: boolean;
  readonly settlesWithinMs?: number;
}

/** The rotator, for a service that has these features. */
export function keyRotator({ most, marks = false, lists = true, settlesWithinMs }: Features = {}): Rotator<AnyCredential> {
  const manage = ({ current, admin: by }: Access<KeyCredential, Admin>) => by?.masterKey ?? current.key;
  const base = ({ url, account }: KeyCredential) => `${url}/accounts/${account}`;
  const test = async ({ url, key, account }: KeyCredential) => {
    const who = (await request(`${url}/whoami`, key)) as { account: string };
    if (who.account !== account) throw new RotatorError("invalid", `the key is not of ${account}`);
  };
  const rotator: Rotator<KeyCredential, Admin> = {
    kind: "keys",
    strategies: ["issuer", "dual-slot"],
    credential: credential as unknown as z.ZodType<KeyCredential>,
    admin,
    account: ({ url, account }) => `keys://${new URL(url).host}/${account}`,
    create: async (current, _strategy, tools) => ({ ...current, key: tools.generatePassword() }),
    issuer: {
      ...(most !== undefined && { most }),
      marks,
      settlesWithinMs,
      id: ({ id }) => id,
      async list(access) {
        if (!lists) return undefined;
        const all = (await request(`${base(access.current)}/keys`, manage(access))) as Issued[];
        return marks ? all : all.map(({ id, createdAt }) => ({ id, createdAt }));
      },
      async issue(access, tools: RotatorTools) {
        const headers = marks ? { "x-mark": tools.rotationId } : {};
        const made = await request(`${base(access.current)}/keys`, manage(access), { method: "POST", headers, changes: true });
        return { ...access.current, ...(made as { id: string; key: string }) };
      },
      async delete(id, access) {
        try {
          await request(`${base(access.current)}/keys/${id}`, manage(access), { method: "DELETE", changes: true });
        } catch (error) {
          if (!(error instanceof RotatorError && error.outcome === "invalid")) throw error;
        }
      },
    },
    async set({ pending, current, admin: by }) {
      const key = by?.masterKey ?? current.key;
      await request(`${base(current)}/password`, key, { method: "PUT", body: pending.key, changes: true });
    },
    test,
    async probe(candidate) {
      try {
        await test(candidate);
        return "ok";
      } catch (error) {
        if (error instanceof RotatorError) return error.outcome;
        throw error;
      }
    },
    async retire(_old, access) {
      await request(`${base(access.current)}/password`, manage(access), { method: "DELETE", changes: true });
    },
  };
  return rotator as unknown as Rotator<AnyCredential>;
}
