import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import type { Network } from "../../core/network.ts";
import { networkArn } from "../../core/rekey-arn.ts";
import { addEvent } from "../../store/events.ts";
import {
  changeNetwork,
  deleteNetwork,
  insertNetwork,
  listNetworks,
  type NetworkUses,
  usesOfNetwork,
} from "../../store/networks.ts";
import type { Sql } from "../../store/sql.ts";
import { nextToken } from "../input.ts";
import { type Call, defineOperation, type Operation, type Resource } from "../operation.ts";
import { readPageToken, writePageToken } from "../secrets/page-token.ts";
import {
  description,
  existing,
  functions,
  functionsIn,
  invokeRights,
  type NetworkResource,
  named,
  networkName,
  networkResource,
  noNetwork,
  shown,
  targetKinds,
} from "./network-input.ts";

const createInput = z.object({ Name: networkName, Description: description.optional(), Functions: functions.optional() });

const createNetwork = defineOperation<z.infer<typeof createInput>, NetworkResource>({
  name: "CreateNetwork",
  action: "rekey:CreateNetwork",
  noun: "networks",
  verb: "create",
  mode: "write",
  summary:
    "Names a place that is reached only through agents in it, or through functions of AWS Lambda, one for a kind of target.",
  input: createInput,
  resource: networkResource,
  permissions: ({ Functions }, _found, call) => invokeRights(Functions, call),
  async run({ Name: name, Description, Functions }, _found, call) {
    const { startedAt: at } = call;
    const network = await call.transaction(async (tx) => {
      const functions = await functionsIn(tx, Functions, call);
      const added: Network = { name, description: Description, functions, createdAt: at, updatedAt: at };
      await insertNetwork(tx, added);
      await tell(tx, call, "network.created", name);
      return added;
    });
    return { Network: shown(network) };
  },
});

const describeNetwork = defineOperation<z.infer<typeof named>, NetworkResource>({
  name: "DescribeNetwork",
  action: "rekey:DescribeNetwork",
  noun: "networks",
  verb: "describe",
  mode: "read",
  summary: "Shows a network.",
  input: named,
  resource: networkResource,
  run: async (_input, found) => ({ Network: shown(existing(found)) }),
});

const listInput = z.object({ MaxResults: z.int().min(1).max(1000).default(100), NextToken: nextToken });

const listOperation = defineOperation<z.infer<typeof listInput>, Resource>({
  name: "ListNetworks",
  action: "rekey:ListNetworks",
  noun: "networks",
  verb: "list",
  mode: "read",
  summary: "Lists networks by name.",
  input: listInput,
  resource: (_input, { services }) => ({ arn: networkArn(services, "*"), context: {} }),
  async run({ MaxResults, NextToken }, _found, { sql }) {
    const scope = "networks";
    const after = NextToken === undefined ? "" : String(readPageToken(NextToken, scope)[0]);
    const rows = await listNetworks(sql, { after, limit: MaxResults + 1 });
    const last = rows.length > MaxResults ? rows[MaxResults - 1] : undefined;
    return { Networks: rows.slice(0, MaxResults).map(shown), ...(last && { NextToken: writePageToken(scope, [last.name]) }) };
  },
});

const updateInput = z.object({
  Name: networkName,
  Description: description.optional(),
  Functions: functions.optional(),
  RemoveFunctions: targetKinds.optional(),
});

const updateNetwork = defineOperation<z.infer<typeof updateInput>, NetworkResource>({
  name: "UpdateNetwork",
  action: "rekey:UpdateNetwork",
  noun: "networks",
  verb: "update",
  mode: "write",
  summary: "Changes a network's description and which functions reach it; kinds of targets that are left out stay as they are.",
  input: updateInput,
  resource: networkResource,
  permissions: ({ Functions }, _found, call) => invokeRights(Functions, call),
  async run({ Name: name, Description, Functions, RemoveFunctions = [] }, found, call) {
    existing(found);
    const both = RemoveFunctions.find((kind) => Functions?.[kind] !== undefined);
    if (both) throw new ServiceError("InvalidParameterException", `${both} is both in Functions and in RemoveFunctions.`);
    const after = await call.transaction(async (tx) => {
      const given = await functionsIn(tx, Functions, call);
      const saved = await changeNetwork(tx, name, (before) => ({
        ...before,
        description: Description ?? before.description,
        functions: {
          ...Object.fromEntries(
            Object.entries(before.functions).filter(([kind]) => !RemoveFunctions.some((one) => one === kind)),
          ),
          ...given,
        },
        updatedAt: call.startedAt,
      }));
      if (!saved) throw noNetwork(name);
      await tell(tx, call, "network.changed", name);
      return saved;
    });
    return { Network: shown(after) };
  },
});

const removeNetwork = defineOperation<z.infer<typeof named>, NetworkResource>({
  name: "DeleteNetwork",
  action: "rekey:DeleteNetwork",
  noun: "networks",
  verb: "delete",
  mode: "write",
  summary: "Deletes a network that nothing uses.",
  input: named,
  resource: networkResource,
  async run({ Name: name }, found, call) {
    existing(found);
    await call.transaction(async (tx) => {
      if (!(await changeNetwork(tx, name, (before) => before))) throw noNetwork(name);
      refuseUsed(name, await usesOfNetwork(tx, name));
      await deleteNetwork(tx, name);
      await tell(tx, call, "network.deleted", name);
    });
    return {};
  },
});

const remedies: Readonly<Record<keyof NetworkUses, readonly [one: string, remedy: (it: "it" | "them") => string]>> = {
  agents: ["agent", (it) => `Revoke ${it} first: rekey agent revoke.`],
  secrets: ["secret", (it) => `Take ${it} out of the network first: rekey rotation policy SECRET --clear network.`],
  integrations: ["integration", (it) => `Give ${it} another network or delete ${it} first.`],
  dynamicSecrets: ["dynamic secret", (it) => `Give ${it} another network or delete ${it} first.`],
  leases: ["lease", (it) => `Wait for the end, or revoke ${it}.`],
};

/** @throws ServiceError InvalidRequestException */
function refuseUsed(name: string, uses: NetworkUses): void {
  for (const [what, [one, remedy]] of Object.entries(remedies) as [keyof NetworkUses, (typeof remedies)[keyof NetworkUses]][]) {
    if (uses[what].length === 0) continue;
    const isOne = uses[what].length === 1;
    throw new ServiceError(
      "InvalidRequestException",
      `Network ${name} is used by ${one}${isOne ? "" : "s"} ${uses[what].toSorted().join(", ")}. ${remedy(isOne ? "it" : "them")}`,
    );
  }
}

async function tell(tx: Sql, { services, startedAt: at, principal }: Call, type: string, name: string): Promise<void> {
  await addEvent(tx, { at, type, resource: networkArn(services, name), detail: { principal: principal.arn } });
}

/** Places that are reached through what runs in them. */
export const networkOperations: readonly Operation[] = [
  createNetwork,
  describeNetwork,
  listOperation,
  updateNetwork,
  removeNetwork,
];
