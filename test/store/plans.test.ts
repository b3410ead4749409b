import assert from "node:assert/strict";
import { test } from "node:test";
import { addRootCredentials } from "../../src/initialise.ts";
import { decideLogin, findLogin, findPolledLogin, insertLogin, takeLogin } from "../../src/store/cli-logins.ts";
import { findAccessKey, findToken, saveLastUses } from "../../src/store/credentials.ts";
import { outdatedDataKeys } from "../../src/store/data-keys.ts";
import { anyDue, nextDueAt, purgeDueSecrets, removeHistory, secretsDueForRotation, secretsInZones } from "../../src/store/due.ts";
import { groupsOf, groupUsers, removeFromGroup } from "../../src/store/group-members.ts";
import { findGroup } from "../../src/store/groups.ts";
import { insertIdentityToken, listOidcIdentities, type OidcIdentity } from "../../src/store/oidc-identities.ts";
import { findMember, memberships, projectMembers, removeMembership } from "../../src/store/project-members.ts";
import { callOffRetirements, findWaiting, giveUpIssuing, lastEventId } from "../../src/store/quarantine.ts";
import { dueReplicas } from "../../src/store/replicas.ts";
import { anyRetirementDue, claimRetirements, listRetirements, openRetirements, readsOf } from "../../src/store/retirements.ts";
import { type Claim, claimDue, enterTarget } from "../../src/store/rotation-claims.ts";
import { countSilentTargets, wakeWaiting } from "../../src/store/rotation-waits.ts";
import { listRotations } from "../../src/store/rotations.ts";
import { searchSecrets } from "../../src/store/secret-search.ts";
import { findServiceAccount, listServiceAccounts } from "../../src/store/service-accounts.ts";
import {
  deleteServiceToken,
  deleteServiceTokensOf,
  listServiceTokens,
  loadServiceToken,
} from "../../src/store/service-tokens.ts";
import type { Sql } from "../../src/store/sql.ts";
import {
  anyDeliveryDue,
  claimDeliveries,
  clearDeliveries,
  endDelivery,
  listDeliveries,
  postponeDelivery,
  queueWebhooks,
} from "../../src/store/webhook-deliveries.ts";
import { deleteWebhook, insertWebhook } from "../../src/store/webhooks.ts";
import { dataFolder } from "../support/audit.ts";
import { newConfig } from "../support/config-rows.ts";
import { account, region } from "../support/keys.ts";
import { type OperationsWorld, operationsWorld } from "../support/operations-world.ts";
import { fullScans, recording, smallTables } from "../support/plans.ts";
import { forEachStore } from "../support/stores.ts";

const token = (n: number) => `00000000-0000-4000-8000-00000000000${n}`;
const id = { SecretId: "a" };
const calls: [name: string, input: object][] = [
  ["CreateSecret", { Name: "a", ClientRequestToken: token(1), SecretString: "v", Tags: [{ Key: "k", Value: "v" }] }],
  ["PutSecretValue", { ...id, ClientRequestToken: token(2), SecretString: "w" }],
  ["GetSecretValue", id],
  ["GetSecretValue", { ...id, VersionId: token(1) }],
  ["DescribeSecret", id],
  ["UpdateSecret", { ...id, ClientRequestToken: token(3), Description: "d" }],
  ["UpdateSecretVersionStage", { ...id, VersionStage: "x", MoveToVersionId: token(1) }],
  ["ListSecretVersionIds", { ...id, IncludeDeprecated: true }],
  ["TagResource", { ...id, Tags: [{ Key: "x", Value: "v" }] }],
  ["BatchGetSecretValue", { SecretIdList: ["a"] }],
  ["ListSecrets", { Filters: [{ Key: "description", Values: ["d"] }] }],
  ["DeleteSecret", id],
  ["RestoreSecret", id],
  ["ReplicateSecretToRegions", { ...id, AddReplicaRegions: [{ Region: "us-west-2" }] }],
  ["RemoveRegionsFromReplication", { ...id, RemoveReplicaRegions: ["us-west-2"] }],
  ["DeleteSecret", { ...id, ForceDeleteWithoutRecovery: true }],
  ["CreateSecret", { Name: "b", ClientRequestToken: token(1), SecretString: "v" }],
];

