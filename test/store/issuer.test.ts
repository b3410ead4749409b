// Credentials that a target issues, against a service on loopback that loses answers, is late, full or forgetful.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { detach, versionWith } from "../../src/core/secret.ts";
import { abandonRotation, cancelRotation, insertRotation } from "../../src/store/rotations.ts";
import { openKeyWorld } from "../support/key-world.ts";
import { forEachStore } from "../support/stores.ts";

forEachStore((_dialect, open) => {
  for (const fault of ["lost", "late"] as const)
    for (const marks of [true, false])
      test(`an answer that never came (${fault}), ${marks ? "with" : "without"} marks: what it left is deleted and made anew`, async () => {
        await using place = await openKeyWorld(await open(), "issuer", { marks });
        const secret = await place.newSecret();
        const byHand = place.service.addKey(secret.name).id;
        place.service.faults.push(fault);
        const done = await place.rotate(secret);
        assert.equal(done.state, "succeeded", done.error);
        assert.deepEqual(
          done.tries.map(({ outcome, step }) => [outcome, step]),
          [["unknown", "createSecret"]],
        );
        assert.equal(place.asked, 2);
        for (let n = 0; n < 2; n++) await place.settle(); // time for what comes late
        assert.deepEqual(
          place.live(secret),
          [...(await place.known(secret)), byHand].sort(),
          "and not what somebody made by hand",
        );
      });

  test("a key whose value could not be stored is deleted and made anew", async () => {
    await using place = await openKeyWorld(await open(), "issuer");
    const secret = await place.newSecret();
    const { envelope } = place.world.parts;
    let seals = 0;
    await place.stopEngine();
    place.startEngine({
      envelope: {
        open: envelope.open.bind(envelope),
        rewrap: envelope.rewrap.bind(envelope),
        async seal(...all) {
          seals += 1;
          if (seals === 2) throw new Error("no disk");
          return envelope.seal(...all);
        },
      },
    });
    const done = await place.rotate(secret);
    assert.equal(done.state, "succeeded", done.error);
    assert.equal(place.asked, 2);
    assert.deepEqual(place.live(secret), await place.known(secret));
  });

  test("what could not be stored is not asked for", async () => {
    await using place = await openKeyWorld(await open(), "issuer");
    const secret = await place.newSecret();
    const { envelope } = place.world.parts;
    const seal = async () => Promise.reject(new Error("no disk"));
    await place.stopEngine();
    place.startEngine({ envelope: { open: envelope.open.bind(envelope), rewrap: envelope.rewrap.bind(envelope), seal } });
    assert.equal((await place.rotate(secret, 0)).state, "failed");
    assert.equal(place.asked, 0);
  });

  test("a full account: an unknown key blocks and is never deleted", async () => {
    await using place = await openKeyWorld(await open(), "issuer", { most: 2 });
    const secret = await place.newSecret();
    const byHand = place.service.addKey(secret.name).id;
    const blocked = await place.rotate(secret);
    assert.deepEqual([blocked.state, blocked.outcome], ["blocked", "invalid"]);
    assert.match(blocked.error ?? "", new RegExp(`2 of at most 2.*${byHand} is not known`));
    assert.match(blocked.remedy ?? "", new RegExp(`Delete ${byHand}`));
    assert.equal(place.live(secret).length, 2);
  });

  test("a full account: the old key's grace period is waited for, and what is due ends first", async () => {
    await using place = await openKeyWorld(await open(), "issuer", { most: 2 });
    const secret = await place.newSecret({}, { retireAfterSeconds: 600 });
    const first = (await place.value(secret)).id;
    assert.equal((await place.rotate(secret)).state, "succeeded");
    const short = await place.rotate(secret);
    assert.equal(short.state, "blocked", "its window ends before the grace period");
    assert.match(short.error ?? "", new RegExp(`${first} is in its grace period`));
    assert.match(short.remedy ?? "", /rekey rotation retire .* --now/);
    await place.change(secret, (before) => {
      const { versions, ...rest } = detach(before, "AWSPENDING");
      return { ...rest, versions: versions.filter(({ id }) => id !== short.versionId) };
    });
    const id = await place.begin(secret, 2 * 3_600_000);
    const rotation = () => place.world.rotationOf(id);
    await place.until(async () => ((await rotation()).error ?? "").includes("grace period"));
    assert.equal((await rotation()).attempt, 0, "waiting is no failure");
    assert.equal(place.live(secret).length, 2);
    place.aheadMs = 601_000;
    await place.until(async () => (await rotation()).state !== "running");
    assert.equal((await rotation()).state, "succeeded", (await rotation()).error);
    assert.deepEqual(place.live(secret), await place.known(secret));
    await place.until(async () => (await place.states(secret)).includes("done"));
  });

  test("a new key that is not known everywhere yet is tried again, and no second one is made", async () => {
    await using place = await openKeyWorld(await open(), "issuer");
    place.service.delay = 4;
    const done = await place.rotate(await place.newSecret());
    assert.deepEqual([done.state, done.attempt, place.asked], ["succeeded", 4, 1]);
    assert.ok(done.tries.every(({ step, outcome }) => step === "testSecret" && outcome === "refused"));
  });

  test("a new key that is never accepted ends with its rotation, and the next one makes another", async () => {
    await using place = await openKeyWorld(await open(), "issuer");
    place.service.delay = 1_000_000;
    const secret = await place.newSecret();
    const first = (await place.value(secret)).id;
    const failed = await place.rotate(secret, 1);
    assert.deepEqual([failed.state, failed.outcome, failed.step], ["failed", "refused", "testSecret"]);
    await place.until(() => place.live(secret).length === 1);
    assert.deepEqual(place.live(secret), [first]);
    assert.equal(versionWith(await place.world.reload(secret), "AWSPENDING"), undefined);
    place.service.delay = 0;
    assert.equal((await place.rotate(secret)).state, "succeeded");
  });

  test("a value that is put by hand meanwhile is the current one, and what the rotation had made ends", async () => {
    await using place = await openKeyWorld(await open(), "issuer");
    place.service.delay = 1_000_000;
    const secret = await place.newSecret();
    const first = (await place.value(secret)).id;
    const id = await place.begin(secret);
    await place.until(async () => (await place.world.rotationOf(id)).attempt >= 1);
    await place.world.put(secret, { ...(await place.value(secret)), note: "by hand" });
    await place.world.sql.transaction((tx) => abandonRotation(tx, secret.id, Date.now()));
    await place.until(() => place.live(secret).length === 1);
    assert.deepEqual(place.live(secret), [first]);
  });

  test("a rotation that is stopped keeps AWSPENDING, and with it its key", async () => {
    await using place = await openKeyWorld(await open(), "issuer");
    place.service.delay = 1_000_000;
    const secret = await place.newSecret();
    const id = await place.begin(secret);
    await place.until(async () => (await place.world.rotationOf(id)).attempt >= 1);
    await place.world.sql.transaction((tx) => cancelRotation(tx, secret.id, Date.now()));
    place.aheadMs = 60_000;
    await place.until(async () => (await place.states(secret)).every((state) => state === "done"));
    assert.equal(place.live(secret).length, 2);
  });

  test("a rotation that is stopped while the target makes the key leaves none", async () => {
    await using place = await openKeyWorld(await open(), "issuer");
    const secret = await place.newSecret();
    place.service.faults.push("late");
    const id = await place.begin(secret);
    await place.until(() => place.asked > 0);
    await place.world.sql.transaction((tx) => cancelRotation(tx, secret.id, Date.now()));
    await place.world.ended(id);
    await place.until(() => place.live(secret).length === 2);
    place.aheadMs = 60_000;
    await place.until(() => place.live(secret).length === 1);
  });

  test("a target that cannot list: a lost answer may leave one key, and the rotation says so", async () => {
    await using place = await openKeyWorld(await open(), "issuer", { lists: false });
    const secret = await place.newSecret();
    place.service.faults.push("lost");
    const done = await place.rotate(secret);
    assert.equal(done.state, "succeeded", done.error);
    assert.equal(place.live(secret).length, 3);
    assert.ok(done.tries.some(({ reason }) => reason?.includes("nobody knows")));
  });

  test("somebody else's key under AWSPENDING is not taken for what the target issued, and never deleted", async () => {
    await using place = await openKeyWorld(await open(), "issuer");
    const secret = await place.newSecret(await place.superuser());
    const victim = place.service.addKey(secret.name);
    await place.stopEngine();
    const id = await place.begin(secret);
    const { versionId } = await place.world.rotationOf(id);
    const planted = { ...(await place.value(secret)), id: victim.id, key: "a-guess" };
    await place.world.putPending(secret, planted, versionId);
    place.startEngine();
    const blocked = await place.world.ended(id);
    assert.equal(blocked.state, "blocked");
    assert.match(blocked.error ?? "", /somebody put there/);
    await place.change(secret, (before) => detach(before, "AWSPENDING"));
    place.aheadMs = 30 * 86_400_000;
    await place.settle();
    assert.ok(place.live(secret).includes(victim.id));
    assert.deepEqual(await place.retirements(secret), []);
  });

  test("whoever writes the secret cannot have the superuser delete somebody else's key", async () => {
    await using place = await openKeyWorld(await open(), "issuer");
    const secret = await place.newSecret(await place.superuser());
    assert.equal((await place.rotate(secret)).state, "succeeded");
    const victim = place.service.addKey(secret.name).id;
    const planted = { ...(await place.value(secret)), id: victim, key: "a-guess" };
    // As the current value: the next rotation leaves it behind.
    await place.world.put(secret, planted);
    assert.equal((await place.rotate(secret)).state, "succeeded");
    // As the previous one, beside a current one that works.
    await place.world.put(secret, planted);
    await place.world.put(secret, { ...planted, ...place.service.addKey(secret.name) });
    assert.equal((await place.rotate(secret)).state, "succeeded");
    place.aheadMs = 30 * 86_400_000;
    await place.until(async () => (await place.states(secret)).every((state) => state === "done"));
    assert.ok(place.live(secret).includes(victim));
  });

  test("nor with a key of its own beside the id of another account's, and a superuser that is named only later", async () => {
    for (const lists of [true, false]) {
      await using place = await openKeyWorld(await open(), "issuer", { lists });
      const other = await place.newSecret();
      const [victim] = place.live(other);
      const secret = await place.newSecret({ id: victim });
      assert.equal((await place.rotate(secret)).state, "succeeded");
      await place.world.put(secret, { ...(await place.value(secret)), ...(await place.superuser()) });
      place.aheadMs = 2 * 86_400_000;
      await place.until(async () => (await place.states(secret))[0] === (lists ? "done" : "blocked"));
      assert.deepEqual(place.live(other), [victim]);
    }
  });

  test("nor by an id that another function's target, perhaps one of the writer's own, is said to have issued", async () => {
    await using place = await openKeyWorld(await open(), "issuer", { lists: false });
    const secret = await place.newSecret(await place.superuser());
    const { id } = await place.rotate(secret);
    const victim = place.service.addKey(secret.name).id;
    const versionId = randomUUID();
    await place.world.put(secret, { ...(await place.value(secret)), id: victim }, versionId);
    const intent = JSON.stringify({ marker: "m", at: Date.now(), issuedId: victim });
    const values = [id, versionId, `${(await place.world.rotationOf(id)).functionArn}OfTheWriter`, intent, Date.now() + 1_000];
    const text = "update rotations set version_id = $2, function_arn = $3, intent = $4, started_at = $5 where id = $1";
    await place.world.sql.query(text, values);
    assert.equal((await place.rotate(secret)).state, "succeeded");
    place.aheadMs = 2 * 86_400_000;
    await place.until(async () => (await place.states(secret)).every((state) => state === "blocked" || state === "done"));
    assert.ok(place.live(secret).includes(victim));
  });

  test("a rotation that is asked for again goes on with the key that was made, and issues no other", async () => {
    await using place = await openKeyWorld(await open(), "issuer", { settlesWithinMs: 60_000 });
    place.service.delay = 3;
    const secret = await place.newSecret();
    const { versionId, functionArn, id, state } = await place.rotate(secret, 0);
    assert.equal(state, "failed");
    const retry = randomUUID();
    const at = Date.now();
    const more = { versionId, functionArn, origin: "retry", testOnly: false, generation: 1, principal: "p" } as const;
    const times = { runAt: at, startedAt: at, windowEndsAt: at + 60_000 };
    assert.equal(await place.versionId(secret, "AWSPENDING"), versionId, "not given up: it had no time to become known");
    await place.world.sql.transaction((tx) => insertRotation(tx, { id: retry, secretId: secret.id, ...more, ...times }));
    const done = await place.world.ended(retry);
    assert.equal(done.state, "succeeded", done.error);
    assert.notEqual(id, retry);
    assert.equal(place.asked, 1);
  });
});
