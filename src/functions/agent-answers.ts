import { setTimeout as sleep } from "node:timers/promises";
import { ServiceError } from "../core/error.ts";
import { type AgentConnection, backOffMs, NoAnswer } from "./agent-connection.ts";
import type { Enrolled } from "./agent-identity.ts";
import type { AgentAnswer, AgentLog } from "./agent-jobs.ts";
import type { Journal } from "./agent-journal.ts";

interface AnswersParts {
  readonly enrolled: Enrolled;
  readonly connection: AgentConnection;
  readonly journal: Journal;
  readonly log: AgentLog;
  readonly now: () => number;
  readonly random: () => number;
}

/** Longer than anybody waits for an answer. */
const keptMs = 120_000;
const mostAtOnce = 64;
/** Of one request; below what the server reads. */
const mostCharacters = 900_000;

/** Answers on their way to the server: each is told until the server has taken it, or nobody waits for it any more. */
export class AgentAnswers {
  readonly #parts: AnswersParts;
  readonly #waiting = new Map<string, { readonly answer: AgentAnswer; readonly until: number }>();
  #sending: Promise<void> | undefined;
  #dropped = false;

  constructor(parts: AnswersParts) {
    this.#parts = parts;
  }

  get ids(): readonly string[] {
    return [...this.#waiting.keys()];
  }

  /** What an earlier process did not get told; also that it was ended in the middle of a job. */
  load(): void {
    const { journal, now } = this.#parts;
    for (const answer of journal.undelivered(now())) this.add(answer);
  }

  /** Nobody takes them any more. */
  drop(): void {
    this.#dropped = true;
    this.#waiting.clear();
  }

  add(answer: AgentAnswer): void {
    if (this.#dropped) return;
    this.#waiting.set(answer.id, { answer, until: this.#parts.now() + keptMs });
    this.#sending ??= this.#send().finally(() => {
      this.#sending = undefined;
    });
  }

  /** Resolves when none is left. */
  async flushed(): Promise<void> {
    while (this.#sending) await this.#sending;
  }

  async #send(): Promise<void> {
    const { log, random, now } = this.#parts;
    for (let failures = 0; this.#waiting.size > 0; ) {
      const batch = this.#nextBatch();
      try {
        await this.#tell(batch);
        failures = 0;
      } catch (error) {
        if (!(error instanceof NoAnswer || error instanceof ServiceError)) throw error;
        failures += 1;
        log.warn({ answers: batch.length }, `answers could not be told (${error.message}); they are told again`);
        await sleep(backOffMs(failures, random), undefined, { ref: false });
      }
      for (const [id, { until }] of this.#waiting) if (until <= now()) this.#waiting.delete(id);
    }
  }

  #nextBatch(): AgentAnswer[] {
    const batch: AgentAnswer[] = [];
    let characters = 0;
    for (const { answer } of this.#waiting.values()) {
      characters += "reply" in answer ? answer.reply.length : 0;
      if (batch.length > 0 && (batch.length === mostAtOnce || characters > mostCharacters)) break;
      batch.push(answer);
    }
    return batch;
  }

  async #tell(answers: readonly AgentAnswer[]): Promise<void> {
    const { connection, enrolled, journal, log } = this.#parts;
    await connection.ask("agents/answer", { answers }, { token: enrolled.token, withinMs: 15_000 });
    for (const answer of answers) if (this.#waiting.get(answer.id)?.answer === answer) this.#waiting.delete(answer.id);
    try {
      journal.delivered(answers.map(({ id }) => id));
    } catch {
      log.error({}, "the journal cannot be written: is its disk full?");
    }
  }
}
