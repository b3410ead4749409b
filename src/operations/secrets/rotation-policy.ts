import { z } from "zod";
import { planHeartbeat } from "../../core/heartbeat.ts";
import { changedPolicy, policyMembers, type RotationPolicy } from "../../core/rotation-policy.ts";
import { explainNext, replanRotation } from "../../core/rotation-schedule.ts";
import type { Secret } from "../../core/secret.ts";
import { addEvent } from "../../store/events.ts";
import { noteNetworkOf } from "../../store/networks.ts";
import { changeSecret } from "../../store/secrets.ts";
import { secretId } from "../input.ts";
import { networkName, requireNetwork, useNetwork } from "../networks/network-input.ts";
import { defineOperation } from "../operation.ts";
import { existing, notFound, requireWritable, type SecretResource, secretResource, usable } from "./secret-resource.ts";

const dayInSeconds = 86_400;
const yearInSeconds = 366 * dayInSeconds;

const policyShape = {
  RetireAfterSeconds: z.int().min(0).max(yearInSeconds).optional(),
  RetireOnEvidence: z.boolean().optional(),
  TimeZone: z.string().min(1).max(64).optional(),
  Blackouts: z.array(z.string().min(1).max(64)).max(64).optional(),
  JitterSeconds: z.int().min(0).max(dayInSeconds).optional(),
  Endpoints: z
    .array(z.object({ Host: z.string().min(1).max(253), Port: z.int().min(1).max(65_535).optional() }))
    .max(32)
    .optional(),
  EndpointQuorum: z.int().min(0).max(32).optional(),
  HeartbeatSeconds: z.int().min(60).max(yearInSeconds).optional(),
  Repair: z.boolean().optional(),
  Password: z
    .object({
      Length: z.int().min(16).max(256).optional(),
      Exclude: z.string().min(1).max(95).optional(),
      UrlSafe: z.boolean().optional(),
    })
    .optional(),
  ReadPending: z.boolean().optional(),
  MaxPerTarget: z.int().min(1).max(1000).optional(),
  Network: networkName.optional(),
};
const putInput = z.object({
  SecretId: secretId,
  ...policyShape,
  Clear: z.array(z.enum(policyMembers)).max(policyMembers.length).optional(),
});
type PutInput = z.infer<typeof putInput>;

/** What is given stands in for what was there; what is left out stays; Clear names what goes. */
const putRotationPolicy = defineOperation<PutInput, SecretResource>({
  name: "PutRotationPolicy",
  action: "rekey:PutRotationPolicy",
  noun: "rotations",
  verb: "put-policy",
  mode: "write",
  summary: "Sets what a secret's rotations keep to beyond AWS's rules: time zone, blackouts, retirement, replicas, passwords.",
  input: putInput,
  resource: (request, call) => secretResource(request, call),
  // New values are shown to these hosts: whoever names them could read them there.
  // And to whoever works in that network, under whatever host name there.
  permissions: ({ Endpoints, Network, Clear = [] }, found, call) => [
    ...(Endpoints?.length || Network !== undefined || Clear.includes("network")
      ? [{ action: "secretsmanager:GetSecretValue", resource: found }]
      : []),
    ...useNetwork(Network, call),
  ],
  async run({ SecretId: _, Clear = [], ...members }, found, call) {
    const { id } = usable(found);
    const given: RotationPolicy = renamed(members, (name) => name[0]?.toLowerCase() + name.slice(1));
    const changed = await call.transaction(async (tx) => {
      const saved = await changeSecret(tx, id, (before) => {
        requireWritable(before);
        const after = { ...before, rotationPolicy: changedPolicy(before.rotationPolicy, given, Clear) };
        return planHeartbeat(replanRotation(before, after, call.startedAt, Math.random()), call.startedAt, Math.random());
      });
      if (!saved) throw notFound();
      await requireNetwork(tx, given.network);
      await noteNetworkOf(tx, id, saved.rotationPolicy?.network);
      const { arn, generation } = saved;
      await addEvent(tx, { at: call.startedAt, type: "rotation.policy-changed", resource: arn, generation, detail: {} });
      return saved;
    });
    call.services.wakeEngine();
    return shown(changed);
  },
});

const getInput = z.object({ SecretId: secretId });

const getRotationPolicy = defineOperation<z.infer<typeof getInput>, SecretResource>({
  name: "GetRotationPolicy",
  action: "rekey:GetRotationPolicy",
  noun: "rotations",
  verb: "get-policy",
  mode: "read",
  summary: "Shows what a secret's rotations keep to beyond AWS's rules, when the next one begins, and why then.",
  input: getInput,
  resource: (request, call) => secretResource(request, call),
  run: async (_request, found) => shown(existing(found)),
});

export const rotationPolicyOperations = [putRotationPolicy, getRotationPolicy];

function shown(secret: Secret) {
  const { startsAt, windowEndsAt, reason } = explainNext(secret);
  return {
    ARN: secret.arn,
    Name: secret.name,
    RotationPolicy: renamed(secret.rotationPolicy ?? {}, (name) => name[0]?.toUpperCase() + name.slice(1)),
    NextRotation: {
      StartDate: startsAt === undefined ? undefined : new Date(startsAt),
      WindowEndsDate: windowEndsAt === undefined ? undefined : new Date(windowEndsAt),
      Reason: reason,
    },
  };
}

/** The same with other names of its members, at every depth: AWS's capitals outside, ours inside. */
function renamed<Renamed>(value: unknown, rename: (name: string) => string): Renamed {
  return renameAll(value, rename) as Renamed;
}

function renameAll(value: unknown, rename: (name: string) => string): unknown {
  if (Array.isArray(value)) return value.map((item) => renameAll(item, rename));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [rename(name), renameAll(item, rename)]));
}
