import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import type { Lease } from "../../core/lease.ts";
import { leaseArn } from "../../core/rekey-arn.ts";
import { noteLease } from "../../store/lease-events.ts";
import { askRenewal, beginRevocation, dropShare, extendLease, findLease, listLeases } from "../../store/leases.ts";
import type { Sql } from "../../store/sql.ts";
import { who } from "../configs/activity.ts";
import { projectResource } from "../configs/config-resource.ts";
import { type Call, defineOperation, type Operation, type Resource } from "../operation.ts";
import { readPageToken, writePageToken } from "../secrets/page-token.ts";
import { targetOf } from "./connection.ts";
import { configMembers, dynamicSecretName, ttlSeconds } from "./dynamic-secret-input.ts";
import { requireNoQuarantine } from "./issue.ts";
import { byId, existing, type LeaseResource, leaseId, leaseResource, noLease } from "./lease-resource.ts";
import { shownLease } from "./lease-shown.ts";

const renewalWaitMs = 20_000;
const revocationWaitMs = 10_000;
const lookAgainMs = 250;

const getLease = defineOperation<z.infer<typeof byId>, LeaseResource>({
  name: "GetLease",
  action: "rekey:GetLease",
  noun: "leases",
  verb: "get",
  mode: "read",
  summary: "Shows how a lease stands, without its value.",
  input: byId,
  resource: leaseResource,
  run: async (_input, found, call) => ({ Lease: shownLease(existing(found), call) }),
});

const listInput = z.object({
  ...configMembers,
  DynamicSecret: dynamicSecretName.optional(),
  /** ARN. */
  Principal: z.string().min(1).max(2048).optional(),
  State: z.enum(["creating", "active", "revoking", "ended"]).optional(),
  /** Name at the target. */
  User: z.string().min(1).max(512).optional(),
  MaxResults: z.int().min(1).max(1000).default(100),
  NextToken: z.string().min(1).max(4096).optional(),
});
type ListInput = z.infer<typeof listInput>;

/** Which leases are asked for, by project id and config name. */
interface ScopeResource extends Resource {
  readonly project: string | undefined;
  readonly config: string | undefined;
}

/** One pattern names them all: `lease/PROJECT/CONFIG/NAME/*`, with `*` for what was not said. */
async function scopeResource(input: Pick<ListInput, "Project" | "Config" | "DynamicSecret">, call: Call): Promise<ScopeResource> {
  const { asked, project, config } = await scopeOf(input, call);
  const all = (id = "*") => leaseArn(call.services, id, config ?? "*", input.DynamicSecret ?? "*", "*");
  return { arn: all(project), shown: all(asked), context: {}, project, config };
}

async function scopeOf({ Project, Config }: Pick<ListInput, "Project" | "Config">, call: Call) {
  const bound = call.principal.boundConfig;
  const asked = Project || bound?.project;
  const config = Config || bound?.config;
  if (!asked && config) throw new ServiceError("ValidationException", "A config is named by its project too: give Project.");
  if (!asked) return { asked: undefined, project: undefined, config: undefined };
  const { project } = await projectResource({ Project: asked }, call);
  return { asked, project: project?.id ?? asked, config: config || undefined };
}

const list = defineOperation<ListInput, ScopeResource>({
  name: "ListLeases",
  action: "rekey:ListLeases",
  noun: "leases",
  verb: "list",
  mode: "read",
  summary:
    "Lists leases, newest first; a page may have few while others follow: a cursor is given as long as there are more to look at.",
  input: listInput,
  resource: scopeResource,
  async run({ DynamicSecret, Principal, State, User, MaxResults, NextToken }, { project, config }, call) {
    const scope = `leases ${[project, config, DynamicSecret, Principal, State, User].map((part) => part ?? "").join(" ")}`;
    const { leases, next } = await listLeases(call.sql, {
      project,
      config,
      dynamicSecret: DynamicSecret,
      principal: Principal,
      state: State,
      user: User,
      limit: MaxResults,
      after: NextToken === undefined ? undefined : positionIn(NextToken, scope),
    });
    return {
      Leases: leases.map((lease) => shownLease(lease, call)),
      ...(next && { NextToken: writePageToken(scope, [next.createdAt, next.id]) }),
    };
  },
});

function positionIn(token: string, scope: string) {
  const [createdAt, id] = readPageToken(token, scope);
  return { createdAt: Number(createdAt), id: String(id) };
}

const renewInput = z.object({ LeaseId: leaseId, TtlSeconds: ttlSeconds.optional() });

