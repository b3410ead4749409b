// The end of old credentials: deadlines, evidence, labels and failures, against a service on loopback.
import assert from "node:assert/strict";
import { test } from "node:test";
import { detach, moveLabel, type Secret } from "../../src/core/secret.ts";
import { saveReads } from "../../src/store/last-reads.ts";
import {
  claimRetirements,
  hastenRetirement,
  holdRetirementAccount,
  recordRetirement,
  renewRetirement,
} from "../../src/store/retirements.ts";
import { type KeyWorld, openKeyWorld } from "../support/key-world.ts";
import { forEachStore } from "../support/stores.ts";

const hourMs = 3_600_000;
const dayMs = 24 * hourMs;

forEachStore((_dialect, open) => {
  const read = ({ world }: KeyWorld, secret: Secret, versionId: string, principal: string, atMs: number) =>
    saveReads(world.sql, [{ secretId: secret.id, versionId, principal, atMs }]);

  test("an old key lives to its deadline, then it ends; AWSPREVIOUS keeps its meaning", async () => {
    await using place = await openKeyWorld(await open(), "issuer");
    const secret = await place.newSecret();
    const first = (await place.value(secret)).id;
    const done = await place.rotate(secret);
    assert.deepEqual([done.state, done.strategy], ["succeeded", "issuer"], done.error);
    assert.deepEqual(place.live(secret), await place.known(secret));
    const [waiting] = await place.retirements(secret);
    assert.equal(waiting?.state, "waiting");
    assert.ok(Math.abs((waiting?.dueAt ?? 0) - Date.now() - dayMs) < 60_000);
    place.aheadMs = dayMs - 60_000;
    await place.settle();
    assert.equal(place.live(secret).length, 2, "not before its deadline");
    place.aheadMs = dayMs + 1_000;
    await place.until(async () => (await place.states(secret))[0] === "done");
    assert.deepEqual(place.live(secret), [(await place.value(secret)).id]);
    assert.equal((await place.value(secret, "AWSPREVIOUS")).id, first);
    const types = (await place.events(secret)).map(({ type }) => type);
    assert.deepEqual(types, ["rotation.succeeded", "retirement.scheduled", "retirement.done"]);
  });

  test("a label moved back calls the end off; both keys that were left behind end after the next rotation", async () => {
    await using place = await openKeyWorld(await open(), "issuer");
    const secret = await place.newSecret();
    assert.equal((await place.rotate(secret)).state, "succeeded");
    const [moveTo, removeFrom] = [await place.versionId(secret, "AWSPREVIOUS"), await place.versionId(secret, "AWSCURRENT")];
    await place.change(secret, (now) => moveLabel(now, { label: "AWSCURRENT", moveTo, removeFrom }, Date.now()));
    assert.deepEqual(await place.states(secret), ["canceled"]);
    place.aheadMs = 2 * dayMs;
    await place.settle();
    assert.equal(place.live(secret).length, 2);
    assert.equal((await place.rotate(secret)).state, "succeeded");
    assert.equal(place.live(secret).length, 3);
    place.aheadMs = 4 * dayMs;
    await place.until(() => place.live(secret).length === 1);
    assert.deepEqual(place.live(secret), [(await place.value(secret)).id]);
  });

  test("a version under a label of somebody's own is kept until that is taken away", async () => {
    await using place = await openKeyWorld(await open(), "issuer");
    const secret = await place.newSecret();
    const old = await place.versionId(secret, "AWSCURRENT");
    await place.change(secret, (now) => moveLabel(now, { label: "PINNED", moveTo: old }, Date.now()));
    assert.equal((await place.rotate(secret)).state, "succeeded");
    place.aheadMs = dayMs + 1_000;
    await place.until(async () => ((await place.retirements(secret))[0]?.error ?? "").includes("PINNED"));
    assert.equal(place.live(secret).length, 2);
    await place.change(secret, (now) => moveLabel(now, { label: "PINNED", removeFrom: old }, Date.now()));
    place.aheadMs = 2 * dayMs;
    await place.until(() => place.live(secret).length === 1);
  });

  test("a second password: the old one works to its deadline, then it ends and the current one stays", async () => {
    await using place = await openKeyWorld(await open(), "dual-slot");
    const secret = await place.newPassword();
    const done = await place.rotate(secret);
    assert.deepEqual([done.state, done.strategy], ["succeeded", "dual-slot"], done.error);
    assert.equal(place.password(secret).secondary, "first-password");
    place.aheadMs = dayMs + 1_000;
    await place.until(async () => (await place.states(secret))[0] === "done");
    assert.deepEqual(place.password(secret), { primary: (await place.value(secret)).key, secondary: undefined });
  });

  test("a second password that another rotation has replaced: its end leaves the newer ones alone", async () => {
    await using place = await openKeyWorld(await open(), "dual-slot");
    const secret = await place.newPassword({ retireAfterSeconds: 600 });
    assert.equal((await place.rotate(secret)).state, "succeeded");
    place.aheadMs = 300_000;
    assert.equal((await place.rotate(secret)).state, "succeeded");
    place.aheadMs = 610_000;
    await place.until(async () => (await place.states(secret)).includes("done"));
    assert.notEqual(place.password(secret).secondary, undefined, "still in its own grace period");
    place.aheadMs = 1_000_000;
    await place.until(() => place.password(secret).secondary === undefined);
  });

  test("a silent target is waited for; while the current one does not log in the old one is kept, with one event", async () => {
    await using place = await openKeyWorld(await open(), "issuer");
    const secret = await place.newSecret();
    assert.equal((await place.rotate(secret)).state, "succeeded");
    const current = (await place.value(secret)).id;
    const kept = place.service.keys.get(current);
    assert.ok(kept);
    const now = async () => (await place.retirements(secret))[0];
    place.service.away = true;
    place.aheadMs = dayMs + 1_000;
    await place.until(async () => ((await now())?.attempt ?? 0) >= 2);
    assert.equal((await now())?.outcome, "unreachable");
    assert.notEqual((await now())?.state, "blocked");
    place.service.keys.delete(current);
    place.service.away = false;
    place.aheadMs += 60_000; // one that was silent for long enough is left alone for half a minute
    await place.until(async () => (await now())?.state === "blocked");
    const { attempt = 0, remedy } = (await now()) ?? {};
    assert.ok(remedy);
    place.aheadMs += 2 * hourMs;
    await place.until(async () => ((await now())?.attempt ?? 0) > attempt);
    assert.equal(place.live(secret).length, 1);
    assert.equal((await place.events(secret)).filter(({ type }) => type === "retirement.blocked").length, 1);
    place.service.keys.set(current, kept);
    place.aheadMs += 2 * hourMs;
    await place.until(async () => (await now())?.state === "done");
    assert.deepEqual(place.live(secret), [current]);
  });

  test("by evidence: ended once its readers have moved on; else at the deadline, and the event names them", async () => {
    await using place = await openKeyWorld(await open(), "issuer");
    for (const moves of [true, false]) {
      place.aheadMs = 0;
      const secret = await place.newSecret({}, { retireOnEvidence: true });
      assert.equal((await place.rotate(secret)).state, "succeeded");
      const [old, now] = [await place.versionId(secret, "AWSPREVIOUS"), await place.versionId(secret, "AWSCURRENT")];
      await read(place, secret, old, "arn:reader", Date.now() + 1_000);
      place.aheadMs = 120_000;
      await place.settle();
      assert.equal(place.live(secret).length, 2, "somebody still uses it");
      if (moves) await read(place, secret, now, "arn:reader", Date.now() + 5_000);
      place.aheadMs = moves ? hourMs : dayMs + 1_000;
      await place.until(async () => (await place.states(secret))[0] === "done");
      assert.equal(place.live(secret).length, 1);
      const ended = (await place.events(secret)).find(({ type }) => type === "retirement.done");
      assert.equal(ended?.detail.stillReadBy, moves ? undefined : "arn:reader");
    }
  });

  test("by evidence: a slot that somebody still uses is not overwritten by the next rotation", async () => {
    await using place = await openKeyWorld(await open(), "dual-slot");
    const secret = await place.newPassword({ retireOnEvidence: true, retireAfterSeconds: 3_600 });
    assert.equal((await place.rotate(secret)).state, "succeeded");
    await read(place, secret, await place.versionId(secret, "AWSPREVIOUS"), "arn:slow", Date.now() + 1_000);
    const id = await place.begin(secret, 3 * hourMs);
    await place.until(async () => ((await place.world.rotationOf(id)).error ?? "").includes("arn:slow"));
    assert.equal(place.password(secret).secondary, "first-password");
    place.aheadMs = hourMs + 1_000;
    await place.until(async () => (await place.world.rotationOf(id)).state === "succeeded");
  });

  test("a retirement and a rotation never work at one account at the same time", async () => {
    await using place = await openKeyWorld(await open(), "issuer");
    const secret = await place.newSecret();
    assert.equal((await place.rotate(secret)).state, "succeeded");
    place.service.delay = 1_000_000;
    const id = await place.begin(secret, 4 * dayMs);
    await place.until(async () => (await place.world.rotationOf(id)).attempt >= 1);
    place.aheadMs = dayMs + 1_000;
    await place.until(async () => ((await place.retirements(secret))[0]?.error ?? "").includes("under way"));
    assert.equal(place.live(secret).length, 3);
    for (const key of place.service.keys.values()) key.unknownFor = 0;
    place.aheadMs = dayMs + hourMs;
    await place.until(async () => (await place.world.rotationOf(id)).state === "succeeded");
    place.aheadMs = dayMs + 2 * hourMs;
    await place.until(() => place.live(secret).length === 2);
  });

  test("while an old credential is being ended, no rotation takes the account", async () => {
    await using place = await openKeyWorld(await open(), "issuer");
    const secret = await place.newSecret();
    assert.equal((await place.rotate(secret)).state, "succeeded");
    const account = `keys://${new URL(place.service.url).host}/${secret.name}`;
    await place.world.sql.query("update retirements set target_account = $1", [account]);
    const twin = await place.world.newSecret(`twin-${secret.name}`, await place.value(secret));
    const id = await place.begin(twin);
    await place.until(async () => ((await place.world.rotationOf(id)).error ?? "").includes("being changed already"));
    assert.equal(place.asked, 1);
    await place.world.sql.query("update retirements set target_account = null");
    assert.equal((await place.world.ended(id)).state, "succeeded");
  });

  test("a claim is one node's until it ends; whoever comes later outdates what the first still writes", async () => {
    await using place = await openKeyWorld(await open(), "issuer");
    const { sql } = place.world;
    const secret = await place.newSecret();
    assert.equal((await place.rotate(secret)).state, "succeeded");
    await place.stopEngine();
    const nowMs = Date.now() + 2 * dayMs;
    const claim = (node: string, at: number) =>
      sql.transaction((tx) => claimRetirements(tx, { node, nowMs: at, untilMs: at + 20_000, limit: 5 }));
    const both = (await Promise.all([claim("a", nowMs), claim("b", nowMs)])).flat();
    const [first] = both;
    assert.ok(first && both.length === 1);
    assert.deepEqual(await claim("b", nowMs + 19_000), []);
    const [second] = await claim("b", nowMs + 20_000);
    assert.ok(second && second.fence > first.fence);
    assert.equal(await renewRetirement(sql, first, nowMs + 60_000), false);
    const account = "keys://host/account";
    assert.equal(await sql.transaction((tx) => holdRetirementAccount(tx, first, account)), false);
    assert.equal(await sql.transaction((tx) => holdRetirementAccount(tx, second, account)), true);
    const done = { ...first.retirement, state: "done", endedAt: nowMs } as const;
    assert.equal(await sql.transaction((tx) => recordRetirement(tx, first, done)), false);
    assert.equal(await sql.transaction((tx) => recordRetirement(tx, second, done)), true);
    assert.deepEqual(await claim("c", nowMs + 100_000), []);
  });

  test("a version stays stored until its retirement has ended", async () => {
    await using place = await openKeyWorld(await open(), "issuer");
    const secret = await place.newSecret();
    assert.equal((await place.rotate(secret)).state, "succeeded");
    const old = await place.versionId(secret, "AWSPREVIOUS");
    const drop = () =>
      place.change(secret, (now) => {
        const { versions, ...rest } = detach(now, "AWSPREVIOUS");
        return { ...rest, versions: versions.filter(({ id }) => id !== old) };
      });
    const has = async () => (await place.world.reload(secret)).versions.some(({ id }) => id === old);
    await drop();
    assert.ok(await has());
    await place.world.sql.transaction((tx) => hastenRetirement(tx, secret.id, old, Date.now()));
    await place.until(async () => (await place.states(secret))[0] === "done");
    await drop();
    assert.ok(!(await has()));
  });

  test("no value reaches the log, the events or the rows", async () => {
    await using place = await openKeyWorld(await open(), "issuer");
    const secret = await place.newSecret();
    assert.equal((await place.rotate(secret)).state, "succeeded");
    place.aheadMs = dayMs + 1_000;
    await place.until(async () => (await place.states(secret))[0] === "done");
    const tables = ["events", "rotations", "retirements"];
    const rows = await Promise.all(tables.map((table) => place.world.sql.query(`select * from ${table}`)));
    const text = JSON.stringify([rows, place.world.log]);
    for (const label of ["AWSCURRENT", "AWSPREVIOUS"]) assert.ok(!text.includes((await place.value(secret, label)).key));
  });
});
