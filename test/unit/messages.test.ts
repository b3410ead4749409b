// Requests to agents and functions, and their replies: what is written is what is read, and by nobody else.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { describe, it } from "node:test";
import fc from "fast-check";
import { compactDecrypt, compactVerify, createLocalJWKSet, decodeProtectedHeader } from "jose";
import { RotatorError } from "../../src/core/error.ts";
import {
  newFarKeys,
  newPrivateJwk,
  publicFarKeys,
  publicJwk,
  readFarKeys,
  readKeySet,
  readPublicJwk,
} from "../../src/crypto/message-keys.ts";
import { openBareRequest, writeBareRequest } from "../../src/crypto/messages.ts";
import { audience, issuer, messageWorld, newRequest, nowMs } from "../support/messages.ts";

const world = await messageWorld();

describe("requests", () => {
  it("say at the far side what was written, and open its reply", async () => {
    const fields = fc.record({
      body: fc.dictionary(fc.string(), fc.jsonValue()),
      subject: fc.string({ unit: "grapheme", maxLength: 300 }),
      step: fc.string({ maxLength: 100 }),
      fence: fc.maxSafeNat(),
      expiresAt: fc.integer({ min: nowMs + 1, max: nowMs + 3_600_000 }),
    });
    await fc.assert(
      fc.asyncProperty(fields, fc.jsonValue(), async (changed, result) => {
        const sent = await world.write(changed);
        const opened = await world.open(sent.text);
        const json = (value: unknown) => JSON.parse(JSON.stringify(value)) as unknown;
        assert.deepEqual(json(opened.body), json(changed.body));
        assert.deepEqual(
          [opened.subject, opened.step, opened.fence, opened.expiresAt, opened.sentAt, opened.issuer],
          [changed.subject, changed.step, changed.fence, changed.expiresAt, nowMs, issuer],
        );
        const reply = await opened.writeReply({ status: "ok", result });
        assert.deepEqual(await sent.openReply(reply, nowMs), json(result));
      }),
      { numRuns: 15 },
    );
  });

  it("hide everything from those who carry them", async () => {
    const sent = await world.write();
    const opened = await world.open(sent.text);
    const reply = await opened.writeReply({ status: "ok", result: { password: "hunter3" } });
    for (const text of [sent.text, reply]) {
      const carried = text.split(".").map((part) => Buffer.from(part, "base64url").toString("latin1"));
      for (const word of ["hunter", "rotator.set", "rotation-1", "postgres", audience, issuer])
        assert.ok(![text, ...carried].some((part) => part.includes(word)), word);
    }
    assert.deepEqual(Object.keys(decodeProtectedHeader(sent.text)).sort(), ["alg", "cty", "enc", "epk", "kid"]);
  });

  it("give the journal what tells a repeated one: id, subject, fence and hash, the same each time", async () => {
    const request = newRequest();
    const { text } = await world.write(request);
    const [first, again] = [await world.open(text), await world.open(text, nowMs + 5_000)];
    for (const opened of [first, again]) {
      assert.deepEqual([opened.id, opened.subject, opened.fence], [request.id, request.subject, request.fence]);
      assert.equal(opened.hash, first.hash);
    }
    const { plaintext } = await compactDecrypt(text, world.far.sealing);
    assert.equal(first.hash, createHash("sha256").update(plaintext).digest("base64url"));
    const other = await world.open((await world.write(request)).text);
    assert.notEqual(other.hash, first.hash, "the same request in another message");
  });

  it("larger than 256 KiB are not written", async () => {
    const body = { text: "x".repeat(200_000) };
    const tooLarge = (error: unknown) => error instanceof RotatorError && error.outcome === "invalid";
    await assert.rejects(world.write({ body }), tooLarge);
    await assert.rejects(writeBareRequest(newRequest({ body }), { ...world, issuer, nowMs }), tooLarge);
  });
});

