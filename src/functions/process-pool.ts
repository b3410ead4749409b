import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { RotatorError } from "../core/error.ts";
import type { CallFailure, FunctionRecord } from "../core/function.ts";
import { answered, type CallEnd, ended, notStarted, slowStart, stopped, timedOutEnd } from "./call-failure.ts";
import { type FunctionProcess, startProcess } from "./function-process.ts";
import { environmentOf, type ProcessFunction, type RoleSession } from "./process-environment.ts";
import { ProcessUsers, requireNobodys, type UserRange } from "./process-users.ts";
import type { Program, ProgramCode } from "./program-code.ts";
import type { RuntimeAnswer } from "./runtime-api.ts";

export interface PoolParts {
  /** What process functions run. */
  readonly code: Pick<ProgramCode, "close"> & { find(record: ProcessFunction): ReturnType<ProgramCode["find"]> };
  /** Program that runs Python handlers. */
  readonly python: string;
  /** What they run as; absent: the server's own user. */
  readonly users: UserRange | undefined;
  now(): number;
  /** Address of this server as functions reach it. */
  endpoint(): Promise<string>;
  /** @throws RotatorError `denied` when there is no such role, or it does not let functions in. */
  openSession(record: FunctionRecord, seconds: number): Promise<RoleSession>;
  /** The function's variables. */
  environment(record: FunctionRecord): Promise<Readonly<Record<string, string>>>;
}

/** What a call left behind, to be cleaned of values before anyone sees it. */
export interface CallTrace {
  readonly requestId: string;
  readonly end: CallEnd;
  readonly output: string;
  readonly cut: boolean;
  /** Of the credentials that the process had. */
  readonly secrets: readonly string[];
  readonly startedAt: number;
  readonly endedAt: number;
}

/** For a process to ask for its first call. */
export const startMs = 30_000;
/** Processes that wait for their next call. */
const mostIdle = 8;
const idleMs = 60_000;
/** In all, so that a burst of calls does not take the machine. */
const mostRunning = 32;
/** Credentials live for the call and this long. */
const sparedSeconds = 900;

interface Member {
  readonly process: FunctionProcess;
  readonly of: string;
  readonly functionArn: string;
  readonly session: RoleSession;
  idleTimer?: NodeJS.Timeout;
}

/** Keeps processes of functions warm between calls, a bounded number for a bounded time. */
export class ProcessPool {
  readonly #parts: PoolParts;
  readonly #users: ProcessUsers | undefined;
  readonly #idle: Member[] = [];
  readonly #busy = new Map<string, number>();
  readonly #alive = new Set<Member>();
  readonly #ending = new AbortController();
  readonly #calls = new Set<Promise<unknown>>();

  constructor(parts: PoolParts) {
    this.#parts = parts;
    if (parts.users) requireNobodys(parts.users);
    this.#users = parts.users && new ProcessUsers(parts.users);
  }

