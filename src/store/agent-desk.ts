import { agentsWithJobs } from "./agent-jobs.ts";
import { type Sighting, saveSightings } from "./agents.ts";
import type { Hints } from "./hints.ts";
import type { Sql } from "./sql.ts";

/** Between looks for jobs that other processes queued; one look for all agents that wait here. */
const lookMs = 250;
/** An agent that was not seen here for so long is written down at once, so that it gets work. */
const newHereMs = 60_000;
const maxEmptyPolls = 20;
const emptyPollsMs = 10_000;
/** An empty poll that lasted so long is none of a flood. */
const longPollMs = 500;
const maxAgents = 20_000;
const maxHinted = 1_000;
const savedAtOnce = 200;

interface Seen {
  atMs: number;
  emptyPolls: number;
  emptySince: number;
}

export const agentHint = (agentId: string): string => `agent/${agentId}`;
export const agentJobHint = (jobId: string): string => `agent-job/${jobId}`;

/** One poll while it waits. */
export interface Turn extends Disposable {
  /** Aborted when the agent polls again, its connection ends, or the server stops. */
  readonly signal: AbortSignal;
}

/** Where the agents that poll this process wait for work, and what was seen of them. Bounded; no timer for any agent but its wait. */
export class AgentDesk {
  readonly #sql: Sql;
  readonly #hints: Hints;
  readonly #turns = new Map<string, AbortController>();
  readonly #seen = new Map<string, Seen>();
  #sightings = new Map<string, Sighting>();
  /** Jobs by what became of them, since the start. */
  readonly jobs = new Map<string, number>();
  #looking = false;
  #closed = false;

  constructor(sql: Sql, hints: Hints) {
    this.#sql = sql;
    this.#hints = hints;
  }

  /** Notes that an agent was seen. True: it is to be written down at once, with `save`. */
  note(sighting: Sighting): boolean {
    const { agentId, atMs } = sighting;
    this.#sightings.set(agentId, sighting);
    const seen = this.#seen.get(agentId);
    const isNew = seen === undefined || atMs - seen.atMs > newHereMs;
    if (seen) seen.atMs = atMs;
    else {
      if (this.#seen.size >= maxAgents) this.#seen.clear();
      this.#seen.set(agentId, { atMs, emptyPolls: 0, emptySince: atMs });
    }
    return isNew;
  }

  /** Whether too many polls of the agent found nothing lately. */
  isFlooding(agentId: string, nowMs: number): boolean {
    const seen = this.#seen.get(agentId);
    return seen !== undefined && nowMs - seen.emptySince < emptyPollsMs && seen.emptyPolls >= maxEmptyPolls;
  }

  /** A poll found nothing. */
  countEmpty(agentId: string, lastedMs: number, nowMs: number): void {
    const seen = this.#seen.get(agentId);
    if (seen === undefined || lastedMs >= longPollMs) return;
    if (nowMs - seen.emptySince >= emptyPollsMs) Object.assign(seen, { emptySince: nowMs, emptyPolls: 0 });
    seen.emptyPolls += 1;
  }

  /** The agent is away: at its next poll it is written down at once. */
  forget(agentId: string): void {
    this.#seen.delete(agentId);
    this.#sightings.delete(agentId);
  }

  /** Writes what was noted; durability is not waited for. */
  async save(): Promise<void> {
    const noted = [...this.#sightings.values()];
    this.#sightings = new Map();
    for (let start = 0; start < noted.length; start += savedAtOnce) {
      const page = noted.slice(start, start + savedAtOnce);
      await this.#sql.transaction((tx) => saveSightings(tx, page), { durable: false });
    }
  }

  /** Counts what became of a job that this process gave to an agent. */
  readonly countJob = (outcome: string): void => {
    this.jobs.set(outcome, (this.jobs.get(outcome) ?? 0) + 1);
  };

  /** Whether the agent waits here now. */
  isHere(agentId: string): boolean {
    return this.#turns.has(agentId);
  }

  /** Begins a poll; an older one of the same agent ends. */
  begin(agentId: string, connection: AbortSignal | undefined): Turn {
    this.#turns.get(agentId)?.abort();
    const turn = new AbortController();
    const end = () => turn.abort();
    if (this.#closed || connection?.aborted) end();
    connection?.addEventListener("abort", end);
    this.#turns.set(agentId, turn);
    return {
      signal: turn.signal,
      [Symbol.dispose]: () => {
        connection?.removeEventListener("abort", end);
        if (this.#turns.get(agentId) === turn) this.#turns.delete(agentId);
      },
    };
  }

  /** Until there may be work for the agent, at most `ms`. */
  async wait(agentId: string, ms: number, signal: AbortSignal): Promise<void> {
    this.#look();
    await this.#hints.wait(agentHint(agentId), ms, signal);
  }

  /** Ends all polls, now and from now on: the server stops. */
  close(): void {
    this.#closed = true;
    for (const turn of this.#turns.values()) turn.abort();
  }

  /** While agents wait here, for jobs that another process queued. One process that owns its store hears of all its own. */
  #look(): void {
    if (this.#looking || this.#sql.dialect === "sqlite") return;
    this.#looking = true;
    void this.#lookOn().finally(() => {
      this.#looking = false;
    });
  }

  async #lookOn(): Promise<void> {
    while (this.#turns.size > 0 && !this.#closed) {
      await new Promise((resolve) => setTimeout(resolve, lookMs));
      try {
        for (const id of await agentsWithJobs(this.#sql, maxHinted)) this.#hints.give(agentHint(id));
      } catch {
        // the database is away for a moment: polls tell of it, and the next look comes soon
      }
    }
  }
}
