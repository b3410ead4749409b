// What a function of ours does with every message that it must not act on, and with those that it must.
import assert from "node:assert/strict";
import { createHmac, randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:net";
import { before, describe, it } from "node:test";
import { base64url, CompactEncrypt, exportSPKI, importJWK, type JWK } from "jose";
import {
  type FarKeys,
  importSigningKey,
  newFarKeys,
  newPrivateJwk,
  publicFarKeys,
  publicJwk,
} from "../../src/crypto/message-keys.ts";
import { type FarRequest, writeBareRequest, writeRequest } from "../../src/crypto/messages.ts";
import { endorse } from "../../src/crypto/signing-key-chain.ts";
import { farCallType } from "../../src/functions/far-request.ts";
import { createLambdaHandler } from "../../src/functions/lambda-handler.ts";
import { postgresLeases } from "../../src/targets/lease-postgres.ts";
import { postgres } from "../../src/targets/postgres.ts";

const arn = "arn:aws:lambda:eu-central-1:111122223333:function:rekey-postgres";
const context = { invokedFunctionArn: arn, getRemainingTimeInMillis: () => 20_000 };
const probe = (port = 1) => ({
  kind: "postgres",
  input: { credential: { engine: "postgres", host: "127.0.0.1", port, username: "app", password: "p4ss-of-app" } },
});

let keys: FarKeys;
let signing: JWK;
let environment: Record<string, string>;
before(async () => {
  [keys, signing] = await Promise.all([newFarKeys(), newPrivateJwk("sig")]);
  environment = { REKEY_KEY_SET: JSON.stringify({ keys: [publicJwk(signing)] }), REKEY_FAR_KEYS: JSON.stringify(keys) };
});

const newHandler = (env: Record<string, string | undefined> = environment, pinnedKeySet?: unknown) =>
  createLambdaHandler(
    {
      kind: "postgres",
      version: "1.2.3",
      file: import.meta.filename,
      rotatorOf: () => postgres,
      lease: postgresLeases,
      pinnedKeySet,
    },
    env,
  );

const newRequest = (other: Partial<FarRequest> = {}): FarRequest => ({
  type: farCallType,
  body: probe(),
  audience: arn,
  id: randomUUID(),
  subject: "rotation-1",
  step: "rotator.probe",
  fence: 7,
  notBeforeAt: Date.now(),
  expiresAt: Date.now() + 10_000,
  ...other,
});

interface Written {
  signing?: JWK;
  nowMs?: number;
  receiver?: FarKeys;
}

async function write(request: FarRequest, other: Written = {}) {
  const key = await importSigningKey(other.signing ?? signing);
  const receiver = other.receiver ?? publicFarKeys(keys);
  return writeRequest(request, { key, issuer: "installation", nowMs: other.nowMs ?? Date.now(), receiver });
}

/** Writes, hands over, opens. */
async function ask(handler: ReturnType<typeof newHandler>, other: Partial<FarRequest> = {}, written: Written = {}, at = context) {
  const sent = await write(newRequest(other), written);
  const answer = await handler({ body: sent.text }, at);
  if ("body" in answer && typeof answer.body === "string") return sent.openReply(answer.body, Date.now());
  assert.fail(`refused: ${JSON.stringify(answer)}`);
}

async function refused(handler: ReturnType<typeof newHandler>, event: unknown, at = context): Promise<string> {
  const answer = await handler(event, at);
  assert.ok("metadata" in answer, JSON.stringify(answer));
  assert.deepEqual(Object.keys(answer.metadata).sort(), ["message", "name", ...("reason" in answer.metadata ? ["reason"] : [])]);
  assert.doesNotMatch(JSON.stringify(answer), /p4ss|\bat \/|node:internal/);
  return answer.metadata.reason ?? answer.metadata.name;
}

describe("a function's handler acts on", () => {
  it("a sealed verb, whatever qualifier it was called by", async () => {
    const handler = newHandler();
    assert.deepEqual(await ask(handler), { answer: "unreachable" });
    const live = { ...context, invokedFunctionArn: `${arn}:live` };
    assert.deepEqual(await ask(handler, {}, {}, live), { answer: "unreachable" });
  });

  it("status: sealed, and signed only", async () => {
    const handler = newHandler();
    const sealed = (await ask(handler, { type: "status", body: {} })) as Record<string, unknown>;
    const bare = await writeBareRequest(newRequest({ type: "status", body: {} }), {
      key: await importSigningKey(signing),
      issuer: "installation",
      nowMs: Date.now(),
    });
    assert.deepEqual(await handler({ body: bare }, context), { status: "ok", body: sealed });
    assert.equal(sealed.version, "1.2.3");
    assert.deepEqual(sealed.keys, publicFarKeys(keys));
    assert.doesNotMatch(JSON.stringify(sealed), /"d":/);
    assert.equal(await refused(handler, { body: bare }), "replayed");
  });

  it("verbs that its allow-list has, and no others", async () => {
    const handler = newHandler({ ...environment, REKEY_ALLOW: "postgres://db.internal:5432, postgres://127.0.0.1:1" });
    assert.deepEqual(await ask(handler), { answer: "unreachable" });
    await assert.rejects(ask(handler, { body: probe(2) }), { outcome: "denied", message: /postgres:\/\/127\.0\.0\.1:2/ });
    const broken = newHandler({ ...environment, REKEY_ALLOW: "postgres" });
    await assert.rejects(ask(broken), { outcome: "invalid", message: /REKEY_ALLOW.*KIND:\/\/HOST:PORT/ });
  });

  it("requests that a key signs which its own key endorsed, until that one has ended", async () => {
    const next = await newPrivateJwk("sig");
    const endorsed = async (previousUntilAt: number) => [
      await endorse(
        { publicKey: publicJwk(next), signsFromAt: Date.now(), previousUntilAt },
        await importSigningKey(signing),
        Date.now(),
      ),
    ];
    const later = await endorsed(Date.now() + 60_000);
    const bodyBy = async (by: JWK) => (await write(newRequest(), { signing: by })).text;
    const handler = newHandler();
    assert.equal(await refused(handler, { body: await bodyBy(next) }), "unknown-key");
    for (const by of [next, signing]) {
      const answer = await handler({ body: await bodyBy(by), endorsements: later }, context);
      assert.ok("body" in answer, JSON.stringify(answer));
    }
    const past = await endorsed(Date.now() - 1);
    assert.equal(await refused(handler, { body: await bodyBy(signing), endorsements: past }), "unknown-key");
    const forged = await endorse(
      { publicKey: publicJwk(next), signsFromAt: Date.now(), previousUntilAt: Date.now() + 60_000 },
      await importSigningKey(next),
      Date.now(),
    );
    assert.equal(await refused(handler, { body: await bodyBy(next), endorsements: [forged] }), "unknown-key");
    assert.equal(await refused(handler, { body: await bodyBy(next), endorsements: Array(201).fill(later[0]) }), "unreadable");
  });
});

describe("a function's handler refuses", () => {
  it("what is no event of Rekey's", async () => {
    const handler = newHandler();
    for (const event of [undefined, null, "x", {}, { body: 1 }, { body: "" }, { body: "a.b.c" }, { body: "a.b.c.d.e" }])
      assert.match(await refused(handler, event), /^(unreadable|algorithm)$/);
    assert.equal(await refused(handler, { body: `${"A".repeat(300_000)}.A.A.A.A` }), "too-large");
  });

  it("a message that was sent again, is of another time, or of another function", async () => {
    const handler = newHandler();
    const { text } = await write(newRequest());
    assert.ok("body" in (await handler({ body: text }, context)));
    assert.equal(await refused(handler, { body: text }), "replayed");
    assert.equal(await refused(handler, { body: (await write(newRequest({ audience: `${arn}-2` }))).text }), "audience");
    const other = { ...context, invokedFunctionArn: arn.replace("111122223333", "444455556666") };
    assert.equal(await refused(newHandler(), { body: text }, other), "audience");
    const now = Date.now();
    assert.equal(await refused(handler, { body: (await write(newRequest(), { nowMs: now - 31_000 })).text }), "too-old");
    assert.equal(await refused(handler, { body: (await write(newRequest(), { nowMs: now + 35_000 })).text }), "too-early");
    assert.equal(await refused(handler, { body: (await write(newRequest({ expiresAt: now - 1 }))).text }), "expired");
  });

  it("keys that are not Rekey's, seals that are not its own, and verbs that are not sealed", async () => {
    const handler = newHandler();
    const stranger = await newPrivateJwk("sig");
    assert.equal(await refused(handler, { body: (await write(newRequest(), { signing: stranger })).text }), "unknown-key");
    const elsewhere = publicFarKeys(await newFarKeys());
    assert.equal(await refused(handler, { body: (await write(newRequest(), { receiver: elsewhere })).text }), "other-receiver");
    const { kid: _, ...nameless } = elsewhere.sealing;
    const quiet = { ...elsewhere, sealing: nameless };
    assert.equal(await refused(handler, { body: (await write(newRequest(), { receiver: quiet })).text }), "unreadable");
    const options = { key: await importSigningKey(signing), issuer: "installation", nowMs: Date.now() };
    assert.equal(await refused(handler, { body: await writeBareRequest(newRequest(), options) }), "unreadable");
  });

  it("signatures of other algorithms, with none or with the public key as a password", async () => {
    const handler = newHandler();
    const bare = await writeBareRequest(newRequest({ type: "status", body: {} }), {
      key: await importSigningKey(signing),
      issuer: "installation",
      nowMs: Date.now(),
    });
    const [, payload = "", signature = ""] = bare.split(".");
    const header = (members: object) => base64url.encode(JSON.stringify({ kid: publicJwk(signing).kid, typ: "JWT", ...members }));
    const publicKey = await importJWK(publicJwk(signing), "ES512", { extractable: true });
    const pem = publicKey instanceof Uint8Array ? "" : await exportSPKI(publicKey);
    const byPublicKey = `${header({ alg: "HS256" })}.${payload}`;
    const texts = [
      `${header({ alg: "none" })}.${payload}.`,
      `${header({ alg: "None" })}.${payload}.${signature}`,
      `${header({ alg: "ES256" })}.${payload}.${signature}`,
      `${byPublicKey}.${createHmac("sha256", pem).update(byPublicKey).digest("base64url")}`,
      `${header({ alg: "ES512", jwk: publicJwk(signing) })}.${payload}.${signature}`,
    ];
    const seal = async (text: string) =>
      new CompactEncrypt(new TextEncoder().encode(text))
        .setProtectedHeader({ alg: "ECDH-ES", enc: "A256GCM", cty: "JWT" })
        .encrypt(await importJWK(publicFarKeys(keys).sealing, "ECDH-ES"));
    for (const text of texts)
      for (const body of [text, await seal(text)]) assert.equal(await refused(handler, { body }), "algorithm");
    for (const text of [`${header({ alg: "ES512" })}.${payload}.${signature}`, bare.replace(payload, base64url.encode("{}"))])
      assert.equal(await refused(handler, { body: await seal(text) }), "signature");
    const { text } = await write(newRequest());
    assert.equal(await refused(handler, { body: text.slice(0, -4) }), "unreadable");
  });

  it("an older fence than it has seen for the same work, and says so sealed", async () => {
    const handler = newHandler();
    assert.deepEqual(await ask(handler, { fence: 8 }), { answer: "unreachable" });
    await assert.rejects(ask(handler, { fence: 7 }), { outcome: "denied", message: /younger claim/ });
    assert.deepEqual(await ask(handler, { fence: 8 }), { answer: "unreachable" });
    assert.deepEqual(await ask(handler, { fence: 1, subject: "rotation-2" }), { answer: "unreachable" });
  });

  it("kinds, types and members that it does not know", async () => {
    const handler = newHandler();
    await assert.rejects(ask(handler, { type: "run" }), { outcome: "invalid", message: /type run.*Update/ });
    await assert.rejects(ask(handler, { body: { ...probe(), kind: "mysql" } }), { outcome: "invalid", message: /mysql/ });
    await assert.rejects(ask(handler, { body: { ...probe(), more: 1 } }), { outcome: "invalid" });
    await assert.rejects(ask(handler, { step: "rotator.drop" }), { outcome: "invalid" });
  });
});

describe("a function's handler says what is missing:", () => {
  const set = (changes: Record<string, string | undefined>) => newHandler({ ...environment, ...changes });
  it("its own keys, and Rekey's", async () => {
    const { text } = await write(newRequest());
    const cases: [Record<string, string | undefined>, string, RegExp][] = [
      [{ REKEY_KEY_SET: undefined }, "MissingKeySet", /REKEY_KEY_SET.*REKEY_KEY_SET_S3_BUCKET/],
      [{ REKEY_KEY_SET: "{" }, "UnreadableKeySet", /REKEY_KEY_SET is not JSON/],
      [{ REKEY_KEY_SET: '{"keys":[]}' }, "UnreadableKeySet", /REKEY_KEY_SET.*signing-key export/],
      [{ REKEY_FAR_KEYS: undefined }, "MissingFarKeys", /REKEY_FAR_KEYS/],
      [{ REKEY_FAR_KEYS: "x" }, "UnreadableFarKeys", /REKEY_FAR_KEYS is not JSON/],
      [{ REKEY_FAR_KEYS: JSON.stringify(publicFarKeys(keys)) }, "UnreadableFarKeys", /private keys/],
    ];
    for (const [changes, name, message] of cases) {
      const answer = await set(changes)({ body: text }, context);
      assert.ok("metadata" in answer);
      assert.equal(answer.metadata.name, name);
      assert.match(answer.metadata.message, message);
    }
  });

  it("keys it was built with stand in for a missing key set, and for no other", async () => {
    const pinned = { keys: [publicJwk(signing)] };
    assert.deepEqual(await ask(newHandler({ ...environment, REKEY_KEY_SET: undefined }, pinned)), { answer: "unreachable" });
    const other = JSON.stringify({ keys: [publicJwk(await newPrivateJwk("sig"))] });
    const handler = newHandler({ ...environment, REKEY_KEY_SET: other }, pinned);
    assert.equal(await refused(handler, { body: (await write(newRequest())).text }), "unknown-key");
  });
});

it("a function ends a verb before AWS ends the function, and says that its time was up", async () => {
  const silent = createServer(() => undefined).listen(0, "127.0.0.1");
  await once(silent, "listening");
  const { port } = silent.address() as { port: number };
  const call = ask(
    newHandler(),
    { step: "rotator.test", body: probe(port) },
    {},
    { ...context, getRemainingTimeInMillis: () => 900 },
  );
  await assert.rejects(call, { outcome: "timeout", message: /longer timeout at AWS/ });
  silent.close();
});

it("what it logs of an error is where it happened", async (test) => {
  const logged: string[] = [];
  test.mock.method(console, "error", (text: string) => logged.push(text));
  const failing = createLambdaHandler(
    {
      kind: "postgres",
      version: "1.2.3",
      file: import.meta.filename,
      rotatorOf() {
        throw new TypeError("p4ss-of-app");
      },
    },
    environment,
  );
  await assert.rejects(ask(failing), { outcome: "unknown" });
  assert.match(logged.join("\n"), /^TypeError\n\s+at /);
  assert.doesNotMatch(logged.join("\n"), /p4ss/);
});
