import { deletedDynamicSecrets, removeDynamicSecret, removeIntegrations, removeOldVersions } from "../store/lease-house.ts";
import { beginRevocations } from "../store/leases.ts";
import type { EngineParts } from "./parts.ts";

const lookEveryMs = 5_000;
const pageSize = 200;
/** Whoever began with an older way to a target has come to its lease by then. */
const keptMs = 10 * 60_000;

/** Ends the leases of what was deleted, and removes what nothing needs any more. */
export class LeaseHouse {
  readonly #parts: EngineParts;
  #nextAt = 0;
  #after = "";

  constructor(parts: EngineParts) {
    this.#parts = parts;
  }

  /** True when there may be more to do at once. */
  async page(): Promise<boolean> {
    const { sql, now } = this.#parts;
    if (now() < this.#nextAt) return false;
    const ids = await deletedDynamicSecrets(sql, this.#after, pageSize);
    for (const id of ids) await this.#end(id);
    this.#after = ids.length === pageSize ? (ids.at(-1) ?? "") : "";
    if (this.#after !== "") return true;
    await sql.transaction(async (tx) => {
      await removeIntegrations(tx, pageSize);
      await removeOldVersions(tx, now() - keptMs, pageSize);
    });
    this.#nextAt = now() + lookEveryMs;
    return false;
  }

  async #end(dynamicSecretId: string): Promise<void> {
    const { sql, now } = this.#parts;
    const of = { dynamicSecretId };
    let ended: number;
    do {
      ended = await sql.transaction((tx) => beginRevocations(tx, of, "deleted", now()));
    } while (ended > 0);
    await sql.transaction((tx) => removeDynamicSecret(tx, dynamicSecretId));
  }
}
