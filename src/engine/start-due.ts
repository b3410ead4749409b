import { randomUUID } from "node:crypto";
import { planAfterMiss, planRotation, type Start, startOf } from "../core/rotation-schedule.ts";
import { addPending, isPending, versionWith } from "../core/secret.ts";
import { secretsDueForRotation } from "../store/due.ts";
import { addEvent } from "../store/events.ts";
import { abandonRotation, insertRotation } from "../store/rotations.ts";
import { changeSecret } from "../store/secrets.ts";
import type { Sql } from "../store/sql.ts";
import { notEnded, tellMissed } from "./missed.ts";
import type { EngineParts } from "./parts.ts";

const pageSize = 100;

/** Queues rotations of secrets whose schedule says so. True when there may be more. */
export async function startDueRotations(parts: EngineParts): Promise<boolean> {
  const due = await secretsDueForRotation(parts.sql, parts.now(), pageSize);
  let failure: unknown;
  for (const id of due) {
    try {
      await parts.sql.transaction((tx) => startOne(tx, id, parts));
    } catch (error) {
      // One secret that cannot be planned must not hold up all others.
      parts.log.error({ secretId: id }, "a scheduled rotation could not be started");
      failure ??= error;
    }
  }
  if (failure !== undefined) throw failure;
  return due.length === pageSize;
}

/** One rotation for each window, or one record of a window that was missed. A rotation that did not finish goes on under its own token. */
async function startOne(tx: Sql, secretId: string, { now, random }: EngineParts): Promise<void> {
  const nowMs = now();
  let start: Start | undefined;
  let begun: { versionId: string; unfinished: boolean } | undefined;
  const saved = await changeSecret(tx, secretId, (before) => {
    if (before.rotationDueAt === undefined || before.rotationDueAt > nowMs) return before; // another node was first
    const planned = planRotation(before, nowMs, random());
    if (!before.rotationEnabled || before.deletedAt !== undefined) return planned;
    start = startOf(before, nowMs, random());
    if (start.kind === "later") return { ...before, rotationDueAt: start.at };
    if (start.kind === "missed") return planAfterMiss(before, start, nowMs, random());
    const pending = versionWith(before, "AWSPENDING");
    const unfinished = pending !== undefined && isPending(before, pending.id);
    begun = { unfinished, versionId: unfinished ? pending.id : randomUUID() };
    return unfinished ? planned : addPending(planned, begun.versionId, nowMs);
  });
  if (!saved) return;
  if (start?.kind === "missed") await tellMissed(tx, saved, start, nowMs);
  if (start?.kind !== "now" || !begun) return;
  const { versionId, unfinished } = begun;
  if (!unfinished) await abandonRotation(tx, secretId, nowMs); // one whose AWSPENDING was taken away
  const configured = saved.rotationPrincipal;
  const queued = await insertRotation(tx, {
    id: randomUUID(),
    secretId,
    versionId,
    generation: saved.generation,
    origin: unfinished ? "retry" : "schedule",
    testOnly: false,
    functionArn: saved.rotationFunctionArn ?? "",
    principal: configured?.session?.arn ?? configured?.arn ?? "",
    runAt: nowMs,
    windowEndsAt: start.untilMs,
    startedAt: nowMs,
  });
  if (!queued) return tellMissed(tx, saved, { windowEndsAt: start.untilMs, windows: 1, reason: notEnded }, nowMs);
  const { arn: resource, generation } = saved;
  await addEvent(tx, { at: nowMs, type: "rotation.started", resource, generation, detail: { versionId } });
}
