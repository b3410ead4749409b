import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import type { SealedValue, Secret, SecretVersion } from "../../src/core/secret.ts";
import { addEvent } from "../../src/store/events.ts";
import { LastReads, saveReads } from "../../src/store/last-reads.ts";
import { dueReplicas, listReplicas, putReplica, recordReplica, removeReplica } from "../../src/store/replicas.ts";
import { SecretCache } from "../../src/store/secret-cache.ts";
import {
  changeSecret,
  deleteSecretRow,
  findSecret,
  insertSecret,
  loadSecret,
  loadSecrets,
  loadValue,
} from "../../src/store/secrets.ts";
import type { Sql } from "../../src/store/sql.ts";
import { changeCounter } from "../../src/store/sqlite.ts";
import { forEachStore } from "../support/stores.ts";

const region = "us-east-1";

const sealed = (text = "x"): SealedValue => ({
  kind: "string",
  sealed: Buffer.from(text),
  wrappedDataKey: randomBytes(8),
  keyId: "key",
  keyVersion: 1,
  digest: Buffer.from(text),
});
const version = (id: string, stages: string[], newValue?: SealedValue): SecretVersion => ({
  id,
  createdAt: 5,
  stages,
  ...(newValue && { newValue }),
});

function newSecret(id: string, more: Partial<Secret> = {}): Secret {
  const name = more.name ?? `name-${id}`;
  return {
    id,
    region,
    name,
    arn: `arn:aws:secretsmanager:${region}:000000000000:secret:${name}-AbCdEf`,
    createdAt: 1,
    lastChangedAt: 1,
    generation: 0,
    rowVersion: 0,
    versions: [],
    ...more,
  };
}

const insert = (sql: Sql, secret: Secret) => sql.transaction((tx) => insertSecret(tx, secret));
const change = (sql: Sql, id: string, decide: (before: Secret) => Secret) =>
  sql.transaction((tx) => changeSecret(tx, id, decide));
/** What is stored of it, without what was never set. */
const plain = (secret: Secret | undefined) => secret && JSON.parse(JSON.stringify(secret));

