import { ServiceError } from "../core/error.ts";
import { type Asked, type Listed, mayDelete, type Named, type Retirement, straysOf } from "../core/retirement.ts";
import type { Intent } from "../core/rotation.ts";
import type { SecretVersion } from "../core/secret.ts";
import { openRetirements, ownRotations } from "../store/retirements.ts";
import type { AnyCredential } from "../targets/index.ts";
import type { Access, Issuer } from "../targets/target.ts";
import type { Held, Turn } from "./turn.ts";
import { type OpenedValue, openVersion, parseCredential } from "./values.ts";

/** What lives at a target for an account, and what of it the secret's versions name. */
export interface Inventory {
  readonly issuer: Issuer<AnyCredential>;
  readonly access: Access<AnyCredential>;
  readonly secretId: string;
  readonly listed: readonly Listed[];
  readonly named: readonly (Named & { readonly versionId: string })[];
  readonly open: readonly Retirement[];
}

/** `undefined` when the target cannot say what it holds. @throws RotatorError */
export async function takeInventory(
  held: Held,
  turn: Turn,
  issuer: Issuer<AnyCredential>,
  access: Access<AnyCredential>,
): Promise<Inventory | undefined> {
  const listed = await issuer.list(access, await held.tools());
  if (!listed) return undefined;
  const { open, named } = await namedBy(held, turn, issuer);
  return { issuer, access, secretId: turn.secret.id, listed, named, open };
}

/** Ids that the secret's versions name, and what waits to be ended. @throws ServiceError DecryptionFailure for a version in use */
export async function namedBy(
  { parts }: Held,
  { secret, rotator }: Turn,
  issuer: Issuer<AnyCredential>,
): Promise<Pick<Inventory, "named" | "open">> {
  const open = await openRetirements(parts.sql, secret.id);
  const dueAt = new Map(open.filter(({ what }) => what === "credential").map((each) => [each.versionId, each.dueAt]));
  const named: (Named & { versionId: string })[] = [];
  for (const version of secret.versions) {
    const used = version.stages.length > 0 || dueAt.has(version.id);
    const value = await openVersion(parts, secret, version.id).catch((error: unknown) => {
      if (used || !(error instanceof ServiceError)) throw error;
      return undefined;
    });
    const data = value && rotator.credential.safeParse(jsonOf(value, version)).data;
    if (data) named.push({ id: issuer.id(data), versionId: version.id, stages: version.stages, dueAt: dueAt.get(version.id) });
  }
  return { open, named };
}

/** A value of another shape names no credential. */
function jsonOf(value: OpenedValue, { id }: SecretVersion): AnyCredential | undefined {
  try {
    return parseCredential(value, `version ${id}`);
  } catch {
    return undefined;
  }
}

interface Looked {
  /** Of the rotation that looks. */
  readonly intent?: Intent | undefined;
  /** Rotations whose marks are left alone. */
  readonly spared?: readonly string[];
}

/** Deletes what this secret's rotations had made and did not come to store. Gives their ids. @throws RotatorError */
export async function deleteStrays(held: Held, inventory: Inventory, { intent, spared = [] }: Looked): Promise<string[]> {
  const { issuer, access, listed, named, open, secretId } = inventory;
  const { now, settings, sql } = held.parts;
  const marked = listed.flatMap(({ rotationId }) => rotationId ?? []);
  const rotationIds = new Set(await ownRotations(sql, secretId, marked));
  for (const id of spared) rotationIds.delete(id);
  const asked = { rotationIds, marks: issuer.marks === true, callMs: settings.callMs };
  const intents = [...(spared.length > 0 ? [] : [intent]), ...open.map((each) => each.intent)];
  const strays = new Set<string>();
  for (const each of [...intents, undefined]) {
    for (const id of straysOf(listed, { ...asked, intent: each } satisfies Asked, named)) strays.add(id);
  }
  for (const id of strays) if (mayDelete(id, named, now())) await issuer.delete(id, access, await held.tools());
  return [...strays];
}
