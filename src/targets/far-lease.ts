import { keyIn } from "../core/network.ts";
import type { FarRoute } from "./far.ts";
import { askFar } from "./far-call.ts";
import type { Created, FoundUser, LeaseFinding, LeaseTarget, LeaseTools } from "./lease-target.ts";

/** The same lease target, whose verbs with a target are run at the far side of a route, one message each. */
export function farLeaseTarget(local: LeaseTarget, route: FarRoute, network?: string): LeaseTarget {
  const { kind, renew, list } = local;
  const ask = <Answer>(verb: string, input: object, { subject, deadlineAt, fence }: LeaseTools) =>
    askFar<Answer>({ route, kind }, `lease.${verb}`, input, { subject: subject ?? crypto.randomUUID(), deadlineAt, fence });
  return {
    ...local,
    target: (connection) => keyIn(network, local.target(connection)),
    verify: (connection, tools) => ask<{ identity: string }>("verify", { connection }, tools),
    check: (connection, settings, tools) => ask<LeaseFinding[]>("check", { connection, settings }, tools),
    create: (connection, settings, user, tools) => ask<Created>("create", { connection, settings, user }, tools),
    ...(renew && { renew: (connection, settings, user, tools) => ask<void>("renew", { connection, settings, user }, tools) }),
    revoke: (connection, settings, user, tools) => ask<void>("revoke", { connection, settings, user }, tools),
    ...(list && {
      list: async (connection, installation, tools) =>
        (await ask<FoundUser[] | null>("list", { connection, installation }, tools)) ?? undefined,
    }),
  } satisfies LeaseTarget;
}
