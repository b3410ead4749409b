import { randomUUID } from "node:crypto";
import { planRotation } from "../core/rotation-schedule.ts";
import { addPending, isPending, type Secret, versionWith } from "../core/secret.ts";
import { secretsDueForRotation } from "../store/due.ts";
import { addEvent } from "../store/events.ts";
import { abandonRotation, insertRotation } from "../store/rotations.ts";
import { changeSecret } from "../store/secrets.ts";
import type { Sql } from "../store/sql.ts";
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
  let begun: { windowEndsAt: number; versionId: string; unfinished: boolean } | undefined;
  let missed: number | undefined;
  const saved = await changeSecret(tx, secretId, (before) => {
    if (before.rotationDueAt === undefined || before.rotationDueAt > nowMs) return before; // another node was first
    const planned = planRotation(before, nowMs, random());
    if (!before.rotationEnabled || before.deletedAt !== undefined) return planned;
    const windowEndsAt = endOfWindow(before, nowMs);
    if (windowEndsAt <= nowMs) {
      missed = windowEndsAt;
      return planned;
    }
    const pending = versionWith(before, "AWSPENDING");
    const unfinished = pending !== undefined && isPending(before, pending.id);
    begun = { windowEndsAt, unfinished, versionId: unfinished ? pending.id : randomUUID() };
    return unfinished ? planned : addPending(planned, begun.versionId, nowMs);
  });
  if (!saved) return;
  const event = { at: nowMs, resource: saved.arn, generation: saved.generation };
  if (missed !== undefined) await addEvent(tx, { ...event, type: "rotation.missed", detail: { windowEndsAt: missed } });
  if (!begun) return;
  const { versionId, windowEndsAt, unfinished } = begun;
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
    windowEndsAt,
    startedAt: nowMs,
  });
  if (queued) await addEvent(tx, { ...event, type: "rotation.started", detail: { versionId } });
}

/** The date that callers see is the last second of the window. */
function endOfWindow(secret: Secret, nowMs: number): number {
  return (secret.nextRotationAt ?? nowMs) + 1_000;
}
