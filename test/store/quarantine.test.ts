// What holds the engine back after a restore, on both stores.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { replanRotation } from "../../src/core/rotation-schedule.ts";
import type { EngineParts } from "../../src/engine/parts.ts";
import { QuarantineWatch } from "../../src/engine/quarantine.ts";
import { startDueRotations } from "../../src/engine/start-due.ts";
import { ZoneRules } from "../../src/engine/zone-rules.ts";
import { addEvent } from "../../src/store/events.ts";
import {
  callOffRetirements,
  endQuarantine,
  findQuarantine,
  findWaiting,
  giveUpIssuing,
  raiseEpoch,
  readAge,
} from "../../src/store/quarantine.ts";
import { insertRetirement } from "../../src/store/retirements.ts";
import { listRotations } from "../../src/store/rotations.ts";
import { changeSecret, loadSecret } from "../../src/store/secrets.ts";
import type { Sql } from "../../src/store/sql.ts";
import { openWorld, type World } from "../support/engine-world.ts";
import { forEachStore } from "../support/stores.ts";

const folder = mkdtempSync(join(tmpdir(), "rekey-epoch-"));
after(() => rmSync(folder, { recursive: true }));

const happened = (sql: Sql) => addEvent(sql, { at: 1, type: "test.happened", resource: "x", detail: {} });

/** Engine parts with a clock of their own, and an epoch file that does not exist yet. */
async function watched(sql: Sql) {
  const world = await openWorld(sql);
  const epochFile = join(folder, randomUUID());
  const clock = { now: 1_000_000 };
  const parts: EngineParts = { ...world.parts, now: () => clock.now, settings: { ...world.parts.settings, epochFile } };
  const pass = async (watch: QuarantineWatch) => {
    clock.now += 10_000;
    return watch.holds();
  };
  await sql.query("insert into meta (key, value) values ('initialised_at', '77') on conflict (key) do nothing");
  return { world, epochFile, clock, parts, pass };
}

const inFile = (file: string) => JSON.parse(readFileSync(file, "utf8")) as { store: string; epoch: number };

