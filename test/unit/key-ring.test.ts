import assert from "node:assert/strict";
import { test } from "node:test";
import { ConfigError } from "../../src/core/error.ts";
import { Plaintext } from "../../src/core/plaintext.ts";
import { Envelope } from "../../src/crypto/envelope.ts";
import { openKeyRing } from "../../src/crypto/key-ring.ts";
import type { RingKeyStore } from "../../src/crypto/ring-key-store.ts";
import { rotateRootKey } from "../../src/crypto/root-secret.ts";
import { ringKeyStore } from "../../src/store/keys.ts";
import type { Sql } from "../../src/store/sql.ts";
import { account, freshKeys, memoryStore, openRing, randomRootKey, region } from "../support/keys.ts";

const context = { SecretARN: "arn", SecretVersionId: "v" };

async function contentOf(sql: Sql): Promise<unknown[]> {
  const tables = ["meta", "ring_keys", "ring_key_versions", "key_aliases"];
  return Promise.all(tables.map((table) => sql.query(`select * from ${table} order by 1, 2`)));
}

test("a key is found by id, ARN, alias and alias ARN, in its region only", async () => {
  const { ring } = await freshKeys();
  const key = await ring.create({ region, alias: "alias/app/db", description: "for the shop" });
  assert.equal(key.arn, `arn:aws:kms:${region}:${account}:key/${key.id}`);
  for (const name of [key.id, key.arn, "alias/app/db", `arn:aws:kms:${region}:${account}:alias/app/db`])
    assert.equal((await ring.resolve(name, region)).id, key.id);
  for (const name of [key.id, "alias/app/db"])
    await assert.rejects(ring.resolve(name, "us-east-1"), {
      code: "InvalidParameterException",
      message: "The operation failed because of an invalid KMS key: Invalid keyId",
    });
  await assert.rejects(ring.resolve(key.arn, "us-east-1"), {
    code: "InvalidParameterException",
    message: `The operation failed because of an invalid KMS key: Invalid arn ${region}`,
  });
});

test("names that mean no key of this account are refused as AWS does", async () => {
  const { ring } = await freshKeys();
  const unknown = `arn:aws:kms:${region}:${account}:key/0b6c2a4e-0000-4000-8000-000000000000`;
  for (const name of [
    "nonsense",
    "alias/none",
    "a b",
    "alias/",
    "arn:aws:s3:::x",
    "arn:aws:kms:x",
    unknown,
    unknown.slice(0, -36),
    `${unknown}/x`,
  ])
    await assert.rejects(ring.resolve(name, region), {
      code: "InvalidParameterException",
      message: /invalid KMS key: Invalid keyId$/,
    });
  await assert.rejects(ring.resolve(`arn:aws:kms:${region}:999999999999:key/x`, region), {
    code: "AccessDeniedException",
    message: "Access to KMS is not allowed",
  });
});

test("partitions follow the region", async () => {
  const { ring } = await freshKeys();
  assert.match((await ring.resolve(undefined, "cn-north-1")).arn, /^arn:aws-cn:kms:cn-north-1:/);
  assert.match((await ring.resolve(undefined, "us-gov-west-1")).arn, /^arn:aws-us-gov:kms:us-gov-west-1:/);
});

test("each region's default key is made once, on first use, even by several processes at once", async () => {
  const sql = await memoryStore();
  const rootKey = await randomRootKey();
  const rings = [await openRing(ringKeyStore(sql), rootKey), await openRing(ringKeyStore(sql), rootKey)];
  const names = [undefined, "", "alias/aws/secretsmanager", `arn:aws:kms:${region}:${account}:alias/aws/secretsmanager`];
  const found = await Promise.all(rings.flatMap((ring) => names.map((name) => ring.resolve(name, region))));
  assert.equal(new Set(found.map(({ id }) => id)).size, 1);
  assert.equal((await sql.query("select id from ring_keys")).length, 1);
  assert.deepEqual(found[0]?.aliases, ["alias/aws/secretsmanager"]);
  assert.equal(found[0]?.isDefault, true);
  const [ring] = rings;
  assert.ok(ring && found[0]);
  assert.notEqual((await ring.resolve(undefined, "us-east-1")).id, found[0].id);
  await assert.rejects(ring.change(found[0].id, { state: "disabled" }), { code: "InvalidRequestException" });
});

