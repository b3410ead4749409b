import { RotatorError } from "../core/error.ts";
import { mayDelete } from "../core/retirement.ts";
import type { HeldRotation } from "./held-rotation.ts";
import type { Inventory } from "./issued.ts";
import { Blocked, Later, type Turn } from "./turn.ts";

const longestWaitMs = 15 * 60_000;

/**
 * Where the target keeps no more for the account, ends the credential whose retirement is due. Never one that Rekey does not
 * know, and none before its deadline. Gives its id; `undefined` when there is room. @throws Later, Blocked
 */
export async function makeRoom(held: HeldRotation, turn: Turn, inventory: Inventory): Promise<string | undefined> {
  const { issuer, access, listed, named } = inventory;
  if (issuer.most === undefined || listed.length < issuer.most) return undefined;
  const nowMs = held.parts.now();
  const live = new Set(listed.map(({ id }) => id));
  const ending = named
    .flatMap(({ dueAt, ...each }) => (dueAt === undefined || !live.has(each.id) ? [] : [{ ...each, dueAt }]))
    .sort((a, b) => a.dueAt - b.dueAt);
  const due = ending.find(({ id }) => mayDelete(id, named, nowMs));
  const full = `${turn.account} has ${listed.length} of at most ${issuer.most} credentials`;
  if (due) {
    const answer = await turn.rotator.probe(turn.current, await held.tools());
    if (answer !== "ok") throw new RotatorError(answer, `${full}, and none is ended while the current one does not log in`);
    await issuer.delete(due.id, access, await held.tools());
    return due.id;
  }
  const next = ending.find(({ dueAt }) => dueAt > nowMs);
  if (next) return waitFor(held, turn, next, full);
  const unknown = listed.filter(({ id }) => !named.some((each) => each.id === id)).map(({ id }) => id);
  if (unknown.length > 0) {
    const remedy = `Delete ${unknown.join(" or ")} at the target once nothing uses it: Rekey does not know it, and never deletes what it does not know.`;
    throw new Blocked("invalid", `${full}, of which ${unknown.join(", ")} is not known to Rekey`, remedy);
  }
  const kept = named.find(({ id, stages }) => live.has(id) && !stages.includes("AWSCURRENT"));
  throw new Blocked(
    "invalid",
    `${full}, all of which versions of the secret name${kept ? `: ${kept.id} is that of version ${kept.versionId}` : ""}`,
    kept
      ? `End the old one at once: rekey rotation retire ${turn.secret.name} ${kept.versionId} --now`
      : "Let the target keep one credential more for the account.",
  );
}

function waitFor(
  { parts, rotation }: HeldRotation,
  { secret }: Turn,
  { id, versionId, dueAt }: { id: string; versionId: string; dueAt: number },
  full: string,
): never {
  const why = `${full}, of which ${id} is in its grace period until ${new Date(dueAt).toISOString()}`;
  const remedy = `Wait for that, or end it at once: rekey rotation retire ${secret.name} ${versionId} --now`;
  if (dueAt > rotation.windowEndsAt) throw new Blocked("invalid", why, remedy);
  throw new Later(Math.min(dueAt - parts.now(), longestWaitMs), why, remedy);
}
