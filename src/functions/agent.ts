import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import { ServiceError } from "../core/error.ts";
import { type FarKeys, readKeySet } from "../crypto/message-keys.ts";
import type { AllowRule } from "../targets/addresses.ts";
import { AgentAnswers } from "./agent-answers.ts";
import { type AgentConnection, backOffMs, isReplaced, isRevoked, NoAnswer } from "./agent-connection.ts";
import type { Enrolled, Trust } from "./agent-identity.ts";
import { type AgentJob, type AgentLog, nameOf, workOn } from "./agent-jobs.ts";
import type { Journal } from "./agent-journal.ts";
import { offeredKeys, trustOffered } from "./agent-keys.ts";

export interface AgentParts {
  readonly enrolled: Enrolled;
  readonly keys: FarKeys;
  readonly connection: AgentConnection;
  readonly journal: Journal;
  readonly allow: readonly AllowRule[];
  /** Of Rekey. */
  readonly version: string;
  readonly jobsAtOnce: number;
  /** Longest wait for jobs under way when stopping. */
  readonly drainMs: number;
  readonly log: AgentLog;
  readonly now: () => number;
  /** From 0 up to 1. */
  readonly random: () => number;
  /** Keeps what is trusted from now on. */
  saveTrust(trust: Trust): void;
  /** Aborted when the agent is to stop. */
  readonly stop: AbortSignal;
}

/** Why an agent ended: it was told to, the server knows it no more, or another process with its keys is the agent now. */
export type AgentEnd = "stopped" | "revoked" | "replaced";

/** A poll ends by itself somewhere between these, so that those of many agents spread. */
const pollSeconds = { least: 30, most: 50 };
const signOfLifeMs = 20_000;
const alarmMs = 60_000;
const goodbyeMs = 5_000;
const purgeEveryMs = 60_000;
const trustCheckMs = 600_000;
/** Messages handed out again are kept until there is room for them; more are left to the server. */
const mostWaiting = 128;
const maxMessageChars = 512 * 1024;
const maxAnswerBytes = 8 * 1024 * 1024;
/** How far the clocks may be apart before it is told, and before messages are refused. */
const skewSteps = [
  { ms: 25_000, level: "error", says: "messages are refused from 30 s on" },
  { ms: 5_000, level: "warn", says: "deadlines are missed, and from 30 s on messages are refused" },
] as const;

const alarm =
  "ALARM: the server shows a signing key that does not follow from those that this agent trusts, so it takes no jobs: find out who answers there; if the server was set up anew, remove agent.json from the data folder and enrol again";

const strangerAlarm =
  "ALARM: who answers at the server's address does not know this agent, and shows no signing key that this agent trusts: find out who answers there; it is asked again. If the server was set up anew, remove agent.json from the data folder and enrol again";

const replacedAlarm =
  "ALARM: another process with the keys of this agent has taken its place at the server, so this one ends: somebody runs a copy of its folder; if nobody should, revoke this agent and rotate what it was sent";

const pollAnswer = z.object({
  jobs: z.array(z.object({ id: z.string().max(100), message: z.string().max(maxMessageChars) })).max(1_000),
  serverTime: z.iso.datetime(),
  keys: offeredKeys,
});
type PollAnswer = z.output<typeof pollAnswer>;

interface Poll {
  readonly most: number;
  readonly waitSeconds: number;
  /** When stopping: longest wait, in ms. */
  readonly within?: number;
  /** Nothing is to be sent here any more. */
  readonly leaving?: true;
}

/** Works for the server until it is stopped or revoked; what goes wrong on the way does not end it. */
export async function runAgent(parts: AgentParts): Promise<AgentEnd> {
  return new RunningAgent(parts).run();
}

class RunningAgent {
  readonly #parts: AgentParts;
  /** Tells this run from another one with the same keys. */
  readonly #session = randomUUID();
  readonly #answers: AgentAnswers;
  readonly #running = new Map<string, Promise<void>>();
  readonly #waiting = new Map<string, AgentJob>();
  #trust: Trust;
  /** The server shows keys that do not follow from those that we trust: nothing is taken. */
  #alarmed = false;
  #skewMs: number | undefined;
  #skewTold: string | undefined;
  #failures = 0;
  /** The first poll does not wait: keys and clocks are known before anything is begun. */
  #acquainted = false;
  #purgedAt = 0;
  #trustCheckedAt = 0;
  #slotFreed = Promise.withResolvers<void>();

  constructor(parts: AgentParts) {
    this.#parts = parts;
    this.#trust = parts.enrolled.trust;
    this.#answers = new AgentAnswers(parts);
  }

