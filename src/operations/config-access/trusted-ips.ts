import { z } from "zod";
import { parseRange } from "../../core/address.ts";
import { ServiceError } from "../../core/error.ts";
import { anywhere, isTrusted, maxTrustedIps } from "../../core/trusted-ip.ts";
import { logActivity } from "../../store/activity.ts";
import { type Config, lockConfig } from "../../store/configs.ts";
import type { Sql } from "../../store/sql.ts";
import { setTrustedIps } from "../../store/trusted-ips.ts";
import { type ConfigResource, configResource, existingConfig } from "../configs/config-resource.ts";
import { type Call, defineOperation, type Operation } from "../operation.ts";
import { actor, configMembers, placeOf } from "./access-input.ts";

const rangesOf = ({ trustedIps }: Pick<Config, "trustedIps">): readonly string[] =>
  trustedIps === undefined ? anywhere : (JSON.parse(trustedIps) as string[]);

/**
 * Refuses callers whose address the config does not trust, whoever they are; after authorization, by everything that reads or
 * writes its secrets or issues its leases. Whoever may manage the list can do so from anywhere: nobody locks everybody out.
 * @throws ServiceError AccessDeniedException
 */
export function refuseUntrusted({ sourceIp }: Pick<Call, "sourceIp">, config: Pick<Config, "name" | "trustedIps">): void {
  if (config.trustedIps === undefined || isTrusted(rangesOf(config), sourceIp)) return;
  throw new ServiceError(
    "AccessDeniedException",
    `Config ${config.name} does not trust address ${sourceIp}; whoever may manage its trusted IPs can add it.`,
  );
}

const ofConfig = z.object(configMembers);
const withIp = z.object({ ...configMembers, Ip: z.string().min(2).max(64) });
type WithIp = z.infer<typeof withIp>;

/** @throws ServiceError ValidationException */
function checkRange({ Ip }: WithIp): void {
  if (!parseRange(Ip)) throw new ServiceError("ValidationException", "Ip must be an address or a CIDR range such as 10.0.0.0/8.");
}

const listTrustedIps = defineOperation<z.infer<typeof ofConfig>, ConfigResource>({
  name: "ListTrustedIps",
  action: "rekey:ListTrustedIps",
  noun: "trusted-ips",
  verb: "list",
  mode: "read",
  summary: "Lists the addresses from which a config's secrets may be used.",
  input: ofConfig,
  resource: configResource,
  run: async (_input, found) => ({ Ips: rangesOf(existingConfig(found)) }),
});

const addTrustedIp = defineOperation<WithIp, ConfigResource>({
  name: "AddTrustedIp",
  action: "rekey:AddTrustedIp",
  noun: "trusted-ips",
  verb: "add",
  mode: "write",
  summary: "Lets a config's secrets be used from an address or CIDR range; the first ones are 0.0.0.0/0 and ::/0, anywhere.",
  input: withIp,
  check: checkRange,
  resource: configResource,
  async run({ Ip }, found, call) {
    const config = existingConfig(found);
    const added = await call.transaction((tx) =>
      change(tx, call, config, { text: `trusted ${Ip}` }, (ips) => (ips.includes(Ip) ? undefined : [...ips, Ip])),
    );
    return { Ip, Added: added };
  },
});

const deleteTrustedIp = defineOperation<WithIp, ConfigResource>({
  name: "DeleteTrustedIp",
  action: "rekey:DeleteTrustedIp",
  noun: "trusted-ips",
  verb: "delete",
  mode: "write",
  summary: "Takes an address or range off the list; secrets of a config whose list is empty can be used from nowhere.",
  input: withIp,
  check: checkRange,
  resource: configResource,
  async run({ Ip }, found, call) {
    const config = existingConfig(found);
    const removed = await call.transaction((tx) =>
      change(tx, call, config, { text: `no longer trusts ${Ip}` }, (ips) =>
        ips.includes(Ip) ? ips.filter((ip) => ip !== Ip) : undefined,
      ),
    );
    if (!removed) throw new ServiceError("ResourceNotFoundException", `${Ip} is not among the trusted IPs of ${config.name}.`);
    return {};
  },
});

/** False when there was nothing to change. */
async function change(
  tx: Sql,
  call: Call,
  { id }: Config,
  { text }: { text: string },
  next: (ips: readonly string[]) => readonly string[] | undefined,
): Promise<boolean> {
  const config = await lockConfig(tx, id);
  if (!config) throw new ServiceError("ResourceNotFoundException", "The config does not exist any more.");
  const ips = next(rangesOf(config));
  if (!ips) return false;
  if (ips.length > maxTrustedIps)
    throw new ServiceError("LimitExceededException", `A config can have ${maxTrustedIps} trusted IPs.`);
  await setTrustedIps(tx, id, JSON.stringify(ips));
  await logActivity(tx, { ...actor(call), ...placeOf(config), text });
  return true;
}

export const trustedIpOperations: readonly Operation[] = [listTrustedIps, addTrustedIp, deleteTrustedIp];
