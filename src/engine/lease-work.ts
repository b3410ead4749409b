import { type OutcomeClass, RotatorError } from "../core/error.ts";
import { type Lease, leaseDueAt } from "../core/lease.ts";
import { Plaintext } from "../core/plaintext.ts";
import { installationId } from "../store/installation.ts";
import type { Failure } from "../store/lease-claims.ts";
import { hastenOrphanLook } from "../store/lease-orphans.ts";
import type { LeasedUser, LeaseTarget } from "../targets/lease-target.ts";
import type { HeldLease } from "./held-lease.ts";
import { connectionsTo, type LeaseConnection, settingsOf, targetOfKind } from "./lease-connection.ts";
import type { EngineParts } from "./parts.ts";

/** Makes the credential at its target. What came of it; it is recorded. */
export async function create(held: HeldLease): Promise<OutcomeClass> {
  const { parts, lease } = held;
  let called = false;
  try {
    const { target, settings, user, ways } = await prepare(held);
    const [way] = ways;
    if (!way) throw new RotatorError("invalid", "there is no way to the target");
    const tools = await held.tools(target.createMs);
    called = true;
    const { fields, handle } = await target.create(way.connection, settings, user, tools);
    const value = new Plaintext(JSON.stringify(fields));
    await held.made(value, { handle, keyId: way.version.keyId, dueAt: leaseDueAt(lease, parts.now()) });
    return "ok";
  } catch (error) {
    const failure = failureOf(parts, error, lease);
    // After a call whatever it may have left is looked for and ended.
    if (!called) await held.ended("failed", failure);
    else await held.notMade(failure);
    if (called && isDoubtful(failure.outcome)) await hastenOrphanLook(parts.sql, lease.integrationId, parts.now());
    return failure.outcome;
  }
}

/** Its effect may still come, after what is there was ended: then it is found. */
const isDoubtful = (outcome: OutcomeClass): boolean => outcome === "unknown" || outcome === "timeout";

/** Tells the target of the later end that was asked for. What came of it; it is recorded. */
export async function renew(held: HeldLease): Promise<OutcomeClass> {
  const { parts, lease } = held;
  const renewTo = lease.renewTo ?? lease.expiresAt;
  try {
    const { target, settings, user, ways } = await prepare(held);
    if (target.renew) {
      const later = { ...user, expiresAt: renewTo };
      await withFirst(ways, async ({ connection }) => target.renew?.(connection, settings, later, await held.tools()));
    }
    await held.renewed(renewTo);
    return "ok";
  } catch (error) {
    const failure = failureOf(parts, error, lease);
    await held.notRenewed(failure);
    return failure.outcome;
  }
}

/** Ends it at its target. What came of it; it is recorded. `undefined`: the target was not asked. */
export async function revoke(held: HeldLease): Promise<OutcomeClass | undefined> {
  const { parts, lease } = held;
  const reason = lease.reason ?? "revoked";
  try {
    const { target, settings, user, ways } = await prepare(held);
    if (!target.revocable) {
      await (lease.expiresAt > parts.now() ? held.later(lease.expiresAt) : held.ended(reason));
      return undefined;
    }
    await withFirst(ways, async ({ connection }) => target.revoke(connection, settings, user, await held.tools()));
  } catch (error) {
    const failure = failureOf(parts, error, lease);
    await held.notRevoked(failure);
    return failure.outcome;
  }
  await held.ended(reason);
  return "ok";
}

interface Prepared {
  readonly target: LeaseTarget;
  readonly settings: unknown;
  readonly user: LeasedUser;
  readonly ways: readonly LeaseConnection[];
}

async function prepare({ parts, lease }: HeldLease): Promise<Prepared> {
  const target = await targetOfKind(parts, lease.type, lease.network);
  const settings = settingsOf(target, lease.settings);
  const ways = await connectionsTo(parts, target, lease);
  const mark = { installation: await installationId(parts.sql), leaseId: lease.id, secretName: lease.dynamicSecret };
  return { target, settings, ways, user: { mark, name: lease.name, handle: lease.handle, expiresAt: lease.expiresAt } };
}

/** What another managing user may still be let do. */
const ofTheUser: ReadonlySet<OutcomeClass> = new Set(["refused", "locked", "expired", "denied", "tls", "invalid"]);

/** Over the first way that does it; each further one only when the one before was turned away. */
async function withFirst(ways: readonly LeaseConnection[], work: (way: LeaseConnection) => Promise<unknown>): Promise<void> {
  let failure: unknown;
  for (const way of ways) {
    try {
      await work(way);
      return;
    } catch (error) {
      failure ??= error;
      if (!(error instanceof RotatorError) || !ofTheUser.has(error.outcome)) throw error;
    }
  }
  throw failure;
}

function failureOf(parts: EngineParts, error: unknown, { id }: Lease): Failure {
  if (error instanceof RotatorError) return { outcome: error.outcome, error: error.message };
  parts.log.error({ err: error, leaseId: id }, "a lease met an internal error");
  return { outcome: "unknown", error: "internal error: see the log" };
}
