import { performance } from "node:perf_hooks";
import type { Logger } from "pino";
import type { Authenticator } from "./auth/authenticate.ts";
import type { AgentDesk } from "./store/agent-desk.ts";
import type { AuditLog } from "./store/audit.ts";
import type { LastReads } from "./store/last-reads.ts";
import type { Noted } from "./worker-notes.ts";

const housekeepingMs = 2_000;
/**
 * Share of time in which this process has work; beyond it requests come first: records wait in their segments to be made
 * searchable, and notes are written less often, since each is a row and each commit has the caches look again at what they hold.
 */
const busyShare = 0.5;
const notesWhenBusyMs = 20_000;
const shippedWhenBusy = 400;
const shippedWhenQuiet = 4_000;

export interface HouseParts {
  readonly audit: AuditLog;
  readonly reads: LastReads;
  readonly authenticator: Authenticator;
  /** Absent: agents do not come here. */
  readonly agents?: AgentDesk | undefined;
  readonly log: Logger;
  /** Stores what was noted. What it rejects is kept and tried again. */
  keep(noted: Noted): Promise<void>;
}

/** Writes what is gathered in memory, now and then and at the end. */
export function keepHouse(opened: AsyncDisposableStack, { audit, reads, authenticator, agents, log, keep }: HouseParts): void {
  let waiting: Noted | undefined;
  let writtenAt = 0;
  let utilization = performance.eventLoopUtilization();
  const isBusy = (): boolean => {
    const before = utilization;
    utilization = performance.eventLoopUtilization();
    return performance.eventLoopUtilization(utilization, before).utilization > busyShare;
  };
  const flush = async (final: boolean) => {
    const busy = isBusy() && !final;
    if (!busy || Date.now() - writtenAt >= notesWhenBusyMs) {
      waiting ??= { reads: reads.take(), uses: authenticator.takeLastUses() };
      await keep(waiting);
      await agents?.save();
      waiting = undefined;
      writtenAt = Date.now();
    }
    await audit.ship(busy ? shippedWhenBusy : shippedWhenQuiet);
  };
  let running = Promise.resolve();
  const next = (final = false) => {
    running = running.then(() => flush(final)).catch((error: unknown) => log.error({ err: error }, "housekeeping"));
    return running;
  };
  const timer = setInterval(() => void next(), housekeepingMs);
  opened.defer(async () => {
    clearInterval(timer);
    await next(true);
    if (waiting) await next(true);
  });
}
