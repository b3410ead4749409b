import { setTimeout as sleep } from "node:timers/promises";
import { type CodeClaim, claimDueCode, codeClaimMs, releaseCodeClaims } from "../store/function-code.ts";
import type { EngineParts } from "./parts.ts";

const lookEveryMs = 1_000;
const most = 2;
const stopMs = 5_000;

/** Looks now and then at the code that functions at AWS run, and has newer code put in place; a few at once. */
export class FunctionCodes {
  readonly #parts: EngineParts;
  readonly #wake: () => void;
  readonly #running = new Set<Promise<void>>();
  #nextAt = 0;
  #released: boolean;
  #stopping = false;

  constructor(parts: EngineParts, wake: () => void) {
    this.#parts = parts;
    this.#wake = wake;
    this.#released = !parts.settings.ownsStore;
  }

  /** True when there may be more to do at once. */
  async begin(): Promise<boolean> {
    const { sql, now } = this.#parts;
    if (!this.#parts.lookAtFunctionCode || this.#stopping || now() < this.#nextAt || this.#running.size >= most) return false;
    const nowMs = now();
    if (!this.#released) await sql.transaction((tx) => releaseCodeClaims(tx, nowMs));
    this.#released = true;
    const claim = await sql.transaction((tx) => claimDueCode(tx, nowMs, nowMs + codeClaimMs));
    if (!claim) {
      this.#nextAt = nowMs + lookEveryMs;
      return false;
    }
    this.#work(claim);
    return true;
  }

  #work(claim: CodeClaim): void {
    const job = this.#look(claim)
      .catch((error: unknown) =>
        this.#parts.log.error({ err: error, functionArn: claim.functionArn }, "a function's code could not be looked at"),
      )
      .finally(() => {
        this.#running.delete(job);
        this.#wake();
      });
    this.#running.add(job);
  }

  async #look(claim: CodeClaim): Promise<void> {
    await this.#parts.lookAtFunctionCode?.(claim);
  }

  /** Takes up no more, and waits a little for what is under way: what is cut off is taken up again. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.race([Promise.all(this.#running), sleep(stopMs, undefined, { ref: false })]);
  }
}
