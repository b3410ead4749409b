import { randomUUID } from "node:crypto";
import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import { type Lease, leaseLimits } from "../../core/lease.ts";
import { keyMoved } from "../../core/network.ts";
import { type DynamicSecret, lockDynamicSecret } from "../../store/dynamic-secrets.ts";
import { installationId } from "../../store/installation.ts";
import { type Integration, loadIntegration, newestVersion } from "../../store/integrations.ts";
import { noteLease } from "../../store/lease-events.ts";
import {
  addShare,
  answerLease,
  beginRevocation,
  countLive,
  dropShare,
  findLease,
  insertLease,
  leaseContext,
  leaseOfRequest,
  leaseToShare,
  leaseValue,
} from "../../store/leases.ts";
import { findQuarantine } from "../../store/quarantine.ts";
import type { Sql } from "../../store/sql.ts";
import type { LeaseTarget } from "../../targets/lease-target.ts";
import { refuseUntrusted } from "../config-access/trusted-ips.ts";
import { who } from "../configs/activity.ts";
import { existingConfig } from "../configs/config-resource.ts";
import { clientRequestToken } from "../input.ts";
import { type Call, defineOperation } from "../operation.ts";
import { parseMembers, targetOf } from "./connection.ts";
import {
  configMembers,
  type DynamicSecretResource,
  dynamicSecretName,
  dynamicSecretResource,
  existing,
  ttlSeconds,
  workload,
} from "./dynamic-secret-input.ts";
import { shownLease } from "./lease-shown.ts";

/** Longest that a caller waits, on top of what the target is known to take. */
const waitMs = 30_000;
const lookAgainMs = 250;

interface Asked {
  readonly ttlSeconds?: number | undefined;
  /** Who of the principal's programs asks: leases are shared and counted by it. */
  readonly workload?: string | undefined;
  /** The same one again gives the same lease. */
  readonly token?: string | undefined;
}

/** What a lease is made from. */
interface Recipe {
  readonly secret: DynamicSecret;
  readonly integration: Integration;
  readonly target: LeaseTarget;
}

/** A lease that is being made, or was there. */
interface Begun {
  readonly lease: Lease;
  readonly recipe: Recipe;
  /** Made for this call, so that it is ended when the call fails. */
  readonly isOwn: boolean;
  readonly isShared: boolean;
}

/** A lease, and what it gives. */
interface Issued {
  readonly lease: Lease;
  /** `{ USERNAME, PASSWORD, … }` */
  readonly fields: Readonly<Record<string, string>>;
  /** Hands it out, in the transaction of the answer: a lease that nobody took is ended. @throws ServiceError when it is gone */
  finish(tx: Sql): Promise<Lease>;
}

/**
 * Issues a lease of each dynamic secret of a config, for an answer that holds them all. The caller has seen that
 * `rekey:IssueLease` is allowed, and calls `finish` in its transaction; when anything fails, none of them stays.
 * @throws ServiceError ThrottlingException, LimitExceededException, ValidationException, InvalidRequestException
 */
export async function issueLeases(
  call: Call,
  dynamicSecrets: readonly DynamicSecret[],
  asked: Omit<Asked, "token">,
): Promise<{ readonly fields: Record<string, string>; finish(tx: Sql): Promise<void> }> {
  const settled = await Promise.allSettled(dynamicSecrets.map((secret) => issue(call, secret, asked)));
  const issued = settled.flatMap((each) => (each.status === "fulfilled" ? [each.value] : []));
  const failed = settled.find((each) => each.status === "rejected");
  if (failed) {
    await Promise.all(issued.map((each) => each.giveUp()));
    throw failed.reason;
  }
  const entries = issued.flatMap(({ lease, fields }) => [
    ...Object.entries(fields).map(([field, value]) => [`${lease.dynamicSecret}_${field}`, value] as const),
    [`${lease.dynamicSecret}_LEASE_ID`, lease.id] as const,
    [`${lease.dynamicSecret}_LEASE_EXPIRATION`, new Date(lease.expiresAt).toISOString()] as const,
  ]);
  return {
    fields: Object.fromEntries(entries),
    async finish(tx) {
      for (const each of issued) await each.finish(tx);
    },
  };
}