test("aliases: one key each, none of AWS's, well-formed", async () => {
  const { ring } = await freshKeys();
  const key = await ring.create({ region, alias: "alias/one" });
  await ring.createAlias("alias/two", key.id);
  assert.deepEqual(ring.find(key.id)?.aliases, ["alias/one", "alias/two"]);
  const taken = {
    code: "ResourceExistsException",
    message: `An alias with the name arn:aws:kms:${region}:${account}:alias/one already exists`,
  };
  await assert.rejects(ring.create({ region, alias: "alias/one" }), taken);
  await assert.rejects(ring.createAlias("alias/one", key.id), taken);
  await ring.create({ region: "us-east-1", alias: "alias/one" });
  for (const alias of ["one", "alias/", "alias/a b", "alias/aws/mine", `alias/${"x".repeat(251)}`])
    await assert.rejects(ring.create({ region, alias }), { code: "InvalidParameterException" });
  assert.equal(ring.list(region).length, 2);
});

test("description, state and policy change, and an empty policy is none", async () => {
  const { ring } = await freshKeys();
  const { id } = await ring.create({ region, policy: '{"Version":"2012-10-17"}' });
  assert.equal(ring.find(id)?.policy, '{"Version":"2012-10-17"}');
  const changed = await ring.change(id, { description: "new", policy: "", state: "disabled" });
  assert.deepEqual([changed.description, changed.policy, changed.state], ["new", undefined, "disabled"]);
  assert.equal((await ring.resolve(id, region)).state, "disabled");
  await assert.rejects(ring.change("no-such-key", {}), { code: "InvalidParameterException" });
});

test("two processes that rotate a key at once: one does, the other is told", async () => {
  const { store, rootKey, ring, keyId } = await freshKeys();
  const other = await openRing(store, rootKey);
  assert.equal((await ring.rotate(keyId)).currentVersion, 2);
  await assert.rejects(other.rotate(keyId), { code: "InvalidRequestException" });
  assert.equal((await other.rotate(keyId)).currentVersion, 3);
});

test("the wrong root key is refused in words, and nothing is changed", async () => {
  const { sql, store, rootKey } = await freshKeys();
  const before = await contentOf(sql);
  const wrong = await randomRootKey("OTHER");
  await assert.rejects(openRing(store, wrong), (error: unknown) => {
    assert.ok(error instanceof ConfigError);
    assert.match(error.message, /root key env:OTHER is not the one that this store was made with/);
    return true;
  });
  await assert.rejects(rotateRootKey(store, wrong, await randomRootKey()), /is not the one that this store was made with/);
  assert.deepEqual(await contentOf(sql), before);
  await openRing(store, rootKey);
});

test("a damaged root secret, and a store that was never initialised, are refused in words", async () => {
  const { sql, store, rootKey } = await freshKeys();
  await sql.query("update meta set value = substr(value, 1, 30) || 'AAAA' || substr(value, 35) where key = 'root_secret'");
  await assert.rejects(openRing(store, rootKey), /root key env:ROOT_KEY cannot be used: .*damaged/);
  await sql.query("delete from meta where key = 'root_secret'");
  await assert.rejects(openRing(store, rootKey), /has no root key yet/);
  const empty = ringKeyStore(await memoryStore());
  await assert.rejects(openKeyRing({ store: empty, rootKey, account, now: () => 0 }), /has no root key yet/);
});

test("a damaged ring key is DecryptionFailure to the caller, and is left as it is", async () => {
  const { sql, store, rootKey, envelope, keyId } = await freshKeys();
  const value = await envelope.seal(new Plaintext("x"), context, keyId);
  await sql.query("update ring_key_versions set wrapped = $1", [Buffer.alloc(69, 1)]);
  const before = await contentOf(sql);
  const cold = new Envelope(await openRing(store, rootKey), { maxDataKeys: 1 });
  await assert.rejects(cold.open(value, context), { code: "DecryptionFailure" });
  await assert.rejects(cold.seal(new Plaintext("x"), context, keyId), { code: "EncryptionFailure" });
  assert.deepEqual(await contentOf(sql), before);
});

