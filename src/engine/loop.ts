import { abandonAllJobs } from "../store/agent-jobs.ts";
import { anyDue, nextDueAt } from "../store/due.ts";
import { type Claim, claimDue, releaseAllClaims } from "../store/rotation-claims.ts";
import type { Sql } from "../store/sql.ts";
import { AgentHouse, AgentReturns } from "./agent-house.ts";
import { Breakers } from "./breaker.ts";
import { Caps } from "./caps.ts";
import { Clock } from "./clock.ts";
import { Deliveries } from "./deliver.ts";
import { FunctionCodes } from "./function-code.ts";
import { Heartbeats } from "./heartbeat.ts";
import { TargetJobs } from "./jobs.ts";
import { LeaseHouse } from "./lease-house.ts";
import { LeaseOrphans } from "./lease-orphans.ts";
import { Leases } from "./leases.ts";
import type { EngineParts } from "./parts.ts";
import { History, purgePage } from "./purge.ts";
import { QuarantineWatch } from "./quarantine.ts";
import { copyDueReplicas } from "./replicate.ts";
import { Retirements } from "./retirements.ts";
import { Rewrapping } from "./rewrap.ts";
import { rotate } from "./rotate.ts";
import { startDueRotations } from "./start-due.ts";
import { ZoneRules } from "./zone-rules.ts";

/** Longest without looking, since other nodes and processes cannot wake this one. */
const longestSleepMs = 1_000;
const pauseAfterErrorMs = 1_000;

export interface Engine extends AsyncDisposable {
  /** Work may be due now. A hint: the engine looks about once a second anyway. */
  wake(): void;
  /** Takes no more work, and resolves when what is under way has been recorded. */
  stop(): Promise<void>;
}

