// Engines of several nodes on one PostgreSQL store: each rotation is one node's, each account has one rotation at a time.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import pg from "pg";
import type { Secret } from "../../src/core/secret.ts";
import { startEngine } from "../../src/engine/loop.ts";
import type { EngineParts } from "../../src/engine/parts.ts";
import { migrate } from "../../src/store/migrate.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import { claimDue, holdAccount, recordRotation, renewClaim } from "../../src/store/rotation-claims.ts";
import { listRotations } from "../../src/store/rotations.ts";
import type { DatabaseCredential } from "../../src/targets/database-secret.ts";
import { newRootKey, openWorld, type World } from "../support/engine-world.ts";
import { type PostgresServer, postgresSkip, startPostgres } from "../support/postgres-server.ts";

describe("rotations on several nodes", { skip: postgresSkip }, () => {
  let server: PostgresServer;
  let target: PostgresServer;
  let admin: pg.Client;
  const worlds: World[] = [];
  const rootKey = newRootKey();
  before(async () => {
    [server, target] = await Promise.all([startPostgres(), startPostgres()]);
    admin = new pg.Client(target.url);
    await admin.connect();
    const url = await server.newDatabase();
    for (const node of ["one", "two"]) {
      const sql = openPostgres(url);
      if (node === "one") await migrate(sql);
      worlds.push(await openWorld(sql, { rootKey, settings: { node, ownsStore: false } }));
    }
  });
  after(async () => {
    for (const { sql } of worlds) await sql.close();
    await admin.end();
    await target[Symbol.asyncDispose]();
    await server[Symbol.asyncDispose]();
  });

  async function newLogin(): Promise<DatabaseCredential> {
    const username = `user_${randomUUID().slice(0, 8)}`;
    await admin.query(`create role ${username} login password 'first-password'`);
    const { host, port } = target;
    return { engine: "postgres", host, port, username, password: "first-password" };
  }
  const [one, two] = [() => worlds[0] as World, () => worlds[1] as World];

  /** The node's parts; told before and after each change of a password. */
  function watched({ parts }: World, seen: { set(rotationId: string, username: string): () => void }): EngineParts {
    return {
      ...parts,
      async findRotator(kind) {
        const rotator = await parts.findRotator(kind);
        if (!rotator) return undefined;
        return {
          ...rotator,
          async set(versions, strategy, tools) {
            await tools.ready; // from here on it may change something
            const done = seen.set(tools.rotationId, String(versions.pending.username));
            try {
              await rotator.set(versions, strategy, tools);
            } finally {
              done();
            }
          },
        };
      },
    };
  }

  test("each rotation is run by one of them, once; two of one account never at the same time", async () => {
    const nodes = new Map<string, string[]>();
    const busy = new Set<string>();
    let clashes = 0;
    const seenBy = (node: string) => ({
      set(rotationId: string, username: string) {
        nodes.set(rotationId, [...(nodes.get(rotationId) ?? []), node]);
        if (busy.has(username)) clashes += 1;
        busy.add(username);
        return () => void busy.delete(username);
      },
    });
    const ids: string[] = [];
    const begin = async (secret: Secret) => void ids.push(await one().begin(secret, { function: "SingleUser" }));
    for (let n = 0; n < 24; n++) await begin(await one().newSecret(`db/${n}`, await newLogin()));
    const shared = await newLogin();
    const twins: string[] = [];
    for (let n = 0; n < 4; n++) {
      const twin = await one().newSecret(`twin/${n}`, shared);
      twins.push(await one().begin(twin, { function: "SingleUser" }));
    }
    await using _first = startEngine(watched(one(), seenBy("one")));
    await using _second = startEngine(watched(two(), seenBy("two")));
    for (const id of ids) assert.equal((await one().ended(id)).state, "succeeded");
    const ends = await Promise.all(twins.map(async (id) => (await one().ended(id)).state));
    assert.deepEqual(ends.sort(), ["blocked", "blocked", "blocked", "succeeded"], "the others find their password changed");
    assert.equal(clashes, 0);
    for (const id of ids) assert.equal(nodes.get(id)?.length, 1);
    assert.equal(new Set([...nodes.values()].flat()).size, 2, "both had a part in it");
    for (const world of worlds) assert.ok(!world.log.some((line) => line.includes("internal error")), world.log.join(""));
  });

  test("the cap of a target holds for all nodes together", async () => {
    const inside = { now: 0, most: 0 };
    const nodes = new Map<string, number>();
    const seenBy = (node: string) => ({
      set() {
        inside.most = Math.max(inside.most, ++inside.now);
        nodes.set(node, (nodes.get(node) ?? 0) + 1);
        return () => void inside.now--;
      },
    });
    const ids: string[] = [];
    for (let n = 0; n < 24; n++) {
      const secret = await one().newSecret(`cap/${n}`, await newLogin());
      ids.push(await one().begin(secret, { function: "SingleUser" }));
    }
    const limited = (world: World, node: string): EngineParts => {
      const parts = watched(world, seenBy(node));
      return { ...parts, settings: { ...parts.settings, perTarget: 3, warmUpMs: 0, settleMs: 20 } };
    };
    await using _first = startEngine(limited(one(), "one"));
    await using _second = startEngine(limited(two(), "two"));
    for (const id of ids) assert.equal((await one().ended(id)).state, "succeeded");
    assert.equal(inside.most, 3);
    assert.equal(nodes.size, 2, "both had a part in it");
  });

  test("a claim is one node's until it ends; whoever comes later outdates what the first still writes", async () => {
    const secret = await one().newSecret("claims", await newLogin());
    const id = await one().begin(secret, { function: "SingleUser" });
    const claim = async (node: string, nowMs: number) => {
      const due = { node, nowMs, untilMs: nowMs + 20_000, limit: 1 };
      const [claimed] = await one().sql.transaction((tx) => claimDue(tx, due));
      return claimed;
    };
    const at = Date.now();
    const first = await claim("one", at);
    assert.equal(first?.rotation.id, id);
    assert.equal(await claim("two", at + 19_999), undefined);
    assert.ok(await renewClaim(one().sql, first, at + 25_000));
    assert.equal(await claim("two", at + 20_000), undefined);
    const second = await claim("two", at + 25_000);
    assert.deepEqual([second?.takenOver, second?.fence], [true, first.fence + 1]);
    assert.equal(await renewClaim(one().sql, first, at + 90_000), false);
    const done = { ...first.rotation, state: "succeeded" } as const;
    assert.equal(await recordRotation(one().sql, done, first.fence), false);
    assert.equal((await one().rotationOf(id)).state, "running");
    assert.ok(second && (await recordRotation(one().sql, { ...done, state: "canceled" }, second.fence)));
  });

  test("of two that take one account in the same moment one is told no", async () => {
    const rotations = [];
    for (const name of ["race/1", "race/2"]) {
      const secret = await one().newSecret(name, await newLogin());
      rotations.push(await one().rotationOf(await one().begin(secret, { function: "SingleUser" })));
    }
    const answers = await Promise.all(
      rotations.map((rotation, n) =>
        (worlds[n] as World).sql
          .transaction(async (tx) => {
            const held = await holdAccount(tx, rotation, "postgres://h:1/u");
            if (!held) throw new Error("told no");
            await new Promise((resolve) => setTimeout(resolve, 50));
            return "held";
          })
          .catch((error: Error) => error.message),
      ),
    );
    assert.deepEqual(answers.sort(), ["held", "told no"]);
    assert.equal((await listRotations(one().sql, { state: "running", limit: 10 })).length, 2);
  });
});
