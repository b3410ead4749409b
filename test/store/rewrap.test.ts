// Data keys are wrapped anew after their ring key was rotated, while everything goes on.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Plaintext } from "../../src/core/plaintext.ts";
import { Envelope } from "../../src/crypto/envelope.ts";
import { openRootKey } from "../../src/crypto/key-provider.ts";
import { type KeyRing, openKeyRing } from "../../src/crypto/key-ring.ts";
import { startEngine } from "../../src/engine/loop.ts";
import { Rewrapping } from "../../src/engine/rewrap.ts";
import { createAccessKey, findAccessKey } from "../../src/store/credentials.ts";
import { sealedTables } from "../../src/store/data-keys.ts";
import { loadEnvironment } from "../../src/store/functions.ts";
import { ringKeyStore } from "../../src/store/keys.ts";
import type { Sql } from "../../src/store/sql.ts";
import { account, newRootKey, openWorld, region, type World } from "../support/engine-world.ts";
import { forEachStore } from "../support/stores.ts";

forEachStore((_dialect, open) => {
  const secrets = 230; // more than a page
  /** The access key, and the variables of a function. */
  const others = 2;
  const functionArn = `arn:aws:lambda:${region}:${account}:function:f`;

  async function filled(): Promise<{ world: World; sql: Sql; rootKey: string; keyId: string; accessKeyId: string }> {
    const sql = await open();
    const rootKey = newRootKey();
    const world = await openWorld(sql, { rootKey });
    for (let n = 0; n < secrets; n++) await world.newSecret(`s${n}`, { n });
    const { id: keyId } = await world.parts.keys.resolve(undefined, region);
    const accessKeyId = `AKIA${randomUUID().slice(0, 8)}`;
    const secret = await world.parts.envelope.seal(new Plaintext("secret access key"), { AccessKeyId: accessKeyId }, keyId);
    await sql.transaction((tx) => createAccessKey(tx, { id: accessKeyId, principalArn: "arn", createdAt: 1, secret }));
    const environment = await world.parts.envelope.seal(
      new Plaintext('{"A":"of a function"}'),
      { FunctionARN: functionArn },
      keyId,
    );
    await sql.query(
      `insert into functions (arn, region, name, kind, settings, timeout_seconds, memory_mib, concurrency, environment_names,
         created_at, updated_at, sealed, wrapped_data_key, key_id, key_version)
       values ($1, $2, 'f', 'process', '{}', 1, 1, 1, '["A"]', 1, 1, $3, $4, $5, $6)`,
      [...[functionArn, region, environment.sealed], ...[environment.wrappedDataKey, environment.keyId, environment.keyVersion]],
    );
    return { world, sql, rootKey, keyId, accessKeyId };
  }

  /** How many data keys each version of the ring key wraps. */
  async function counts(sql: Sql, keyId: string): Promise<Record<number, number>> {
    const rows = await sql.query<{ key_version: number; count: number }>(
      `select key_version, count(*) as count from (select key_version from versions where key_id = $1
         union all select key_version from access_keys where key_id = $1
         union all select key_version from functions where key_id = $1) as keys group by key_version`,
      [keyId],
    );
    return Object.fromEntries(rows.map((row) => [row.key_version, Number(row.count)]));
  }

  test("all are found by index and wrapped anew; values open, also without anything cached", async () => {
    const { world, sql, rootKey, keyId, accessKeyId } = await filled();
    await using engine = startEngine(world.parts);
    await sleep(20);
    const before = await sql.query("select secret_id, sealed, digest from versions order by secret_id");
    await (world.parts.keys as KeyRing).rotate(keyId);
    engine.wake();
    while ((await counts(sql, keyId))[1] !== undefined) await sleep(10);
    assert.deepEqual(await counts(sql, keyId), { 2: secrets + others });
    assert.deepEqual(await sql.query("select secret_id, sealed, digest from versions order by secret_id"), before);
    const provider = await openRootKey("env:ROOT", { env: { ROOT: rootKey } });
    const keys = await openKeyRing({ store: ringKeyStore(sql), rootKey: provider, account, now: Date.now });
    const fresh = { ...world.parts, keys, envelope: new Envelope(keys, { maxDataKeys: 10 }) };
    const rows = await sql.query<{ key_version: number }>("select key_version from versions");
    assert.ok(rows.every((row) => row.key_version === 2));
    const accessKey = await findAccessKey(sql, accessKeyId);
    assert.ok(accessKey);
    assert.equal((await fresh.envelope.open(accessKey, { AccessKeyId: accessKeyId })).revealText(), "secret access key");
    const environment = await loadEnvironment(sql, functionArn);
    assert.ok(environment);
    assert.equal((await fresh.envelope.open(environment, { FunctionARN: functionArn })).revealText(), '{"A":"of a function"}');
    const other = await openWorld(sql, { rootKey });
    const [some] = await sql.query<{ id: string }>("select id from secrets where name = 's7'");
    assert.deepEqual(await other.credential({ id: some?.id ?? "" } as Parameters<World["reload"]>[0], "AWSCURRENT"), { n: 7 });
  });

  test("one page at a time; another process goes on where one ended", async () => {
    const { world, sql, keyId } = await filled();
    await (world.parts.keys as KeyRing).rotate(keyId);
    await new Rewrapping(world.parts).page();
    assert.deepEqual(await counts(sql, keyId), { 1: secrets + others - 200, 2: 200 });
    const next = new Rewrapping(world.parts);
    let pages = 1;
    while (await next.page()) pages += 1;
    assert.deepEqual(await counts(sql, keyId), { 2: secrets + others });
    assert.ok(pages <= Math.ceil(secrets / 200) + sealedTables().length, `${pages} pages`);
    assert.equal(await next.page(), false, "nothing is done again until a key changes");
  });

  test("a damaged one stays as it is and keeps no other back; a disabled key waits until it is enabled", async () => {
    const { world, sql, keyId } = await filled();
    const keys = world.parts.keys as KeyRing;
    const [victim] = await sql.query<{ secret_id: string; wrapped_data_key: Uint8Array }>(
      "select secret_id, wrapped_data_key from versions limit 1",
    );
    assert.ok(victim);
    const damaged = Buffer.from(victim.wrapped_data_key);
    damaged[30] = (damaged[30] ?? 0) ^ 1;
    await sql.query("update versions set wrapped_data_key = $2 where secret_id = $1", [victim.secret_id, damaged]);
    await keys.rotate(keyId);
    const rewrapping = new Rewrapping(world.parts);
    while (await rewrapping.page());
    assert.deepEqual(await counts(sql, keyId), { 1: 1, 2: secrets + others - 1 });
    assert.ok(world.log.some((line) => line.includes("cannot be wrapped anew")));
    const [kept] = await sql.query<{ wrapped_data_key: Uint8Array }>(
      "select wrapped_data_key from versions where secret_id = $1",
      [victim.secret_id],
    );
    assert.deepEqual(Buffer.from(kept?.wrapped_data_key ?? []), damaged);

    const own = await keys.create({ region });
    await world.newSecret("own", { own: true }, { kmsKeyId: own.id });
    await keys.rotate(own.id);
    await keys.change(own.id, { state: "disabled" });
    while (await rewrapping.page());
    assert.deepEqual(await counts(sql, own.id), { 1: 1 });
    await keys.change(own.id, { state: "enabled" });
    while (await rewrapping.page());
    assert.deepEqual(await counts(sql, own.id), { 2: 1 });
  });
});
