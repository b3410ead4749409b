import { randomUUID } from "node:crypto";
import { advanceRetirement, type Retirement, type RetirementOutcome } from "../core/retirement.ts";
import type { Secret } from "../core/secret.ts";
import { addEvent, type NewEvent } from "../store/events.ts";
import { holdRetirementAccount, type RetirementClaim, recordRetirement, renewRetirement } from "../store/retirements.ts";
import { changeSecret } from "../store/secrets.ts";
import type { RotatorTools } from "../targets/target.ts";
import { callDeadline } from "./clock.ts";
import { Superseded } from "./held-rotation.ts";
import type { EngineParts } from "./parts.ts";

/** Kept between the end of the last call and that of the claim. */
const marginMs = 2_000;

/** A retirement under our claim: what is written of it counts only while the claim's fence is the newest. */
export class HeldRetirement {
  readonly parts: EngineParts;
  /** As far as it has come. */
  retirement: Retirement;
  /** For marks at the target and in the audit trail: one for each try. */
  readonly rotation: { readonly id: string } = { id: randomUUID() };
  readonly #claim: RetirementClaim;
  #until: number;

  constructor(parts: EngineParts, claim: RetirementClaim) {
    this.parts = parts;
    this.retirement = claim.retirement;
    this.#claim = claim;
    this.#until = claim.until;
  }

  /** For calls at the target, which end before the claim does; extends it when too little is left. @throws Superseded */
  async tools(): Promise<RotatorTools> {
    const { now, settings, generatePassword, sql } = this.parts;
    if (this.#until - now() < settings.callMs + marginMs) {
      const until = now() + settings.claimMs;
      if (!(await renewRetirement(sql, this.#claim, until))) throw new Superseded();
      this.#until = until;
    }
    const deadlineAt = callDeadline(Math.min(settings.callMs, this.#until - marginMs - now()));
    return { rotationId: this.rotation.id, fence: this.#claim.fence, deadlineAt, generatePassword };
  }

  /** Keeps everything else away from the account until something is recorded. False while it is in other hands. */
  holdAccount(account: string): Promise<boolean> {
    return this.parts.sql.transaction(async (tx) => {
      // The secret's row first: no rotation of it begins meanwhile, and no label moves.
      const secret = await changeSecret(tx, this.retirement.secretId, (before) => before);
      return secret !== undefined && (await holdRetirementAccount(tx, this.#claim, account));
    });
  }

  /** Looked at again at `runAt`; nothing went wrong. @throws Superseded */
  async wait(runAt: number, reason?: string, remedy?: string): Promise<void> {
    await this.#record({ ...this.retirement, state: "waiting", runAt: Math.ceil(runAt), error: reason, remedy });
  }

  /** In use again. @throws Superseded */
  async cancel(secret: Secret): Promise<void> {
    const { now } = this.parts;
    await this.#record(
      { ...this.retirement, state: "canceled", endedAt: now(), error: "the version is the current one again" },
      { type: "retirement.canceled", secret },
    );
  }

  /** It has ended. `detail`: what somebody should know of it. @throws Superseded */
  async done(secret: Secret, detail: NewEvent["detail"]): Promise<void> {
    const { now } = this.parts;
    const event = this.retirement.what === "credential" ? { type: "retirement.done", secret, detail } : undefined;
    await this.#record(advanceRetirement(this.retirement, { class: "ok" }, now(), 0), event);
  }

  /** Tried in vain: again later, for ever. @throws Superseded */
  async fail(outcome: RetirementOutcome, secret: Secret | undefined): Promise<void> {
    const { now, random } = this.parts;
    const before = this.retirement;
    const after = advanceRetirement(before, outcome, now(), random());
    const detail = { outcome: outcome.class, error: outcome.error ?? null, remedy: after.remedy ?? null };
    // One that is blocked for the same reason is no news.
    const isNews = after.state === "blocked" && before.outcome !== outcome.class;
    await this.#record(after, isNews && secret ? { type: "retirement.blocked", secret, detail } : undefined);
  }

  async #record(
    after: Retirement,
    event?: { readonly type: string; readonly secret: Secret; readonly detail?: NewEvent["detail"] },
  ): Promise<void> {
    const { sql, now } = this.parts;
    const { versionId, strategy } = after;
    await sql.transaction(async (tx) => {
      if (!(await recordRetirement(tx, this.#claim, after))) throw new Superseded();
      if (!event) return;
      const detail = { versionId, strategy, ...event.detail };
      await addEvent(tx, {
        at: now(),
        type: event.type,
        resource: event.secret.arn,
        generation: event.secret.generation,
        detail,
      });
    });
    this.retirement = after;
  }
}