describe("bare requests", () => {
  it("are what Doppler's agents accept: ES512, a key id of the set, {type, timestamp, body} within 30 seconds", async () => {
    const body = { host: "db", port: 5432, database: "d", users: [{ username: "u", password: "p" }] };
    const text = await writeBareRequest(newRequest({ type: "testCredentials", body }), { ...world, issuer, nowMs });
    // As their agent does it: any key set of theirs is OVERRIDE_KEY_SET, JSON.
    const keySet = createLocalJWKSet(JSON.parse(JSON.stringify({ keys: world.keySet })));
    assert.equal(decodeProtectedHeader(text).alg, "ES512");
    const { payload } = await compactVerify(text, keySet);
    const read = JSON.parse(new TextDecoder().decode(payload)) as Record<string, unknown>;
    assert.deepEqual([read.type, read.body], ["testCredentials", body]);
    assert.equal(typeof read.timestamp, "string");
    assert.equal(new Date(String(read.timestamp)).valueOf(), nowMs);
  });

  it("can be opened, with the same checks", async () => {
    const text = await writeBareRequest(newRequest({ type: "status", body: {} }), { ...world, issuer, nowMs });
    const options = { keySet: world.keySet, audience, issuer, nowMs };
    assert.equal((await openBareRequest(text, options)).type, "status");
    await assert.rejects(openBareRequest(text, { ...options, audience: "arn:other" }), { reason: "audience" });
    await assert.rejects(openBareRequest(text, { ...options, nowMs: nowMs + 31_000 }), { reason: "too-old" });
  });
});

describe("replies", () => {
  it("carry the far side's class and sentences", async () => {
    const sent = await world.write();
    const opened = await world.open(sent.text);
    const error = { class: "refused", message: "The user may not do that.", remedy: "Grant it." } as const;
    const told = { outcome: "refused", message: "The user may not do that. Grant it." };
    await assert.rejects(sent.openReply(await opened.writeReply({ status: "error", error }), nowMs), told);
  });

  it("too large for a message are told as unknown, since it was done", async () => {
    const sent = await world.write();
    const reply = await (await world.open(sent.text)).writeReply({ status: "ok", result: "x".repeat(300_000) });
    await assert.rejects(sent.openReply(reply, nowMs), { outcome: "unknown", message: /larger than a message/ });
  });

  it("may come twice: the far side repeats what it has in its journal", async () => {
    const sent = await world.write();
    const reply = await (await world.open(sent.text)).writeReply({ status: "ok", result: 1 });
    assert.deepEqual([await sent.openReply(reply, nowMs), await sent.openReply(reply, nowMs + 10_000)], [1, 1]);
  });
});

describe("keys", () => {
  it("are read back from JSON; their ids follow from their numbers", async () => {
    const keys = await newFarKeys();
    const changed = { signing: { ...keys.signing, kid: "mine" }, sealing: { ...keys.sealing, extra: 1 } };
    assert.deepEqual(await readFarKeys(JSON.parse(JSON.stringify(changed))), keys);
    const [open, server] = [publicFarKeys(keys), publicJwk(await newPrivateJwk("sig"))];
    assert.ok(!JSON.stringify(open).includes('"d"'));
    assert.deepEqual(
      await readKeySet({
        keys: [{ kty: "RSA", n: "AQ", e: "AQAB" }, open.signing, { ...server, kid: "x" }],
      }),
      [server],
    );
  });

  it("that are of another curve, not on the curve, or of two pairs, are not taken", async () => {
    const [a, b] = [await newFarKeys(), await newFarKeys()];
    const { signing, sealing } = a;
    const off = { ...signing, d: undefined, y: b.signing.y };
    assert.equal(await readPublicJwk(off, "reply"), undefined);
    assert.equal(await readPublicJwk({ ...signing, crv: "P-521" }, "reply"), undefined);
    assert.equal(await readPublicJwk(signing, "sig"), undefined);
    assert.equal(await readFarKeys({ signing: { ...signing, d: b.signing.d }, sealing }), undefined);
    assert.equal(await readFarKeys({ signing: await newPrivateJwk("sig"), sealing }), undefined);
    assert.equal(await readFarKeys({ signing: sealing, sealing }), undefined);
    assert.equal(await readFarKeys(publicFarKeys(a)), undefined);
    for (const value of [undefined, "x", { keys: [] }, { keys: "x" }, { keys: [off] }])
      assert.equal(await readKeySet(value), undefined);
  });
});
