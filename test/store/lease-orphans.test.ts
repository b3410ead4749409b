// Whoever brings a target of their own says what users are there: that must end nothing anywhere else.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { queueOrphans } from "../../src/store/lease-orphans.ts";
import { findLease, insertLease } from "../../src/store/leases.ts";
import { account, region } from "../support/keys.ts";
import { forEachStore } from "../support/stores.ts";

const place = { account, region };
const integration = (id: string) => ({ id, name: id, type: "http-api", version: 1, createdAt: 0, updatedAt: 0 });
const version = (id: string, target: string) => ({
  id: `${id}/1`,
  integrationId: id,
  number: 1,
  settings: "{}",
  target,
  sealed: new Uint8Array(),
  wrappedDataKey: new Uint8Array(),
  keyId: "k",
  keyVersion: 1,
});

forEachStore((_name, open) => {
  test("a lease of another integration is not begun to end again, nor told of an id that a stranger chose", async () => {
    const sql = await open();
    const id = randomUUID();
    const name = `rekey-abcd1234-${id}`;
    const at = (target: string) => ({ integrationId: "theirs", integrationVersion: "theirs/1", target });
    await sql.transaction((tx) =>
      insertLease(tx, {
        ...at("http-api://api.example"),
        id,
        dynamicSecretId: "d",
        dynamicSecret: "KEY",
        project: "p",
        config: "dev",
        type: "http-api",
        settings: "{}",
        name,
        principal: "somebody",
        workload: undefined,
        createdAt: 1,
        expiresAt: 2,
        maxExpiresAt: 2,
        shareUntil: undefined,
      }),
    );
    await sql.query("update leases set state = 'ended', ended_at = 3, due_at = null, handle = 'the-right-one' where id = $1", [
      id,
    ]);
    const users = [{ name, handle: "a-key-of-somebody-else" }];
    const look = (integrationId: string, target: string) =>
      queueOrphans(
        sql,
        place,
        { integration: integration(integrationId), version: version(integrationId, target), users, settings: "{}" },
        Date.now(),
      );
    for (const target of ["http-api://attacker.example", "http-api://api.example"]) {
      const { queued } = await look("mine", target);
      const lease = await findLease(sql, id);
      assert.deepEqual([lease?.state, lease?.handle], ["ended", "the-right-one"]);
      const [made] = await Promise.all(queued.map(({ leaseId }) => findLease(sql, leaseId)));
      assert.deepEqual([made?.integrationId, made?.target, made?.handle], ["mine", target, "a-key-of-somebody-else"]);
      await sql.query("update leases set state = 'ended', ended_at = 4, due_at = null where integration_id = 'mine'");
    }
    const { queued } = await look("theirs", "http-api://api.example");
    assert.deepEqual(queued, [{ leaseId: id, name }]);
  });
});
