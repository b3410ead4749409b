import { RotatorError, ServiceError } from "../core/error.ts";
import type { Lease } from "../core/lease.ts";
import { findVersion, type IntegrationVersion, integrationVersionContext, newestVersionTo } from "../store/integrations.ts";
import type { LeaseTarget } from "../targets/lease-target.ts";
import type { EngineParts } from "./parts.ts";

/** A way to a target. */
export interface LeaseConnection {
  readonly version: IntegrationVersion;
  readonly connection: unknown;
}

/** The kind of target that a lease is at. @throws RotatorError `invalid` */
export async function targetOfKind(parts: EngineParts, type: string, network?: string): Promise<LeaseTarget> {
  const found = await parts.findLeaseTarget(type, network);
  if (!found) throw new RotatorError("invalid", `this version of Rekey cannot lease from ${type}`);
  return found;
}

/** @throws RotatorError `invalid` when this version of Rekey does not take them. */
export function settingsOf(target: LeaseTarget, settings: string): unknown {
  const parsed = target.settings.safeParse(JSON.parse(settings));
  if (parsed.success) return parsed.data;
  throw new RotatorError("invalid", `this version of Rekey does not take the settings of a ${target.kind} lease`);
}

/**
 * Ways to where the lease is, in the order in which they are worth to be tried: the integration as it is now, as far as it
 * still leads there, and as it was when the lease was asked for. @throws RotatorError `invalid` when there is none.
 */
export async function connectionsTo(parts: EngineParts, target: LeaseTarget, lease: Lease): Promise<LeaseConnection[]> {
  const born = await findVersion(parts.sql, lease.integrationVersion);
  // By the integration's own target: the lease may be in a network of its dynamic secret's.
  const newest = await newestVersionTo(parts.sql, lease.integrationId, born?.target ?? lease.target);
  const versions = [newest, newest?.id === born?.id ? undefined : born].filter((version) => version !== undefined);
  if (versions.length === 0) throw new RotatorError("invalid", "the integration that the lease came from is not known any more");
  return Promise.all(versions.map(async (version) => ({ version, connection: await openVersion(parts, target, version) })));
}

/** @throws RotatorError `invalid` or `denied` when it cannot be opened. */
export function openVersion(parts: EngineParts, target: LeaseTarget, version: IntegrationVersion): Promise<unknown> {
  return openData(parts, target, version, integrationVersionContext(version.id), JSON.parse(version.settings));
}

/** What is sealed of a way to a target, with what is not. @throws RotatorError likewise */
export async function openData(
  parts: EngineParts,
  target: LeaseTarget,
  sealed: Sealed,
  context: Record<string, string>,
  settings: object = {},
): Promise<unknown> {
  if (!parts.settings.ownsStore) await parts.keys.refresh(); // another node may have changed a key
  const secret = await open(parts, sealed, context);
  const parsed = target.connection.safeParse({ ...settings, ...secret });
  if (parsed.success) return parsed.data;
  throw new RotatorError("invalid", `this version of Rekey does not take the data of a ${target.kind} integration`);
}

type Sealed = Parameters<EngineParts["envelope"]["open"]>[0];

async function open(parts: EngineParts, sealed: Sealed, context: Record<string, string>): Promise<object> {
  try {
    return JSON.parse((await parts.envelope.open(sealed, context)).revealText());
  } catch (error) {
    if (error instanceof ServiceError && error.status < 500) throw new RotatorError("denied", `${error.code}: ${error.message}`);
    throw error;
  }
}