forEachStore((_dialect, open) => {
  test("a secret comes back as it was kept, with every field set or none", async () => {
    const sql = await open();
    const full = newSecret("full", {
      description: "d",
      kmsKeyId: "k",
      policy: "{}",
      type: "t",
      owningService: "o",
      lastAccessedAt: 2,
      deletedAt: 3,
      purgeAt: 4,
      primaryRegion: region,
      generation: 7,
      switchingUntil: 8,
      rotationEnabled: false,
      rotationFunctionArn: "f",
      rotationRules: { automaticallyAfterDays: 3, duration: "2h" },
      externalRotation: { roleArn: "r", metadata: [{ Key: "k", Value: "v" }] },
      lastRotatedAt: 9,
      nextRotationAt: 10,
      rotationDueAt: 11,
      tags: { k: "v", é: "" },
    });
    const bare = newSecret("bare");
    for (const secret of [full, bare]) {
      await insert(sql, secret);
      assert.deepEqual(plain(await loadSecret(sql, secret.id)), plain(secret));
    }
    await change(sql, "full", () => ({ ...bare, id: "full", name: full.name, arn: full.arn }));
    const { rowVersion, ...rest } = plain(await loadSecret(sql, "full"));
    assert.deepEqual({ ...rest, rowVersion: 0 }, { ...plain(bare), id: "full", name: full.name, arn: full.arn });
    assert.equal(rowVersion, 1);
  });

  test("it is found by name, whole ARN and ARN without suffix, in its region only", async () => {
    const sql = await open();
    const secret = newSecret("a", { name: "app/db" });
    await insert(sql, secret);
    const short = secret.arn.slice(0, -7);
    for (const id of ["app/db", secret.arn, short]) {
      assert.equal((await findSecret(sql, region, id))?.id, "a", id);
      assert.equal(await findSecret(sql, "eu-west-1", id), undefined, id);
    }
    for (const id of ["app", "APP/DB", `${secret.arn}x`, short.slice(0, -1), `${short}-ghIJkl`, "arn:aws:s3:::x", "arn:"])
      assert.equal(await findSecret(sql, region, id), undefined, id);
    await insert(sql, newSecret("b", { name: "odd-ABCdef" }));
    assert.equal(await findSecret(sql, region, `${secret.arn.split("app/db")[0]}odd-ABCdef`), undefined, "reads as a whole ARN");
    await assert.rejects(insert(sql, newSecret("c", { name: "app/db", arn: "other" })), /unique/i);
  });

  test("versions, labels and values are saved as they change, and go with the secret", async () => {
    const sql = await open();
    const [first, second] = [sealed("one"), sealed("two")];
    await insert(
      sql,
      newSecret("a", { versions: [version("v1", ["AWSCURRENT", "b", "a"], first), version("v2", ["AWSPENDING"])] }),
    );
    assert.deepEqual(
      (await loadSecret(sql, "a"))?.versions.map(({ id, stages, kind }) => [id, stages, kind]),
      [
        ["v1", ["AWSCURRENT", "a", "b"], "string"],
        ["v2", ["AWSPENDING"], undefined],
      ],
    );
    assert.equal(await loadValue(sql, "a", "v2"), undefined);
    assert.equal(await loadValue(sql, "a", "none"), undefined);
    const saved = await change(sql, "a", (before) => ({
      ...before,
      versions: [version("v1", ["AWSPREVIOUS"]), version("v2", ["AWSCURRENT", "a"], second), version("v3", [])],
    }));
    assert.ok(saved?.versions.every((one) => one.newValue === undefined) && saved.rowVersion === 1);
    const value = await loadValue(sql, "a", "v2");
    assert.ok(value && Buffer.from(second.sealed).equals(value.sealed));
    assert.ok(Buffer.from(first.sealed).equals((await loadValue(sql, "a", "v1"))?.sealed ?? Buffer.of()), "kept as it was");
    await saveReads(sql, [
      { secretId: "a", versionId: "v1", principal: "p", atMs: 1 },
      { secretId: "a", versionId: "v2", principal: "p", atMs: 1 },
    ]);
    await change(sql, "a", (before) => ({ ...before, versions: before.versions.filter(({ id }) => id === "v2") }));
    assert.deepEqual(
      (await loadSecret(sql, "a"))?.versions.map(({ id, stages }) => [id, stages]),
      [["v2", ["AWSCURRENT", "a"]]],
    );
    assert.deepEqual(await sql.query("select version_id from last_reads"), [{ version_id: "v2" }]);
    await sql.transaction((tx) => deleteSecretRow(tx, "a"));
    for (const table of ["versions", "labels", "last_reads"])
      assert.deepEqual(await sql.query(`select count(*) as n from ${table}`), [{ n: 0 }], table);
  });

  test("several are loaded in the order asked for, the absent left out", async () => {
    const sql = await open();
    const ids = Array.from({ length: 25 }, (_, n) => `s${n}`);
    for (const id of ids) await insert(sql, newSecret(id, { versions: [version(`v-${id}`, ["AWSCURRENT"], sealed())] }));
    const asked = ["s9", "absent", ...ids.toReversed()];
    const loaded = await loadSecrets(sql, asked);
    assert.deepEqual(
      loaded.map(({ id }) => id),
      asked.filter((id) => id !== "absent"),
    );
    for (const secret of loaded) assert.deepEqual(plain(secret), plain(await loadSecret(sql, secret.id)));
    assert.deepEqual(await loadSecrets(sql, []), []);
  });

  test("changes of one secret at once all count, and one that decides nothing or fails changes nothing", async () => {
    const sql = await open();
    await insert(sql, newSecret("a"));
    await Promise.all(
      Array.from({ length: 20 }, () => change(sql, "a", (before) => ({ ...before, generation: before.generation + 1 }))),
    );
    const after = await loadSecret(sql, "a");
    assert.deepEqual([after?.generation, after?.rowVersion], [20, 20]);
    await change(sql, "a", (before) => before);
    await assert.rejects(
      change(sql, "a", () => {
        throw new Error("no");
      }),
      /^Error: no$/,
    );
    assert.deepEqual(plain(await loadSecret(sql, "a")), plain(after));
    assert.equal(await change(sql, "absent", (before) => before), undefined);
  });

  test("a change takes what was read before for what is, only while that is so", async () => {
    const sql = await open();
    await insert(sql, newSecret("a", { versions: [version("v1", ["AWSCURRENT"], sealed())] }));
    const known = await loadSecret(sql, "a");
    const relabel = (text: string) => (before: Secret) => ({
      ...before,
      description: `${before.description ?? ""}${text}`,
      versions: [...before.versions, { ...version(`v${text}`, ["Z", "B"], sealed()), createdAt: 3 }],
    });
    const changeKnown = (text: string) => sql.transaction((tx) => changeSecret(tx, "a", relabel(text), known));
    await saveReads(sql, [{ secretId: "a", versionId: "v1", principal: "p", atMs: 5 }]);
    const first = await changeKnown("0");
    assert.deepEqual(
      first?.versions.map(({ id, stages }) => [id, stages]),
      [
        ["v0", ["B", "Z"]],
        ["v1", ["AWSCURRENT"]],
      ],
      "in the order of a later reading",
    );
    assert.equal((await loadSecret(sql, "a"))?.lastAccessedAt, 0, "what the change left alone stays as it is by now");
    const second = await changeKnown("2");
    assert.deepEqual([second?.description, second?.rowVersion, second?.versions.length], ["02", 2, 3]);
    await sql.transaction((tx) => deleteSecretRow(tx, "a"));
    assert.equal(await changeKnown("3"), undefined);
  });

  test("a change of a primary makes its replicas due, and one that lags behind stays due", async () => {
    const sql = await open();
    await insert(sql, newSecret("a", { primaryRegion: region }));
    const wanted = { secretId: "a", region: "eu-west-1", kmsKeyId: undefined, forceOverwrite: true };
    await sql.transaction((tx) => putReplica(tx, wanted, 100));
    assert.deepEqual(await dueReplicas(sql, 99, 10), []);
    const [replica] = await dueReplicas(sql, 100, 10);
    assert.deepEqual(replica, { ...wanted, status: "InProgress", statusMessage: undefined, syncedRowVersion: 0 });
    assert.ok(replica);
    const record = (outcome: Parameters<typeof recordReplica>[2]) =>
      sql.transaction((tx) => recordReplica(tx, replica, outcome, 200));
    await record({ status: "InSync", rowVersion: 0 });
    assert.deepEqual(await dueReplicas(sql, 1000, 10), []);
    await change(sql, "a", (before) => ({ ...before, description: "new" }));
    assert.equal((await dueReplicas(sql, 0, 10)).length, 1);
    await record({ status: "InSync", rowVersion: 0 });
    assert.equal((await dueReplicas(sql, 200, 10)).length, 1, "the primary changed meanwhile");
    await record({ status: "Failed", message: "no", rowVersion: 1, retryAt: 300 });
    assert.deepEqual([(await dueReplicas(sql, 299, 10)).length, (await dueReplicas(sql, 300, 10)).length], [0, 1]);
    assert.deepEqual(
      (await listReplicas(sql, "a")).map(({ status, statusMessage }) => [status, statusMessage]),
      [["Failed", "no"]],
    );
    await sql.transaction((tx) => removeReplica(tx, "a", "eu-west-1"));
    assert.deepEqual(await listReplicas(sql, "a"), []);
  });

  test("reads are written once a day for the secret, and the latest for each principal", async () => {
    const sql = await open();
    await insert(sql, newSecret("a", { versions: [version("v", ["AWSCURRENT"], sealed())] }));
    const day = 86_400_000;
    const reads = new LastReads(3);
    reads.note("a", "v", "p", 10 * day + 5);
    reads.note("a", "v", "p", 10 * day + 9);
    reads.note("a", "gone", "p", 10 * day);
    reads.note("gone", "v", "p", 10 * day);
    reads.note("a", "v", "one too many", 10 * day);
    await saveReads(sql, reads.take());
    assert.deepEqual(reads.take(), []);
    const secret = await loadSecret(sql, "a");
    assert.deepEqual([secret?.lastAccessedAt, secret?.versions[0]?.lastAccessedAt, secret?.rowVersion], [10 * day, 10 * day, 0]);
    const rows = () => sql.query("select secret_id, version_id, principal, last_read_at from last_reads order by principal");
    assert.deepEqual(await rows(), [{ secret_id: "a", version_id: "v", principal: "p", last_read_at: 10 * day + 9 }]);
    await saveReads(sql, [{ secretId: "a", versionId: "v", principal: "p", atMs: 9 * day }]);
    assert.equal((await loadSecret(sql, "a"))?.lastAccessedAt, 10 * day, "a late one does not set it back");
  });

  test("events keep their order and what they tell", async () => {
    const sql = await open();
    const detail = { text: "é", count: 1, none: null, yes: true };
    await sql.transaction((tx) => addEvent(tx, { at: 1, type: "secret.created", resource: "arn", generation: 3, detail }));
    await assert.rejects(
      sql.transaction(async (tx) => {
        await addEvent(tx, { at: 2, type: "lost", resource: "arn", detail: {} });
        throw new Error("rolled back");
      }),
    );
    await sql.transaction((tx) => addEvent(tx, { at: 3, type: "secret.removed", resource: "arn", detail: {} }));
    const rows = await sql.query<{ type: string; generation: number | null; detail: string }>("select * from events order by id");
    assert.deepEqual(
      rows.map(({ type, generation }) => [type, generation]),
      [
        ["secret.created", 3],
        ["secret.removed", null],
      ],
    );
    assert.deepEqual(JSON.parse(rows[0]?.detail ?? ""), detail);
  });

  test("the cache takes what a change has made, unless another one came after it", async () => {
    const sql = await open();
    const cache = new SecretCache(sql, changeCounter(sql));
    await insert(sql, newSecret("a", { name: "a" }));
    for (const overtaken of [false, true]) {
      const changed = await change(sql, "a", (before) => ({ ...before, description: "mine" }));
      assert.ok(changed);
      if (overtaken) await change(sql, "a", (before) => ({ ...before, description: "theirs" }));
      cache.replace(region, "a", changed);
      const found = await cache.find(region, "a");
      assert.equal(found === changed, !overtaken);
      assert.deepEqual(plain(found), plain(await loadSecret(sql, "a")));
    }
  });

  test("versions count in what the cache may hold", async () => {
    const sql = await open();
    const cache = new SecretCache(sql, changeCounter(sql), { maxBytes: 8000 });
    const versions = Array.from({ length: 10 }, (_, n) => version(`v${n}`, n === 0 ? ["AWSCURRENT"] : [], sealed("x")));
    for (const id of ["a", "b"]) await insert(sql, newSecret(id, { name: id }));
    await insert(sql, newSecret("large", { name: "large", versions }));
    const first = await cache.find(region, "a");
    const large = await cache.find(region, "large");
    assert.equal(await cache.find(region, "a"), first, "room for both");
    await cache.find(region, "b");
    assert.equal(await cache.find(region, "large"), large);
    assert.notEqual(await cache.find(region, "a"), first, "the oldest made room");
  });

  test("the cache never answers with less than what was committed before it was asked", async () => {
    const sql = await open();
    const caches = [
      new SecretCache(sql, changeCounter(sql)),
      new SecretCache(sql, () => undefined, { maxEntries: 2, maxBytes: 2000 }),
    ];
    for (const id of ["a", "b", "c"])
      await insert(sql, newSecret(id, { name: id, versions: [version("v", ["AWSCURRENT"], sealed(id))] }));
    for (let round = 1; round <= 5; round += 1) {
      for (const id of ["a", "b", "c", "a"]) {
        await change(sql, id, (before) => ({ ...before, generation: before.generation + 1 }));
        const now = plain(await loadSecret(sql, id));
        for (const cache of caches) {
          const found = await cache.find(region, id);
          assert.deepEqual(plain(found), now);
          assert.equal(await cache.find(region, id), found, "unchanged: the same object");
          assert.ok(found);
          const value = await cache.value(region, id, found, "v");
          assert.equal(Buffer.from(value?.sealed ?? []).toString(), id);
          assert.equal(await cache.value(region, id, found, "absent"), undefined);
        }
      }
    }
    await sql.transaction((tx) => deleteSecretRow(tx, "a"));
    await insert(sql, newSecret("other", { name: "a" }));
    for (const cache of caches) {
      assert.equal((await cache.find(region, "a"))?.id, "other");
      assert.equal(await cache.find("eu-west-1", "a"), undefined);
    }
  });
});
