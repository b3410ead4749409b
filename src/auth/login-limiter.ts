import { networkOf } from "../core/address.ts";
import { ServiceError } from "../core/error.ts";

export interface LimiterOptions {
  /** Failed logins from one address within the window before further tries are refused unheard. Default 100. */
  readonly maxFailures?: number;
  /** Default one minute. */
  readonly windowMs?: number;
  /** Addresses remembered at once; the one that failed longest ago is forgotten first. Default 10,000. */
  readonly maxAddresses?: number;
}

/** Counts failed logins by source address. Other addresses never feel it, and a window without tries clears it. */
export interface LoginLimiter {
  /** @throws ServiceError ThrottlingException when the address has failed too often. */
  check(address: string, nowMs: number): void;
  failed(address: string, nowMs: number): void;
}

export function createLoginLimiter({
  maxFailures = 100,
  windowMs = 60_000,
  maxAddresses = 10_000,
}: LimiterOptions): LoginLimiter {
  const failures = new Map<string, { count: number; since: number }>();
  const current = (address: string, nowMs: number) => {
    const entry = failures.get(networkOf(address));
    return entry && nowMs - entry.since < windowMs ? entry : undefined;
  };
  return {
    check(address, nowMs) {
      if (failures.size === 0) return; // the usual case
      const entry = current(address, nowMs);
      if (entry && entry.count >= maxFailures) throw new ServiceError("ThrottlingException", "Rate exceeded");
    },
    failed(address, nowMs) {
      const entry = current(address, nowMs) ?? { count: 0, since: nowMs };
      failures.delete(networkOf(address)); // to the end: the first one failed longest ago
      failures.set(networkOf(address), { ...entry, count: entry.count + 1 });
      const oldest = failures.keys().next();
      if (failures.size > maxAddresses && !oldest.done) failures.delete(oldest.value);
    },
  };
}
