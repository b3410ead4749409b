import assert from "node:assert/strict";
import { randomBytes, randomUUID } from "node:crypto";
import { test } from "node:test";
import { Plaintext } from "../../src/core/plaintext.ts";
import type { NewRingKey, RingKeyRow } from "../../src/core/ring-key.ts";
import { Envelope } from "../../src/crypto/envelope.ts";
import type { RingKeyStore } from "../../src/crypto/ring-key-store.ts";
import { ringKeyStore } from "../../src/store/keys.ts";
import { dataFolder } from "../support/audit.ts";
import { openRing, randomRootKey, region } from "../support/keys.ts";
import { operationsWorld } from "../support/operations-world.ts";
import { forEachStore } from "../support/stores.ts";

const rootSecret = randomBytes(69);

function newKey(change: Partial<RingKeyRow> = {}, alias?: string): NewRingKey {
  const id = randomUUID();
  const key: RingKeyRow = {
    id,
    region,
    description: "ä 'quoted'",
    state: "enabled",
    isDefault: false,
    currentVersion: 1,
    policy: undefined,
    createdAt: 1_700_000_000_123,
    ...change,
  };
  return { key, alias, rootSecret, version: { keyId: id, version: 1, wrapped: randomBytes(69), createdAt: key.createdAt } };
}

