import { anyRetirementDue, claimRetirements, type RetirementClaim, releaseRetirementClaims } from "../store/retirements.ts";
import type { EngineParts } from "./parts.ts";
import { retire } from "./retire.ts";
import type { Limits } from "./within-limits.ts";

/** At once on this node: rotations must not wait for them. */
const retirementsAtOnce = 4;

/** Ends old credentials when their time has come, found in the store. */
export class Retirements {
  readonly #parts: EngineParts;
  readonly #limits: Limits;
  readonly #wake: () => void;
  readonly #running = new Set<Promise<void>>();
  #released: boolean;
  #stopping = false;

  /** `limits` are those of rotations; `wake` is called when one was looked at. */
  constructor(parts: EngineParts, limits: Limits, wake: () => void) {
    this.#parts = parts;
    this.#limits = limits;
    this.#wake = wake;
    this.#released = !parts.settings.ownsStore;
  }

  /** Begins what is due, as far as there is room. The caller has just seen that the clock may be trusted. */
  async begin(): Promise<false> {
    const { sql, now, settings } = this.#parts;
    const nowMs = now(); // not later: it may jump meanwhile
    if (!this.#released) await releaseRetirementClaims(sql);
    this.#released = true;
    while (!this.#stopping && !this.full) {
      if (!(await anyRetirementDue(sql, nowMs))) break;
      const request = { node: settings.node, nowMs, untilMs: nowMs + settings.claimMs, limit: 1 };
      const [claim] = await sql.transaction((tx) => claimRetirements(tx, request));
      if (!claim) break;
      this.#start(claim);
    }
    return false;
  }

  /** Nothing begins before something ends: it is no use to look. */
  get full(): boolean {
    return this.#running.size >= retirementsAtOnce;
  }

  /** Begins no more, and resolves when what is under way has been recorded. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#running);
  }

  #start(claim: RetirementClaim): void {
    const { secretId, versionId } = claim.retirement;
    const job = retire(this.#parts, claim, this.#limits)
      .catch((error: unknown) => this.#parts.log.error({ err: error, secretId, versionId }, "a retirement could not be recorded"))
      .finally(() => {
        this.#running.delete(job);
        this.#wake();
      });
    this.#running.add(job);
  }
}
