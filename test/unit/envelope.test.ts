import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ServiceError } from "../../src/core/error.ts";
import { Plaintext } from "../../src/core/plaintext.ts";
import { newKey } from "../../src/crypto/aead.ts";
import { DataKeyCache } from "../../src/crypto/data-key-cache.ts";
import { Envelope } from "../../src/crypto/envelope.ts";
import { freshKeys, openRing, region } from "../support/keys.ts";

const context = { SecretARN: "arn:aws:secretsmanager:eu-central-1:123456789012:secret:app-AbCdEf", SecretVersionId: "v1" };
const anyContext = fc.dictionary(fc.string({ unit: "grapheme" }), fc.string({ unit: "grapheme" }));

function refusal(code: "DecryptionFailure" | "EncryptionFailure", detail: RegExp) {
  const text =
    code === "DecryptionFailure"
      ? /^Secrets Manager can't decrypt the protected/
      : /^Secrets Manager can't encrypt the protected/;
  return (error: unknown) => {
    assert.ok(error instanceof ServiceError);
    assert.equal(error.code, code);
    assert.match(error.message, text);
    assert.ok(error.cause instanceof Error);
    assert.match(error.cause.message, detail);
    return true;
  };
}

function changed(bytes: Uint8Array, at: number, mask: number): Buffer {
  const copy = Buffer.from(bytes);
  copy[at] = (copy[at] ?? 0) ^ mask;
  return copy;
}

test("open undoes seal, for any bytes under any context", async () => {
  const { envelope, keyId } = await freshKeys({ maxDataKeys: 3 });
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 2_000 }), anyContext, async (bytes, about) => {
      const value = await envelope.seal(new Plaintext(bytes), about, keyId);
      assert.equal(value.keyId, keyId);
      assert.equal(value.keyVersion, 1);
      const backwards = Object.fromEntries(Object.entries(about).reverse());
      assert.deepEqual((await envelope.open(value, backwards)).reveal(), Buffer.from(bytes));
      assert.deepEqual(envelope.openCached(value, about)?.reveal(), Buffer.from(bytes));
    }),
  );
});

test("a value of the largest size, and one that stays as bytes from a database, open", async () => {
  const { envelope, keyId } = await freshKeys();
  const text = "ü".repeat(32_768);
  const value = await envelope.seal(new Plaintext(text), context, keyId);
  const stored = { sealed: new Uint8Array(value.sealed), wrappedDataKey: new Uint8Array(value.wrappedDataKey) };
  assert.equal((await envelope.open(stored, context)).revealText(), text);
});

test("any changed or missing byte of the stored bytes is DecryptionFailure, data key cached or not", async () => {
  const { store, rootKey, envelope, keyId } = await freshKeys();
  const cold = new Envelope(await openRing(store, rootKey), { maxDataKeys: 1 });
  const value = await envelope.seal(new Plaintext("correct horse"), context, keyId);
  await cold.open(value, context);
  for (const part of ["sealed", "wrappedDataKey"] as const)
    for (let at = 0; at < value[part].length; at++)
      for (const bytes of [changed(value[part], at, 1), changed(value[part], at, 128), value[part].subarray(0, at)])
        for (const opener of [envelope, cold])
          await assert.rejects(
            opener.open({ ...value, [part]: bytes }, context),
            refusal("DecryptionFailure", /damaged|is not in this store/),
          );
});

test("another context is DecryptionFailure, data key cached or not", async () => {
  const { store, rootKey, envelope, keyId } = await freshKeys();
  const value = await envelope.seal(new Plaintext("correct horse"), context, keyId);
  const cold = new Envelope(await openRing(store, rootKey), { maxDataKeys: 1 });
  await fc.assert(
    fc.asyncProperty(anyContext, async (other) => {
      for (const about of [other, { ...context, ...other, more: "" }, { SecretARN: context.SecretARN }]) {
        await assert.rejects(envelope.open(value, about), refusal("DecryptionFailure", /not the one of this secret/));
        await assert.rejects(cold.open(value, about), refusal("DecryptionFailure", /not the one of this secret/));
      }
    }),
  );
});

