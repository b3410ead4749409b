// Leases over each store, of a real PostgreSQL: issue, quotas, sharing, renewal, revocation.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { Principal } from "../../src/core/principal.ts";
import {
  type LeaseWorld,
  type LeaseWorldOptions,
  leasedUsers,
  leaseWorld,
  liveNames,
  logsIn,
  onServer,
  place,
  root,
  secretName,
  until,
} from "../support/lease-world.ts";
import { type PostgresServer, postgresSkip, startPostgres } from "../support/postgres-server.ts";
import { forEachStore } from "../support/stores.ts";

const hourMs = 3_600_000;
const other: Principal = { ...root, arn: "arn:aws:iam::123456789012:user/other", userId: "AIDAOTHER" };
const code =
  (expected: string, text = /./) =>
  (error: unknown) => {
    assert.equal((error as { code?: string }).code, expected, String(error));
    assert.match((error as Error).message, text);
    return true;
  };

describe("leases", { skip: postgresSkip }, () => {
  forEachStore((_dialect, open) => {
    const folder = mkdtempSync(join(tmpdir(), "rekey-leases-"));
    let server: PostgresServer;
    before(async () => {
      server = await startPostgres();
    });
    after(async () => {
      await server[Symbol.asyncDispose]();
      rmSync(folder, { recursive: true });
    });

    async function inWorld(work: (world: LeaseWorld) => Promise<void>, secret: object = {}, options: LeaseWorldOptions = {}) {
      const sql = await open();
      await using world = await leaseWorld(sql, mkdtempSync(join(folder, "w-")), options);
      await onServer(server, "drop role if exists readers");
      await world.setUp(server, secret);
      await work(world);
      // Whatever a test leaves is ended.
      await world.call("RevokeLeases", { Principal: root.arn });
      await world.call("RevokeLeases", { Principal: other.arn });
      await until("the end of all leases", async () => (await liveNames(sql)).length === 0);
      assert.deepEqual(await leasedUsers(server), []);
      const kept = await sql.query(
        "select id from leases where sealed is not null or wrapped_data_key is not null or request_hash is not null",
      );
      assert.deepEqual(kept, [], "values stay after the end");
    }
    const gone = (user: string) => until(`the end of ${user}`, async () => !(await leasedUsers(server)).includes(user));

    test("a lease is made, told to subscribers and people, and ends with its time", () =>
      inWorld(async (world) => {
        world.engine();
        const issued = await world.issue({ TtlSeconds: 120 });
        const { Id: LeaseId, User } = issued.Lease;
        assert.equal(await logsIn(issued), true);
        assert.deepEqual(await leasedUsers(server), [User]);
        world.clock.offsetMs = 119_000;
        await world.call("GetLease", { LeaseId });
        assert.equal(await logsIn(issued), true);
        world.clock.offsetMs = 121_000;
        await gone(User);
        await until("its end on record", async () => (await liveNames(world.sql)).length === 0);
        const { Lease } = (await world.call("GetLease", { LeaseId })) as { Lease: Record<string, unknown> };
        assert.deepEqual([Lease.State, Lease.Why], ["ended", "expired"]);
        const events = await world.sql.query<{ type: string; detail: string }>(
          "select type, detail from events where type like 'lease.%' order by id",
        );
        assert.deepEqual(
          events.map(({ type }) => type),
          ["lease.issued", "lease.expired"],
        );
        const activity = await world.sql.query<{ text: string }>(
          "select text from activity_logs where text like $1 order by id",
          [`%${User}%`],
        );
        assert.match(activity[0]?.text ?? "", /^Issued postgres user rk_.* for dynamic secret DB/);
        assert.match(activity[1]?.text ?? "", /^Expired and removed postgres user rk_.* for dynamic secret DB/);
        const written = JSON.stringify([events, activity, await world.sql.query("select * from audit_outbox"), world.log]);
        assert.equal(written.includes(issued.Fields.PASSWORD ?? ""), false, "the password is on record");
      }));

    test("the same token gives the same lease while it lives, and only to the same principal", () =>
      inWorld(async (world) => {
        world.engine();
        const ClientRequestToken = randomUUID();
        const both = await Promise.all([world.issue({ ClientRequestToken }), world.issue({ ClientRequestToken })]);
        const again = await world.issue({ ClientRequestToken });
        for (const each of both) assert.deepEqual([each.Lease.Id, each.Fields], [again.Lease.Id, again.Fields]);
        const stranger = await world.issue({ ClientRequestToken }, other);
        assert.notEqual(stranger.Lease.Id, again.Lease.Id);
        await world.call("RevokeLease", { LeaseId: again.Lease.Id });
        assert.notEqual((await world.issue({ ClientRequestToken })).Lease.Id, again.Lease.Id);
      }));

    test("50 at once: never more than the dynamic secret may have, and none is left behind", () =>
      inWorld(
        async (world) => {
          world.engine();
          const settled = await Promise.allSettled(Array.from({ length: 50 }, () => world.issue()));
          const made = settled.filter(({ status }) => status === "fulfilled");
          assert.equal(made.length, 7);
          for (const each of settled)
            if (each.status === "rejected") code("LimitExceededException", /7 leases of DB live/)(each.reason);
          assert.equal((await leasedUsers(server)).length, 7);
        },
        { MaxLeases: 7 },
      ));

    test("a program that starts again and again is stopped, and others are not", () =>
      inWorld(
        async (world) => {
          world.engine();
          const start = (Workload?: string, principal = root) =>
            world.issue(Workload === undefined ? {} : { Workload }, principal);
          for (let starts = 0; starts < 3; starts++) await start("web");
          await assert.rejects(
            start("web"),
            code("ThrottlingException", /Workload web holds 3 leases of DB.*revoke its lease when it ends/),
          );
          await start("worker");
          await start("web", other);
          await start();
        },
        { MaxLeasesPerPrincipal: 3 },
      ));

    test("a workload that asks again within the share window gets the same lease, which lives while somebody holds it", () =>
      inWorld(
        async (world) => {
          world.engine();
          const starts = await Promise.all(Array.from({ length: 10 }, () => world.issue({ Workload: "web" })));
          const ids = new Set(starts.map(({ Lease }) => Lease.Id));
          assert.equal(ids.size, 1);
          const [LeaseId = ""] = ids;
          assert.notEqual((await world.issue({ Workload: "web" }, other)).Lease.Id, LeaseId);
          assert.notEqual((await world.issue()).Lease.Id, LeaseId);
          for (let holders = 10; holders > 1; holders--) {
            const { Lease } = (await world.call("RevokeLease", { LeaseId, UnlessShared: true })) as {
              Lease: { State: string; Shares: number };
            };
            assert.deepEqual([Lease.State, Lease.Shares], ["active", holders - 1]);
          }
          const { Revoked } = await world.call("RevokeLease", { LeaseId, UnlessShared: true });
          assert.equal(Revoked, true);
          const later = await world.issue({ Workload: "web" });
          assert.notEqual(later.Lease.Id, LeaseId);
          world.clock.offsetMs = 61_000;
          assert.notEqual((await world.issue({ Workload: "web" })).Lease.Id, later.Lease.Id, "the window is over");
        },
        { ShareSeconds: 60 },
      ));

    test("an answer that cannot be put on record leaves no lease", () =>
      inWorld(async (world) => {
        world.engine();
        const { audit } = world.parts;
        const { inTransaction } = audit;
        Object.assign(audit, { inTransaction: () => Promise.reject(new Error("no audit")) });
        const lost = world.issue();
        await assert.rejects(lost);
        Object.assign(audit, { inTransaction });
        await until("the end of what was not answered", async () => (await liveNames(world.sql)).length === 0);
      }));

    test("renewal: for longer, never for shorter, not beyond the maximum, and not once its end has begun", () =>
      inWorld(
        async (world) => {
          world.engine();
          const issued = await world.issue({ TtlSeconds: 600 });
          const LeaseId = issued.Lease.Id;
          const begun = issued.Lease.ExpiresAt.getTime() - 600_000;
          const renew = async (TtlSeconds: number) =>
            (
              (await world.call("RenewLease", { LeaseId, TtlSeconds })) as { Lease: { ExpiresAt: Date } }
            ).Lease.ExpiresAt.getTime();
          assert.equal(await renew(60), issued.Lease.ExpiresAt.getTime());
          const longer = await renew(1_200);
          assert.ok(longer >= begun + 1_200_000);
          const [row] = await onServer(server, "select rolvaliduntil from pg_roles where rolname = $1", [issued.Lease.User]);
          const validUntil = row?.rolvaliduntil as Date | undefined;
          assert.ok((validUntil?.getTime() ?? 0) >= longer, "the server would end it before");
          assert.equal(await renew(3_600), begun + hourMs);
          assert.equal(await renew(3_600), begun + hourMs);
          world.clock.offsetMs = hourMs - 5_000;
          assert.equal(await logsIn(issued), true);
          await world.call("RevokeLease", { LeaseId });
          await assert.rejects(renew(60), code("InvalidRequestException", /has ended|is being ended/));
        },
        { MaxTtlSeconds: 3_600 },
      ));

    test("rights: own leases by their names, and by who issued them", () =>
      inWorld(async (world) => {
        world.engine();
        const document = (Action: string, Resource: string, Condition?: object) =>
          JSON.stringify({
            Version: "2012-10-17",
            Statement: [{ Effect: "Allow", Action, Resource, ...(Condition && { Condition }) }],
          });
        const who = (policy: string): Principal => ({
          ...other,
          kind: "user",
          userName: "other",
          policies: [{ name: "p", document: policy }],
        });
        const { Lease } = await world.issue();
        const revoke = (policy: string) => world.call("RevokeLease", { LeaseId: Lease.Id }, who(policy));
        const ofDev = `arn:aws:rekey:*:*:lease/${place.Project}/${place.Config}/${secretName}/*`;
        await assert.rejects(
          revoke(document("rekey:RevokeLease", ofDev.replace("/dev/", "/prd/"))),
          code("AccessDeniedException"),
        );
        const own = { StringEquals: { "rekey:LeasePrincipal": other.arn } };
        await assert.rejects(revoke(document("rekey:RevokeLease", ofDev, own)), code("AccessDeniedException"));
        await assert.rejects(world.issue({}, who(document("rekey:RevokeLease", "*"))), code("AccessDeniedException"));
        assert.equal((await revoke(document("rekey:RevokeLease", ofDev))).Revoked, true);
      }));
  });
});
