import { anyDue, purgeDueSecrets, removeHistory } from "../store/due.ts";
import { addEvent } from "../store/events.ts";
import type { EngineParts } from "./parts.ts";

/** Small enough that the versions and labels which go along stay few thousand rows at the very worst. */
const pageSize = 25;
const dayMs = 86_400_000;

/** Removes a page of secrets whose recovery window is over. True when there may be more. */
export async function purgePage({ sql, now }: EngineParts): Promise<boolean> {
  if (!(await anyDue(sql, "purges", now()))) return false;
  const purged = await sql.transaction(async (tx) => {
    const gone = await purgeDueSecrets(tx, now(), pageSize);
    for (const { arn, generation } of gone) {
      await addEvent(tx, { at: now(), type: "secret.removed", resource: arn, generation, detail: {} });
    }
    return gone.length;
  });
  return purged === pageSize;
}

const historyPage = 500;
const lookAtHistoryMs = 60_000;

/** Removes history that is older than the settings say, a page at a time, looking once a minute. */
export class History {
  readonly #parts: EngineParts;
  #nextAt = 0;

  constructor(parts: EngineParts) {
    this.#parts = parts;
  }

  /** True when there may be more. */
  async page(): Promise<boolean> {
    const { sql, now, settings } = this.#parts;
    if (now() < this.#nextAt) return false;
    const removed = await removeHistory(sql, now() - settings.historyDays * dayMs, historyPage);
    if (removed === historyPage) return true;
    this.#nextAt = now() + lookAtHistoryMs;
    return false;
  }
}