test("contexts that look alike when joined are different", async () => {
  const { envelope, keyId } = await freshKeys();
  const alike = [{ a: "b", c: "d" }, { a: 'b","c","d' }, { "a,b": "c,d" }, { a: "b,c,d" }, { ab: "cd" }, { a: "bcd" }, {}];
  for (const [index, about] of alike.entries()) {
    const value = await envelope.seal(new Plaintext("x"), about, keyId);
    for (const [other, wrong] of alike.entries())
      if (other !== index) await assert.rejects(envelope.open(value, wrong), { code: "DecryptionFailure" });
  }
});

test("parts of two values do not fit each other", async () => {
  const { envelope, keyId } = await freshKeys();
  const one = await envelope.seal(new Plaintext("one"), context, keyId);
  const two = await envelope.seal(new Plaintext("two"), context, keyId);
  const mixed = { sealed: one.sealed, wrappedDataKey: two.wrappedDataKey };
  await assert.rejects(envelope.open(mixed, context), refusal("DecryptionFailure", /damaged/));
});

test("the stored bytes hold no piece of the value, and sealing again gives other bytes", async () => {
  const { envelope, keyId } = await freshKeys();
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ minLength: 8, maxLength: 300 }), async (bytes) => {
      const value = await envelope.seal(new Plaintext(bytes), context, keyId);
      const again = await envelope.seal(new Plaintext(bytes), context, keyId);
      const stored = Buffer.concat([value.sealed, value.wrappedDataKey]);
      for (let at = 0; at + 8 <= bytes.length; at += 8)
        assert.equal(stored.includes(Buffer.from(bytes.subarray(at, at + 8))), false);
      assert.notDeepEqual(Buffer.from(value.sealed), Buffer.from(again.sealed));
      assert.equal(value.sealed.length, bytes.length + 29);
    }),
  );
});

test("a disabled key neither opens nor seals, cached or not, until it is enabled again", async () => {
  const { store, rootKey, ring, envelope } = await freshKeys();
  const { id } = await ring.create({ region });
  const value = await envelope.seal(new Plaintext("x"), context, id);
  await ring.change(id, { state: "disabled" });
  assert.equal(envelope.cachedDataKeys, 0);
  assert.equal(ring.material(id, 1), undefined);
  await assert.rejects(envelope.open(value, context), refusal("DecryptionFailure", /is disabled/));
  await assert.rejects(envelope.seal(new Plaintext("y"), context, id), refusal("EncryptionFailure", /is disabled/));
  const cold = new Envelope(await openRing(store, rootKey), { maxDataKeys: 1 });
  await assert.rejects(cold.open(value, context), refusal("DecryptionFailure", /is disabled/));
  await ring.change(id, { state: "enabled" });
  assert.equal(ring.material(id, 1), undefined, "unwrapped anew, not kept through");
  assert.equal((await envelope.open(value, context)).revealText(), "x");
});

test("disabling reaches another process with its next refresh, though the data key is cached there", async () => {
  const { store, rootKey, ring, envelope } = await freshKeys();
  const { id } = await ring.create({ region });
  const value = await envelope.seal(new Plaintext("x"), context, id);
  const otherRing = await openRing(store, rootKey);
  const other = new Envelope(otherRing, { maxDataKeys: 10 });
  await other.open(value, context);
  await ring.change(id, { state: "disabled" });
  await otherRing.refresh();
  assert.equal(other.openCached(value, context), undefined);
  await assert.rejects(other.open(value, context), refusal("DecryptionFailure", /is disabled/));
  assert.equal(other.cachedDataKeys, 0);
});

