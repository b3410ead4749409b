// A rotation logs in while its intent is made durable, but not where another one is at work at the account: the password in force
// may be that one's by then, and a refused login counts.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { startEngine } from "../../src/engine/loop.ts";
import { findRotator } from "../../src/targets/index.ts";
import { openWorld } from "../support/engine-world.ts";
import { onServer, until } from "../support/lease-world.ts";
import { type PostgresServer, postgresSkip, startPostgres } from "../support/postgres-server.ts";
import { forEachStore } from "../support/stores.ts";

describe("early logins", { skip: postgresSkip }, () => {
  let server: PostgresServer;
  before(async () => {
    server = await startPostgres();
  });
  after(() => server[Symbol.asyncDispose]());

  forEachStore((_dialect, open) => {
    test("there is none at an account that another rotation changes", async () => {
      const sql = await open();
      const opened = await openWorld(sql);
      const begun: string[] = [];
      const watched: typeof opened.parts.findRotator = async (kind) => {
        const rotator = await findRotator(kind);
        assert.equal(rotator?.logsInEarly, true);
        return {
          ...rotator,
          set(versions, strategy, tools) {
            begun.push(tools.rotationId);
            return rotator.set(versions, strategy, tools);
          },
        };
      };
      const world = { ...opened, parts: { ...opened.parts, findRotator: watched } };
      await onServer(server, "drop role if exists app");
      await onServer(server, "create role app login password 'first'");
      const login = { engine: "postgres", host: server.host, port: server.port, ssl: false, username: "app", password: "first" };
      const other = await world.begin(await world.newSecret("other", login), {});
      const account = `postgres://${server.host}:${server.port}/app`;
      const hours = Date.now() + 3_600_000;
      await sql.query("update rotations set target_account = $2, run_at = $3 where id = $1", [other, account, hours]);
      await using engine = startEngine(world.parts);
      const secret = await world.newSecret("one", login);
      const id = await world.begin(secret, {});
      engine.wake();
      await until("it waits", async () => /the same account/.test((await world.rotationOf(id)).error ?? ""));
      assert.deepEqual(begun, []);
      await sql.query("update rotations set target_account = null where id = $1", [other]);
      const { state, error } = await world.ended(id);
      assert.equal(state, "succeeded", error);
      assert.deepEqual(begun, [id]);
    });
  });
});
