import { type Evidence, evidenceOf, retireAfterMs } from "../core/retirement.ts";
import { type Secret, versionWith } from "../core/secret.ts";
import { readsOf } from "../store/retirements.ts";
import type { HeldRotation } from "./held-rotation.ts";
import type { EngineParts } from "./parts.ts";
import { Later, type Turn } from "./turn.ts";

/** How long evidence may hold a rotation up where the secret does not say after what time an old credential may end. */
const longestGraceMs = 24 * 3_600_000;
const lookAgainMs = 15 * 60_000;
const namesShown = 10;

/** Principals in words, the first ones by name. */
export function namesOf(principals: readonly string[]): string {
  const more = principals.length - namesShown;
  return principals.slice(0, namesShown).join(", ") + (more > 0 ? ` and ${more} more` : "");
}

/** Who read a version, and whether they have read the current one since. `sinceMs`: reads before that do not count. */
export async function evidence(
  { sql }: EngineParts,
  secret: Secret,
  versionId: string,
  sinceMs = Number.NEGATIVE_INFINITY,
): Promise<Evidence> {
  const current = versionWith(secret, "AWSCURRENT");
  if (!current) return { movedOn: [], behind: [] };
  const reads = await readsOf(sql, secret.id, [versionId, current.id]);
  const counted = reads.filter((read) => read.versionId === current.id || read.at > sinceMs);
  return evidenceOf(counted, versionId, current.id);
}

/**
 * Of two users or slots, the one that is overwritten next may still be in use: where the secret's policy goes by evidence,
 * the rotation waits until its readers have moved on or its time is up. @throws Later
 */
export async function requireLeft({ parts }: HeldRotation, { secret, strategy, account }: Turn): Promise<void> {
  if (strategy !== "alternating-users" && strategy !== "dual-slot") return;
  const [previous, current] = [versionWith(secret, "AWSPREVIOUS"), versionWith(secret, "AWSCURRENT")];
  if (!secret.rotationPolicy?.retireOnEvidence || !previous || !current) return;
  const sinceMs = secret.lastRotatedAt ?? current.createdAt;
  const leftMs = sinceMs + (retireAfterMs(strategy, secret) ?? longestGraceMs) - parts.now();
  if (leftMs <= 0) return;
  const { behind } = await evidence(parts, secret, previous.id, sinceMs);
  if (behind.length === 0) return;
  throw new Later(
    Math.min(leftMs, lookAgainMs),
    `${account}: the credential that comes next was read since the last rotation by ${namesOf(behind)}, who did not read the current one after that`,
    "Have them read the secret again, or let its policy end old credentials sooner (retireAfterSeconds).",
  );
}
