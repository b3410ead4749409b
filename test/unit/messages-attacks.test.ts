// Messages that are forged, changed, sent again or to somebody else: each is refused, and says no more than why.
import assert from "node:assert/strict";
import { createHmac, randomUUID } from "node:crypto";
import { describe, it } from "node:test";
import fc from "fast-check";
import { CompactEncrypt, CompactSign, compactDecrypt, generateKeyPair, importJWK, type JWK } from "jose";
import { RotatorError } from "../../src/core/error.ts";
import {
  imported,
  importSigningKey,
  newFarKeys,
  newPrivateJwk,
  publicFarKeys,
  publicJwk,
} from "../../src/crypto/message-keys.ts";
import { MessageRefused } from "../../src/crypto/message-refused.ts";
import { openBareRequest, openRequest, writeBareRequest, writeRequest } from "../../src/crypto/messages.ts";
import { openSealed, sealText } from "../../src/crypto/sealed-text.ts";
import { writeSigned } from "../../src/crypto/signed-text.ts";
import { audience, issuer, messageWorld, newRequest, nowMs } from "../support/messages.ts";

const world = await messageWorld();
const sealing = publicFarKeys(world.far).sealing;
const bytes = (text: string) => new TextEncoder().encode(text);
const base64url = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");

const { text: good } = await world.write();
const inner = new TextDecoder().decode((await compactDecrypt(good, world.far.sealing)).plaintext);
const [goodHeader = "", goodPayload = ""] = inner.split(".");
const payload = JSON.parse(Buffer.from(goodPayload, "base64url").toString()) as Record<string, unknown>;
const header = { alg: "ES512", kid: world.key.kid, typ: "JWT" };

const refused = (text: string, ...reasons: string[]) =>
  assert.rejects(world.open(text), (error: unknown) => {
    assert.ok(error instanceof MessageRefused, String(error));
    assert.ok(reasons.includes(error.reason), `${error.reason}, not ${reasons}`);
    return true;
  });
const refusedInside = async (jws: string, ...reasons: string[]) => refused(await sealText(jws, sealing), ...reasons);
const signed = (changed: object, as: object = header) =>
  new CompactSign(bytes(JSON.stringify({ ...payload, ...changed })))
    .setProtectedHeader(as as { alg: string })
    .sign(world.key.key);

