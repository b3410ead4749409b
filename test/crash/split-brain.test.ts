// A node that is stopped in the middle of a rotation, loses its claim to another one, and goes on as if nothing had been.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { migrate } from "../../src/store/migrate.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import { newRootKey, openWorld } from "../support/engine-world.ts";
import { postgresSkip, startPostgres } from "../support/postgres-server.ts";
import { sampleOf, share } from "../support/sample.ts";
import { Inspector } from "./campaign/inspector.ts";
import { scenarios } from "./campaign/scenarios.ts";
import type { Job } from "./campaign/worker.ts";
import { startWorker } from "./campaign/worker-process.ts";

const workerFile = fileURLToPath(new URL("campaign/worker.ts", import.meta.url));
/** Short, so that a claim is lost soon; a claim is longer than two calls and what is kept between. */
const settings = { ownsStore: false, callMs: 500, claimMs: 3_500 };
const pauses = share === 1 ? 4 : 1;
const stopped = ["postgres/single-user", "postgres/alternating-users", "redis/dual-slot"];
const names = ["user_a", "user_b", "user_c"];

describe("a node that was stopped and goes on", { concurrency: 2, skip: postgresSkip }, () => {
  for (const name of sampleOf(stopped, 2, "stopped nodes")) {
    const scenario = scenarios.find((one) => one.name === name);
    assert.ok(scenario, name);
    test(`${name}: what it does late changes no row and loses nothing`, { skip: scenario.skip }, async () => {
      await using opened = new AsyncDisposableStack();
      const store = opened.use(await startPostgres());
      const databaseUrl = await store.newDatabase("rekey");
      const target = opened.use(await scenario.start());
      const sql = openPostgres(databaseUrl);
      opened.defer(() => sql.close());
      await migrate(sql);
      const rootKey = newRootKey();
      const world = await openWorld(sql, { rootKey, settings });
      const master = target.admin && (await world.newSecret("master", target.admin));
      for (const account of names)
        await world.newSecret(account, { ...(await target.newAccount(account)), ...(master && { masterarn: master.arn }) });
      const inspector = new Inspector(scenario, target);
      const start = (node: string, rounds: number) => {
        const job: Job = {
          folder: "",
          databaseUrl,
          settings: { ...settings, node },
          killAt: 0,
          whileHealing: false,
          functionName: scenario.functionName,
          secrets: names,
          atOnce: names.length,
          rounds,
        };
        return startWorker(workerFile, job, rootKey);
      };
      for (let pause = 0; pause < pauses; pause += 1) {
        const first = start(`first-${pause}`, 1_000);
        await first.said("begun");
        await sleep(120 * Math.random());
        first.child.kill("SIGSTOP");
        const second = start(`second-${pause}`, 1); // outwaits the first one's claims, heals, and goes on
        await second.ended;
        assert.equal(second.child.exitCode, 0, `[fails] ${second.text().slice(-2_000)}`);
        first.child.kill("SIGCONT");
        await sleep(200);
        first.child.kill("SIGKILL");
        await first.ended; // perhaps it has by itself, having found its rotations in other hands
        await inspector.afterKill(world, names, `pause ${pause}`);
        assert.deepEqual(inspector.violations, []);
      }
      const last = start("last", 1);
      await last.ended;
      await inspector.atEnd(world, names);
      assert.deepEqual(inspector.violations, []);
    });
  }
});