async function issue(call: Call, secret: DynamicSecret, asked: Asked): Promise<Issued & { giveUp(): Promise<void> }> {
  const { services } = call;
  const recipe = await recipeOf(call, secret);
  const begun = await begin(call, recipe, asked);
  services.wakeEngine();
  const giveUp = async () => {
    const { lease, isOwn, isShared } = begun;
    if (isShared) await services.sql.transaction((tx) => dropShare(tx, lease.id));
    if (!isOwn) return;
    await services.sql.transaction((tx) => beginRevocation(tx, lease.id, "unanswered", services.now()));
    services.wakeEngine();
  };
  try {
    const lease = await active(call, begun);
    const value = await leaseValue(services.sql, lease.id);
    if (!value) throw gone(secret.name);
    const opened = await services.envelope.open(value, leaseContext(lease.id));
    const finish = (tx: Sql) => handOut(tx, call, begun);
    return { lease, fields: JSON.parse(opened.revealText()), finish, giveUp };
  } catch (error) {
    await giveUp();
    throw error;
  }
}

async function recipeOf({ sql, services }: Call, secret: DynamicSecret): Promise<Recipe> {
  const integration = await loadIntegration(sql, secret.integrationId);
  if (!integration || integration.deletedAt !== undefined) throw gone(secret.name);
  return { secret, integration, target: await targetOf(services, integration.type) };
}

/** On record before anything is done at the target; counts and inserts as one. */
async function begin(call: Call, recipe: Recipe, asked: Asked): Promise<Begun> {
  const { services, principal } = call;
  const { secret, integration, target } = recipe;
  const seconds = ttlOf(recipe, asked);
  const version = await newestVersion(services.sql, integration);
  if (!version) throw gone(secret.name);
  const [id, installation] = [randomUUID(), await installationId(services.sql)];
  const settings = parseMembers(target.settings, JSON.parse(secret.settings), "Settings");
  const name = target.name(settings, { installation, leaseId: id, secretName: secret.name });
  const requestHash = asked.token === undefined ? undefined : hashOf(call, secret, asked.token);
  const of = { dynamicSecretId: secret.id, principal: principal.arn, workload: asked.workload };
  const shareMs = asked.workload === undefined ? 0 : secret.shareSeconds * 1_000;
  const put = async (tx: Sql): Promise<Begun> => {
    const nowMs = services.now();
    const expiresAt = nowMs + seconds * 1_000;
    if (!(await lockDynamicSecret(tx, secret.id))) throw gone(secret.name);
    await requireNoQuarantine(tx);
    const before = requestHash === undefined ? undefined : await leaseOfRequest(tx, requestHash);
    if (before) return { lease: before, recipe, isOwn: false, isShared: false };
    const shared = shareMs === 0 ? undefined : await leaseToShare(tx, of, { nowMs, expiresFrom: expiresAt - shareMs });
    if (shared) {
      await addShare(tx, shared.id);
      return { lease: shared, recipe, isOwn: false, isShared: true };
    }
    await requireRoom(tx, recipe, of);
    const lease = await insertLease(tx, {
      id,
      ...of,
      dynamicSecret: secret.name,
      project: secret.project,
      config: secret.config,
      type: integration.type,
      integrationId: integration.id,
      integrationVersion: version.id,
      settings: secret.settings,
      name,
      network: secret.network ?? version.network,
      target: secret.network === undefined ? version.target : keyMoved(version.target, version.network, secret.network),
      createdAt: nowMs,
      expiresAt,
      maxExpiresAt: nowMs + mostSeconds(recipe) * 1_000,
      shareUntil: shareMs === 0 ? undefined : nowMs + shareMs,
      requestHash,
    });
    return { lease, recipe, isOwn: true, isShared: false };
  };
  // The engine's claim, which is durable before anything is done, makes this so too; until then nobody is told of it.
  return services.sql.transaction(put, { durable: false });
}

/** It would be left waiting: nothing is done at targets. @throws ServiceError InvalidRequestException */
export async function requireNoQuarantine(tx: Sql): Promise<void> {
  if (await findQuarantine(tx))
    throw new ServiceError("InvalidRequestException", "This store is quarantined after a restore: see rekey quarantine plan.");
}

const mostSeconds = ({ secret, target }: Recipe): number =>
  Math.min(secret.maxTtlSeconds, target.maxTtlSeconds ?? leaseLimits.ttl.most);

function ttlOf(recipe: Recipe, asked: Asked): number {
  const most = mostSeconds(recipe);
  const { name, defaultTtlSeconds } = recipe.secret;
  const seconds = asked.ttlSeconds ?? Math.min(defaultTtlSeconds, most);
  if (seconds >= leaseLimits.ttl.least && seconds <= most) return seconds;
  throw new ServiceError(
    "ValidationException",
    `A lease of ${name} may live for ${leaseLimits.ttl.least} to ${most} seconds, not ${seconds}.`,
  );
}