forEachStore((_, open) => {
  async function prepared(): Promise<RingKeyStore> {
    const store = ringKeyStore(await open());
    await store.keepRootSecret(rootSecret);
    return store;
  }

  test("an empty store has no keys and no root secret; the first root secret stays", async () => {
    const store = ringKeyStore(await open());
    assert.deepEqual(await store.load(), { revision: 0, rootSecret: undefined, keys: [], versions: [], aliases: [] });
    await store.keepRootSecret(rootSecret);
    await store.keepRootSecret(randomBytes(69));
    assert.deepEqual((await store.load()).rootSecret, rootSecret);
  });

  test("keys, versions and aliases come back as they were given", async () => {
    const store = await prepared();
    const plain = newKey();
    const full = newKey({ policy: '{"a":"ß"}', isDefault: true, createdAt: plain.key.createdAt + 1 }, "alias/full");
    assert.equal(await store.insertKey(plain), "done");
    assert.equal(await store.insertKey(full), "done");
    assert.equal(await store.insertAlias({ region, alias: "alias/more", keyId: plain.key.id }), "done");
    const second = { keyId: plain.key.id, version: 2, wrapped: randomBytes(69), createdAt: 1_800_000_000_000 };
    assert.equal(await store.insertVersion(second, rootSecret), "done");
    const loaded = await store.load();
    assert.deepEqual(loaded.keys, [{ ...plain.key, currentVersion: 2 }, full.key]);
    const stored = loaded.versions.map((row) => ({ ...row, wrapped: Buffer.from(row.wrapped) }));
    const byKey = (a: { keyId: string; version: number }, b: typeof a) =>
      `${a.keyId}${a.version}` < `${b.keyId}${b.version}` ? -1 : 1;
    assert.deepEqual(stored.sort(byKey), [plain.version, second, full.version].sort(byKey));
    assert.deepEqual(loaded.aliases, [
      { region, alias: "alias/full", keyId: full.key.id },
      { region, alias: "alias/more", keyId: plain.key.id },
    ]);
  });

  test("every change raises the revision, reading does not", async () => {
    const store = await prepared();
    const added = newKey();
    const changes = [
      () => store.insertKey(added),
      () => store.changeKey(added.key.id, { state: "disabled" }),
      () => store.insertAlias({ region, alias: "alias/a", keyId: added.key.id }),
      () => store.insertVersion({ ...added.version, version: 2 }, rootSecret),
    ];
    for (const change of changes) {
      const before = await store.loadRevision();
      await change();
      assert.ok((await store.loadRevision()) > before);
      assert.equal((await store.load()).revision, await store.loadRevision());
    }
  });

  test("a taken alias or version, and another root secret by now, change nothing", async () => {
    const store = await prepared();
    const first = newKey({}, "alias/one");
    await store.insertKey(first);
    const before = await store.load();
    assert.equal(await store.insertKey(newKey({}, "alias/one")), "alias-taken");
    assert.equal(await store.insertAlias({ region, alias: "alias/one", keyId: first.key.id }), "alias-taken");
    assert.equal(await store.insertVersion(first.version, rootSecret), "version-taken");
    assert.equal(await store.insertVersion({ ...first.version, version: 3 }, rootSecret), "version-taken");
    assert.equal(await store.insertVersion({ ...first.version, version: 2 }, randomBytes(69)), "root-changed");
    assert.equal(await store.insertKey({ ...newKey(), rootSecret: randomBytes(69) }), "root-changed");
    assert.deepEqual({ ...(await store.load()), revision: 0 }, { ...before, revision: 0 });
  });

  test("of many that take the same alias at once, one gets it", async () => {
    const store = await prepared();
    const outcomes = await Promise.all(Array.from({ length: 8 }, () => store.insertKey(newKey({}, "alias/only"))));
    assert.equal(outcomes.filter((outcome) => outcome === "done").length, 1);
    assert.equal((await store.load()).keys.length, 1);
  });

  test("state, description and policy change one by one; an empty policy is removed", async () => {
    const store = await prepared();
    const { key, ...rest } = newKey({ policy: "{}" });
    await store.insertKey({ key, ...rest });
    await store.changeKey(key.id, { description: "" });
    await store.changeKey(key.id, { state: "disabled" });
    assert.deepEqual((await store.load()).keys, [{ ...key, description: "", state: "disabled" }]);
    await store.changeKey(key.id, { policy: "" });
    assert.equal((await store.load()).keys[0]?.policy, undefined);
  });

  test("more keys than fit a page are all loaded, in the order of their making", async () => {
    const store = await prepared();
    const added = Array.from({ length: 1_203 }, (_, index) => newKey({ createdAt: Math.floor(index / 3) }, `alias/${index}`));
    for (let from = 0; from < added.length; from += 20)
      await Promise.all(added.slice(from, from + 20).map((each) => store.insertKey(each)));
    const { keys, versions, aliases } = await store.load();
    assert.deepEqual([keys.length, versions.length, aliases.length], [1_203, 1_203, 1_203]);
    assert.deepEqual(new Set(versions.map(({ keyId }) => keyId)), new Set(added.map(({ key }) => key.id)));
    assert.ok(keys.every((key, index) => index === 0 || key.createdAt >= (keys[index - 1]?.createdAt ?? 0)));
  });

  test("the root is replaced as a whole or not at all", async () => {
    const store = await prepared();
    const [one, two] = [newKey(), newKey()];
    await store.insertKey(one);
    await store.insertKey(two);
    const before = await store.load();
    const next = randomBytes(69);
    const versions = before.versions.map((row) => ({ ...row, wrapped: randomBytes(69) }));
    assert.equal(await store.replaceRoot({ expected: next, rootSecret: next, versions }), false);
    assert.equal(await store.replaceRoot({ expected: rootSecret, rootSecret: next, versions: versions.slice(1) }), false);
    assert.deepEqual({ ...(await store.load()), revision: 0 }, { ...before, revision: 0 });
    assert.equal(await store.replaceRoot({ expected: rootSecret, rootSecret: next, versions }), true);
    const after = await store.load();
    assert.deepEqual(after.rootSecret, next);
    assert.deepEqual(
      after.versions.map((row) => Buffer.from(row.wrapped)),
      versions.map((row) => row.wrapped),
    );
  });

  test("a value sealed before rotations of ring key and root key opens in a new process", async () => {
    const store = ringKeyStore(await open());
    const context = { SecretARN: "arn", SecretVersionId: "v" };
    const ring = await openRing(store, await randomRootKey());
    const { id } = await ring.resolve(undefined, region);
    const value = await new Envelope(ring, { maxDataKeys: 1 }).seal(new Plaintext("kept"), context, id);
    const next = await randomRootKey("NEXT");
    await ring.rotate(id);
    await ring.rotateRootKey(next);
    const later = new Envelope(await openRing(store, next), { maxDataKeys: 1 });
    assert.equal((await later.open(value, context)).revealText(), "kept");
  });

  test("a change that its caller's transaction takes back leaves no key", async () => {
    const sql = await open();
    const ring = await openRing(ringKeyStore(sql), await randomRootKey());
    const failing = ringKeyStore({
      query: (text, values) => sql.query(text, values),
      transaction: (work) =>
        sql.transaction(async (tx) => {
          await work(tx);
          throw new Error("taken back");
        }),
    });
    await assert.rejects(ring.create({ region, alias: "alias/gone" }, failing), /taken back/);
    assert.deepEqual((await ringKeyStore(sql).load()).keys, []);
    await ring.create({ region, alias: "alias/gone" });
  });

  test("a node that has not heard of a key yet asks for the right to use it all the same", async () => {
    const [sql, rootKey] = [await open(), await randomRootKey()];
    await using one = await operationsWorld(sql, dataFolder(), undefined, rootKey);
    await using other = await operationsWorld(sql, dataFolder(), undefined, rootKey);
    const { keys } = one.services;
    const key = await keys.create({ region });
    const secret = { Name: "sealed", KmsKeyId: key.id, SecretString: "one", ClientRequestToken: randomUUID() };
    await one.call("CreateSecret", secret);
    const Statement = { Effect: "Deny", Principal: "*", Action: "kms:Decrypt", Resource: "*" };
    await keys.change(key.id, { policy: JSON.stringify({ Version: "2012-10-17", Statement }) });
    const denied = { code: "AccessDeniedException", message: "Access to KMS is not allowed" };
    await assert.rejects(other.call("GetSecretValue", { SecretId: "sealed" }), denied);
    assert.equal(other.services.keys.find(key.id)?.id, key.id);
  });
});
