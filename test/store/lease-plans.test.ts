import assert from "node:assert/strict";
import { test } from "node:test";
import {
  dynamicSecretsOf,
  dynamicSecretsWith,
  findDynamicSecret,
  lockDynamicSecret,
  markDynamicSecretDeleted,
  rotatedSecretsWith,
} from "../../src/store/dynamic-secrets.ts";
import {
  externalIdsOf,
  findIntegration,
  type Integration,
  insertIntegration,
  isExternalId,
  listIntegrations,
  newestVersionTo,
  saveIntegration,
  takeExternalId,
} from "../../src/store/integrations.ts";
import {
  claimLease,
  dueLeasesOf,
  dueTargets,
  firstLeaseDueAt,
  hastenAllRevocations,
  hastenRevocations,
  recordEnded,
  recordMade,
  recordNotRevoked,
  releaseLeaseClaims,
  wantedLeases,
} from "../../src/store/lease-claims.ts";
import {
  deletedDynamicSecrets,
  doubtLeases,
  removeDynamicSecret,
  removeIntegrations,
  removeOldVersions,
} from "../../src/store/lease-house.ts";
import { anyOrphanLookDue, anySettings, hastenOrphanLook, queueOrphans, takeOrphanLooks } from "../../src/store/lease-orphans.ts";
import {
  answerLease,
  askRenewal,
  beginRevocation,
  beginRevocations,
  countLive,
  countLiveOf,
  dropShare,
  findLease,
  insertLease,
  leaseOfRequest,
  leaseToShare,
  leaseValue,
  listLeases,
} from "../../src/store/leases.ts";
import { managingUserOf } from "../../src/store/managing-users.ts";
import { account, region } from "../support/keys.ts";
import { fullScans, recording } from "../support/plans.ts";
import { forEachStore } from "../support/stores.ts";

const integration: Integration = { id: "i", name: "main", type: "postgres", version: 1, createdAt: 1, updatedAt: 1 };
const version = {
  id: "i/1",
  integrationId: "i",
  number: 1,
  settings: "{}",
  target: "t",
  sealed: Buffer.of(1),
  wrappedDataKey: Buffer.of(1),
  keyId: "k",
  keyVersion: 1,
};
const lease = {
  id: "l",
  dynamicSecretId: "d",
  dynamicSecret: "DB",
  project: "p",
  config: "c",
  type: "postgres",
  integrationId: "i",
  integrationVersion: "i/1",
  settings: "{}",
  name: "n",
  target: "t",
  principal: "a",
  workload: undefined,
  createdAt: 1,
  expiresAt: 100,
  maxExpiresAt: 100,
  shareUntil: undefined,
};

forEachStore((dialect, open) => {
  test("no statement on leases reads a whole table, whatever is due", async () => {
    const store = await open();
    const { sql, statements } = recording(store);
    const place = { region, account };
    await sql.transaction((tx) => insertIntegration(tx, integration, version));
    await findIntegration(sql, "main");
    await listIntegrations(sql, { after: "", limit: 10 });
    await newestVersionTo(sql, "i", "t");
    await isExternalId(sql, "x");
    await externalIdsOf(sql, "p", 5);
    await managingUserOf(sql, "s");
    await rotatedSecretsWith(sql, "i");
    await dynamicSecretsOf(sql, "c");
    await dynamicSecretsWith(sql, "i");
    await findDynamicSecret(sql, "c", "DB");
    await sql.transaction(async (tx) => {
      await takeExternalId(tx, "x", "i");
      await saveIntegration(tx, integration);
      await lockDynamicSecret(tx, "d");
      await markDynamicSecretDeleted(tx, "d", 1);
      await insertLease(tx, lease);
      await countLive(tx, lease);
      await countLive(tx, { ...lease, workload: "w" });
      await leaseToShare(tx, lease, { nowMs: 1, expiresFrom: 1 });
      await leaseOfRequest(tx, "h");
      const claim = await claimLease(tx, { id: "l", node: "a", nowMs: 1, untilMs: 2, most: 1 });
      if (claim === undefined || claim === "full") throw new Error("it could not be claimed");
      await recordMade(tx, claim, { ...version, handle: undefined, dueAt: 5 });
      await answerLease(tx, "l", 2);
      await askRenewal(tx, "l", 200, 3);
      await dropShare(tx, "l");
      await beginRevocation(tx, "l", "revoked", 4);
      for (const scope of [{ dynamicSecretId: "d" }, { principal: "a" }, { integrationId: "i" }])
        await beginRevocations(tx, scope, "revoked", 4);
      await recordNotRevoked(tx, claim, { outcome: "timeout", error: "e" }, { nowMs: 4, runAt: 5 });
      await recordEnded(tx, claim, { reason: "revoked", nowMs: 6 });
      await takeOrphanLooks(tx, { nowMs: 1, limit: 1, seed: 0 });
      await removeDynamicSecret(tx, "d");
      await removeIntegrations(tx, 10);
      await doubtLeases(tx, 1);
    });
    await leaseValue(sql, "l");
    await findLease(sql, "l");
    await countLiveOf(sql, "d");
    await listLeases(sql, { limit: 10 });
    await listLeases(sql, { limit: 10, user: "n", state: "ended" });
    await firstLeaseDueAt(sql);
    await wantedLeases(sql, 1, 10);
    await dueTargets(sql);
    await dueLeasesOf(sql, "t", { nowMs: 1, limit: 10, begunOnly: false });
    await dueLeasesOf(sql, "t", { nowMs: 1, limit: 10, begunOnly: true });
    await hastenRevocations(sql, "t", 1);
    await hastenAllRevocations(sql, 1);
    await releaseLeaseClaims(sql);
    await anyOrphanLookDue(sql, 1);
    await hastenOrphanLook(sql, "i", 1);
    await anySettings(sql, "i");
    await deletedDynamicSecrets(sql, "", 10);
    await queueOrphans(sql, place, { integration, version, users: [{ name: "n" }, { name: "m" }], settings: "{}" }, 1_000_000);
    // What other parts of the same statement have found, and rows without a table.
    const fine = /^SCAN (CONSTANT ROW|looked|e)\b/;
    const scans: string[] = [];
    for (const text of statements)
      for (const step of await fullScans(store, text)) if (!fine.test(step)) scans.push(`${step}: ${text}`);
    assert.deepEqual(scans, []);
    assert.ok(statements.size > 40, `${statements.size} statements were seen`);
  });

  test("what waits to be ended at a target is found beside a million that live there", {
    skip: dialect !== "sqlite",
  }, async () => {
    const store = await open();
    const { sql, statements } = recording(store);
    await hastenRevocations(sql, "t", 1);
    await sql.transaction((tx) => removeOldVersions(tx, 1, 10));
    const plans: string[] = [];
    for (const text of statements) {
      const places = text.match(/\$\d+/g) ?? [];
      const steps = await store.query<{ detail: string }>(`explain query plan ${text}`, Array(new Set(places).size).fill(null));
      plans.push(steps.map(({ detail }) => detail).join("; "));
    }
    assert.match(plans[0] ?? "", /USING INDEX leases_revoking \(target=\? AND due_at>\?\)/);
    assert.match(plans[1] ?? "", /leases_live_by_integration \(integration_id=\? AND target=\?\)/);
  });
});
