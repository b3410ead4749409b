// Signing keys in the store: made once, rotated by one at a time, sealed, and wrapped anew with the others.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Envelope } from "../../src/crypto/envelope.ts";
import type { KeyRing } from "../../src/crypto/key-ring.ts";
import { followKeys } from "../../src/crypto/signing-key-chain.ts";
import { createSigningKeys, ensureSigningKey } from "../../src/signing-keys.ts";
import { outdatedDataKeys, replaceDataKey } from "../../src/store/data-keys.ts";
import { findSealedSigningKey, forgetEndedSigningKeys, listSigningKeys } from "../../src/store/signing-keys.ts";
import type { Sql } from "../../src/store/sql.ts";
import { identityWorld } from "../support/identity-world.ts";
import { account, region } from "../support/keys.ts";
import { forEachStore } from "../support/stores.ts";

const minute = 60_000;
const day = 24 * 60 * minute;

forEachStore((_dialect, open) => {
  async function world(sql: Sql) {
    const made = await identityWorld(sql);
    const { services, clock } = made;
    return { ...made, parts: { sql, envelope: services.envelope, keys: services.keys, region, now: () => clock.now } };
  }

  test("however many processes start at once, one key is made; later starts change nothing", async () => {
    const sql = await open();
    const { parts } = await world(sql);
    await Promise.all(Array.from({ length: 8 }, () => ensureSigningKey(parts)));
    const [only, ...more] = await listSigningKeys(sql);
    assert.equal(more.length, 0);
    await ensureSigningKey(parts);
    assert.deepEqual(await listSigningKeys(sql), [only]);
    const key = await createSigningKeys(parts).current(parts.now());
    assert.equal(key.kid, only?.kid);
    const [row] = await sql.query<{ sealed: Uint8Array }>("select * from signing_keys");
    assert.ok(!Buffer.from(row?.sealed ?? "").includes('"d"'), "sealed");
  });

  test("a rotation is published, then signs, and the old key ends with its private half; all nodes agree", async () => {
    const sql = await open();
    const { parts, call, clock, services } = await world(sql);
    await ensureSigningKey(parts);
    const other = createSigningKeys({ ...parts, envelope: new Envelope(services.keys, { maxDataKeys: 5 }) });
    const [old] = await services.signingKeys.served(clock.now);
    const { KeyId } = await call("signing-keys rotate", {});
    for (const node of [services.signingKeys, other]) {
      assert.equal((await node.current(clock.now)).kid, old?.kid);
      assert.deepEqual(
        (await node.served(clock.now)).map(({ kid }) => kid),
        [old?.kid, KeyId],
      );
    }
    await assert.rejects(call("signing-keys rotate", {}), { code: "InvalidRequestException" });
    clock.now += 10 * minute;
    for (const node of [services.signingKeys, other]) assert.equal((await node.current(clock.now)).kid, KeyId);
    const followed = await followKeys(
      [old ?? {}],
      (await other.chain()).flatMap(({ endorsement }) => endorsement ?? []),
      clock.now,
    );
    assert.deepEqual(
      followed.map(({ kid }) => kid),
      [old?.kid, KeyId],
    );
    clock.now += day;
    assert.deepEqual(
      (await other.served(clock.now)).map(({ kid }) => kid),
      [KeyId],
    );
    await forgetEndedSigningKeys(sql, clock.now);
    assert.equal(await findSealedSigningKey(sql, String(old?.kid)), undefined);
    assert.ok(await findSealedSigningKey(sql, String(KeyId)));
    const { SigningKeys } = await call("signing-keys list", {});
    assert.deepEqual(
      (SigningKeys as { KeyId: string; State: string }[]).map(({ KeyId: id, State }) => [id, State]),
      [
        [KeyId, "signing"],
        [old?.kid, "ended"],
      ],
    );
    const events = await sql.query<{ resource: string; detail: string }>(
      "select resource, detail from events where type = 'signing-key.rotated'",
    );
    assert.deepEqual(
      events.map(({ resource, detail }) => [resource, JSON.parse(detail)]),
      [[`arn:aws:rekey:${region}:${account}:signing-key/*`, { keyId: KeyId, previous: old?.kid }]],
    );
  });

  test("of rotations at the same moment one is done, the others are told", async () => {
    const sql = await open();
    const { parts, call, records } = await world(sql);
    await ensureSigningKey(parts);
    const tried = await Promise.allSettled(
      Array.from({ length: 5 }, () => call("signing-keys rotate", { SignsInSeconds: 7_200 })),
    );
    assert.equal(tried.filter(({ status }) => status === "fulfilled").length, 1);
    for (const each of tried) if (each.status === "rejected") assert.equal(each.reason.code, "InvalidRequestException");
    const [first, second, ...more] = await listSigningKeys(sql);
    assert.ok(first && second);
    assert.deepEqual(
      [more.length, second.signsFromAt - second.createdAt, (first.servedUntilAt ?? 0) - second.signsFromAt],
      [0, 7_200_000, day],
    );
    const audited = records.filter(({ action }) => action === "rekey:RotateSigningKey").map(({ outcome }) => outcome);
    assert.deepEqual(
      audited.sort(),
      ["InvalidRequestException", "InvalidRequestException", "InvalidRequestException", "InvalidRequestException", "ok"].sort(),
    );
    for (const SignsInSeconds of [599, 31 * 86_400, 1.5]) await assert.rejects(call("signing-keys rotate", { SignsInSeconds }));
  });

  test("is wrapped anew after its ring key was rotated, and opens", async () => {
    const sql = await open();
    const { parts, services } = await world(sql);
    await ensureSigningKey(parts);
    const { id: keyId } = await services.keys.resolve(undefined, region);
    await (services.keys as KeyRing).rotate(keyId);
    const query = { table: "signing_keys", keyId, belowVersion: 2, after: undefined, limit: 10 } as const;
    const [stored] = await outdatedDataKeys(sql, query);
    assert.ok(stored);
    const anew = await services.envelope.rewrap(stored.wrappedDataKey, stored.context);
    assert.ok(anew);
    await sql.transaction((tx) => replaceDataKey(tx, stored, anew));
    assert.deepEqual(await outdatedDataKeys(sql, query), []);
    const fresh = createSigningKeys({ ...parts, envelope: new Envelope(services.keys, { maxDataKeys: 5 }) });
    assert.equal((await fresh.current(parts.now())).kid, stored.row[0]);
  });

  test("a store without one says what to do; a private half under another key's name does not open", async () => {
    const sql = await open();
    const { parts, services } = await world(sql);
    await assert.rejects(services.signingKeys.current(0), /start the server once/);
    await ensureSigningKey(parts);
    await sql.query("update signing_keys set kid = $1", ["A".repeat(43)]);
    await assert.rejects(createSigningKeys(parts).current(parts.now()), { code: "DecryptionFailure" });
  });
});
