import type { Lease } from "../../core/lease.ts";
import { leaseArn } from "../../core/rekey-arn.ts";
import type { Call } from "../operation.ts";

/** What callers see of a lease: everything but its value. */
export function shownLease(lease: Lease, { services }: Pick<Call, "services">) {
  const { id, project, config, dynamicSecret } = lease;
  return {
    Id: id,
    Arn: leaseArn(services, project, config, dynamicSecret, id),
    Project: project,
    Config: config,
    DynamicSecret: dynamicSecret,
    Type: lease.type,
    Target: lease.target,
    User: lease.name,
    Principal: lease.principal,
    Workload: lease.workload,
    State: lease.state,
    Why: lease.reason,
    Shares: lease.shares,
    CreatedAt: new Date(lease.createdAt),
    ExpiresAt: new Date(lease.expiresAt),
    MaxExpiresAt: new Date(lease.maxExpiresAt),
    FailedTries: lease.attempt,
    Outcome: lease.outcome === "ok" ? undefined : lease.outcome,
    Reason: lease.error,
    NextTryAt: lease.state === "revoking" && lease.attempt > 0 ? dateOf(lease.dueAt) : undefined,
    LastTryAt: dateOf(lease.lastTryAt),
    EndedAt: dateOf(lease.endedAt),
  };
}

const dateOf = (atMs: number | undefined): Date | undefined => (atMs === undefined ? undefined : new Date(atMs));