describe("a request", () => {
  it("is good as it is: what follows fails for what was changed", async () => {
    await world.open(good);
    await world.open(await sealText(await signed({}), sealing));
  });

  it("re-addressed, of another installation, or of no time near now is refused", async () => {
    const opened = (changed: object) =>
      openRequest(good, { keys: world.far, keySet: world.keySet, audience, issuer, nowMs, ...changed });
    await assert.rejects(opened({ audience: `${audience}2` }), { reason: "audience" });
    await assert.rejects(opened({ issuer: "other123" }), { reason: "issuer" });
    await assert.rejects(opened({ nowMs: nowMs + 30_001 }), { reason: "too-old" });
    await assert.rejects(opened({ nowMs: nowMs - 30_001 }), { reason: "too-early" });
    await assert.rejects(opened({ nowMs: nowMs + 20_000 }), { reason: "expired" });
    await assert.rejects(opened({ keys: await newFarKeys() }), { reason: "other-receiver" });
    await assert.rejects(opened({ keys: { ...world.far, sealing: { ...(await newFarKeys()).sealing, kid: sealing.kid } } }), {
      reason: "unreadable",
    });
    await opened({ nowMs: nowMs - 30_000 });
    const ofTheFuture = await world.write({ notBeforeAt: 0 }, nowMs + 30_001);
    await refused(ofTheFuture.text, "too-early");
    await opened({ nowMs: nowMs + 19_999 });
    await refused((await world.write({ notBeforeAt: nowMs + 30_001 })).text, "too-early");
  });

  it("signed by an unknown key is refused, whatever key it brings along", async () => {
    const jwk = await newPrivateJwk("sig");
    const key = await importSigningKey(jwk);
    await refusedInside(await writeSigned("JWT", payload, key), "unknown-key");
    await refusedInside(await writeSigned("JWT", payload, { ...key, kid: world.key.kid }), "signature");
    for (const more of [
      { jwk: publicJwk(jwk) },
      { jku: "https://attacker.example/jwks.json" },
      { x5u: "https://attacker.example" },
      { x5c: ["AA"] },
    ]) {
      const own = { ...header, ...more };
      await refusedInside(
        await new CompactSign(bytes(JSON.stringify(payload))).setProtectedHeader(own).sign(key.key),
        "algorithm",
      );
    }
  });

  it("downgraded to another algorithm is refused", async () => {
    await refusedInside(`${base64url({ ...header, alg: "none" })}.${goodPayload}.`, "algorithm");
    await refusedInside(`${goodHeader}.${goodPayload}.`, "signature");
    const [publicKey] = world.keySet;
    for (const secret of [
      JSON.stringify(publicKey),
      JSON.stringify({ keys: world.keySet }),
      Buffer.from(String(publicKey?.x), "base64url"),
    ]) {
      for (const alg of ["HS256", "HS512", "ES512"]) {
        const input = `${base64url({ ...header, alg })}.${goodPayload}`;
        const mac = createHmac("sha512", secret).update(input).digest("base64url");
        await refusedInside(`${input}.${mac}`, alg === "ES512" ? "signature" : "algorithm");
      }
    }
    for (const alg of ["ES256", "RS256", "PS512", "EdDSA"]) {
      const { privateKey } = await generateKeyPair(alg);
      await refusedInside(
        await new CompactSign(bytes(JSON.stringify(payload))).setProtectedHeader({ ...header, alg }).sign(privateKey),
        "algorithm",
      );
    }
  });

  it("with header members that change what is signed is refused", async () => {
    await refusedInside(await signed({}, { ...header, b64: true, crit: ["b64"] }), "algorithm");
    await refusedInside(`${base64url({ ...header, crit: ["exp"] })}.${goodPayload}.${inner.split(".")[2]}`, "algorithm");
    await refusedInside(await signed({}, { alg: "ES512", typ: "JWT" }), "algorithm");
    await refusedInside(await signed({}, { ...header, typ: "rekey-endorsement+jwt" }), "algorithm");
    await refusedInside(await signed({}, { ...header, typ: "rekey-reply+jwt" }), "algorithm");
  });

  it("with missing, unknown or wrong members is refused, though Rekey's own key signed it", async () => {
    for (const name of Object.keys(payload)) await refusedInside(await signed({ [name]: undefined }), "shape");
    const wrong = [
      { more: 1 },
      { timestamp: nowMs },
      { timestamp: "yesterday" },
      { body: "text" },
      { body: null },
      { jti: "1" },
      { fence: -1 },
      { fence: 1.5 },
      { fence: "3" },
      { exp: "soon" },
      { replyKey: { ...(payload.replyKey as object), d: "A".repeat(88) } },
      { replyKey: { kty: "oct", k: "AA" } },
    ];
    for (const changed of wrong) await refusedInside(await signed(changed), "shape");
    await refusedInside(await new CompactSign(bytes("no json")).setProtectedHeader(header).sign(world.key.key), "shape");
  });

  it("sealed in another way is refused", async () => {
    const encrypt = async (protectedHeader: object, key: Parameters<CompactEncrypt["encrypt"]>[0]) =>
      new CompactEncrypt(bytes(inner)).setProtectedHeader(protectedHeader as { alg: "ECDH-ES"; enc: "A256GCM" }).encrypt(key);
    const key = await importJWK(sealing, "ECDH-ES");
    const seal = { alg: "ECDH-ES", enc: "A256GCM", cty: "JWT" };
    await world.open(await encrypt(seal, key));
    await refused(await encrypt({ ...seal, enc: "A128GCM" }, key), "algorithm");
    await refused(await encrypt({ ...seal, enc: "A256CBC-HS512" }, key), "algorithm");
    await refused(await encrypt({ ...seal, alg: "ECDH-ES+A256KW" }, key), "algorithm");
    await refused(await encrypt({ ...seal, zip: "DEF" }, key), "algorithm");
    await refused(await encrypt({ ...seal, cty: "text" }, key), "algorithm");
    await refused(await encrypt({ ...seal, alg: "dir" }, bytes("0".repeat(32))), "algorithm");
    await refused(await encrypt({ ...seal, alg: "A256KW" }, bytes("0".repeat(32))), "algorithm");
    await refused(await encrypt({ ...seal, alg: "PBES2-HS256+A128KW" }, bytes("password")), "algorithm");
    for (const crv of ["P-384", "P-521", "X25519"])
      await refused(await encrypt(seal, (await generateKeyPair("ECDH-ES", { crv })).publicKey), "algorithm");
  });

  it("sealed to a point that is not on the curve is refused", async () => {
    const [head = "", ...rest] = good.split(".");
    const read = JSON.parse(Buffer.from(head, "base64url").toString()) as { epk: JWK };
    const off = { ...read, epk: { ...read.epk, y: read.epk.x } };
    await refused([base64url(off), ...rest].join("."), "unreadable");
  });

  it("bare where it must be sealed, sealed twice, signed around its seal, or out of its seal is refused", async () => {
    await refused(inner, "unreadable");
    await refused(await sealText(good, sealing), "unreadable");
    await refused(await writeSigned("JWT", { text: good }, world.key), "unreadable");
    await refusedInside(await writeSigned("JWT", { text: inner }, world.key), "shape");
    const bare = await writeBareRequest(newRequest(), { key: world.key, issuer, nowMs });
    await refusedInside(bare, "shape");
    await assert.rejects(openBareRequest(inner, { keySet: world.keySet, audience, issuer, nowMs }), { reason: "shape" });
  });

  it("oversized is refused before anything in it is looked at", async () => {
    await refused("x".repeat(256 * 1024 + 1), "too-large");
    await refused(`${good}${"A".repeat(256 * 1024)}`, "too-large");
    await refused("", "unreadable");
    await refused(".".repeat(200_000), "unreadable");
  });

  it("with any character changed, cut off or doubled is refused", async () => {
    const sampled = fc.record({ at: fc.nat(good.length - 1), to: fc.constantFrom(..."AQgw_-.=+ z9é") });
    await fc.assert(
      fc.asyncProperty(sampled, async ({ at, to }) => {
        fc.pre(good[at] !== to);
        await refused(`${good.slice(0, at)}${to}${good.slice(at + 1)}`, "unreadable", "algorithm", "other-receiver");
        await refused(good.slice(0, at), "unreadable", "algorithm");
        await refused(`${good.slice(0, at)}${good.slice(at, at + 7)}${good.slice(at)}`, "unreadable", "algorithm");
      }),
      { numRuns: 60 },
    );
    for (let back = 1; back <= 8; back += 1) {
      const last = good.at(-back) === "A" ? "B" : "A";
      await refused(`${good.slice(0, good.length - back)}${last}${good.slice(good.length - back + 1)}`, "unreadable");
    }
  });

  it("changed under its seal is refused", async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(inner.length - 1), fc.constantFrom(..."AQgw_-."), async (at, to) => {
        fc.pre(inner[at] !== to);
        await refusedInside(
          `${inner.slice(0, at)}${to}${inner.slice(at + 1)}`,
          "unreadable",
          "algorithm",
          "unknown-key",
          "signature",
        );
      }),
      { numRuns: 40 },
    );
  });

  it("is refused in words that hold nothing of it", async () => {
    for (const text of [inner, `${good}x`, await sealText(await signed({ more: "hunter2" }), sealing)]) {
      const error = await world.open(text).then(
        () => assert.fail(),
        (thrown: Error) => thrown,
      );
      assert.ok(!error.message.includes("hunter"));
    }
  });
});