async function askOperations(world: OperationsWorld): Promise<void> {
  for (const [name, input] of calls) await world.call(name, input);
  const { ARN } = await world.call("DescribeSecret", { SecretId: "b" });
  for (const SecretId of [ARN, String(ARN).slice(0, -7), `${ARN}x`, "c"])
    await world.call("DescribeSecret", { SecretId }).catch(() => undefined);
  await world.flushReads();
  await world.settleAudit();
}

async function askLists(sql: Sql, { services: { audit } }: OperationsWorld): Promise<void> {
  for (const query of [{}, { principal: "p" }, { action: "a", outcome: "ok" }, { resource: "r", from: 1, to: 2 }])
    await audit.search({ ...query, limit: 1 });
  const { cursor } = await audit.search({ limit: 1 });
  await audit.search({ cursor, limit: 1 });
  for (const sortBy of ["created_at", "last_accessed_at", "last_changed_at", "name"] as const) {
    const request = { region, includeDeleted: true, limit: 1, filters: [], sortBy };
    for (const descending of [true, false]) {
      await searchSecrets(sql, { ...request, descending });
      await searchSecrets(sql, { ...request, descending, namePrefix: "a" });
      await searchSecrets(sql, { ...request, descending, after: [sortBy === "name" ? "a" : 1, "id"] });
    }
  }
}

async function askCredentials(sql: Sql, { services: { keys, envelope } }: OperationsWorld): Promise<void> {
  const made = await addRootCredentials({ sql, keys, envelope, account, region, endpoint: "", now: Date.now }, false);
  await findAccessKey(sql, made.accessKeyId);
  await findToken(sql, "hash");
  await sql.transaction((tx) => saveLastUses(tx, { accessKeys: new Map([["id", 1]]), tokens: new Map([["id", 1]]) }));
}

async function askWatch(sql: Sql): Promise<void> {
  await anyDue(sql, "rotations", 1);
  await anyDue(sql, "purges", 1);
  await nextDueAt(sql);
  await secretsDueForRotation(sql, 1, 10);
  await dueReplicas(sql, 1, 10);
  await sql.transaction((tx) => purgeDueSecrets(tx, 1, 10));
  await removeHistory(sql, 1, 10);
  await wakeWaiting(sql, "target", 1);
  await countSilentTargets(sql);
  await secretsInZones(sql, "", 10);
  await lastEventId(sql);
  await findWaiting(sql, 1, 10);
  await sql.transaction((tx) => callOffRetirements(tx, 1, 10));
  await sql.transaction((tx) => giveUpIssuing(tx, 1, 10));
  await anyRetirementDue(sql, 1);
  await openRetirements(sql, "id");
  await readsOf(sql, "id", ["old", "now"]);
  for (const secretArn of ["arn", undefined]) {
    await listRetirements(sql, { secretArn, limit: 10 });
    await listRotations(sql, { secretArn, limit: 10 });
  }
  await sql.transaction((tx) => claimRetirements(tx, { node: "a", nowMs: 1, untilMs: 2, limit: 1 }));
  await sql.transaction((tx) => claimDue(tx, { node: "a", nowMs: 1, untilMs: 2, limit: 1 }));
  const claim = { rotation: { id: "id" }, fence: 1 } as Claim;
  await sql.transaction((tx) => enterTarget(tx, claim, { target: "t", most: 1, nowMs: 1 }));
  for (const table of ["versions", "access_keys", "functions"] as const)
    await outdatedDataKeys(sql, { table, keyId: "id", belowVersion: 2, after: undefined, limit: 10 });
}

