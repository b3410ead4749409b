import type { Lease } from "../core/lease.ts";
import { leaseArn, type Place } from "../core/rekey-arn.ts";
import { logActivity } from "./activity.ts";
import { addEvent, type NewEvent } from "./events.ts";
import type { Sql } from "./sql.ts";

type LeaseEvent = "issued" | "renewed" | "revoked" | "expired" | "failed" | "revoke_failed" | "orphan_found";

const words: Readonly<Record<LeaseEvent, string>> = {
  issued: "Issued",
  renewed: "Renewed",
  revoked: "Revoked",
  expired: "Expired and removed",
  failed: "Could not issue",
  revoke_failed: "Failed to revoke",
  orphan_found: "Found without a lease and queued for revocation",
};

export interface LeaseNote {
  readonly event: LeaseEvent;
  readonly at: number;
  /** Who did it; absent: it happened by itself. */
  readonly by?: { readonly arn: string; readonly name: string } | undefined;
  readonly detail?: NewEvent["detail"];
  /** Further words, e.g. why. */
  readonly more?: string | undefined;
}

/** Tells of a change to a lease, in its transaction: an event, and an activity in words that name the user at the target. */
export async function noteLease(tx: Sql, place: Place, lease: Lease, { event, at, by, detail, more }: LeaseNote): Promise<void> {
  const { id, project, config, dynamicSecret, name, target, principal, workload } = lease;
  await addEvent(tx, {
    at,
    type: `lease.${event}`,
    resource: leaseArn(place, project, config, dynamicSecret, id),
    detail: {
      leaseId: id,
      dynamicSecret,
      project,
      config,
      user: name,
      target,
      principal,
      ...(workload === undefined ? {} : { workload }),
      ...detail,
    },
  });
  await logActivity(tx, {
    at,
    principal: by?.arn ?? "rekey",
    principalName: by?.name ?? "Rekey",
    text: `${words[event]} ${lease.type} user ${name} at ${target} for dynamic secret ${dynamicSecret} (lease ${id})${more ? `: ${more}` : ""}`,
    ...(project === "" ? {} : { project, config }),
  });
}
