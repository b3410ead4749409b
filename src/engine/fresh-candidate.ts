import { randomUUID } from "node:crypto";
import type { UnfitCredential } from "../core/error.ts";
import { addPending, detach, isPending, type Secret } from "../core/secret.ts";
import { addEvent } from "../store/events.ts";
import { countAbandoned, insertRotation, noteFollower } from "../store/rotations.ts";
import { type HeldRotation, Superseded } from "./held-rotation.ts";

/** In one window. What its target refuses so often, its target refuses for good. */
const mostCandidates = 3;

/**
 * A version's value never changes, so that one which the target's rules refuse is given up: the rotation ends as abandoned, and
 * the next one, with a version of its own, begins in its place at once. False, and nothing done, when enough were tried.
 * @throws Superseded
 */
export async function startAnew(held: HeldRotation, refusal: UnfitCredential): Promise<boolean> {
  const { parts, rotation } = held;
  const { secretId, windowEndsAt, generation, functionArn, principal } = rotation;
  const nowMs = parts.now();
  if (rotation.step !== "setSecret" || nowMs >= windowEndsAt) return false;
  if ((await countAbandoned(parts.sql, secretId, windowEndsAt)) >= mostCandidates - 1) return false;
  const [id, versionId] = [randomUUID(), randomUUID()];
  const origin = rotation.origin === "schedule" ? "schedule" : "request";
  held.rotation = {
    ...rotation,
    state: "abandoned",
    endedAt: nowMs,
    lastStepAt: nowMs,
    outcome: refusal.outcome,
    error: refusal.message,
  };
  let resource = "";
  await held.commit({
    event: "rotation.abandoned",
    secret: (before) => {
      if (!isPending(before, rotation.versionId)) throw new Superseded();
      resource = before.arn;
      return addPending(atRest(detach(before, "AWSPENDING")), versionId, nowMs);
    },
    async also(tx) {
      const times = { startedAt: nowMs, runAt: nowMs, windowEndsAt };
      await insertRotation(tx, {
        id,
        secretId,
        versionId,
        generation,
        origin,
        testOnly: false,
        functionArn,
        principal,
        follows: rotation.versionId,
        ...times,
      });
      await noteFollower(tx, rotation.id, versionId);
      await addEvent(tx, { at: nowMs, type: "rotation.started", resource, generation, detail: { versionId, origin } });
    },
  });
  return true;
}

/** Nothing was switched, and nobody waits for it. */
const atRest = (secret: Secret): Secret => ({ ...secret, switchingUntil: undefined, switchedTo: undefined });
