import type { Lease, LeaseReason } from "../core/lease.ts";
import { nextRevocationAt } from "../core/lease.ts";
import type { Plaintext } from "../core/plaintext.ts";
import {
  type Failure,
  type LeaseClaim,
  recordEnded,
  recordHandle,
  recordMade,
  recordNotRenewed,
  recordNotRevoked,
  recordRenewed,
  recordRevoking,
  releaseLease,
  renewLeaseClaim,
} from "../store/lease-claims.ts";
import { noteLease } from "../store/lease-events.ts";
import { leaseContext } from "../store/leases.ts";
import type { LeaseTools } from "../targets/lease-target.ts";
import { callDeadline } from "./clock.ts";
import { Superseded } from "./held-rotation.ts";
import type { EngineParts } from "./parts.ts";

/** Kept between the end of the last call and that of the claim. */
const marginMs = 2_000;

/** A lease under our claim: what is written of it counts only while the claim's fence is the newest. */
export class HeldLease {
  readonly parts: EngineParts;
  readonly lease: Lease;
  readonly #claim: LeaseClaim;
  #until: number;

  constructor(parts: EngineParts, claim: LeaseClaim) {
    this.parts = parts;
    this.lease = claim.lease;
    this.#claim = claim;
    this.#until = claim.until;
  }

  /** For calls at the target, which end before the claim does; extends it when too little is left. @throws Superseded */
  async tools(callMs = this.parts.settings.callMs): Promise<LeaseTools> {
    const { now, settings, generatePassword, sql } = this.parts;
    if (this.#until - now() < callMs + marginMs) {
      const until = now() + Math.max(settings.claimMs, callMs + 2 * marginMs);
      if (!(await renewLeaseClaim(sql, this.#claim, until))) throw new Superseded();
      this.#until = until;
    }
    const deadlineAt = callDeadline(Math.min(callMs, this.#until - marginMs - now()));
    return { subject: this.lease.id, fence: this.#claim.fence, deadlineAt, generatePassword };
  }

  /** It is at the target: its value is kept until somebody takes it, for a while. */
  async made(
    value: Plaintext,
    { handle, keyId, dueAt }: { handle: string | undefined; keyId: string; dueAt: number },
  ): Promise<void> {
    const { sql, envelope } = this.parts;
    const sealed = await envelope.seal(value, leaseContext(this.lease.id), keyId);
    // Whoever hands it out makes it durable, with all that came before. A handle is what it can be ended by.
    const durable = handle !== undefined;
    const kept = await sql.transaction((tx) => recordMade(tx, this.#claim, { ...sealed, handle, dueAt }), { durable });
    if (!kept) await this.#giveBack(handle);
    this.#tell();
  }

  /** It was asked to end while it was worked on: whoever claims it next ends it. */
  async #giveBack(handle?: string): Promise<void> {
    await this.parts.sql.transaction(async (tx) => {
      if (handle !== undefined) await recordHandle(tx, this.#claim, handle);
      await releaseLease(tx, this.#claim);
    });
  }

  async renewed(to: number): Promise<void> {
    const { sql, now } = this.parts;
    if (!(await sql.transaction((tx) => recordRenewed(tx, this.#claim, to, now())))) await this.#giveBack();
    this.#tell();
  }

  async notRenewed(failure: Failure): Promise<void> {
    await this.parts.sql.transaction(async (tx) => {
      await recordNotRenewed(tx, this.#claim, failure);
      await releaseLease(tx, this.#claim);
    });
    this.#tell();
  }

  /** Nothing came of making it, or perhaps something: it is ended from now on. */
  async notMade(failure: Failure): Promise<void> {
    const { sql, now } = this.parts;
    await sql.transaction(async (tx) => {
      if (!(await recordRevoking(tx, this.#claim, { reason: "failed", nowMs: now(), failure, keep: false })))
        return releaseLease(tx, this.#claim);
      await this.#note(tx, { event: "failed", detail: { outcome: failure.outcome, error: failure.error }, more: failure.error });
    });
    this.#tell();
  }

  /** Nothing of it is left. `failure`: why it was never made. @throws Superseded */
  async ended(reason: LeaseReason, failure?: Failure): Promise<void> {
    const { sql, now } = this.parts;
    await sql.transaction(async (tx) => {
      const nowMs = now();
      if (!(await recordEnded(tx, this.#claim, { reason, nowMs, ...(failure && { failure }) }))) throw new Superseded();
      if (failure)
        await this.#note(tx, {
          event: "failed",
          detail: { outcome: failure.outcome, error: failure.error },
          more: failure.error,
        });
      else if (reason !== "failed")
        await this.#note(tx, {
          event: reason === "expired" ? "expired" : "revoked",
          detail: { reason },
          more: reasonWords[reason],
        });
    });
    this.#tell();
  }

  /** Tried in vain: again later, for ever. @throws Superseded */
  async notRevoked(failure: Failure): Promise<void> {
    const { sql, now, random } = this.parts;
    const { attempt, outcome } = this.lease;
    await sql.transaction(async (tx) => {
      const nowMs = now();
      const runAt = nextRevocationAt(attempt, nowMs, random());
      if (!(await recordNotRevoked(tx, this.#claim, failure, { nowMs, runAt }))) throw new Superseded();
      // The same failure again is no news.
      if (attempt > 0 && outcome === failure.outcome) return;
      await this.#note(tx, {
        event: "revoke_failed",
        detail: { outcome: failure.outcome, error: failure.error },
        more: failure.error,
      });
    });
    this.#tell();
  }

  /** As it is, at `dueAt`. */
  async later(dueAt: number): Promise<void> {
    await this.parts.sql.transaction((tx) => releaseLease(tx, this.#claim, Math.ceil(dueAt)));
  }

  #note(
    tx: Parameters<typeof noteLease>[0],
    note: Pick<Parameters<typeof noteLease>[3], "event" | "detail" | "more">,
  ): Promise<void> {
    return noteLease(tx, this.parts, this.lease, { at: this.parts.now(), ...note });
  }

  #tell(): void {
    this.parts.hints.give(`lease/${this.lease.id}`);
  }
}

const reasonWords: Readonly<Record<LeaseReason, string | undefined>> = {
  expired: undefined,
  revoked: undefined,
  failed: undefined,
  unanswered: "nobody took its value",
  deleted: "its dynamic secret was deleted",
  orphan: "it had no lease",
};
