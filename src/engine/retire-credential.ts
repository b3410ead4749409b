import { RotatorError } from "../core/error.ts";
import { mayDelete } from "../core/retirement.ts";
import { versionOf } from "../core/secret.ts";
import { wasIssued } from "../store/retirements.ts";
import type { AnyCredential } from "../targets/index.ts";
import type { Access, Issuer } from "../targets/target.ts";
import type { HeldRetirement } from "./held-retirement.ts";
import { deleteStrays, namedBy, takeInventory } from "./issued.ts";
import { suitable } from "./job-target.ts";
import { accessFor, accountOf, Blocked, Later, superuserForOwn, type Turn } from "./turn.ts";
import { credentialOf } from "./values.ts";

const namedPauseMs = 15 * 60_000;
const byHand = "End it at the target by hand, then call this off: rekey rotation keep SECRET VERSION";

/** Deletes what rotations had made at the target and no version holds. @throws RotatorError */
export async function endStrays(held: HeldRetirement, turn: Turn): Promise<void> {
  const { issuer } = turn.rotator;
  if (!issuer) return;
  const inventory = await takeInventory(held, turn, issuer, await accessFor(held, turn));
  if (inventory) await deleteStrays(held, inventory, { intent: held.retirement.intent });
}

/**
 * Ends the version's credential at the target, once the current one was seen to log in. One that has ended counts as done.
 * @throws RotatorError, Blocked, Later
 */
export async function endOld(held: HeldRetirement, turn: Turn): Promise<void> {
  const old = await oldCredential(held, turn);
  const answer = await turn.rotator.probe(turn.current, await held.tools());
  if (answer !== "ok") {
    throw new RotatorError(
      answer,
      `${turn.account}: the old credential is kept while the current one does not log in (${answer})`,
    );
  }
  const { issuer } = turn.rotator;
  if (turn.strategy === "issuer" && issuer) await deleteIssued(held, turn, issuer, old);
  else await endLogin(held, turn, old);
}

/** @throws Blocked when its end cannot be told from what the secret holds */
async function oldCredential(held: HeldRetirement, turn: Turn): Promise<AnyCredential> {
  const { secret, rotator, strategy, account } = turn;
  const { versionId } = held.retirement;
  const value = await credentialOf(held.parts, secret, versionOf(secret, versionId), `the value of version ${versionId}`);
  if (!value) throw new Blocked("invalid", "the version has no value any more", byHand);
  const old = suitable(rotator, value, `the value of version ${versionId}`);
  const its = accountOf(secret, rotator, old, strategy);
  if (its === account) return old;
  throw new Blocked("invalid", `the version is of ${its}, while the current one is of ${account}`, byHand);
}

async function deleteIssued(held: HeldRetirement, turn: Turn, issuer: Issuer<AnyCredential>, old: AnyCredential): Promise<void> {
  const id = issuer.id(old);
  const { named } = await namedBy(held, turn, issuer);
  // By evidence its deadline may be now, ahead of what is written.
  const own = held.retirement;
  const asDue = named.map((each) => (each.versionId === own.versionId ? { ...each, dueAt: own.dueAt } : each));
  if (!mayDelete(id, asDue, held.parts.now())) {
    throw new Later(
      namedPauseMs,
      `another version names ${id} as well`,
      "Take the labels of that version away, or wait for its own end.",
    );
  }
  const access = await accessFor(held, turn);
  if (await isOwn(held, { id, issuer, access, account: turn.account })) await issuer.delete(id, access, await held.tools());
}

/**
 * Whoever writes a secret could name anybody's credential in it, and have a superuser delete that: so it deletes what a
 * rotation of the secret made, and else only what the target says to be of the same account. False when that has none of this id. @throws Blocked
 */
async function isOwn(
  held: HeldRetirement,
  { id, issuer, access, account }: { id: string; issuer: Issuer<AnyCredential>; access: Access<AnyCredential>; account: string },
): Promise<boolean> {
  if (!access.admin || (await wasIssued(held.parts.sql, held.retirement, id))) return true;
  const listed = await issuer.list(access, await held.tools());
  if (listed) return listed.some((each) => each.id === id);
  throw new Blocked("denied", `${id} was put by hand, and the target cannot say whether it is of ${account}`, byHand);
}

/** Of two slots or users: what it refuses already has ended, and whatever took its place is left alone. */
async function endLogin(held: HeldRetirement, turn: Turn, old: AnyCredential): Promise<void> {
  const { rotator, strategy, account, current } = turn;
  const before = await rotator.probe(old, await held.tools());
  if (before === "refused") return;
  if (before !== "ok")
    throw new RotatorError(before, `${account}: it is not known whether the old credential still logs in (${before})`);
  if (!rotator.retire)
    throw new Blocked("invalid", `${rotator.kind} cannot end an old credential`, "End it at the target by hand.");
  const admin = await superuserForOwn(held, turn);
  await rotator.retire(old, { current, admin }, strategy, await held.tools());
  const after = await rotator.probe(old, await held.tools());
  if (after !== "refused")
    throw new RotatorError("unknown", `${account}: the old credential was ended, and yet it is not refused (${after})`);
}
