import { replanRotation } from "../core/rotation-schedule.ts";
import { secretsInZones, usedZoneRules, writeZoneRules } from "../store/due.ts";
import { changeSecret } from "../store/secrets.ts";
import type { EngineParts } from "./parts.ts";

const pageSize = 100;

/** Plans rotations anew after the rules of time zones have changed with the program: their moments are stored. */
export class ZoneRules {
  readonly #parts: EngineParts;
  readonly #version: string;
  /** Of the last secret that was looked at; `undefined` when all were. */
  #last: string | undefined = "";
  #begun = false;

  /** `version`: of the rules that this program has. */
  constructor(parts: EngineParts, version: string = process.versions.tz ?? "") {
    this.#parts = parts;
    this.#version = version;
  }

  /** True when there is more. */
  async page(): Promise<boolean> {
    if (this.#last === undefined) return false;
    const { sql } = this.#parts;
    if (!this.#begun && (await usedZoneRules(sql)) === this.#version) {
      this.#last = undefined;
      return false;
    }
    this.#begun = true;
    const ids = await secretsInZones(sql, this.#last, pageSize);
    for (const id of ids) await this.#replan(id);
    this.#last = ids.length < pageSize ? undefined : ids.at(-1);
    if (this.#last === undefined) await writeZoneRules(sql, this.#version);
    return this.#last !== undefined;
  }

  async #replan(id: string): Promise<void> {
    const { sql, now, random } = this.#parts;
    const nowMs = now();
    await sql.transaction((tx) =>
      changeSecret(tx, id, (before) => {
        if (before.rotationPolicy?.timeZone === undefined || before.rotationDueAt === undefined) return before;
        const after = replanRotation(before, before, nowMs, random());
        // Where the window is the same, so is the moment in it.
        return after.nextRotationAt === before.nextRotationAt ? before : after;
      }),
    );
  }
}