  /** Calls the function once. `signal` ends the call, and its process. Never throws for what the function does. */
  async call(record: ProcessFunction, payload: string, signal?: AbortSignal): Promise<CallTrace> {
    const work = this.#call(record, payload, signal);
    this.#calls.add(work);
    return work.finally(() => this.#calls.delete(work));
  }

  /** Ends idle processes of a function that was changed or deleted; busy ones end after their call. */
  forget(functionArn: string): void {
    for (const member of this.#idle.filter((each) => each.functionArn === functionArn)) this.#end(member);
  }

  /** Waits for calls under way, at most `drainMs`; then ends all processes. */
  async close(drainMs: number): Promise<void> {
    for (const member of [...this.#idle]) this.#end(member);
    const done = Promise.allSettled([...this.#calls]);
    const late = new AbortController();
    await Promise.race([done, sleep(drainMs, undefined, { signal: late.signal }).catch(() => undefined)]);
    late.abort();
    this.#ending.abort();
    for (const member of this.#alive) member.process.kill();
    await done;
    await Promise.all([...this.#alive].map(({ process }) => process.exited));
    await this.#parts.code.close();
  }

  async #call(record: ProcessFunction, payload: string, signal: AbortSignal | undefined): Promise<CallTrace> {
    const requestId = randomUUID();
    const startedAt = this.#parts.now();
    const trace = (end: CallEnd, member?: Member): CallTrace => {
      const { text = "", cut = false } = member?.process.takeOutput() ?? {};
      const { accessKeyId = "", secretAccessKey = "", sessionToken = "" } = member?.session ?? {};
      const secrets = [accessKeyId, secretAccessKey, sessionToken];
      return { requestId, end, output: text, cut, secrets, startedAt, endedAt: this.#parts.now() };
    };
    const full = this.#enter(record);
    if (full) return trace(notStarted(record, full));
    const stop = AbortSignal.any([this.#ending.signal, ...(signal ? [signal] : [])]);
    let member: Member | undefined;
    try {
      member = await this.#take(record);
      const end = (await begun(record, member, stop)) ?? (await this.#answer(record, member, { requestId, payload }, stop));
      if (end.failure && end.failure.outcome !== "unknown") member.process.kill();
      await settled(member);
      return trace(end, member);
    } catch (error) {
      if (!(error instanceof RotatorError)) throw error;
      return trace(notStarted(record, { outcome: error.outcome, message: error.message }), member);
    } finally {
      this.#leave(record);
      if (member) this.#giveBack(member, stop.aborted);
    }
  }

  async #answer(
    record: ProcessFunction,
    { process }: Member,
    { requestId, payload }: { requestId: string; payload: string },
    stop: AbortSignal,
  ): Promise<CallEnd> {
    const timeoutMs = record.timeoutSeconds * 1_000;
    const deadlineAt = this.#parts.now() + timeoutMs;
    const call = process.api.call({ requestId, functionArn: record.arn, deadlineAt, payload });
    const end = await firstOf(process, stop, timeoutMs, call);
    if (end === "late") {
      process.kill();
      return timedOutEnd(record, requestId);
    }
    return endOf(record, process, end);
  }

  async #take(record: ProcessFunction): Promise<Member> {
    const { now, code } = this.#parts;
    const program = await code.find(record);
    const of = `${record.arn} ${record.updatedAt} ${program.path} ${program.changedAt}`;
    const enoughUntil = now() + record.timeoutSeconds * 1_000;
    for (;;) {
      const at = this.#idle.findIndex((each) => each.functionArn === record.arn);
      const [found] = at < 0 ? [] : this.#idle.splice(at, 1);
      if (!found) return this.#start(record, program, of);
      clearTimeout(found.idleTimer);
      if (found.of === of && found.session.expiresAt > enoughUntil && !found.process.hasExited()) return found;
      this.#end(found);
    }
  }

  async #start(record: ProcessFunction, { path, within }: Program, of: string): Promise<Member> {
    const { endpoint, openSession, environment, python } = this.#parts;
    const session = await openSession(record, record.timeoutSeconds + sparedSeconds);
    const given = { ...(await environment(record)), ...environmentOf(record, session, await endpoint()) };
    const user = await this.#takeUser();
    const start = { settings: record.process, path, within, python, memoryMiB: record.memoryMiB, environment: given, user };
    const process = await startProcess(start).catch((error: unknown) => {
      if (user !== undefined) this.#users?.giveBack(user);
      throw error;
    });
    const member: Member = { process, of, functionArn: record.arn, session };
    this.#alive.add(member);
    void process.exited.then(() => {
      if (user !== undefined) this.#users?.giveBack(user);
      this.#gone(member);
    });
    return member;
  }

  /** @throws RotatorError `unreachable` when all users have a process. */
  async #takeUser(): Promise<number | undefined> {
    if (!this.#users) return undefined;
    for (;;) {
      const user = await this.#users.take();
      if (user !== undefined) return user;
      const [oldest] = this.#idle;
      if (!oldest) throw new RotatorError("unreachable", "each user of --functions-users runs a function already");
      this.#end(oldest);
      await oldest.process.exited;
    }
  }

  #enter({ arn, concurrency }: ProcessFunction): CallFailure | undefined {
    const inside = this.#busy.get(arn) ?? 0;
    const all = [...this.#busy.values()].reduce((sum, count) => sum + count, 0);
    if (this.#ending.signal.aborted) return { outcome: "unreachable", message: "this server is stopping" };
    if (inside >= concurrency) return { outcome: "unreachable", message: `it runs ${concurrency} times at once already` };
    if (all >= mostRunning) return { outcome: "unreachable", message: `${mostRunning} functions run here at once already` };
    this.#busy.set(arn, inside + 1);
    return undefined;
  }

  #leave({ arn }: ProcessFunction): void {
    const inside = (this.#busy.get(arn) ?? 1) - 1;
    if (inside > 0) this.#busy.set(arn, inside);
    else this.#busy.delete(arn);
  }

  #giveBack(member: Member, isStopped: boolean): void {
    if (member.process.hasExited()) return;
    if (isStopped || this.#ending.signal.aborted) {
      this.#end(member);
      return;
    }
    this.#idle.push(member);
    member.idleTimer = setTimeout(() => this.#end(member), idleMs).unref();
    const [oldest] = this.#idle;
    if (this.#idle.length > mostIdle && oldest) this.#end(oldest);
  }

  #end(member: Member): void {
    member.process.kill();
    this.#gone(member);
  }

  #gone(member: Member): void {
    clearTimeout(member.idleTimer);
    const at = this.#idle.indexOf(member);
    if (at >= 0) this.#idle.splice(at, 1);
    if (member.process.hasExited()) this.#alive.delete(member);
  }
}

type Happened<T> = { readonly answer: T } | { readonly exit: Awaited<FunctionProcess["exited"]> } | "stopped" | "late";

/** What comes first: the answer, the process's end, a stop, or the time. */
async function firstOf<T>(process: FunctionProcess, stop: AbortSignal, ms: number, answer: Promise<T>): Promise<Happened<T>> {
  const timer = new AbortController();
  const signal = AbortSignal.any([stop, timer.signal]);
  const time = sleep(ms, "late" as const, { signal }).catch(() => "stopped" as const);
  try {
    return await Promise.race([answer.then((value) => ({ answer: value })), process.exited.then((exit) => ({ exit })), time]);
  } finally {
    timer.abort();
  }
}

/** Waits until the process asks for a call; what came instead, if it does not. */
async function begun(record: ProcessFunction, { process }: Member, stop: AbortSignal): Promise<CallEnd | undefined> {
  const ready = process.api.ready().then(() => "ready" as const);
  const first = await firstOf(process, stop, startMs, Promise.race([ready, process.api.initFailed]));
  if (first === "late") {
    process.kill();
    return slowStart(record, startMs / 1_000);
  }
  if (first === "stopped" || "exit" in first) return endOf(record, process, first);
  return first.answer === "ready" ? undefined : answered(record, first.answer);
}

function endOf(record: ProcessFunction, process: FunctionProcess, happened: Happened<RuntimeAnswer>): CallEnd {
  if (happened === "stopped" || happened === "late") {
    process.kill();
    return stopped(record, "the server is stopping, or the rotation was ended");
  }
  return "answer" in happened ? answered(record, happened.answer) : ended(record, happened.exit, process.output());
}

/** What the function wrote before its answer may still be on its way. */
async function settled({ process }: Member): Promise<void> {
  await Promise.race([process.api.ready(), process.exited, sleep(200)]);
  await new Promise((resolve) => setImmediate(resolve));
}
