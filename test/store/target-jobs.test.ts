// Jobs at a target are claimed once, fenced, and removed with other history.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { describe, test } from "node:test";
import { ServiceError } from "../../src/core/error.ts";
import { startEngine } from "../../src/engine/loop.ts";
import { removeHistory } from "../../src/store/due.ts";
import { holdAccount } from "../../src/store/rotation-claims.ts";
import { claimJobs, endJob, findJob, holdJobAccount, insertJob, postponeJob, renewJob } from "../../src/store/target-jobs.ts";
import { openWorld, owner } from "../support/engine-world.ts";
import { forEachStore } from "../support/stores.ts";
import { askFor, done, jobEnded } from "../support/target-jobs.ts";

forEachStore((name, open) => {
  describe(`jobs at a target: ${name}`, () => {
    const claim = { node: "n", nowMs: Date.now(), untilMs: Date.now() + 60_000, limit: 1 };

    test("each is claimed by one node; who was taken over writes nothing more", async () => {
      const world = await openWorld(await open());
      const { sql } = world;
      const secret = await world.newSecret("s", {});
      const id = await askFor(world, secret, "check", { a: 1 });
      const now = () => ({ ...claim, nowMs: Date.now() + 1 });
      const claims = await Promise.all([1, 2, 3].map(() => sql.transaction((tx) => claimJobs(tx, now()))));
      const [first] = claims.flat();
      assert.ok(first && claims.flat().length === 1);
      assert.deepEqual([first.job.input, first.job.principal, first.takenOver], [{ a: 1 }, owner, false]);
      const [second] = await sql.transaction((tx) =>
        claimJobs(tx, { ...claim, nowMs: first.until + 1, untilMs: first.until + 9 }),
      );
      assert.ok(second?.takenOver);
      const ended = { state: "done", result: {}, endedAt: 5 } as const;
      assert.equal(await renewJob(sql, first, first.until + 5), false);
      assert.equal(await postponeJob(sql, first, 1), false);
      assert.equal(await sql.transaction((tx) => endJob(tx, first, ended)), false);
      assert.equal(await sql.transaction((tx) => endJob(tx, second, ended)), true);
      assert.equal((await findJob(sql, id))?.state, "done");
      assert.equal(await removeHistory(sql, 4, 100), 0);
      assert.equal(await removeHistory(sql, 5, 100), 1);
      assert.equal(await findJob(sql, id), undefined);
    });

    test("one rollback of a secret at a time, and it keeps rotations of the account away", async () => {
      const world = await openWorld(await open());
      const { sql } = world;
      const [secret, other] = [await world.newSecret("s", {}), await world.newSecret("t", {})];
      const asked = { secretId: secret.id, kind: "rollback", input: {}, principal: owner, createdAt: 1, expiresAt: 2 } as const;
      assert.ok(await sql.transaction((tx) => insertJob(tx, asked)));
      assert.equal(await sql.transaction((tx) => insertJob(tx, asked)), undefined);
      const [held] = await sql.transaction((tx) => claimJobs(tx, claim));
      assert.ok(held);
      const rotation = await world.rotationOf(await world.begin(other, {}));
      assert.equal(await sql.transaction((tx) => holdJobAccount(tx, held, "db/app")), true);
      assert.equal(await sql.transaction((tx) => holdAccount(tx, rotation, "db/app")), false);
      assert.equal(await sql.transaction((tx) => holdAccount(tx, rotation, "db/other")), true);
      assert.equal(await sql.transaction((tx) => holdJobAccount(tx, held, "db/other")), false);
      await sql.transaction((tx) => endJob(tx, held, { state: "failed", error: "no", endedAt: 9 }));
      assert.equal(await sql.transaction((tx) => holdAccount(tx, rotation, "db/app")), true);
    });

    test("a job has the rights of whoever asked, as they are when it is done, and is not begun too late", async () => {
      const world = await openWorld(await open());
      const secret = await world.newSecret("s", { host: "127.0.0.1", username: "u", password: "p" });
      const gone = new ServiceError("AccessDeniedException", "arn:nobody does not exist any more");
      const engine = startEngine({ ...world.parts, mayRun: async () => gone });
      try {
        const refused = await done({ world, engine }, secret, "check", {});
        assert.deepEqual([refused.state, refused.error], ["failed", `AccessDeniedException: ${gone.message}`]);
        const late = { secretId: secret.id, kind: "check", input: {}, principal: owner, createdAt: 1, expiresAt: 2 } as const;
        const id = await world.sql.transaction((tx) => insertJob(tx, late));
        engine.wake();
        assert.match((await jobEnded(world, id ?? randomUUID())).error ?? "", /no engine began it in time/);
      } finally {
        await engine.stop();
      }
    });
  });
});