test("derived keys differ by purpose and stay the same through every rotation", async () => {
  const { store, ring, keyId } = await freshKeys();
  const derived = (name: string, from = ring) => from.deriveKey(name).export().toString("hex");
  const before = derived("audit");
  assert.notEqual(before, derived("sessions"));
  const next = await randomRootKey("NEXT");
  await ring.rotate(keyId);
  await ring.rotateRootKey(next);
  assert.equal(derived("audit", await openRing(store, next)), before);
  const other = await freshKeys();
  assert.notEqual(derived("audit", other.ring), before);
});

test("after a root key rotation the new key opens everything, the old one nothing, and the running process goes on", async () => {
  const { store, rootKey, ring, envelope, keyId } = await freshKeys();
  const customer = await ring.create({ region });
  await ring.rotate(customer.id);
  const values = [
    await envelope.seal(new Plaintext("one"), context, keyId),
    await envelope.seal(new Plaintext("two"), context, customer.id),
  ];
  const bystander = await openRing(store, rootKey);
  const next = await randomRootKey("NEXT");
  await ring.rotateRootKey(next);
  await ring.check();
  await assert.rejects(openRing(store, rootKey), /is not the one that this store was made with/);
  const cold = new Envelope(await openRing(store, next), { maxDataKeys: 9 });
  for (const one of [envelope, cold])
    assert.deepEqual(await Promise.all(values.map(async (value) => (await one.open(value, context)).revealText())), [
      "one",
      "two",
    ]);
  await ring.rotate(keyId);
  for (const act of [() => bystander.create({ region }), () => bystander.rotate(customer.id)])
    await assert.rejects(act(), { code: "InvalidRequestException", message: /root key of this store was changed/ });
  await rotateRootKey(store, rootKey, next);
});

test("a root key rotation cut off at any call leaves the old or the new root key working, and runs again to its end", async () => {
  const old = await randomRootKey("OLD");
  const next = await randomRootKey("NEXT");
  let finished = false;
  for (let cutAt = 1; !finished; cutAt++) {
    const sql = await memoryStore();
    const store = ringKeyStore(sql);
    const ring = await openRing(store, old);
    const { id } = await ring.resolve(undefined, region);
    await ring.rotate(id);
    const value = await new Envelope(ring, { maxDataKeys: 1 }).seal(new Plaintext("x"), context, id);
    finished = await rotateRootKey(ringKeyStore(cutOff(sql, cutAt)), old, next).then(
      () => true,
      (error: unknown) => {
        assert.match(String(error), /cut off/);
        return false;
      },
    );
    const usable = await Promise.all([old, next].map((key) => openRing(store, key).catch(() => undefined)));
    assert.equal(usable.filter(Boolean).length, 1, `exactly one root key works when cut off at call ${cutAt}`);
    await rotateRootKey(store, old, next);
    const after = new Envelope(await openRing(store, next), { maxDataKeys: 1 });
    assert.equal((await after.open(value, context)).revealText(), "x");
    await sql.close();
    assert.ok(cutAt < 50);
  }
});

test("a key made while the root key is being rotated is not left under the old one", async () => {
  const { store, rootKey, ring } = await freshKeys();
  const next = await randomRootKey("NEXT");
  let late: string | undefined;
  const meddled: RingKeyStore = {
    ...store,
    async replaceRoot(replacement) {
      late ??= (await ring.create({ region })).id;
      return store.replaceRoot(replacement);
    },
  };
  await rotateRootKey(meddled, rootKey, next);
  assert.ok(late);
  assert.equal(await (await openRing(store, next)).unlock(late, 1), undefined);
});

/** The same database until its n-th statement, which fails as if the process had ended there; so does all after it. */
function cutOff(sql: Sql, cutAt: number): Sql {
  let calls = 0;
  const counted = (inner: Sql): Sql => ({
    ...inner,
    async query(text, values) {
      if (++calls >= cutAt) throw new Error("cut off");
      return inner.query(text, values);
    },
    transaction: (work) => inner.transaction((tx) => work(counted(tx))),
  });
  return counted(sql);
}
