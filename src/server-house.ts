import type { Logger } from "pino";
import type { Authenticator } from "./auth/authenticate.ts";
import type { AuditLog } from "./store/audit.ts";
import type { LastReads } from "./store/last-reads.ts";
import type { Noted } from "./worker-notes.ts";

const housekeepingMs = 2_000;

export interface HouseParts {
  readonly audit: AuditLog;
  readonly reads: LastReads;
  readonly authenticator: Authenticator;
  readonly log: Logger;
  /** Stores what was noted. What it rejects is kept and tried again. */
  keep(noted: Noted): Promise<void>;
}

/** Writes what is gathered in memory, now and then and at the end. */
export function keepHouse(opened: AsyncDisposableStack, { audit, reads, authenticator, log, keep }: HouseParts): void {
  let waiting: Noted | undefined;
  const flush = async () => {
    waiting ??= { reads: reads.take(), uses: authenticator.takeLastUses() };
    await keep(waiting);
    waiting = undefined;
    await audit.ship();
  };
  let running = Promise.resolve();
  const next = () => {
    running = running.then(flush).catch((error: unknown) => log.error({ err: error }, "housekeeping"));
    return running;
  };
  const timer = setInterval(() => void next(), housekeepingMs);
  opened.defer(async () => {
    clearInterval(timer);
    await next();
    if (waiting) await next();
  });
}
