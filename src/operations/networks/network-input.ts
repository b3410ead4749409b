import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import { functionArn } from "../../core/function.ts";
import { lambdaTargets } from "../../core/lambda-targets.ts";
import { type Network, networkNamePattern } from "../../core/network.ts";
import { networkArn } from "../../core/rekey-arn.ts";
import { holdFunction } from "../../store/functions.ts";
import { findNetwork, holdNetwork } from "../../store/networks.ts";
import type { Sql } from "../../store/sql.ts";
import type { Call, Permission, Resource } from "../operation.ts";

export const networkName = z
  .string()
  .min(1)
  .max(64)
  .refine((name) => networkNamePattern.test(name), "Member must have small letters, digits and - only, and not begin with -");
export const description = z.string().max(1_024);
const targetKind = z.enum(lambdaTargets);
/** Names or ARNs of functions, by kind of target. */
export const functions = z.partialRecord(targetKind, z.string().min(1).max(2_048));
export const targetKinds = z.array(targetKind).max(lambdaTargets.length);
export const named = z.object({ Name: networkName });

/** A network as authorization sees it, whether it exists or not. */
export interface NetworkResource extends Resource {
  readonly network: Network | undefined;
  readonly name: string;
}

export async function networkResource({ Name }: { readonly Name: string }, call: Call): Promise<NetworkResource> {
  const arn = networkArn(call.services, Name);
  return { arn, shown: Name, context: {}, network: await findNetwork(call.sql, Name), name: Name };
}

/** @throws ServiceError ResourceNotFoundException */
export function existing({ network, name }: NetworkResource): Network {
  if (!network) throw noNetwork(name);
  return network;
}

export function noNetwork(name: string): ServiceError {
  return new ServiceError("ResourceNotFoundException", `Could not find network ${name}.`);
}

type Functions = z.infer<typeof functions>;

const arnOf = (nameOrArn: string, { region, account }: Pick<Call, "region" | "account">): string =>
  nameOrArn.startsWith("arn:") ? nameOrArn : functionArn(region, account, nameOrArn);

/** Whoever has credentials sent there, and work done, needs leave to use the network. */
export function useNetwork(name: string | undefined, { services }: Pick<Call, "services">): readonly Permission[] {
  if (name === undefined) return [];
  return [{ action: "rekey:UseNetwork", resource: { arn: networkArn(services, name), shown: name, context: {} } }];
}

/** In the transaction that has something use it, if it is given. @throws ServiceError ResourceNotFoundException */
export async function requireNetwork(tx: Sql, name: string | undefined): Promise<void> {
  if (name !== undefined && !(await holdNetwork(tx, name))) throw noNetwork(name);
}

/** Whoever sends work to a function needs leave to call it. */
export function invokeRights(given: Functions | undefined, call: Call): readonly Permission[] {
  return Object.values(given ?? {}).map((name) => {
    const arn = arnOf(name, call);
    return { action: "lambda:InvokeFunction", resource: { arn, shown: arn, context: {} } };
  });
}

/** Their ARNs by kind, in the transaction that has a network call them. @throws ServiceError ResourceNotFoundException; InvalidParameterException for what is no function of AWS Lambda */
export async function functionsIn(tx: Sql, given: Functions | undefined, call: Call): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const [kind, name] of Object.entries(given ?? {})) {
    const arn = arnOf(name, call);
    const record = await holdFunction(tx, arn);
    if (!record) throw new ServiceError("ResourceNotFoundException", `Function not found: ${arn}`);
    if (record.kind !== "lambda") {
      throw new ServiceError("InvalidParameterException", `Functions.${kind}: ${arn} is no function of AWS Lambda.`);
    }
    found[kind] = arn;
  }
  return found;
}

/** What callers see of it. */
export function shown(network: Network) {
  return {
    Name: network.name,
    Description: network.description,
    // Kinds of targets are data here.
    Functions: Object.entries(network.functions).map(([Kind, FunctionArn]) => ({ Kind, FunctionArn })),
    CreatedAt: new Date(network.createdAt),
    UpdatedAt: new Date(network.updatedAt),
  };
}