forEachStore((_name, open) => {
  test("the epoch rises in the store and in the file while something happens", async () => {
    const sql = await open();
    const { parts, epochFile, pass } = await watched(sql);
    const watch = new QuarantineWatch(parts);
    assert.equal(await watch.holds(), false);
    const first = inFile(epochFile);
    assert.deepEqual(first, await readAge(sql));
    assert.equal(await pass(watch), false);
    assert.deepEqual(inFile(epochFile), first, "nothing happened");
    await happened(sql);
    assert.equal(await pass(watch), false);
    assert.equal(inFile(epochFile).epoch, first.epoch + 1);
    // Stopped and started: always newer than the file.
    assert.equal(await new QuarantineWatch(parts).holds(), false);
    assert.equal(await new QuarantineWatch(parts).holds(), false);
    assert.equal((await readAge(sql)).epoch, inFile(epochFile).epoch);
  });

  test("a store that has fallen behind the file is held back, at the start and while it runs, until it is released once", async () => {
    const sql = await open();
    const { world, parts, epochFile, pass } = await watched(sql);
    const running = new QuarantineWatch(parts);
    for (let count = 0; count < 3; count++) {
      await happened(sql);
      await pass(running);
    }
    const back = async () => sql.query("update meta set value = '1' where key = 'epoch'");
    await back();
    assert.equal(await pass(running), true, "put back under a running server");
    assert.match((await findQuarantine(sql))?.reason ?? "", /epoch 1 of 3/);
    assert.ok(world.log.some((line) => line.includes('"level":40') && line.includes("quarantined: nothing is done")));
    assert.equal(await new QuarantineWatch(parts).holds(), true, "also for the next start");
    await endQuarantine(sql);
    assert.equal(await pass(running), false);
    assert.ok(inFile(epochFile).epoch > 3);
    assert.equal(await new QuarantineWatch(parts).holds(), false, "released is released");
    await back();
    assert.equal(await new QuarantineWatch(parts).holds(), true);
  });

  test("the file of another store says nothing of this one; one that is damaged or cannot be written stops nothing", async () => {
    const sql = await open();
    const { world, parts, epochFile, pass } = await watched(sql);
    writeFileSync(epochFile, JSON.stringify({ store: "another", epoch: 99 }));
    const watch = new QuarantineWatch(parts);
    assert.equal(await watch.holds(), false);
    assert.equal(inFile(epochFile).store, "77");
    writeFileSync(epochFile, "{");
    await happened(sql);
    assert.equal(await pass(watch), false);
    assert.ok(world.log.some((line) => line.includes("the epoch file cannot be read")));
    const nowhere = { ...parts, settings: { ...parts.settings, epochFile: join(epochFile, "below", "a-file") } };
    assert.equal(await new QuarantineWatch(nowhere).holds(), false);
    assert.ok(world.log.some((line) => line.includes("the epoch file cannot be written")));
    const fresh = join(folder, randomUUID(), "epoch");
    assert.equal(await new QuarantineWatch({ ...parts, settings: { ...parts.settings, epochFile: fresh } }).holds(), false);
    assert.ok(existsSync(fresh));
  });

  test("a restored backup is held back without any file", async () => {
    const sql = await open();
    const { parts } = await watched(sql);
    await sql.query("insert into meta (key, value) values ('restored_at', '5')");
    const { epochFile: _, ...settings } = parts.settings;
    assert.equal(await new QuarantineWatch({ ...parts, settings }).holds(), true);
    assert.deepEqual(await findQuarantine(sql), { sinceAt: 5, reason: "a backup was restored into this store" });
    assert.ok((await raiseEpoch(sql)) > 0);
  });

  test("what waits is listed, and what might end a credential in use is called off", async () => {
    const sql = await open();
    const world = await openWorld(sql);
    const now = Date.now();
    const newSecret = (name: string) => world.newSecret(name, { username: "u", password: "p", host: "h" });
    const [a, b, c] = [await newSecret("a"), await newSecret("b"), await newSecret("c")];
    await world.begin(a, { function: "SingleUser" });
    const issuing = await world.begin(b, { function: "SingleUser" });
    await sql.query("update rotations set intent = $2 where id = $1", [issuing, JSON.stringify({ firstAt: 1, lastAt: 1 })]);
    const old = a.versions[0]?.id ?? "";
    const due = { dueAt: now, runAt: now, createdAt: now };
    await sql.transaction((tx) =>
      insertRetirement(tx, { secretId: a.id, versionId: old, strategy: "single-user", functionArn: "f", ...due }),
    );
    await sql.query("update secrets set rotation_due_at = $2, purge_at = $2 where id = $1", [c.id, now - 1]);
    const waiting = await findWaiting(sql, now, 10);
    assert.deepEqual(waiting.rotations.map(({ name, hasIntent }) => [name, hasIntent]).sort(), [
      ["a", false],
      ["b", true],
    ]);
    assert.deepEqual(
      waiting.retirements.map(({ name, versionId }) => [name, versionId]),
      [["a", old]],
    );
    assert.deepEqual([waiting.schedules, waiting.purges], [[{ name: "c", dueAt: now - 1 }], [{ name: "c", dueAt: now - 1 }]]);
    assert.deepEqual(await sql.transaction((tx) => callOffRetirements(tx, now, 10)), [{ secretId: a.id, versionId: old }]);
    assert.deepEqual(await sql.transaction((tx) => callOffRetirements(tx, now, 10)), []);
    assert.equal((await sql.transaction((tx) => giveUpIssuing(tx, now, 10))).length, 1);
    const states = (await listRotations(sql, { limit: 10 })).map(({ secretName, state }) => `${secretName} ${state}`).sort();
    assert.deepEqual(states, ["a running", "b abandoned"]);
    assert.deepEqual((await findWaiting(sql, now, 10)).retirements, []);
  });
});