  async run(): Promise<AgentEnd> {
    const { stop, log, drainMs, enrolled } = this.#parts;
    log.info({ agent: enrolled.agentId, network: enrolled.network }, "the agent starts");
    this.#answers.load();
    let end: AgentEnd | undefined;
    while (!stop.aborted && end === undefined) end = await this.#turn();
    log.info({ jobs: this.#running.size }, "the agent stops: it takes no more, and ends what it works on");
    if (end === undefined) await this.#sayGoodbye();
    if (end === "revoked") this.#answers.drop();
    this.#declineWaiting();
    const tooLong = new AbortController();
    const ranOut = sleep(drainMs, "late", { signal: tooLong.signal }).catch(() => undefined);
    if ((await Promise.race([this.#finish(), ranOut])) === "late")
      log.warn(
        { jobs: [...this.#running.keys()] },
        "stopped before all jobs were done and told; the next start tells them as unknown",
      );
    tooLong.abort();
    return end ?? "stopped";
  }

  /** Why it is over, if it is. */
  async #turn(): Promise<AgentEnd | undefined> {
    const { stop, log, random, enrolled } = this.#parts;
    try {
      await this.#pollOnce();
      if (this.#failures > 0) log.info({}, "the server answers again");
      this.#failures = 0;
    } catch (error) {
      if (!(error instanceof NoAnswer || error instanceof ServiceError)) throw error;
      if (stop.aborted) return undefined;
      if (isRevoked(error) && (await this.#isOurServer())) {
        log.error({}, `the server does not know this agent, or no more (${error.message})`);
        return "revoked";
      }
      if (isReplaced(error)) {
        log.error({ agent: enrolled.agentId, network: enrolled.network }, replacedAlarm);
        return "replaced";
      }
      this.#failures += 1;
      const ms = backOffMs(this.#failures, random);
      log.warn({ failures: this.#failures, nextTryMs: ms }, `the server could not be asked: ${error.message}`);
      await this.#pause(ms);
    }
    return undefined;
  }

  /** Whoever answers at the server's address by mistake is not believed that we are revoked. */
  async #isOurServer(): Promise<boolean> {
    const { connection, log, enrolled } = this.#parts;
    try {
      const offered = await readKeySet(await connection.publishedKeys());
      const trusted = kidsOf(this.#trust);
      if (offered?.some(({ kid }) => trusted.includes(String(kid)))) return true;
      log.error({ network: enrolled.network }, strangerAlarm);
    } catch (error) {
      if (!(error instanceof NoAnswer || error instanceof ServiceError)) throw error;
      log.warn({}, `the server says that it does not know this agent, and does not show its keys: ${error.message}`);
    }
    return false;
  }

  async #pollOnce(): Promise<void> {
    const { jobsAtOnce, random } = this.#parts;
    this.#purge();
    const free = Math.max(0, jobsAtOnce - this.#running.size - this.#waiting.size);
    if (this.#alarmed) {
      await this.#poll({ most: 0, waitSeconds: 0 });
      if (this.#alarmed) await this.#pause(alarmMs * (0.5 + random() / 2));
    } else if (free > 0) {
      const { least, most } = pollSeconds;
      const waitSeconds = this.#acquainted ? least + Math.floor(random() * (most - least + 1)) : 0;
      await this.#poll({ most: this.#acquainted ? Math.min(free, 64) : 0, waitSeconds });
      this.#acquainted = true;
    } else {
      await this.#pause(signOfLifeMs, this.#slotFreed.promise);
      if (this.#running.size >= jobsAtOnce) await this.#poll({ most: 0, waitSeconds: 0 });
    }
  }

  async #poll({ most, waitSeconds, within, leaving }: Poll): Promise<void> {
    const { connection, enrolled, version, allow, now, stop } = this.#parts;
    const input = {
      session: this.#session,
      version,
      kinds: [...new Set(allow.map(({ kind }) => kind))],
      most,
      waitSeconds,
      ...(this.#skewMs === undefined ? {} : { clockSkewMs: this.#skewMs }),
      knownKeys: kidsOf(this.#trust).slice(-50),
      holding: [...this.#running.keys(), ...this.#waiting.keys(), ...this.#answers.ids].slice(0, 256),
      ...(leaving ? { leaving } : {}),
    };
    const askedAt = now();
    const given = await connection.ask("agents/poll", input, {
      token: enrolled.token,
      withinMs: within ?? waitSeconds * 1000 + 15_000,
      maxBytes: maxAnswerBytes,
      ...(within === undefined ? { signal: stop } : {}),
    });
    const { data } = pollAnswer.safeParse(given);
    if (!data) throw new NoAnswer("its answer is not one of Rekey's: is one of the two too old?");
    await this.#take(data, { askedAt, receivedAt: now() });
  }

  async #take(answer: PollAnswer, at: { askedAt: number; receivedAt: number }): Promise<void> {
    const handedOutAt = Date.parse(answer.serverTime);
    this.#compareClocks(handedOutAt, at);
    await this.#followKeys(answer);
    for (const { id, message } of answer.jobs) {
      if (this.#running.has(id) || this.#waiting.size >= mostWaiting) continue;
      this.#waiting.set(id, { id, message, handedOutAt, receivedAt: at.receivedAt });
    }
    this.#startWaiting();
  }

  #startWaiting(): void {
    if (this.#parts.stop.aborted) return;
    for (const [id, job] of this.#waiting) {
      if (this.#running.size >= this.#parts.jobsAtOnce) return;
      this.#waiting.delete(id);
      this.#start(job);
    }
  }

  #start(job: AgentJob, decline?: string): void {
    const parts = {
      ...this.#parts,
      audience: this.#parts.enrolled.arn,
      issuer: this.#parts.enrolled.issuer,
      keySet: () => (this.#alarmed ? [] : this.#trust.keySet),
    };
    const work = workOn(job, parts, decline)
      .then((answer) => answer && this.#answers.add(answer))
      .catch((error: unknown) => parts.log.error({ job: job.id, err: nameOf(error) }, "a job met an error of the agent's own"))
      .finally(() => {
        this.#running.delete(job.id);
        this.#slotFreed.resolve();
        this.#slotFreed = Promise.withResolvers();
        this.#startWaiting();
      });
    this.#running.set(job.id, work);
  }

  /** Takes no more: what is queued may be given to another agent at once. */
  async #sayGoodbye(): Promise<void> {
    try {
      await this.#poll({ most: 0, waitSeconds: 0, within: goodbyeMs }); // what was lost with the poll that was broken off
      await this.#poll({ most: 0, waitSeconds: 0, within: goodbyeMs, leaving: true });
    } catch (error) {
      if (!(error instanceof NoAnswer || error instanceof ServiceError)) throw error;
      this.#parts.log.warn({}, `the server could not be told that this agent stops: ${error.message}`);
    }
  }

  /** What was handed out and is not begun may be given to another agent at once. */
  #declineWaiting(): void {
    for (const job of this.#waiting.values()) this.#start(job, "The agent is being stopped, and has not begun this.");
    this.#waiting.clear();
  }

  async #finish(): Promise<void> {
    await Promise.all(this.#running.values());
    await this.#answers.flushed();
  }

  async #followKeys({ keys }: PollAnswer): Promise<void> {
    const { enrolled, log, now, saveTrust } = this.#parts;
    // Without new ones, old ones may have ended.
    if (keys.length === 0 && !this.#alarmed && now() - this.#trustCheckedAt < trustCheckMs) return;
    this.#trustCheckedAt = now();
    const followed = await trustOffered(this.#trust, keys, now());
    if (!followed) {
      log.error({ network: enrolled.network, keys: kidsOf({ keySet: keys.map(({ key }) => key) }) }, alarm);
    } else if (kidsOf(followed).join() !== kidsOf(this.#trust).join()) {
      saveTrust(followed);
      log.info({ keys: kidsOf(followed) }, "the server's signing keys have changed, each endorsed by the one before");
      this.#trust = followed;
    }
    if (followed && this.#alarmed) log.warn({}, "the server shows a signing key that is trusted: jobs are taken again");
    this.#alarmed = followed === undefined;
  }

  /** Messages bear the time of the server's clock, so that old ones cannot be sent again: both clocks must be right. */
  #compareClocks(serverTime: number, { askedAt, receivedAt }: { askedAt: number; receivedAt: number }): void {
    const ahead = receivedAt - serverTime;
    // The answer may have been under way for as long as the whole call took.
    const skew = ahead > 0 ? Math.max(0, ahead - Math.min(receivedAt - askedAt, 1_000)) : ahead;
    this.#skewMs = Math.max(-86_400_000, Math.min(86_400_000, skew));
    const step = skewSteps.find(({ ms }) => Math.abs(skew) >= ms);
    if (step?.level === this.#skewTold) return;
    this.#skewTold = step?.level;
    const apart = `this machine's clock is ${Math.abs(Math.round(skew / 1000))} s ${skew > 0 ? "ahead of" : "behind"} the server's`;
    if (step) this.#parts.log[step.level]({ clockSkewMs: skew }, `${apart}: ${step.says}; set it right (NTP)`);
    else this.#parts.log.info({ clockSkewMs: skew }, "this machine's clock agrees with the server's again");
  }

  #purge(): void {
    const { journal, log, now } = this.#parts;
    if (now() - this.#purgedAt < purgeEveryMs) return;
    this.#purgedAt = now();
    try {
      journal.purge(now());
    } catch {
      log.error({}, "the journal cannot be written: is its disk full?");
    }
  }

  /** Ends early when the agent is to stop, or with `sooner`. */
  async #pause(ms: number, sooner?: Promise<void>): Promise<void> {
    const over = new AbortController();
    const slept = sleep(ms, undefined, { signal: AbortSignal.any([this.#parts.stop, over.signal]) }).catch(() => undefined);
    await (sooner ? Promise.race([slept, sooner]) : slept);
    over.abort();
  }
}

const kidsOf = ({ keySet }: Pick<Trust, "keySet">): string[] => keySet.flatMap(({ kid = [] }) => kid);
