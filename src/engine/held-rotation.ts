import { setTimeout as sleep } from "node:timers/promises";
import type { OutcomeClass } from "../core/error.ts";
import { advance, type FreeAt, type Rotation, runningAt, type StepOutcome, withTry } from "../core/rotation.ts";
import { shapedPassword } from "../core/rotation-policy.ts";
import { goesOnAt, type Missed, missedBy, rotated } from "../core/rotation-schedule.ts";
import { detach, type Secret, withoutTestCopy } from "../core/secret.ts";
import { addEvent } from "../store/events.ts";
import { insertStrays } from "../store/retirements.ts";
import { type Claim, enterTarget, recordRotation, renewClaim } from "../store/rotation-claims.ts";
import { changeSecret, loadSecret } from "../store/secrets.ts";
import type { Sql } from "../store/sql.ts";
import type { RotatorTools } from "../targets/target.ts";
import { callDeadline } from "./clock.ts";
import { notEnded, tellMissed } from "./missed.ts";
import type { EngineParts } from "./parts.ts";

/** Another node works on the rotation, or it was ended: this one may do nothing more. */
export class Superseded extends Error {
  override readonly name = "Superseded";
}

/** Kept between the end of the last call and that of the claim. */
const marginMs = 2_000;
/** Before the first readers give up: for the commit that tells them, and for all of them to look once more. */
const tellAheadMs = 100;

const waitRemedy = "Start the rotation again when that is over.";

interface Commit {
  /** Keeps the claim for further steps. */
  readonly hold?: boolean;
  /** Decides what the secret becomes, in the same transaction. */
  readonly secret?: (before: Secret) => Secret;
  /** Type of the event that tells of it. */
  readonly event?: string;
  readonly also?: (tx: Sql, secret: Secret) => Promise<void>;
}

/** A rotation under our claim: whatever is written of it counts only while the claim's fence is the newest. */
export class HeldRotation {
  readonly parts: EngineParts;
  readonly takenOver: boolean;
  /** As far as it has come; may be ahead of the row, which the next `commit` brings up to it. */
  rotation: Rotation;
  /** The target takes the new password of a single user by now: AWSCURRENT's is of no use. */
  switched = false;
  /** Epoch ms from which on a new credential that is still refused counts as one that never will be accepted. */
  givesUpAt: number | undefined;
  /** As last read or written here, so that it is not read again while nobody else has changed it. */
  #secret: Secret | undefined;
  #committed: Rotation;
  readonly #claim: Claim;
  #until: number;
  #readersGiveUpAt = 0;

  constructor(parts: EngineParts, claim: Claim) {
    this.parts = parts;
    this.takenOver = claim.takenOver;
    this.rotation = claim.rotation;
    this.#committed = claim.rotation;
    this.#claim = claim;
    this.#until = claim.until;
  }

  /** The secret as the store has it now; `undefined` when it is gone. */
  async readSecret(): Promise<Secret | undefined> {
    this.#secret = await loadSecret(this.parts.sql, this.rotation.secretId);
    return this.#secret;
  }

