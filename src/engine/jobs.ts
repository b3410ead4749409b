import { RotatorError, ServiceError } from "../core/error.ts";
import {
  anyJobDue,
  claimJobs,
  type JobClaim,
  type JobData,
  type JobKind,
  postponeJob,
  releaseJobClaims,
} from "../store/target-jobs.ts";
import { adopt } from "./adopt.ts";
import type { Caps } from "./caps.ts";
import { check } from "./check.ts";
import { HeldJob, JobPostponed, JobRefused, JobTaken } from "./held-job.ts";
import { compareUsers } from "./parity.ts";
import type { EngineParts } from "./parts.ts";
import { rollBack } from "./rollback.ts";

/** At once on this node: somebody waits for each, and rotations must not wait for them. */
const jobsAtOnce = 4;

/** What a job found; `undefined` when it has written its end itself, with what it changed. */
type Work = (held: HeldJob, caps: Caps) => Promise<JobData | undefined>;

const workOf: Readonly<Record<JobKind, Work>> = { check, rollback: rollBack, adopt, parity: compareUsers };

/** Does what callers asked for at targets: checks, rollbacks, comparisons. */
export class TargetJobs {
  readonly #parts: EngineParts;
  readonly #caps: Caps;
  readonly #wake: () => void;
  readonly #running = new Set<Promise<void>>();
  #released: boolean;
  #stopping = false;

  /** `caps` are those of rotations; `wake` is called when a job has ended. */
  constructor(parts: EngineParts, caps: Caps, wake: () => void) {
    this.#parts = parts;
    this.#caps = caps;
    this.#wake = wake;
    this.#released = !parts.settings.ownsStore;
  }

  get full(): boolean {
    return this.#running.size >= jobsAtOnce;
  }

  /** Begins what is due, as far as there is room. */
  async begin(): Promise<false> {
    const { sql, now, settings } = this.#parts;
    if (!this.#released) await releaseJobClaims(sql);
    this.#released = true;
    while (!this.#stopping && !this.full) {
      const nowMs = now();
      if (!(await anyJobDue(sql, nowMs))) break;
      const request = { node: settings.node, nowMs, untilMs: nowMs + settings.claimMs, limit: 1 };
      const [claim] = await sql.transaction((tx) => claimJobs(tx, request));
      if (!claim) break;
      this.#start(claim);
    }
    return false;
  }

  /** Begins no more, and resolves when what is under way has been recorded. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#running);
  }

  #start(claim: JobClaim): void {
    const job = this.#do(claim)
      .catch((error: unknown) => this.#parts.log.error({ err: error, jobId: claim.job.id }, "a job could not be recorded"))
      .finally(() => {
        this.#running.delete(job);
        this.#wake();
      });
    this.#running.add(job);
  }

  async #do(claim: JobClaim): Promise<void> {
    const { sql, now, log } = this.#parts;
    const held = new HeldJob(this.#parts, claim);
    const { id, kind, expiresAt } = claim.job;
    try {
      if (!claim.takenOver && expiresAt <= now()) throw new JobRefused("no engine began it in time: ask again");
      await held.requireRights();
      const result = await workOf[kind](held, this.#caps);
      if (result) await sql.transaction((tx) => held.end(tx, "done", { result }));
    } catch (error) {
      if (error instanceof JobTaken) return log.info({ jobId: id }, "a job was taken over meanwhile");
      if (error instanceof JobPostponed) return void (await postponeJob(sql, claim, now() + error.byMs));
      const text = this.#words(error, id);
      await sql.transaction((tx) => held.end(tx, "failed", { error: text }));
    }
  }

  #words(error: unknown, jobId: string): string {
    if (error instanceof JobRefused || error instanceof RotatorError) return error.message;
    if (error instanceof ServiceError && error.status < 500) return `${error.code}: ${error.message}`;
    this.#parts.log.error({ err: error, jobId }, "a job met an internal error");
    return "internal error: see the log";
  }
}