/** Kept in place of the token, which is the caller's own: another one's does not meet it. */
function hashOf({ services, principal }: Call, { id }: DynamicSecret, token: string): string {
  return Buffer.from(services.digest(Buffer.from(token), `lease ${principal.arn} ${id}`)).toString("base64url");
}

async function requireRoom(
  tx: Sql,
  { secret }: Recipe,
  of: { readonly dynamicSecretId: string; readonly principal: string; readonly workload: string | undefined },
): Promise<void> {
  const live = await countLive(tx, of);
  const { name, maxLeases, maxLeasesPerPrincipal } = secret;
  if (live.own >= maxLeasesPerPrincipal)
    throw new ServiceError(
      "ThrottlingException",
      `${of.workload === undefined ? of.principal : `Workload ${of.workload}`} holds ${live.own} leases of ${name}, as many as it may. ` +
        `A program that starts again and again? Have it revoke its lease when it ends, renew it instead of issuing another, ` +
        `ask for a shorter life, or share it (ShareSeconds); MaxLeasesPerPrincipal of ${name} allows more.`,
    );
  if (live.all >= maxLeases)
    throw new ServiceError(
      "LimitExceededException",
      `${live.all} leases of ${name} live, as many as it may have: revoke some, or raise its MaxLeases.`,
    );
}

/** Waits, within bounds, until it is at the target. @throws ServiceError when it could not be made */
async function active(call: Call, { lease: { id }, recipe }: Begun): Promise<Lease> {
  const { sql, hints } = call.services;
  const until = performance.now() + Math.max(waitMs, (recipe.target.createMs ?? 0) + waitMs / 2);
  for (;;) {
    const told = hints.wait(`lease/${id}`, lookAgainMs); // before the look: nothing is missed in between
    const lease = await findLease(sql, id);
    if (!lease) throw gone(recipe.secret.name);
    if (lease.state === "active") return lease;
    if (lease.state !== "creating") throw notMade(recipe, lease);
    if (performance.now() >= until)
      throw new ServiceError(
        "InvalidRequestException",
        `No lease of ${recipe.secret.name} was made in time: is ${lease.target} slow, or does no engine run? What was begun is ended.`,
      );
    await told;
  }
}

function notMade({ secret }: Recipe, { error }: Lease): ServiceError {
  return new ServiceError(
    "InvalidRequestException",
    `No lease of ${secret.name} could be made: ${(error ?? "it was revoked meanwhile").replace(/\.$/, "")}. What was begun is ended.`,
  );
}

function gone(name: string): ServiceError {
  return new ServiceError(
    "InvalidRequestException",
    `Dynamic secret ${name} or its lease was deleted or revoked meanwhile; look and try again.`,
  );
}

async function handOut(tx: Sql, call: Call, { lease: { id }, recipe }: Begun): Promise<Lease> {
  const { services } = call;
  const lease = await answerLease(tx, id, services.now());
  if (!lease) throw gone(recipe.secret.name);
  const { principal: arn, principalName: name } = who(call);
  const detail = { shares: lease.shares, expiresAt: lease.expiresAt };
  await noteLease(tx, services, lease, { event: "issued", at: services.now(), by: { arn, name }, detail });
  return lease;
}

const issueInput = z.object({
  ...configMembers,
  DynamicSecret: dynamicSecretName,
  TtlSeconds: ttlSeconds.optional(),
  Workload: workload.optional(),
  ClientRequestToken: clientRequestToken,
});

export const issueLease = defineOperation<z.infer<typeof issueInput>, DynamicSecretResource>({
  name: "IssueLease",
  action: "rekey:IssueLease",
  noun: "leases",
  verb: "issue",
  mode: "write",
  summary: "Makes a credential that ends by itself; the same ClientRequestToken again gives the same one while it lives.",
  input: issueInput,
  resource: ({ Project, Config, DynamicSecret }, call) => dynamicSecretResource({ Project, Config, Name: DynamicSecret }, call),
  async run({ TtlSeconds, Workload, ClientRequestToken }, found, call) {
    const secret = existing(found);
    refuseUntrusted(call, existingConfig(found));
    const asked = { ttlSeconds: TtlSeconds, workload: Workload, token: ClientRequestToken };
    const issued = await issue(call, secret, asked);
    const lease = await call
      .transaction((tx) => issued.finish(tx))
      .catch(async (error: unknown) => {
        await issued.giveUp();
        throw error;
      });
    return { Lease: shownLease(lease, call), Fields: issued.fields };
  },
});