/** Who may use configs, and who is told of changes. */
async function askAccess(sql: Sql): Promise<void> {
  await newConfig(sql, "shop", "dev", "dev");
  const configId = await newConfig(sql, "shop", "prd", "prd");
  const webhook = { projectId: "shop", name: "w", url: "https://a.example", enabled: true, configIds: undefined };
  await sql.transaction((tx) => insertWebhook(tx, { ...webhook, id: "w", payload: undefined, sealed: undefined, createdAt: 1 }));
  const diff = { added: [], removed: [], updated: ["A"] };
  await sql.transaction((tx) => queueWebhooks(tx, { projectId: "shop", configId, type: "t", diff, at: 1 }));
  await anyDeliveryDue(sql, 1);
  const [claimed] = await sql.transaction((tx) => claimDeliveries(tx, { node: "a", nowMs: 1, untilMs: 2, limit: 1 }));
  if (!claimed) throw new Error("nothing was queued");
  await postponeDelivery(sql, claimed, { runAt: 3, begun: true });
  await sql.transaction((tx) => endDelivery(tx, claimed, { outcome: "delivered", at: 4 }));
  await listDeliveries(sql, { webhookId: "w", limit: 10 });
  await clearDeliveries(sql, "w");
  await sql.transaction((tx) => deleteWebhook(tx, "shop", "w"));
  await loadServiceToken(sql, "id");
  await listServiceTokens(sql, configId);
  for (const by of [{ id: "id" }, { hash: "hash" }]) await sql.transaction((tx) => deleteServiceToken(tx, configId, by));
  await sql.transaction((tx) => deleteServiceTokensOf(tx, configId));
  await findServiceAccount(sql, "robot");
  await listServiceAccounts(sql, { after: "", limit: 10 });
  await memberships(sql, "arn");
  await projectMembers(sql, "shop", { after: "", limit: 100 });
  await findMember(sql, "shop", "arn");
  await sql.transaction((tx) => removeMembership(tx, "shop", "arn"));
  await findGroup(sql, "crew");
  await groupsOf(sql, "arn");
  await groupUsers(sql, "id", { after: "", limit: 100 });
  await sql.transaction((tx) => removeFromGroup(tx, "id", "arn"));
  await listOidcIdentities(sql, "arn");
  const token = { hash: "hash", id: "id", createdAt: 1, expiresAt: 2 };
  const identity = { id: "id", principalArn: "arn" } as OidcIdentity;
  await sql.transaction((tx) => insertIdentityToken(tx, identity, token, "other"));
  const login = { code: "c", pollingHash: "p", address: "a", about: {}, createdAt: 1, expiresAt: 2 };
  await sql.transaction((tx) => insertLogin(tx, login));
  await findLogin(sql, "c", 1);
  await findPolledLogin(sql, "p", 1);
  await sql.transaction((tx) => decideLogin(tx, "c", { state: "approved", principalArn: "arn", nowMs: 1 }));
  await sql.transaction((tx) => takeLogin(tx, "p"));
}

forEachStore((dialect, open) => {
  test("no statement of a request or of the engine's watch reads a whole table", async () => {
    const store = await open();
    const { sql, statements } = recording(store);
    await using world = await operationsWorld(sql, dataFolder());
    await askOperations(world);
    await askLists(sql, world);
    await askCredentials(sql, world);
    await askWatch(sql);
    await askAccess(sql);
    const scans: string[] = [];
    for (const text of statements) {
      if (smallTables.test(text)) continue;
      for (const step of await fullScans(store, text)) scans.push(`${step}: ${text}`);
    }
    assert.deepEqual(scans, []);
    assert.ok(statements.size > 60, `${statements.size} statements were seen`);
    const whole = "select id from secrets where description = 'x'";
    assert.notDeepEqual(await fullScans(store, whole), [], `${dialect} tells of a full scan`);
  });
});