const renewLease = defineOperation<z.infer<typeof renewInput>, LeaseResource>({
  name: "RenewLease",
  action: "rekey:RenewLease",
  noun: "leases",
  verb: "renew",
  mode: "write",
  summary: "Lets a lease live for longer, from now on, up to the maximum that it began with; never for shorter.",
  input: renewInput,
  resource: leaseResource,
  async run({ TtlSeconds }, found, call) {
    const lease = existing(found);
    const { services } = call;
    const target = await targetOf(services, lease.type);
    if (!target.renewable)
      throw new ServiceError("InvalidRequestException", `A lease at ${lease.type} cannot be renewed: issue another one.`);
    const nowMs = services.now();
    const lifeMs = TtlSeconds === undefined ? lease.expiresAt - lease.createdAt : TtlSeconds * 1_000;
    const to = Math.min(nowMs + lifeMs, lease.maxExpiresAt);
    if (to > lease.expiresAt && target.renew) await renewAtTarget(call, lease, to);
    const renewed = await call.transaction(async (tx) => {
      // What the target was told is on record already: this says so, and is refused once its end has begun.
      const known = target.renew ? (await findLease(tx, lease.id))?.expiresAt : undefined;
      const after = await extendLease(tx, lease.id, target.renew ? (known ?? lease.expiresAt) : to, services.now());
      if (!after) throw notActive(await findLease(tx, lease.id));
      await note(tx, call, after);
      return after;
    });
    return { Lease: shownLease(renewed, call) };
  },
});

/** Has the engine tell the target of the later end, and waits for that. @throws ServiceError when that cannot be confirmed */
async function renewAtTarget(call: Call, { id }: Lease, to: number): Promise<void> {
  const { services } = call;
  await services.sql.transaction(async (tx) => {
    await requireNoQuarantine(tx);
    if (!(await askRenewal(tx, id, to, services.now()))) throw notActive(await findLease(tx, id));
  });
  services.wakeEngine();
  const lease = await waitFor(call, id, renewalWaitMs, ({ state, renewTo }) => state !== "active" || renewTo === undefined);
  if (lease?.state !== "active") throw notActive(lease);
  if (lease.expiresAt >= to) return;
  throw new ServiceError(
    "InvalidRequestException",
    `The lease was not renewed and ends at ${new Date(lease.expiresAt).toISOString()}: ${lease.error ?? "nothing was heard from the target in time; try again"}.`,
  );
}

function notActive(lease: Lease | undefined): ServiceError {
  if (!lease) return noLease();
  const why = {
    creating: "is still being made",
    active: "was not handed out or its time is over",
    revoking: "is being ended",
    ended: "has ended",
  };
  return new ServiceError("InvalidRequestException", `The lease ${why[lease.state]}: it cannot be renewed. Issue another one.`);
}

/** The lease once it is what is waited for, or as it is when the time is over. */
async function waitFor({ services }: Call, id: string, ms: number, is: (lease: Lease) => boolean): Promise<Lease | undefined> {
  const until = performance.now() + ms;
  for (;;) {
    const told = services.hints.wait(`lease/${id}`, lookAgainMs); // before the look: nothing is missed in between
    const lease = await findLease(services.sql, id);
    if (!lease || is(lease) || performance.now() >= until) return lease;
    await told;
  }
}

const note = (tx: Sql, call: Call, lease: Lease): Promise<void> => {
  const { principal: arn, principalName: name } = who(call);
  const at = call.services.now();
  return noteLease(tx, call.services, lease, { event: "renewed", at, by: { arn, name }, detail: { expiresAt: lease.expiresAt } });
};

const revokeInput = z.object({ LeaseId: leaseId, UnlessShared: z.boolean().optional() });

const revokeLease = defineOperation<z.infer<typeof revokeInput>, LeaseResource>({
  name: "RevokeLease",
  action: "rekey:RevokeLease",
  noun: "leases",
  verb: "revoke",
  mode: "write",
  summary: "Ends a lease. What cannot be ended now is tried for ever; with UnlessShared it stays while others hold it.",
  input: revokeInput,
  resource: leaseResource,
  async run({ UnlessShared = false }, found, call) {
    const { id } = existing(found);
    const isKept = await call.transaction(async (tx) => {
      if (UnlessShared && ((await dropShare(tx, id)) ?? 0) > 0) return true;
      await beginRevocation(tx, id, "revoked", call.services.now());
      return false;
    });
    if (!isKept) call.services.wakeEngine();
    const lease = await waitFor(
      call,
      id,
      isKept ? 0 : revocationWaitMs,
      ({ state, attempt }) => state === "ended" || attempt > 0,
    );
    if (!lease) throw noLease();
    return { Lease: shownLease(lease, call), Revoked: lease.state === "ended" };
  },
});

export const leaseOperations: readonly Operation[] = [getLease, list, renewLease, revokeLease];