test("a value under a key that another process made just now opens", async () => {
  const { store, rootKey, ring, envelope } = await freshKeys();
  const early = new Envelope(await openRing(store, rootKey), { maxDataKeys: 10 });
  const { id } = await ring.create({ region });
  const value = await envelope.seal(new Plaintext("x"), context, id);
  assert.equal(early.openCached(value, context), undefined);
  assert.equal((await early.open(value, context)).revealText(), "x");
  assert.equal(early.openCached(value, context)?.revealText(), "x");
  const late = new Envelope(await openRing(store, rootKey), { maxDataKeys: 10 });
  const { id: unseen } = await ring.create({ region });
  await ring.rotate(unseen);
  const sealed = await late.seal(new Plaintext("y"), context, unseen);
  assert.deepEqual([sealed.keyId, sealed.keyVersion], [unseen, 2]);
});

test("after a rotation old values open, new ones use the new version, and rewrap brings the old ones over", async () => {
  const { store, rootKey, ring, envelope, keyId } = await freshKeys();
  const old = await envelope.seal(new Plaintext("old"), context, keyId);
  await ring.rotate(keyId);
  assert.equal(envelope.cachedDataKeys, 0);
  assert.equal((await envelope.open(old, context)).revealText(), "old");
  assert.equal((await envelope.seal(new Plaintext("new"), context, keyId)).keyVersion, 2);
  const moved = await envelope.rewrap(old.wrappedDataKey, context);
  assert.equal(moved?.keyVersion, 2);
  assert.ok(moved);
  assert.equal(await envelope.rewrap(moved.wrappedDataKey, context), undefined);
  const cold = new Envelope(await openRing(store, rootKey), { maxDataKeys: 1 });
  assert.equal((await cold.open({ ...old, ...moved }, context)).revealText(), "old");
  await assert.rejects(envelope.rewrap(old.wrappedDataKey, { ...context, SecretVersionId: "v2" }), { code: "DecryptionFailure" });
});

test("rewrap to another key: the value opens under it, whatever becomes of the first", async () => {
  const { ring, envelope } = await freshKeys();
  const [first, second] = [await ring.create({ region }), await ring.create({ region })];
  const value = await envelope.seal(new Plaintext("x"), context, first.id);
  const moved = await envelope.rewrap(value.wrappedDataKey, context, second.id);
  assert.equal(moved?.keyId, second.id);
  await ring.change(first.id, { state: "disabled" });
  assert.equal((await envelope.open({ ...value, ...moved }, context)).revealText(), "x");
  await assert.rejects(envelope.rewrap(value.wrappedDataKey, context, second.id), refusal("DecryptionFailure", /is disabled/));
});

test("a data key that is in use stays while many others pass through memory", () => {
  const cache = new DataKeyCache(3);
  const { key } = newKey();
  const [often, ...others] = Array.from({ length: 20 }, (_, index) => Buffer.of(index));
  assert.ok(often);
  cache.put(often, { key, ringKeyId: "one" });
  for (const [index, other] of others.entries()) {
    assert.ok(cache.get(often));
    cache.put(other, { key, ringKeyId: "two" });
    assert.equal(cache.size, Math.min(index + 2, 3));
  }
  cache.dropUnder("two");
  assert.equal(cache.size, 1);
  assert.ok(cache.get(often));
});

test("data keys in memory stay within their bound", async () => {
  const { envelope, keyId } = await freshKeys({ maxDataKeys: 3 });
  const values = [];
  for (let count = 0; count < 10; count++) values.push(await envelope.seal(new Plaintext(String(count)), context, keyId));
  assert.equal(envelope.cachedDataKeys, 3);
  for (const [index, value] of values.entries()) assert.equal((await envelope.open(value, context)).revealText(), String(index));
  assert.equal(envelope.cachedDataKeys, 3);
});

test("a failure names no value", async () => {
  const { envelope, keyId } = await freshKeys();
  const value = await envelope.seal(new Plaintext("marked-value"), context, keyId);
  await assert.rejects(envelope.open(value, {}), (error: unknown) => {
    assert.ok(error instanceof ServiceError && error.cause instanceof Error);
    return !`${error.stack}${error.cause.stack}`.includes("marked");
  });
});