forEachStore((_name, open) => {
  const scheduled = {
    rotationEnabled: true,
    rotationFunctionArn: "f",
    rotationRules: { scheduleExpression: "cron(0 2 * * ? *)" },
  };

  async function secretIn(world: World, rotationPolicy: object) {
    const secret = await world.newSecret("s", { username: "u", password: "p", host: "h" });
    const plan = async (nowMs: number) =>
      world.sql.transaction((tx) =>
        changeSecret(tx, secret.id, (before) => replanRotation(before, { ...before, ...scheduled, rotationPolicy }, nowMs, 0)),
      );
    return { secret, plan };
  }
  const clocked = (world: World, clock: { now: number }): EngineParts => ({
    ...world.parts,
    now: () => clock.now,
    random: () => 0,
  });
  const missed = async (sql: Sql) =>
    (await sql.query<{ detail: string }>("select detail from events where type = 'rotation.missed'")).map(({ detail }) =>
      JSON.parse(detail),
    );

  test("a window that is wholly blacked out is one recorded miss, with the reason; a partly blacked-out one starts in the rest", async () => {
    const sql = await open();
    const world = await openWorld(sql);
    const clock = { now: Date.UTC(2026, 10, 18, 12) };
    const { secret, plan } = await secretIn(world, { timeZone: "Europe/Berlin", blackouts: ["thu"] });
    await plan(clock.now);
    const parts = clocked(world, clock);
    clock.now = Date.UTC(2026, 10, 19, 1); // 2 o'clock on Thursday, in Berlin
    await startDueRotations(parts);
    await startDueRotations(parts);
    const [miss, ...more] = await missed(sql);
    assert.deepEqual(more, []);
    assert.deepEqual(miss, {
      windowEndsAt: Date.UTC(2026, 10, 19, 23),
      windows: 1,
      reason: "blackout thu (Europe/Berlin) leaves nothing of the window",
    });
    assert.deepEqual(await listRotations(sql, { limit: 10 }), []);
    // New blackouts: of Friday's window the part from 2 to 6 o'clock is dark, and from 20 o'clock on.
    await sql.transaction((tx) =>
      changeSecret(tx, secret.id, (before) => ({
        ...before,
        rotationPolicy: { timeZone: "Europe/Berlin", blackouts: ["00:00-06:00", "20:00-24:00"] },
      })),
    );
    clock.now = Date.UTC(2026, 10, 20, 1, 30);
    await startDueRotations(parts);
    assert.deepEqual(await listRotations(sql, { limit: 10 }), [], "it is dark still");
    assert.equal((await loadSecret(sql, secret.id))?.rotationDueAt, Date.UTC(2026, 10, 20, 5));
    clock.now = Date.UTC(2026, 10, 20, 5);
    await startDueRotations(parts);
    const [begun] = await listRotations(sql, { limit: 10 });
    assert.equal(begun?.windowEndsAt, Date.UTC(2026, 10, 20, 19), "no try in the dark after it");
    assert.equal((await missed(sql)).length, 1);
  });

  test("an outage over several windows is one record that counts them, and the window that is open is used", async () => {
    const sql = await open();
    const world = await openWorld(sql);
    const clock = { now: Date.UTC(2026, 10, 1, 12) };
    const { plan } = await secretIn(world, {});
    await plan(clock.now);
    clock.now = Date.UTC(2026, 10, 9, 12);
    const parts = clocked(world, clock);
    await startDueRotations(parts);
    assert.deepEqual(
      (await missed(sql)).map(({ windows }) => windows),
      [7],
    );
    await startDueRotations(parts);
    const [begun] = await listRotations(sql, { limit: 10 });
    assert.equal(begun?.windowEndsAt, Date.UTC(2026, 10, 10));
  });

  test("other rules of time zones than those of the plans: planned anew, once", async () => {
    const sql = await open();
    const world = await openWorld(sql);
    const clock = { now: Date.UTC(2026, 10, 18, 12) };
    const { secret, plan } = await secretIn(world, { timeZone: "Europe/Berlin" });
    await plan(clock.now);
    const right = (await loadSecret(sql, secret.id))?.rotationDueAt;
    const parts = clocked(world, clock);
    await new ZoneRules(parts, "2026a").page();
    assert.equal((await loadSecret(sql, secret.id))?.rotationDueAt, right);
    await sql.query(
      "update secrets set rotation_due_at = rotation_due_at + 3600000, next_rotation_at = next_rotation_at + 3600000",
    );
    await new ZoneRules(parts, "2026a").page();
    assert.notEqual((await loadSecret(sql, secret.id))?.rotationDueAt, right, "the same rules: nothing to do");
    const rules = new ZoneRules(parts, "2026b");
    assert.equal(await rules.page(), false);
    assert.equal((await loadSecret(sql, secret.id))?.rotationDueAt, right);
  });
});
