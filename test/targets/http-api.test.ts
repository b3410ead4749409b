// Keys of an HTTP API that is declared in JSON, against real servers on loopback: an honest one, and hostile answers.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { inspect } from "node:util";
import { RotatorError } from "../../src/core/error.ts";
import { type ApiCredential, httpApiRotator, parseHttpApiDeclaration } from "../../src/targets/http-api.ts";
import type { Access, Issuer, Rotator } from "../../src/targets/target.ts";
import { type ApiKey, type ApiServer, reply, startApiServer, type Trick } from "../support/http-api-server.ts";
import { failure, tools } from "./contract.ts";

let api: ApiServer;
before(async () => {
  api = await startApiServer();
});
after(() => api[Symbol.asyncDispose]());

/** Of the API on loopback: keys of a user, made by the superuser's key. */
const declared = () => ({
  origin: api.url,
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
  test: { method: "GET", path: "/v1/me", expect: { json: { user: "{{current.user}}" } } },
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

type Declared = ReturnType<typeof declared>;

function rotatorOf(change: (declaration: Declared) => unknown = (same) => same) {
  const declaration = structuredClone(declared());
  const changed = change(declaration) ?? declaration;
  const rotator = httpApiRotator(parseHttpApiDeclaration(changed));
  return { rotator, issuer: rotator.issuer as Issuer<ApiCredential> };
}

const secretFor = ({ id, key, owner }: ApiKey): ApiCredential => ({ keyId: id, apiKey: key, user: owner, note: "kept" });

let users = 0;
function newAccess(): Access<ApiCredential> & { user: string } {
  const user = `user ${++users}/ü?#%`.replace("/", "-");
  const admin = api.addKey("ops", { admin: true });
  return { user, current: secretFor(api.addKey(user)), admin: { ...secretFor(admin), origin: api.url } };
}

const keysOf = (user: string) => [...api.keys.values()].filter(({ owner }) => owner === user).map(({ id }) => id);

async function errorOf(call: Promise<unknown>): Promise<RotatorError> {
  const error = await call.then(
    () => assert.fail("the call went well"),
    (error: unknown) => error,
  );
  assert.ok(error instanceof RotatorError, inspect(error));
  return error;
}

test("a wrong key is refused, else nothing below would prove anything", async () => {
  const { rotator } = rotatorOf();
  const { current } = newAccess();
  await rotator.test(current, tools());
  const wrong = { ...current, apiKey: "canary-wrong-key" };
  assert.equal(await failure(rotator.test(wrong, tools()), "canary-wrong-key"), "refused");
  assert.equal(await rotator.probe(wrong, tools()), "refused");
  assert.equal(await rotator.probe(current, tools()), "ok");
});

test("a new key beside the old one, then the old one is deleted, twice", async () => {
  const { rotator, issuer } = rotatorOf();
  const access = newAccess();
  const t = tools();
  const pending = await issuer.issue(access, t);
  assert.deepEqual({ ...pending, keyId: 0, apiKey: 0 }, { ...access.current, keyId: 0, apiKey: 0 });
  await rotator.test(pending, tools());
  assert.equal(await rotator.probe(access.current, tools()), "ok");
  assert.equal(rotator.account(pending, "issuer"), rotator.account(access.current, "issuer"));
  const listed = await issuer.list({ ...access, current: pending }, tools());
  const made = listed?.find(({ id }) => id === issuer.id(pending));
  assert.equal(made?.rotationId, t.rotationId);
  assert.ok(Math.abs((made?.createdAt ?? 0) - Date.now()) < 60_000);
  assert.equal(listed?.find(({ id }) => id === issuer.id(access.current))?.rotationId, undefined);
  for (const _ of ["once", "again, as after a lost answer"]) {
    await issuer.delete(issuer.id(access.current), { ...access, current: pending }, tools());
  }
  assert.equal(await rotator.probe(access.current, tools()), "refused");
  assert.deepEqual(keysOf(access.user), [pending.keyId]);
  assert.equal(api.seen.findLast(({ method }) => method === "POST")?.headers.connection, "close");
});
