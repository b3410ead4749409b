import { purgeEnrolments } from "../store/agent-enrolments.ts";
import { purgeAgentJobs } from "../store/agent-jobs.ts";
import { agentsBackSince, noteGoneAgents } from "../store/agents.ts";
import { hastenRevocations } from "../store/lease-claims.ts";
import { wakeWaiting } from "../store/rotation-waits.ts";
import type { Breakers } from "./breaker.ts";
import type { EngineParts } from "./parts.ts";

const lookMs = 5_000;
const pageSize = 500;
/** An enrolment that expired is known for so long for what it was. */
const enrolmentKeptMs = 24 * 3_600_000;
/** An agent that comes and goes does not have targets tried more often than this. */
const betweenReturnsMs = 10_000;
const targetsAtOnce = 50;

/** Tells which agents are gone, and removes old jobs and enrolments of agents, a page at a time. */
export class AgentHouse {
  readonly #parts: EngineParts;
  #nextAt = 0;

  constructor(parts: EngineParts) {
    this.#parts = parts;
  }

  /** True when there may be more. */
  async page(): Promise<boolean> {
    const { sql, now } = this.#parts;
    const nowMs = now();
    if (nowMs < this.#nextAt) return false;
    const gone = await noteGoneAgents(sql, nowMs, pageSize);
    const jobs = await purgeAgentJobs(sql, nowMs, pageSize);
    const enrolments = await purgeEnrolments(sql, nowMs - enrolmentKeptMs, pageSize);
    if (Math.max(gone, jobs, enrolments) === pageSize) return true;
    this.#nextAt = nowMs + lookMs;
    return false;
  }
}

/** Has what waits for targets of a network tried again when an agent of it is there, or there again. */
export class AgentReturns {
  readonly #parts: Pick<EngineParts, "sql" | "now">;
  readonly #breakers: Breakers;
  #seenUntil: number;
  readonly #returned = new Set<string>();
  readonly #triedAt = new Map<string, number>();
  #targets: string[] = [];

  constructor(parts: Pick<EngineParts, "sql" | "now">, breakers: Breakers) {
    this.#parts = parts;
    this.#breakers = breakers;
    this.#seenUntil = parts.now();
  }

  /** True when there is more to wake at once. */
  async page(): Promise<boolean> {
    const { sql, now } = this.#parts;
    const back = await agentsBackSince(sql, this.#seenUntil, pageSize);
    for (const { network, backAt } of back) {
      this.#returned.add(network);
      this.#seenUntil = Math.max(this.#seenUntil, backAt);
    }
    for (const network of this.#returned) this.#release(network);
    for (const target of this.#targets.splice(0, targetsAtOnce)) {
      await wakeWaiting(sql, target, now());
      await hastenRevocations(sql, target, now());
    }
    return this.#targets.length > 0 || back.length === pageSize;
  }

  #release(network: string): void {
    const nowMs = this.#parts.now();
    if (nowMs - (this.#triedAt.get(network) ?? Number.NEGATIVE_INFINITY) < betweenReturnsMs) return;
    this.#returned.delete(network);
    this.#triedAt.set(network, nowMs);
    this.#targets.push(...this.#breakers.forget(network));
  }
}
