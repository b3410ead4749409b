// What a secret's rotation policy does at a real PostgreSQL.
import assert from "node:assert/strict";
import { randomInt } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { generatePassword, rotationPasswordOptions } from "../../src/core/password.ts";
import type { RotationPolicy } from "../../src/core/rotation-policy.ts";
import { planRotation } from "../../src/core/rotation-schedule.ts";
import type { Secret } from "../../src/core/secret.ts";
import { startEngine } from "../../src/engine/loop.ts";
import { migrate } from "../../src/store/migrate.ts";
import { listRotations } from "../../src/store/rotations.ts";
import { openSqlite } from "../../src/store/sqlite.ts";
import { functionArn, openWorld, owner, type World } from "../support/engine-world.ts";
import { type PostgresServer, postgresSkip, startPostgres } from "../support/postgres-server.ts";

describe("rotation policy", { skip: postgresSkip }, () => {
  let server: PostgresServer;
  let admin: pg.Client;
  let world: World;
  /** Calls that change or test, now and at most. */
  const calls = { now: 0, most: 0 };
  const folder = mkdtempSync(join(tmpdir(), "rekey-policy-"));

  before(async () => {
    server = await startPostgres();
    admin = new pg.Client(server.url);
    await admin.connect();
    const sql = openSqlite(join(folder, "rekey.db"));
    await migrate(sql);
    const opened = await openWorld(sql, { settings: { warmUpMs: 0 } });
    const counted = async <T>(call: () => Promise<T>): Promise<T> => {
      calls.most = Math.max(calls.most, ++calls.now);
      return call().finally(() => calls.now--);
    };
    const findRotator: typeof opened.parts.findRotator = async (kind) => {
      const rotator = await opened.parts.findRotator(kind);
      return (
        rotator && {
          ...rotator,
          set: (...given) => counted(() => rotator.set(...given)),
          test: (...given) => counted(() => rotator.test(...given)),
        }
      );
    };
    const real: World["parts"]["generatePassword"] = (asked) => generatePassword(rotationPasswordOptions(asked), randomInt);
    world = { ...opened, parts: { ...opened.parts, findRotator, generatePassword: real } };
  });
  after(async () => {
    await world.sql.close();
    await admin.end();
    await server[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true });
  });

  async function newSecret(username: string, rotationPolicy: RotationPolicy) {
    await admin.query(`create role ${username} login password 'first'`);
    const place = { engine: "postgres", host: server.host, port: server.port, ssl: false };
    return world.newSecret(username, { ...place, username, password: "first" }, { rotationPolicy });
  }

  test("new passwords have the shape that the policy asks for, beside the target's own", async () => {
    await using _engine = startEngine(world.parts);
    const shapes: [RotationPolicy["password"], RegExp][] = [
      [undefined, /^[A-Za-z0-9._-]{32}$/],
      [{ length: 48, exclude: "aeiouAEIOU01" }, /^[b-df-hj-np-tv-zB-DF-HJ-NP-TV-Z2-9._-]{48}$/],
      [{ length: 20, exclude: "._-" }, /^[A-Za-z0-9]{32}$/],
      [{ urlSafe: true }, /^[A-Za-z0-9._~-]{32}$/],
      [{ exclude: "0123456789._-" }, /^[A-Za-z]{32}$/],
    ];
    for (const [number, [password, form]] of shapes.entries()) {
      const secret = await newSecret(`shape_${number}`, { password });
      assert.equal((await world.ended(await world.begin(secret, { function: "SingleUser" }))).state, "succeeded");
      assert.match((await world.credential(secret, "AWSCURRENT"))?.password ?? "", form);
    }
  });

  test("maxPerTarget: fewer at once than the server allows", async () => {
    const ids: string[] = [];
    for (let number = 0; number < 12; number++) {
      const secret = await newSecret(`few_${number}`, { maxPerTarget: 2 });
      ids.push(await world.begin(secret, { function: "SingleUser" }));
    }
    calls.most = 0;
    await using _engine = startEngine(world.parts);
    for (const id of ids) assert.equal((await world.ended(id)).state, "succeeded");
    assert.equal(calls.most, 2);
  });

  test("what a schedule began is not tried in a blackout, and goes on when that is over", async () => {
    let atMs = Date.parse("2026-11-19T07:59:59.000Z");
    const rules = { scheduleExpression: "cron(0 7 * * ? *)", duration: "4h" };
    await admin.query("create role dark nologin password 'first'");
    const place = { engine: "postgres", host: server.host, port: server.port, ssl: false };
    const configured = {
      rotationEnabled: true,
      rotationFunctionArn: functionArn("SingleUser"),
      rotationPrincipal: owner,
      rotationPolicy: { blackouts: ["08:00-09:00", "10:30-12:00"], jitterSeconds: 0 },
      rotationRules: rules,
    };
    const credential = { ...place, username: "dark", password: "first" };
    const planned = planRotation({ ...configured, lastRotatedAt: undefined } as unknown as Secret, atMs - 3_600_000, 0);
    const { nextRotationAt, rotationDueAt } = planned;
    const secret = await world.newSecret("dark", credential, { ...configured, nextRotationAt, rotationDueAt });
    await using engine = startEngine({ ...world.parts, now: () => atMs, random: () => 0.99 });
    const untilTried = async (attempt: number) => {
      for (;;) {
        const [found] = await listRotations(world.sql, { secretArn: secret.arn, limit: 1 });
        if (found && (found.attempt >= attempt || found.state !== "running")) return found;
        await sleep(10);
      }
    };
    const first = await untilTried(1);
    assert.deepEqual([first.state, first.origin, first.runAt - atMs], ["running", "schedule", 990]);
    atMs = first.runAt;
    engine.wake();
    const second = await untilTried(2);
    assert.equal(new Date(second.runAt).toISOString(), "2026-11-19T09:00:00.000Z");
    assert.equal(new Date(second.windowEndsAt).toISOString(), "2026-11-19T10:30:00.000Z", "what comes after is dark");
    await admin.query("alter role dark login");
    atMs = second.runAt;
    engine.wake();
    assert.equal((await world.ended(second.id)).state, "succeeded");
  });
});