/** Starts what happens by itself: due rotations, purges and copies to replicas, found in the store; no timer for any row. */
export function startEngine(given: EngineParts): Engine {
  const clock = new Clock(given);
  const parts: EngineParts = { ...given, now: clock.now };
  const alarm = new Alarm();
  const running = new Set<Promise<void>>();
  const { perTarget, concurrency, warmUpMs } = parts.settings;
  const fullFrom = parts.now() + warmUpMs;
  /** After a start, when much may be due at once, half of what is allowed. */
  const allowed = (most: number) => (parts.now() < fullFrom ? Math.ceil(most / 2) : most);
  const caps = new Caps(() => allowed(perTarget));
  const limits = { caps, breakers: new Breakers(() => parts.now()) };
  const jobs = new TargetJobs(parts, caps, () => alarm.ring());
  const heartbeats = new Heartbeats(parts, limits, () => alarm.ring());
  const retirements = new Retirements(parts, limits, () => alarm.ring());
  const leases = new Leases(parts, limits, () => alarm.ring());
  const leaseOrphans = new LeaseOrphans(parts, limits, () => alarm.ring());
  const leaseHouse = new LeaseHouse(parts);
  const functionCodes = new FunctionCodes(parts, () => alarm.ring());
  const deliveries = new Deliveries(parts, () => alarm.ring());
  let stopping = false;

  const work = (claim: Claim): void => {
    const job = rotate(parts, claim, limits)
      .catch((error: unknown) =>
        parts.log.error({ err: error, rotationId: claim.rotation.id }, "a rotation could not be recorded"),
      )
      .finally(() => {
        running.delete(job);
        alarm.ring();
      });
    running.add(job);
  };

  const claimMore = async (): Promise<void> => {
    const { node, claimMs, ownsStore } = parts.settings;
    while (!stopping && running.size < allowed(concurrency)) {
      const nowMs = parts.now();
      if (!(await anyDue(parts.sql, "rotations", nowMs))) return;
      // Nodes that share a store take turns.
      const limit = ownsStore ? allowed(concurrency) - running.size : 1;
      const claimed = (tx: Sql) => claimDue(tx, { node, nowMs, untilMs: nowMs + claimMs, limit });
      // What a rotation does first is durable before anything happens at its target, and the claim with it.
      const claims = await parts.sql.transaction(claimed, { durable: false });
      if (claims.length === 0) return;
      for (const claim of claims) work(claim);
    }
  };

  const quarantine = new QuarantineWatch(parts);
  const zoneRules = new ZoneRules(parts);
  const rewrapping = new Rewrapping(parts);
  const history = new History(parts);
  const agentHouse = new AgentHouse(parts);
  const agentReturns = new AgentReturns(parts, limits.breakers);
  let released = !parts.settings.ownsStore;
  const lookAtClock = async (): Promise<boolean> => {
    if (await clock.look()) released = !parts.settings.ownsStore;
    return false;
  };
  const kinds = [
    lookAtClock,
    () => zoneRules.page(),
    () => agentReturns.page(),
    () => startDueRotations(parts),
    () => claimMore().then(() => false),
    () => leases.begin(clock.isSettled),
    () => leaseOrphans.begin(),
    () => leaseHouse.page(),
    () => jobs.begin(),
    () => heartbeats.begin(),
    () => deliveries.begin(),
    () => functionCodes.begin(),
    () => clock.isSettled && retirements.begin(),
    () => purgePage(parts),
    () => copyDueReplicas(parts),
    () => rewrapping.page(),
    () => history.page(),
    () => agentHouse.page(),
  ];

  /** True when there is more to do at once. One kind of work that fails does not keep the others from being done. */
  const round = async (): Promise<boolean> => {
    let more = false;
    let failure: unknown;
    for (const kind of kinds) {
      try {
        more = (await kind()) || more;
      } catch (error) {
        parts.log.error({ err: error }, "the engine met an error and goes on");
        failure ??= error;
      }
    }
    if (failure !== undefined) await alarm.sleep(pauseAfterErrorMs);
    return more && failure === undefined;
  };

  const sleepMs = async (): Promise<number> => {
    if (
      !clock.isSettled ||
      running.size >= allowed(concurrency) ||
      retirements.full ||
      jobs.full ||
      heartbeats.full ||
      deliveries.full
    )
      return longestSleepMs;
    const dueAt = Math.min((await nextDueAt(parts.sql)) ?? Number.POSITIVE_INFINITY, leases.nextAt);
    return dueAt === Number.POSITIVE_INFINITY ? longestSleepMs : Math.min(Math.max(dueAt - parts.now(), 1), longestSleepMs);
  };

  const run = async (): Promise<void> => {
    while (!stopping) {
      try {
        // Whatever does not run here, is held by nobody.
        if (!released && running.size === 0) {
          await abandonAllJobs(parts.sql);
          await releaseAllClaims(parts.sql);
          released = true;
        }
        if (await quarantine.holds()) await alarm.sleep(longestSleepMs);
        else if (!(await round())) await alarm.sleep(await sleepMs());
      } catch (error) {
        parts.log.error({ err: error }, "the engine met an error and goes on");
        await alarm.sleep(pauseAfterErrorMs);
      }
    }
  };

  const ended = run();
  const stop = async (): Promise<void> => {
    stopping = true;
    alarm.ring();
    await ended;
    await Promise.all([...running, jobs.stop(), heartbeats.stop(), retirements.stop(), deliveries.stop(), functionCodes.stop()]);
  };
  return { wake: () => alarm.ring(), stop, [Symbol.asyncDispose]: stop };
}

/** A sleep that can be ended; a ring while nobody sleeps ends the next sleep at once. */
class Alarm {
  #rung = false;
  #end: (() => void) | undefined;

  ring(): void {
    this.#rung = true;
    this.#end?.();
  }

  async sleep(ms: number): Promise<void> {
    if (!this.#rung) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, ms);
        this.#end = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    this.#rung = false;
    this.#end = undefined;
  }
}
