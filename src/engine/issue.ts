import { type OutcomeClass, RotatorError } from "../core/error.ts";
import type { StepOutcome } from "../core/rotation.ts";
import type { AnyCredential } from "../targets/index.ts";
import type { Access, Issuer } from "../targets/target.ts";
import type { HeldRotation } from "./held-rotation.ts";
import { makeRoom } from "./issue-room.ts";
import { deleteStrays, type Inventory, takeInventory } from "./issued.ts";
import { suitable } from "./job-target.ts";
import { commitPending } from "./pending.ts";
import { accessFor, Blocked, Later, type Turn } from "./turn.ts";
import { credentialValue, type OpenedValue, parseCredential, sealVersion } from "./values.ts";

/** A call that was sent may be carried out a little after its deadline. */
const lateMs = 2_000;

/**
 * The rotation's credential, which the target makes once: what it holds is committed before it is asked, and its answer at
 * once. `made`: the value under the rotation's token, if there is one. @throws RotatorError, Blocked, Later
 */
export async function issuedCredential(held: HeldRotation, turn: Turn, made: OpenedValue | undefined): Promise<AnyCredential> {
  const { rotator } = turn;
  const { issuer } = rotator;
  if (!issuer) throw new RotatorError("invalid", `${rotator.kind} issues no credentials`);
  const pending = made ? storedCredential(held, turn, issuer, made) : await issueAnew(held, turn, issuer);
  if (made && held.rotation.step === "createSecret") {
    held.stepDone();
    await commitPending(held, turn, undefined, (before) => before);
  }
  held.givesUpAt = (held.rotation.intent?.lastAt ?? 0) + (issuer.settlesWithinMs ?? 0);
  return pending;
}

/** A new credential may be refused until all of the target knows it; one that still is when the window ends is ended and forgotten. */
export function isGivenUp({ rotation, givesUpAt, parts }: HeldRotation, outcome: StepOutcome): boolean {
  return rotation.step === "testSecret" && outcome.class === "refused" && givesUpAt !== undefined && parts.now() >= givesUpAt;
}

/** Anybody who may write the secret may put a value under the token: what the target did not answer is not the rotation's. */
function storedCredential(
  { rotation }: HeldRotation,
  { rotator }: Turn,
  issuer: Issuer<AnyCredential>,
  made: OpenedValue,
): AnyCredential {
  const pending = suitable(rotator, parseCredential(made, "the pending value"), "the pending value");
  if (rotation.intent?.issuedId === issuer.id(pending)) return pending;
  throw new Blocked(
    "invalid",
    "AWSPENDING holds a value that somebody put there, not one that the target issued",
    "Take the label AWSPENDING away from that version, or put its value as the current one; then rotate again.",
  );
}

async function issueAnew(held: HeldRotation, turn: Turn, issuer: Issuer<AnyCredential>): Promise<AnyCredential> {
  outwait(held);
  const access = await accessFor(held, turn);
  // What could not be stored is not asked for.
  await sealVersion(held.parts, turn.secret, held.rotation.versionId, credentialValue(turn.current));
  const before = await makeReady(held, turn, issuer, access);
  const earlier = held.rotation.intent;
  const nowMs = held.parts.now();
  held.rotation = {
    ...held.rotation,
    intent: {
      before: earlier ? earlier.before : before,
      firstAt: earlier?.firstAt ?? nowMs,
      lastAt: nowMs,
      doubtful: earlier !== undefined,
    },
  };
  await commitPending(held, turn, undefined, (unchanged) => unchanged);
  const issued = await ask(held, turn, issuer, access);
  const { intent } = held.rotation;
  held.rotation = { ...held.rotation, intent: intent && { ...intent, issuedId: issuer.id(issued) } };
  held.stepDone();
  await commitPending(held, turn, credentialValue(issued), (unchanged) => unchanged);
  return issued;
}

/** An earlier call may still be carried out: what it leaves is looked for only when it cannot any more. @throws Later */
function outwait({ rotation, parts }: HeldRotation): void {
  const { intent } = rotation;
  if (!intent || intent.issuedId !== undefined) return;
  const until = intent.lastAt + parts.settings.callMs + lateMs;
  if (until > parts.now())
    throw new Later(until - parts.now(), "an earlier request for a new credential may still be carried out");
}

/** Ids that live at the target before it is asked; `undefined` when it cannot say. */
async function makeReady(
  held: HeldRotation,
  turn: Turn,
  issuer: Issuer<AnyCredential>,
  access: Access<AnyCredential>,
): Promise<string[] | undefined> {
  const inventory = await takeInventory(held, turn, issuer, access);
  if (!inventory) {
    if (held.rotation.intent && !issuer.repeatable) held.note("unknown", orphanText(turn));
    return undefined;
  }
  const { intent, id, startedAt } = held.rotation;
  // A repeatable target answers with the same one again, if this very rotation asked for it.
  const askedBefore = issuer.repeatable && intent !== undefined && intent.lastAt >= startedAt ? [id] : [];
  const gone = new Set(await deleteStrays(held, inventory, { intent, spared: askedBefore }));
  const live = inventory.listed.filter((each) => !gone.has(each.id));
  const remaining: Inventory = { ...inventory, listed: live };
  const freed = await makeRoom(held, turn, remaining);
  return live.filter((each) => each.id !== freed).map((each) => each.id);
}

const orphanText = ({ account }: Turn): string =>
  `${account}: the target did not answer and cannot list: one credential that nobody knows may live there`;

async function ask(
  held: HeldRotation,
  turn: Turn,
  issuer: Issuer<AnyCredential>,
  access: Access<AnyCredential>,
): Promise<AnyCredential> {
  const { intent } = held.rotation;
  try {
    return await issuer.issue(access, await held.tools());
  } catch (error) {
    if (!(error instanceof RotatorError)) throw error;
    if (isDefinite(error.outcome)) {
      // Nothing was made: the rotation intends what it did before.
      held.rotation = { ...held.rotation, intent: intent?.doubtful ? intent : undefined };
      throw error;
    }
    if (intent?.before || issuer.repeatable) throw error;
    throw new RotatorError(error.outcome, `${error.message}; ${orphanText(turn)}`, { cause: error });
  }
}

/** Whether the target was not asked, or said no. */
function isDefinite(outcome: OutcomeClass): boolean {
  return outcome !== "unknown" && outcome !== "timeout";
}
