// A node that is stopped while it makes, renews and ends leases, loses them to another one, and goes on as if nothing had been.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { openRootKey } from "../../src/crypto/key-provider.ts";
import { migrate } from "../../src/store/migrate.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import { newRootKey } from "../support/engine-world.ts";
import { leaseWorld } from "../support/lease-world.ts";
import { postgresSkip, startPostgres } from "../support/postgres-server.ts";
import { share } from "../support/sample.ts";
import { LeaseInspector, type LeaseRow, liveLeases } from "./campaign/lease-inspector.ts";
import { leaseScenarios } from "./campaign/lease-places.ts";
import type { LeaseJob } from "./campaign/lease-worker.ts";
import { setUpLeases } from "./campaign/leases.ts";
import { startWorker } from "./campaign/worker-process.ts";

const workerFile = fileURLToPath(new URL("campaign/lease-worker.ts", import.meta.url));
/** Short, so that a claim is lost soon; a claim is longer than two calls and what is kept between. */
const settings = { ownsStore: false, callMs: 1_000, claimMs: 4_500, perTarget: 3 };
const pauses = share === 1 ? 6 : 1;
/** What a call in doubt may have left is looked for after so long. */
const inDoubtMs = 5 * 60_000;

describe("a node with leases that was stopped and goes on", { concurrency: 2, skip: postgresSkip }, () => {
  for (const { name, skip, start: startPlace } of leaseScenarios.filter((one) => !one.name.includes("mariadb")))
    test(`${name}: it makes and ends none that it lost, and nothing is left over`, { skip }, async () => {
      await using opened = new AsyncDisposableStack();
      const store = opened.use(await startPostgres());
      const databaseUrl = await store.newDatabase("rekey");
      const place = opened.use(await startPlace());
      const folder = mkdtempSync(join(tmpdir(), "rekey-leases-"));
      opened.defer(() => rmSync(folder, { recursive: true, force: true }));
      const sql = openPostgres(databaseUrl);
      opened.defer(() => sql.close());
      await migrate(sql);
      const rootKey = newRootKey();
      const world = opened.use(
        await leaseWorld(sql, folder, { rootKey: await openRootKey("env:KEY", { env: { KEY: rootKey } }), settings }),
      );
      await setUpLeases(world, place);
      const inspector = new LeaseInspector(place, settings.perTarget);
      opened.defer(() => inspector.close());
      const start = (node: string, rounds: number) => {
        const { clockMs } = inspector;
        const how = { killAt: 0, whileHealing: false, rounds, clockMs, settings: { ...settings, node } };
        const job: LeaseJob = { folder: mkdtempSync(join(folder, "node-")), databaseUrl, ...how };
        const worker = startWorker(workerFile, job, rootKey, (line) => inspector.take(line));
        opened.defer(() => void worker.child.kill("SIGKILL"));
        return worker;
      };
      const inOrder = async (where: string) => {
        await inspector.afterHealing(() => sql.query<LeaseRow>(liveLeases), where);
        assert.deepEqual(inspector.violations, []);
      };
      for (let pause = 0; pause < pauses; pause += 1) {
        const first = start(`first-${pause}`, 1_000);
        await first.said("healed");
        first.child.stdin.write("go\n");
        await sleep(250 * Math.random());
        first.child.kill("SIGSTOP");
        const second = start(`second-${pause}`, 1); // outwaits the first one's claims, heals, and goes on
        await second.said("healed");
        await inOrder(`pause ${pause}`);
        const over = await sql.query("select id, ended_at from leases where state = 'ended' order by id");
        await inspector.afterKill(world, `pause ${pause}`); // logs in as everybody
        second.child.stdin.write("go\n");
        first.child.kill("SIGCONT");
        await second.ended;
        assert.equal(second.child.exitCode, 0, `[fails] ${second.text().slice(-2_000)}`);
        first.child.kill("SIGKILL");
        await first.ended;
        const ids = new Set(over.map(({ id }) => id));
        const now = await sql.query("select id, ended_at from leases order by id");
        assert.deepEqual(
          now.filter(({ id }) => ids.has(id)),
          over,
          "a row that had come to its end was changed",
        );
        inspector.clockMs += inDoubtMs;
        const third = start(`third-${pause}`, 0);
        await third.said("healed");
        await inOrder(`pause ${pause} was over`);
        third.child.stdin.write("go\n");
        await third.ended;
      }
    });
});