  /** For calls at the target, which end before the claim does; extends it when too little is left. @throws Superseded */
  async tools(): Promise<RotatorTools> {
    const { now, settings, generatePassword } = this.parts;
    if (this.#until - now() < settings.callMs + marginMs) {
      const until = now() + settings.claimMs;
      if (!(await renewClaim(this.parts.sql, this.#claim, until))) throw new Superseded();
      this.#until = until;
    }
    const deadlineAt = callDeadline(Math.min(settings.callMs, this.#until - marginMs - now()));
    const shape = this.#secret?.rotationPolicy?.password;
    return {
      rotationId: this.rotation.id,
      fence: this.#claim.fence,
      deadlineAt,
      password: shape,
      generatePassword: (options) => generatePassword(shapedPassword(shape, options)),
    };
  }

  /** Keeps the claim over a call that may last until then. @throws Superseded */
  async holdUntil(atMs: number): Promise<void> {
    const until = atMs + marginMs;
    if (!(await renewClaim(this.parts.sql, this.#claim, until))) throw new Superseded();
    this.#until = until;
  }

  /**
   * Until the last call of a process that died must have ended. Only a store's own process takes claims back before they end,
   * when it starts; others come when they have ended, which is after the calls made under them. `outliveMs`: so much later than
   * its deadline such a call may end.
   */
  async outwaitDead(outliveMs = 0): Promise<void> {
    const { elapsed, now, settings } = this.parts;
    const leftMs = Math.max(0, settings.ownsStore && elapsed ? Math.ceil(settings.callMs - elapsed()) : 0) + outliveMs;
    if (leftMs <= 0) return;
    await this.holdUntil(now() + leftMs);
    await sleep(leftMs + 1);
  }

  /** Works at a target that at most so many work at, on all nodes that share the store; false when they do. */
  async enterTarget(target: string, most: number): Promise<boolean> {
    const { sql, now, settings } = this.parts;
    if (settings.ownsStore) return true; // whoever else does, does so here
    return sql.transaction((tx) => enterTarget(tx, this.#claim, { target, most, nowMs: now() }), { durable: false });
  }

  /** Keeps among the tries what somebody may have to know later. */
  note(outcome: OutcomeClass, reason: string): void {
    this.rotation = withTry(this.rotation, { class: outcome, error: reason }, this.parts.now());
  }

  /** The step is done; not written yet. */
  stepDone(): void {
    this.rotation = advance(this.rotation, { class: "ok" }, this.parts.now(), 0);
  }

  /** Writes how far the rotation has come; when that fails it has not come there. @throws Superseded */
  async commit(change: Commit): Promise<void> {
    try {
      await this.#write(change);
      this.#committed = this.rotation;
    } catch (error) {
      this.rotation = this.#committed;
      throw error;
    }
  }

  /**
   * Ends it well: what its secret becomes, and when it is rotated next. Windows that went by while it ran are on record as
   * missed. @throws Superseded
   */
  async succeed(become: (before: Secret) => Secret, also?: (tx: Sql) => Promise<void>): Promise<void> {
    const { now, random } = this.parts;
    let missed: Missed | undefined;
    this.stepDone();
    await this.commit({
      event: "rotation.succeeded",
      secret: (before) => {
        missed = missedBy(before, now(), notEnded);
        return rotated(become(before), now(), random());
      },
      also: async (tx, secret) => {
        if (missed) await tellMissed(tx, secret, missed, now());
        await also?.(tx);
      },
    });
  }

  async #write({ hold = false, secret: decide, event, also }: Commit): Promise<void> {
    const { sql, now, settings } = this.parts;
    const until = hold ? now() + settings.claimMs : undefined;
    this.#secret = await sql.transaction(async (tx) => {
      // The secret's row first, as operations do: two orders would wait for each other.
      const secret = await changeSecret(tx, this.rotation.secretId, decide ?? ((before) => before), this.#secret);
      if (!secret || !(await recordRotation(tx, this.rotation, this.#claim.fence, until))) throw new Superseded();
      if (event !== undefined) await this.#addEvent(tx, event, secret);
      await also?.(tx, secret);
      return secret;
    });
    if (until !== undefined) this.#until = until;
  }

  /** Tells readers to wait while the password is switched, and lets those on their way arrive. */
  async openBarrier(alreadyCommitted: boolean): Promise<void> {
    if (!alreadyCommitted) await this.commit({ hold: true, secret: (before) => this.withBarrier(before) });
    const { settleMs } = this.parts.settings;
    if (settleMs > 0) await sleep(settleMs);
  }

  withBarrier(secret: Secret): Secret {
    const { settleMs, readBarrierMs } = this.parts.settings;
    this.#readersGiveUpAt = this.parts.now() + readBarrierMs;
    return { ...secret, switchingUntil: this.#readersGiveUpAt + settleMs, switchedTo: undefined };
  }

  /** Does the rest of a switch; readers that give up waiting before it ends get the version that the target has taken. */
  async beforeReadersGiveUp(work: Promise<void>): Promise<void> {
    const ended = new AbortController();
    const told = this.#tellReaders(ended.signal);
    try {
      await Promise.all([work.finally(() => ended.abort()), told]);
    } finally {
      await told.catch(() => undefined); // one of the two may have failed before: that error counts
    }
  }

  async #tellReaders(ended: AbortSignal): Promise<void> {
    const waitMs = Math.max(0, this.#readersGiveUpAt - tellAheadMs - this.parts.now());
    await sleep(waitMs, undefined, { signal: ended }).catch(() => undefined);
    if (!ended.aborted) await this.commit({ hold: true, secret: (before) => this.#withSwitched(before) });
  }

  #withSwitched(secret: Secret): Secret {
    return { ...secret, switchedTo: this.rotation.versionId, switchingUntil: undefined };
  }

  /** What its schedule began waits for the end of a blackout. */
  readonly #freeAt: FreeAt = (at) => (this.#secret ? goesOnAt(this.#secret, this.rotation, at) : at);

  /** Tried in vain: again later, or ended; then AWSPENDING's value may be given up as well. @throws Superseded */
  async fail(outcome: StepOutcome, giveUp = false, also?: (tx: Sql) => Promise<void>): Promise<void> {
    const { now, random } = this.parts;
    const { testOnly, outcome: before } = this.rotation;
    this.rotation = advance(this.rotation, outcome, now(), random(), this.#freeAt);
    const { state, versionId } = this.rotation;
    const ended = state !== "running";
    const failure = ended ? state : "retrying";
    await this.commit({
      secret: (secret) => {
        const open = this.#afterFailure(secret, outcome);
        if (ended && testOnly) return withoutTestCopy(open, versionId);
        return ended && giveUp ? { ...detach(open, "AWSPENDING"), lastChangedAt: now() } : open;
      },
      also: async (tx) => {
        if (ended) await this.findStrays(tx);
        await also?.(tx);
      },
      // One that fails again for the same reason is no news.
      ...((ended || before !== outcome.class) && { event: testOnly ? "rotation.test-failed" : `rotation.${failure}` }),
    });
  }

  /** Readers go on with what the target was seen to take last; where that is not known, those that wait do so to the end. */
  #afterFailure(secret: Secret, { class: outcome }: StepOutcome): Secret {
    if (this.switched && outcome !== "refused") return this.#withSwitched(secret);
    if (outcome === "unknown" || outcome === "timeout") return secret;
    const { switchingUntil, switchedTo } = secret;
    if (switchingUntil === undefined && switchedTo === undefined) return secret;
    // A server that cannot be reached says nothing against what it said before.
    return { ...secret, switchingUntil: undefined, switchedTo: outcome === "refused" ? undefined : switchedTo };
  }

  /** Not this rotation's fault: later, without counting a try. @throws Superseded */
  async postpone(byMs: number, why: string, remedy?: string): Promise<void> {
    const { now } = this.parts;
    const { outcome, windowEndsAt } = this.rotation;
    const next = runningAt(this.rotation, Math.ceil(now() + byMs), this.#freeAt);
    if (next.runAt > windowEndsAt) return this.fail({ class: "timeout", error: why, remedy: remedy ?? waitRemedy });
    // Whoever claims it next must still learn that a claim before this one ended without a word.
    this.rotation = { ...next, outcome: this.takenOver ? "unknown" : outcome, error: why, remedy };
    await this.commit({});
  }

  /** Nothing is left to do: the secret is gone, or its AWSPENDING is another version. @throws Superseded */
  async end(state: "abandoned" | "canceled"): Promise<void> {
    this.rotation = { ...this.rotation, state, endedAt: this.parts.now() };
    await this.commit({ event: `rotation.${state}`, also: (tx) => this.findStrays(tx) });
  }

  /** Has what an issuer may have made without our hearing of it looked for, once no call can be under way any more. */
  async findStrays(tx: Sql): Promise<void> {
    const { parts, rotation } = this;
    const nowMs = parts.now();
    if (rotation.intent) await insertStrays(tx, rotation.id, nowMs, nowMs + 2 * parts.settings.callMs);
  }

  async #addEvent(tx: Sql, type: string, secret: Secret): Promise<void> {
    const { id, versionId, step, state, outcome, error } = this.rotation;
    const failure = state === "succeeded" ? {} : { step, outcome: outcome ?? null, error: error ?? null };
    const detail = { rotationId: id, versionId, ...failure };
    await addEvent(tx, { at: this.parts.now(), type, resource: secret.arn, generation: secret.generation, detail });
  }
}
