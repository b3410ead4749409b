import { ServiceError } from "../core/error.ts";
import type { Secret } from "../core/secret.ts";
import { loadSecret } from "../store/secrets.ts";
import type { Sql } from "../store/sql.ts";
import { endJob, holdJobAccount, type JobClaim, type JobData, renewJob, type TargetJob } from "../store/target-jobs.ts";
import type { RotatorTools } from "../targets/target.ts";
import { callDeadline } from "./clock.ts";
import type { EngineParts } from "./parts.ts";

/** Another node does the job by now: this one may do nothing more. */
export class JobTaken extends Error {
  override readonly name = "JobTaken";
}

/** Not now: the job is given back and taken up again a little later. */
export class JobPostponed extends Error {
  override readonly name = "JobPostponed";
  readonly byMs: number;

  constructor(byMs: number) {
    super("postponed");
    this.byMs = byMs;
  }
}

/** The job cannot be done; `message` says why, in words for whoever asked. */
export class JobRefused extends Error {
  override readonly name = "JobRefused";
}

/** Kept between the end of the last call and that of the claim. */
const marginMs = 2_000;

/** A job under our claim: what is written of it counts only while the claim's fence is the newest. */
export class HeldJob {
  readonly parts: EngineParts;
  readonly job: TargetJob;
  /** A change at the target has begun, perhaps before a crash: what the target accepts may be another thing than before. */
  changing: boolean;
  readonly #claim: JobClaim;
  #until: number;

  constructor(parts: EngineParts, claim: JobClaim) {
    this.parts = parts;
    this.job = claim.job;
    this.changing = claim.job.account !== undefined && claim.job.input.setAgain === true;
    this.#claim = claim;
    this.#until = claim.until;
  }

  /** The secret as it is now. @throws JobRefused when it is gone or marked for deletion */
  async readSecret(): Promise<Secret> {
    const secret = await loadSecret(this.parts.sql, this.job.secretId);
    if (!secret || secret.deletedAt !== undefined) throw new JobRefused("the secret was deleted meanwhile");
    // Whatever is read for it, is read with the rights of whoever asked.
    return { ...secret, rotationPrincipal: this.job.principal };
  }

  /** For calls at the target, which end before the claim does; extends it when too little is left. @throws JobTaken */
  async tools(): Promise<RotatorTools> {
    const { now, settings, generatePassword, sql } = this.parts;
    if (this.#until - now() < settings.callMs + marginMs) {
      const until = now() + settings.claimMs;
      if (!(await renewJob(sql, this.#claim, until))) throw new JobTaken();
      this.#until = until;
    }
    const deadlineAt = callDeadline(Math.min(settings.callMs, this.#until - marginMs - now()));
    return { rotationId: this.job.id, fence: this.#claim.fence, deadlineAt, generatePassword };
  }

  /** Whoever asked must still be there. @throws ServiceError AccessDeniedException */
  async requireRights(): Promise<void> {
    const refusal = await this.parts.mayRun(this.job.principal);
    if (refusal) throw new ServiceError("AccessDeniedException", refusal.message, { cause: refusal });
  }

  /**
   * Keeps rotations away from the account until the job ends: false when one is under way. For a transaction that has locked
   * the secret.
   */
  holdAccount(tx: Sql, account: string): Promise<boolean> {
    return holdJobAccount(tx, this.#claim, account);
  }

  /** The job's end, also as a part of the change that it is about. @throws JobTaken */
  async end(tx: Sql, state: "done" | "failed", outcome: { result?: JobData; error?: string }): Promise<void> {
    if (!(await endJob(tx, this.#claim, { state, ...outcome, endedAt: this.parts.now() }))) throw new JobTaken();
  }
}
