// An HTTP API on loopback, and a declaration of its keys that tests change.
import { after, before } from "node:test";
import { type ApiCredential, httpApiRotator, parseHttpApiDeclaration } from "../../src/targets/http-api.ts";
import type { Access, Issuer, Rotator } from "../../src/targets/target.ts";
import { type ApiKey, type ApiServer, reply, startApiServer, type Trick } from "./http-api-server.ts";

/** The routes of the API, as tricks name them. */
export const routes = { create: "POST /v1/users/keys", remove: "DELETE /v1/keys", me: "GET /v1/me", list: "GET /v1/keys" };

/** A declaration: keys of a user, made by the superuser's key. */
export const declarationAt = (origin: string) => ({
  origin,
  timeoutSeconds: 2,
  id: "keyId",
  account: "{{current.user}}",
  auth: {
    current: { type: "bearer", token: "{{current.apiKey}}" },
    admin: { type: "bearer", token: "{{admin.apiKey}}" },
  },
  create: {
    method: "POST",
    path: "/v1/users/{{current.user}}/keys",
    json: { name: "rekey-{{rotationId}}", tags: ["rekey", 1, true, null] },
    extract: { keyId: "data.id", apiKey: "data.key" },
  },
  test: { method: "GET", path: "/v1/me", expect: { json: { user: "{{current.user}}", key_id: "{{current.keyId}}" } } },
  delete: { method: "DELETE", path: "/v1/keys/{{id}}" },
  list: {
    method: "GET",
    path: "/v1/keys",
    items: "data",
    id: "id",
    createdAt: "created_at",
    mark: { path: "name", prefix: "rekey-" },
    next: { link: "next" },
  },
});

type Declared = ReturnType<typeof declarationAt>;

export interface HttpApiWorld {
  readonly api: ApiServer;
  rotatorOf(change?: (declaration: Declared) => unknown): { rotator: Rotator<ApiCredential>; issuer: Issuer<ApiCredential> };
  /** A user with a key, and a superuser. */
  newAccess(): Access<ApiCredential> & { user: string };
  keysOf(user: string): string[];
  trick(route: string, ...tricks: Trick[]): void;
}

/** Started and stopped with the tests of a file. */
export function httpApiWorld(): HttpApiWorld {
  let started: ApiServer | undefined;
  before(async () => {
    started = await startApiServer();
  });
  after(() => started?.[Symbol.asyncDispose]());
  let users = 0;
  return {
    get api() {
      if (!started) throw new Error("the API is started before the first test");
      return started;
    },
    rotatorOf(change = (same) => same) {
      const rotator = httpApiRotator(parseHttpApiDeclaration(change(declarationAt(this.api.url))));
      return { rotator, issuer: rotator.issuer as Issuer<ApiCredential> };
    },
    newAccess() {
      const user = `user ${++users} ü?#%`;
      const admin = this.api.addKey("ops", { admin: true });
      return { user, current: secretFor(this.api.addKey(user)), admin: { ...secretFor(admin), origin: this.api.url } };
    },
    keysOf(user) {
      return [...this.api.keys.values()].filter(({ owner }) => owner === user).map(({ id }) => id);
    },
    trick(route, ...tricks) {
      this.api.tricks.set(route, tricks);
    },
  };
}

const secretFor = ({ id, key, owner }: ApiKey): ApiCredential => ({ keyId: id, apiKey: key, user: owner, note: "kept" });

export const statusOnly =
  (status: number): Trick =>
  (_request, response) =>
    reply(response, { status });
