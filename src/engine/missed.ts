import type { Missed } from "../core/rotation-schedule.ts";
import type { Secret } from "../core/secret.ts";
import { addEvent } from "../store/events.ts";
import type { Sql } from "../store/sql.ts";

/** Why a window goes by while a rotation runs. */
export const notEnded = "the rotation before had not ended";

/** On record once: windows of a secret's schedule in which no rotation began. */
export async function tellMissed(tx: Sql, secret: Secret, missed: Omit<Missed, "kind">, nowMs: number): Promise<void> {
  const { windowEndsAt, windows, reason } = missed;
  const { arn: resource, generation } = secret;
  await addEvent(tx, { at: nowMs, type: "rotation.missed", resource, generation, detail: { windowEndsAt, windows, reason } });
}