describe("a reply", () => {
  const replyKeyOf = async (request: string): Promise<JWK> => {
    const jws = await openSealed(request, await imported(world.far.sealing, "enc"), sealing.kid);
    return JSON.parse(Buffer.from(String(jws.split(".")[1]), "base64url").toString()).replyKey;
  };
  const forged = (error: unknown) =>
    error instanceof RotatorError && error.outcome === "unknown" && error.cause instanceof MessageRefused;

  it("to another request, or to the same one in another message, is not believed", async () => {
    const request = newRequest({ id: randomUUID() });
    const [one, two] = [await world.write(request), await world.write(request)];
    const reply = await (await world.open(one.text)).writeReply({ status: "ok", result: 1 });
    assert.equal(await one.openReply(reply, nowMs), 1);
    await assert.rejects(two.openReply(reply, nowMs), forged);
    // By the far side itself, which knows both reply keys.
    const replyKey = await replyKeyOf(two.text);
    const own = { kid: String(world.far.signing.kid), key: await imported(world.far.signing, "reply") };
    const { hash } = await world.open(one.text);
    const resealed = async (changed: object) =>
      sealText(
        await writeSigned(
          "rekey-reply+jwt",
          { requestHash: hash, jti: request.id, iat: nowMs / 1000, status: "ok", result: 1, ...changed },
          own,
          "reply",
        ),
        replyKey,
      );
    await assert.rejects(two.openReply(await resealed({}), nowMs), forged);
    const { hash: right } = await world.open(two.text);
    assert.equal(await two.openReply(await resealed({ requestHash: right }), nowMs), 1);
    await assert.rejects(two.openReply(await resealed({ requestHash: right, jti: randomUUID() }), nowMs), forged);
    await assert.rejects(two.openReply(await resealed({ requestHash: right, iat: nowMs / 1000 + 31 }), nowMs), forged);
    await assert.rejects(two.openReply(await resealed({ requestHash: right, iat: nowMs / 1000 - 31 }), nowMs), forged);
    await assert.rejects(two.openReply(await resealed({ requestHash: right, more: 1 }), nowMs), forged);
  });

  it("by another key is not believed, also when somebody else could read the request", async () => {
    const sent = await world.write();
    const other = { ...world.far, signing: (await newFarKeys()).signing };
    const opened = await openRequest(sent.text, { keys: other, keySet: world.keySet, audience, nowMs });
    await assert.rejects(sent.openReply(await opened.writeReply({ status: "ok", result: 1 }), nowMs), forged);
  });

  it("signed by Rekey's own key, unsealed, changed or no message at all is not believed", async () => {
    const sent = await world.write();
    const opened = await world.open(sent.text);
    const reply = await opened.writeReply({ status: "ok", result: 1 });
    const claimed = { requestHash: opened.hash, jti: opened.id, iat: nowMs / 1000, status: "ok", result: 1 };
    for (const kid of [world.key.kid, String(world.far.signing.kid)]) {
      const byServer = await writeSigned("rekey-reply+jwt", claimed, { ...world.key, kid });
      await assert.rejects(sent.openReply(await sealText(byServer, await replyKeyOf(sent.text)), nowMs), forged);
    }
    for (const text of [
      "",
      "x",
      good,
      sent.text,
      reply.slice(0, -1),
      `${reply}A`,
      reply.replace(/[A-Za-z]$/, (c) => (c === "A" ? "B" : "A")),
    ])
      await assert.rejects(sent.openReply(text, nowMs), forged);
    assert.equal(await sent.openReply(reply, nowMs), 1);
  });

  it("to an agent that can be read by another one does not exist: each request has a key of its own", async () => {
    const other = await newFarKeys();
    const sent = await writeRequest(newRequest(), { key: world.key, issuer, nowMs, receiver: publicFarKeys(other) });
    await refused(sent.text, "other-receiver");
  });
});
