// Renewals, revocations, ends and new engines in any order and at once, against a small model; of a real PostgreSQL.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import fc from "fast-check";
import type { Engine } from "../../src/engine/loop.ts";
import { type LeaseWorld, leasedUsers, leaseWorld, liveNames, onServer, until } from "../support/lease-world.ts";
import { type PostgresServer, postgresSkip, startPostgres } from "../support/postgres-server.ts";
import { forEachStore } from "../support/stores.ts";

const numRuns = process.env.SLOW ? 40 : 4;

/** What callers were told of one lease. */
interface Told {
  readonly id: string;
  readonly user: string;
  /** The latest end that was confirmed. */
  until: number;
  /** Somebody has asked for its end, though perhaps nobody was answered yet. */
  asked: boolean;
  /** Somebody was told that its end has begun. */
  begun: boolean;
}

type Step =
  | { readonly kind: "issue"; readonly ttl: number }
  | { readonly kind: "renew" | "revoke"; readonly which: number; readonly ttl: number }
  | { readonly kind: "advance"; readonly seconds: number }
  | { readonly kind: "restart" };

const ttl = fc.integer({ min: 60, max: 900 });
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("issue" as const), ttl }) },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant("renew" as const), which: fc.nat(5), ttl }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("revoke" as const), which: fc.nat(5), ttl }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("advance" as const), seconds: fc.integer({ min: 1, max: 400 }) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("restart" as const) }) },
);
/** Each inner list is done at once. */
const rounds = fc.array(fc.array(step, { minLength: 1, maxLength: 4 }), { minLength: 4, maxLength: 12 });

describe("leases in any order", { skip: postgresSkip }, () => {
  forEachStore((_dialect, open) => {
    const folder = mkdtempSync(join(tmpdir(), "rekey-leases-"));
    let server: PostgresServer;
    before(async () => {
      server = await startPostgres({ settings: ["max_connections=200"] });
    });
    after(async () => {
      await server[Symbol.asyncDispose]();
      rmSync(folder, { recursive: true });
    });

    test("no lease ends before the end that was confirmed, none is renewed once its end has begun, and all end", async () => {
      await fc.assert(
        fc.asyncProperty(rounds, async (given) => {
          await using world = await leaseWorld(await open(), mkdtempSync(join(folder, "w-")));
          await onServer(server, "drop role if exists readers");
          await play(world, server, given);
        }),
        { numRuns },
      );
    });
  });
});

async function play(world: LeaseWorld, server: PostgresServer, given: readonly (readonly Step[])[]): Promise<void> {
  await world.setUp(server);
  const leases: Told[] = [];
  const player = new Player(world, leases);
  for (const round of given) {
    await Promise.all(round.map((each) => player.do(each)));
    const users = await leasedUsers(server);
    for (const lease of leases) {
      const lives = !lease.asked && lease.until > world.clock.now + 1_000;
      if (lives)
        assert.ok(users.includes(lease.user), `${lease.user} was ended ${lease.until - world.clock.now} ms before its time`);
    }
  }
  world.clock.offsetMs += 3_600_000;
  player.wake();
  await until(
    "the end of all",
    async () => (await leasedUsers(server)).length === 0 && (await liveNames(world.sql)).length === 0,
  );
}

class Player {
  readonly #world: LeaseWorld;
  readonly #leases: Told[];
  #engine: Engine;

  constructor(world: LeaseWorld, leases: Told[]) {
    this.#world = world;
    this.#leases = leases;
    this.#engine = world.engine();
  }

  wake(): void {
    this.#engine.wake();
  }

  async do(step: Step): Promise<void> {
    switch (step.kind) {
      case "issue": {
        const { Lease } = await this.#world.issue({ TtlSeconds: step.ttl });
        this.#leases.push({ id: Lease.Id, user: Lease.User, until: Lease.ExpiresAt.getTime(), asked: false, begun: false });
        return;
      }
      case "advance":
        this.#world.clock.offsetMs += step.seconds * 1_000;
        return this.wake();
      case "restart": {
        const before = this.#engine;
        this.#engine = this.#world.engine();
        return before.stop();
      }
      default: {
        const lease = this.#leases[step.which % Math.max(this.#leases.length, 1)];
        return lease && (step.kind === "renew" ? this.#renew(lease, step.ttl) : this.#revoke(lease));
      }
    }
  }

  async #renew(lease: Told, TtlSeconds: number): Promise<void> {
    const hadBegun = lease.begun;
    try {
      const answer = (await this.#world.call("RenewLease", { LeaseId: lease.id, TtlSeconds })) as { Lease: { ExpiresAt: Date } };
      assert.equal(hadBegun, false, `${lease.user} was renewed after its end had begun`);
      lease.until = Math.max(lease.until, answer.Lease.ExpiresAt.getTime());
    } catch (error) {
      assert.match(String(error), /cannot be renewed|was not renewed/);
    }
  }

  async #revoke(lease: Told): Promise<void> {
    lease.asked = true;
    await this.#world.call("RevokeLease", { LeaseId: lease.id });
    lease.begun = true;
  }
}
