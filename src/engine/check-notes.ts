import { RotatorError, ServiceError } from "../core/error.ts";
import type { Finding } from "../targets/target.ts";
import { JobRefused } from "./held-job.ts";

type Step = Finding["step"];

/** What a pre-flight finds on its way. */
export class Notes {
  readonly findings: Finding[] = [];
  readonly passed: string[] = [];

  fail(step: Step, problem: string, remedy: string): void {
    this.findings.push({ step, problem, remedy });
  }

  warn(step: Step, problem: string, remedy: string): void {
    this.findings.push({ step, problem, remedy, warning: true });
  }

  /** Does a part of the check: what it throws is a finding of that step. False when it failed. */
  async during(step: Step, remedy: string, part: () => Promise<unknown>): Promise<boolean> {
    try {
      await part();
      return true;
    } catch (error) {
      if (error instanceof RotatorError || error instanceof JobRefused) this.fail(step, error.message, remedy);
      else if (error instanceof ServiceError && error.status < 500) this.fail(step, error.message, remedy);
      else throw error;
      return false;
    }
  }
}
