// What happens to leases by itself: outages of the target, several nodes, clocks, restored stores, and what is deleted or edited.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { openRootKey } from "../../src/crypto/key-provider.ts";
import { installationId } from "../../src/store/installation.ts";
import { startQuarantine } from "../../src/store/quarantine.ts";
import type { LeaseTarget } from "../../src/targets/lease-target.ts";
import { newRootKey } from "../support/engine-world.ts";
import {
  type LeaseWorld,
  type LeaseWorldOptions,
  leasedUsers,
  leaseWorld,
  liveNames,
  loginOf,
  logsIn,
  onServer,
  place,
  secretName,
  until,
} from "../support/lease-world.ts";
import { type PostgresServer, postgresSkip, startPostgres } from "../support/postgres-server.ts";
import { forEachStore } from "../support/stores.ts";

describe("leases by themselves", { skip: postgresSkip }, () => {
  forEachStore((dialect, open) => {
    const folder = mkdtempSync(join(tmpdir(), "rekey-leases-"));
    let server: PostgresServer;
    before(async () => {
      server = await startPostgres({ settings: ["max_connections=200"] });
    });
    after(async () => {
      await server[Symbol.asyncDispose]();
      rmSync(folder, { recursive: true });
    });

    async function inWorld(work: (world: LeaseWorld) => Promise<void>, secret: object = {}, options: LeaseWorldOptions = {}) {
      await using world = await leaseWorld(await open(), mkdtempSync(join(folder, "w-")), options);
      await onServer(server, "drop role if exists readers");
      await world.setUp(server, secret);
      await work(world);
    }
    const allGone = (world: LeaseWorld) =>
      until(
        "the end of all leases",
        async () => (await liveNames(world.sql)).length === 0 && (await leasedUsers(server)).length === 0,
      );

    test("a target that was down while many leases came to their end: all are ended when it is back", () =>
      inWorld(
        async (world) => {
          const engine = world.engine();
          const many = 60;
          for (let made = 0; made < many; made += 20)
            await Promise.all(Array.from({ length: 20 }, () => world.issue({ TtlSeconds: 600 })));
          assert.equal((await leasedUsers(server)).length, many);
          await server.stop();
          world.clock.offsetMs = 601_000;
          engine.wake();
          await until("a try to end one", async () => {
            const tried = await world.sql.query(
              "select id from leases where state = 'revoking' and attempt > 0 and error is not null",
            );
            return tried.length > 0;
          });
          await assert.rejects(world.issue(), /could be made: .*What was begun is ended/);
          await server.restart();
          world.clock.offsetMs += 40_000;
          engine.wake();
          await allGone(world);
        },
        { MaxLeasesPerPrincipal: 100 },
      ));

    test("nodes that share a store: each lease is made once and ended once", {
      skip: dialect === "sqlite" && "one process",
    }, () => {
      const calls = new Map<string, number>();
      const count = (verb: string, name: string) => calls.set(`${verb} ${name}`, (calls.get(`${verb} ${name}`) ?? 0) + 1);
      let inside = 0;
      let most = 0;
      const counted = async <T>(work: () => Promise<T>): Promise<T> => {
        inside += 1;
        most = Math.max(most, inside);
        try {
          return await work();
        } finally {
          inside -= 1;
        }
      };
      const wrap = (target: LeaseTarget): LeaseTarget => ({
        ...target,
        create(connection, settings, user, tools) {
          count("create", user.name);
          return counted(() => target.create(connection, settings, user, tools));
        },
        revoke(connection, settings, user, tools) {
          count("revoke", user.name);
          return counted(() => target.revoke(connection, settings, user, tools));
        },
      });
      return inWorld(
        async (world) => {
          const settings = { ...world.parts.settings, perTarget: 4 };
          for (const node of ["one", "two", "three"]) world.engine({ settings: { ...settings, node } });
          const issued: Awaited<ReturnType<typeof world.issue>>[] = [];
          while (issued.length < 40) issued.push(...(await Promise.all(Array.from({ length: 10 }, () => world.issue()))));
          await world.call("RevokeLeases", { ...place, DynamicSecret: secretName });
          await allGone(world);
          for (const { Lease } of issued)
            assert.deepEqual([calls.get(`create ${Lease.User}`), calls.get(`revoke ${Lease.User}`)], [1, 1]);
          assert.ok(most <= 4, `${most} at once at a target that takes 4`);
        },
        { MaxLeasesPerPrincipal: 100 },
        { wrap },
      );
    });

    test("a clock that jumps ahead ends nothing that lives", () =>
      inWorld(async (world) => {
        const started = performance.now();
        const engine = world.engine({ elapsed: () => performance.now() - started });
        const issued = await world.issue({ TtlSeconds: 600 });
        await sleep(50);
        world.clock.offsetMs = 3_600_000;
        engine.wake();
        await sleep(1_500);
        assert.deepEqual(await leasedUsers(server), [issued.Lease.User]);
        world.clock.offsetMs = 0;
        engine.wake();
        await sleep(100);
        assert.equal(await logsIn(issued), true);
        await world.call("RevokeLease", { LeaseId: issued.Lease.Id });
        await allGone(world);
      }));

    test("a restored store touches no target before it is released, and tells what it would do", () =>
      inWorld(async (world) => {
        const first = world.engine();
        const issued = await world.issue({ TtlSeconds: 60 });
        await first.stop();
        await world.sql.transaction((tx) => startQuarantine(tx, { sinceAt: Date.now(), reason: "test" }, 1_000));
        world.clock.offsetMs = 120_000;
        world.engine();
        await assert.rejects(world.issue(), /quarantined/);
        await sleep(300);
        assert.deepEqual(await leasedUsers(server), [issued.Lease.User]);
        const { Plan } = (await world.call("PlanQuarantineRelease", {})) as { Plan: { What: string; Will: string }[] };
        assert.match(Plan.find(({ What }) => What === "lease")?.Will ?? "", new RegExp(`user ${issued.Lease.User} at postgres`));
        await world.call("ReleaseQuarantine", {});
        await allGone(world);
      }));

    test("users with our mark and without a lease are found and ended; others, and those with a lease, are left alone", () =>
      inWorld(async (world) => {
        const engine = world.engine();
        const { Lease } = await world.issue();
        const mark = `rk_${await installationId(world.sql)}_`;
        const [orphan, foreign] = [
          `${mark}db_${randomBytes(8).toString("hex")}`,
          `rk_zzzzzzzz_db_${randomBytes(8).toString("hex")}`,
        ];
        for (const name of [orphan, foreign, `${mark}not_ours`]) await onServer(server, `create role ${name} login`);
        const { Orphans } = (await world.call("FindOrphans", { Integration: "main" })) as { Orphans: { User: string }[] };
        assert.deepEqual(
          Orphans.map(({ User }) => User),
          [orphan],
        );
        await until("the orphan's end", async () => !(await leasedUsers(server)).includes(orphan));
        assert.ok((await leasedUsers(server)).includes(Lease.User));
        // A lease that ended, and whose user is there all the same, is ended again: by itself.
        await world.call("RevokeLease", { LeaseId: Lease.Id });
        await onServer(server, `create role ${Lease.User} login`);
        world.clock.offsetMs = 2 * 3_600_000;
        engine.wake();
        await until("the end of one that came back", async () => !(await leasedUsers(server)).includes(Lease.User));
        const types = await world.sql.query<{ type: string }>("select type from events where type = 'lease.orphan_found'");
        assert.equal(types.length, 2);
        for (const name of [foreign, `${mark}not_ours`]) await onServer(server, `drop role ${name}`);
      }));

    test("an integration that changes or goes, and a dynamic secret that goes, leave no user", async () => {
      await using second = await startPostgres();
      await inWorld(async (world) => {
        world.engine();
        const before = await world.issue();
        // To another server: what was made at the first one is ended there.
        await onServer(second, "create role readers");
        await assert.rejects(
          world.call("UpdateIntegration", { Integration: "main", Data: { port: second.port } }),
          /Data.password again/,
        );
        await world.call("UpdateIntegration", { Integration: "main", Data: loginOf(second) });
        const moved = await world.issue();
        assert.deepEqual(await leasedUsers(second), [moved.Lease.User]);
        await world.call("RevokeLease", { LeaseId: before.Lease.Id });
        await until("the end at the first server", async () => (await leasedUsers(server)).length === 0);
        await assert.rejects(world.call("DeleteIntegration", { Integration: "main" }), /is used by dynamic secret shop\/dev\/DB/);
        const ofDev = { Project: place.Project, Environment: place.Config };
        await assert.rejects(world.call("DeleteEnvironment", ofDev), /dynamic secret/i);
        assert.deepEqual(await world.call("DeleteIntegration", { Integration: "main", Force: true }), {
          DynamicSecretsDeleted: 1,
          LeasesEnding: 1,
        });
        await until("the end at the second server", async () => (await leasedUsers(second)).length === 0);
        await until("the end on record", async () => (await liveNames(world.sql)).length === 0);
        world.clock.offsetMs = 60_000;
        await until("what is deleted to be cleared away", async () => {
          const left = await world.sql.query("select id from dynamic_secrets union all select id from integration_versions");
          return left.length === 0;
        });
        await world.call("DeleteEnvironment", ofDev);
      });
    });

    test("the managing user's password is changed outside: leases wait, say why, and end once it is right again", () =>
      inWorld(async (world) => {
        const engine = world.engine();
        const { Lease } = await world.issue();
        await onServer(server, "create role manager superuser login password 'second'");
        const { Integration } = (await world.call("GetIntegration", { Integration: "main" })) as {
          Integration: Record<string, unknown>;
        };
        assert.equal(JSON.stringify(Integration).includes(server.password), false);
        await world.call("UpdateIntegration", {
          Integration: "main",
          Data: { ...loginOf(server), username: "manager", password: "second" },
        });
        await onServer(server, "alter role manager password 'third'");
        // The way that the lease was made by still works.
        await world.call("RevokeLease", { LeaseId: Lease.Id });
        await allGone(world);
        await assert.rejects(world.issue(), /No lease of DB could be made/);
        const waits = await world.call("ListLeases", { State: "revoking" });
        const [waiting] = waits.Leases as { Reason?: string; FailedTries: number; Id: string }[];
        await world.call("UpdateIntegration", { Integration: "main", Data: { password: "third" } });
        world.clock.offsetMs = 20 * 60_000;
        engine.wake();
        await allGone(world);
        assert.equal(waiting === undefined || waiting.Id !== Lease.Id, true);
        await onServer(server, "drop role manager");
      }));

    test("an integration that does not work is not kept, and neither is one that was changed so", () =>
      inWorld(async (world) => {
        const Data = { ...loginOf(server), password: "wrong" };
        await assert.rejects(world.call("CreateIntegration", { Name: "bad", Type: "postgres", Data }), /Nothing was kept/);
        await assert.rejects(world.call("GetIntegration", { Integration: "bad" }), /Could not find/);
        await assert.rejects(
          world.call("CreateIntegration", { Name: "bad", Type: "postgres", Data: { ...Data, hosts: "x" } }),
          /hosts/,
        );
        await assert.rejects(
          world.call("UpdateIntegration", { Integration: "main", Data: { password: "wrong" } }),
          /Nothing was kept/,
        );
        assert.equal((await world.call("VerifyIntegration", { Integration: "main" })).Works, true);
        const audit = JSON.stringify(await world.sql.query("select * from audit_outbox"));
        assert.equal(audit.includes(server.password), false);
      }));

    test("after a restart, what was under way goes on", () => {
      const KEY = newRootKey();
      return openRootKey("env:KEY", { env: { KEY } }).then((rootKey) =>
        inWorld(
          async (world) => {
            const first = world.engine();
            const issued = await world.issue({ TtlSeconds: 60 });
            await first.stop();
            world.clock.offsetMs = 61_000;
            world.engine();
            await allGone(world);
            assert.notEqual(await logsIn(issued), true);
          },
          {},
          { rootKey },
        ),
      );
    });
  });
});
