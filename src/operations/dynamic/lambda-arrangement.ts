import { isDeepStrictEqual } from "node:util";
import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import { functionArn, functionLimits, roleRefusedText } from "../../core/function.ts";
import { externalIdPattern } from "../../core/identity.ts";
import type { Network } from "../../core/network.ts";
import { networkArn } from "../../core/rekey-arn.ts";
import { addEvent } from "../../store/events.ts";
import { deleteFunction, findFunction, holdFunction, lambdaFunctions } from "../../store/functions.ts";
import { externalIdsOf, takeExternalId } from "../../store/integrations.ts";
import {
  changeNetwork,
  deleteNetwork,
  findNetwork,
  holdNetwork,
  insertNetwork,
  networksOfFunction,
  networksThrough,
  usesOfNetwork,
} from "../../store/networks.ts";
import type { Sql } from "../../store/sql.ts";
import { keepLambdaFunction, type LambdaRecord, lambdaArn, newLambdaFunction, receiverIn, roleArn } from "../lambda-functions.ts";
import type { Call } from "../operation.ts";

/** What such an integration is given: names as Doppler's, and two of Rekey's. */
export const lambdaData = z.strictObject({
  roleARN: roleArn,
  lambdaARN: lambdaArn,
  /** Absent: one that is known here to belong to the role. */
  externalId: z.string().min(2).max(1224).regex(externalIdPattern).optional(),
  /** Public keys of one of Rekey's own functions, as JSON; absent: it is one of Doppler's agents, or is registered already. */
  farKey: z.string().min(2).max(4096).optional(),
});
export type LambdaData = z.infer<typeof lambdaData>;

/** How an integration's work gets to a function: what was there is taken, what was not is made with the integration. */
export interface Arrangement {
  readonly record: LambdaRecord;
  readonly isNewFunction: boolean;
  readonly network: Network;
  readonly isNewNetwork: boolean;
}

/** Of those that were handed out to the caller, the newest are tried. */
const mostOwnIds = 5;
/** Where AWS does not tell: longer than most, since calls that go on unheard are waited out. */
const unknownTimeoutSeconds = 60;

/**
 * Finds or plans it with the rights of the caller, and asks the function for its status. Nothing is kept yet.
 * @throws ServiceError AccessDeniedException; InvalidRequestException with why the function cannot be used, and what helps
 */
export async function arrange(kind: string, data: LambdaData, call: Call): Promise<Arrangement> {
  const known = await lambdaFunctions(call.sql, call.region);
  const record = known.find((one) => isSame(one, data) && !call.may("lambda:InvokeFunction", functionResource(one.arn)));
  if (!record) return arrangeNew(kind, data, known, call);
  const networks = await networksThrough(call.sql, kind, record.arn);
  const network = networks.find(({ name }) => !call.may("rekey:UseNetwork", networkResource(name, call)));
  const planned = network ?? (await plannedNetwork(kind, { record, isNewFunction: false }, call));
  await ask(record, call);
  return { record, isNewFunction: false, network: planned, isNewNetwork: network === undefined };
}

async function arrangeNew(kind: string, data: LambdaData, known: readonly LambdaRecord[], call: Call): Promise<Arrangement> {
  const name = await freeName(data.lambdaARN, call);
  const arn = functionArn(call.region, call.account, name);
  for (const action of ["lambda:CreateFunction", "lambda:InvokeFunction"]) mustMay(call, action, functionResource(arn));
  const given = { FunctionArn: data.lambdaARN, AssumeRoleArn: data.roleARN, FarKey: data.farKey };
  const protocol = data.farKey === undefined ? "doppler" : "rekey";
  const plain: LambdaRecord = {
    ...newLambdaFunction(name, { ...given, Protocol: protocol }, call),
    description: "Made for an integration",
    timeoutSeconds: unknownTimeoutSeconds,
  };
  const network = await plannedNetwork(kind, { record: plain, isNewFunction: true }, call);
  const ids = data.externalId === undefined ? await likelyIds(data, known, call) : [data.externalId];
  const record = await firstThatAnswers(plain, ids, call);
  const timeoutSeconds = (await call.services.functions.timeoutAtAws(record)) ?? unknownTimeoutSeconds;
  const within = Math.min(Math.max(timeoutSeconds, functionLimits.timeoutSeconds.least), functionLimits.timeoutSeconds.most);
  return { record: { ...record, timeoutSeconds: within }, isNewFunction: true, network, isNewNetwork: true };
}

const isSame = ({ lambda }: LambdaRecord, { lambdaARN, roleARN, externalId, farKey }: LambdaData): boolean =>
  lambda.protocol !== undefined &&
  lambda.targetArn === lambdaARN &&
  lambda.assumeRoleArn === roleARN &&
  (externalId === undefined || lambda.externalId === externalId) &&
  (farKey === undefined || isDeepStrictEqual(lambda.receiver, receiverIn(lambdaARN, farKey)));

/**
 * External ids that the role's trust policy may ask for, when none is given: what the caller may read at functions with that role,
 * what was handed out to the caller, and the workplace's id. Nobody gets a role by an id that was handed out to another.
 */
async function likelyIds({ roleARN }: LambdaData, known: readonly LambdaRecord[], call: Call): Promise<string[]> {
  const readable = known.filter(
    ({ arn, lambda }) => lambda.assumeRoleArn === roleARN && !call.may("lambda:GetFunction", functionResource(arn)),
  );
  const own = await externalIdsOf(call.sql, call.principal.arn, mostOwnIds);
  return [...new Set([...readable.flatMap(({ lambda }) => lambda.externalId ?? []), ...own, call.account])];
}

/** @throws ServiceError InvalidRequestException */
async function firstThatAnswers(plain: LambdaRecord, ids: readonly string[], call: Call): Promise<LambdaRecord> {
  let refusal: ServiceError | undefined;
  for (const externalId of ids) {
    const record = { ...plain, lambda: { ...plain.lambda, externalId } };
    try {
      await ask(record, call);
      return record;
    } catch (error) {
      if (!(error instanceof ServiceError && error.message.includes(roleRefusedText))) throw error;
      refusal ??= error;
    }
  }
  const way = `Let the role's trust policy ask for an external id that was generated for you, or for the workplace's id ${call.account}.`;
  throw new ServiceError("InvalidRequestException", `${refusal?.message ?? ""} ${way}`.trim(), { cause: refusal });
}

/** Whether it may be called from here, answers, and takes what this Rekey signs. @throws ServiceError InvalidRequestException */
async function ask(record: LambdaRecord, { services }: Pick<Call, "services">): Promise<void> {
  try {
    await services.functions.check(record);
  } catch (error) {
    if (!(error instanceof ServiceError) || error.status >= 500) throw error;
    throw new ServiceError("InvalidRequestException", `Nothing was kept: ${error.message}`, { cause: error });
  }
}

async function plannedNetwork(
  kind: string,
  { record, isNewFunction }: Pick<Arrangement, "record" | "isNewFunction">,
  call: Call,
): Promise<Network> {
  const base =
    record.name
      .toLowerCase()
      .replaceAll(/[^a-z0-9]+/g, "-")
      .replaceAll(/^-|-$/g, "") || "lambda";
  const name = await firstFree(base, async (one) => (await findNetwork(call.sql, one)) === undefined);
  for (const action of ["rekey:CreateNetwork", "rekey:UseNetwork"]) mustMay(call, action, networkResource(name, call));
  const { startedAt: at } = call;
  const made = { functionArn: isNewFunction ? record.arn : undefined };
  const description = `Through ${record.lambda.targetArn}; made for an integration`.slice(0, 1_024);
  return { name, description, functions: { [kind]: record.arn }, made, createdAt: at, updatedAt: at };
}

const freeName = (targetArn: string, call: Call): Promise<string> =>
  firstFree(
    targetArn.split(":")[6] ?? "lambda",
    async (name) => (await findFunction(call.sql, functionArn(call.region, call.account, name))) === undefined,
  );

/** The name, else with a number behind it. */
async function firstFree(base: string, isFree: (name: string) => Promise<boolean>): Promise<string> {
  for (let number = 1; number < 1_000; number++) {
    const name = number === 1 ? base.slice(0, 64) : `${base.slice(0, 60)}-${number}`;
    if (await isFree(name)) return name;
  }
  throw new ServiceError("LimitExceededException", `There are too many names like ${base}.`);
}

const functionResource = (arn: string) => ({ arn, shown: arn, context: {} });
const networkResource = (name: string, { services }: Pick<Call, "services">) => ({
  arn: networkArn(services, name),
  shown: name,
  context: {},
});

/** @throws ServiceError AccessDeniedException */
function mustMay(call: Call, action: string, resource: Parameters<Call["may"]>[1]): void {
  const refusal = call.may(action, resource);
  if (refusal) throw refusal;
}

/** Makes what is to be made, in the integration's transaction. @throws ServiceError when something of it has changed meanwhile */
export async function keep(tx: Sql, { record, isNewFunction, network, isNewNetwork }: Arrangement, call: Call): Promise<void> {
  const { targetArn, assumeRoleArn } = record.lambda;
  call.describe({
    Lambda: targetArn,
    AssumeRole: assumeRoleArn,
    Function: record.arn,
    Network: network.name,
    isNewFunction,
    isNewNetwork,
  });
  if (isNewFunction) {
    await keepLambdaFunction(tx, record);
  } else {
    const held = await holdFunction(tx, record.arn);
    if (held?.updatedAt !== record.updatedAt) throw changedMeanwhile();
  }
  if (isNewNetwork) {
    await insertNetwork(tx, network);
    await tell(tx, call, "network.created", network.name);
  } else if (!(await holdNetwork(tx, network.name)) || (await findNetwork(tx, network.name))?.updatedAt !== network.updatedAt)
    throw changedMeanwhile();
}

/**
 * The role's external id is the integration's from now on, when it was handed out here. One that was given must have been.
 * @throws ServiceError ValidationException
 */
export async function takeIdOf(
  tx: Sql,
  { externalId: given }: LambdaData,
  { record }: Arrangement,
  { integration, account }: { readonly integration: string; readonly account: string },
): Promise<void> {
  const { externalId } = record.lambda;
  const isTaken = externalId !== undefined && (await takeExternalId(tx, externalId, integration));
  if (isTaken || given === undefined || given === account) return;
  throw new ServiceError(
    "ValidationException",
    "Data.externalId must be one that GenerateExternalId gave, and that no other integration has.",
  );
}

/** Removes what came with an integration and nothing uses any more. The function that is gone, if one is. */
export async function release(tx: Sql, name: string | undefined, call: Call): Promise<string | undefined> {
  const network = name === undefined ? undefined : await changeNetwork(tx, name, (before) => before);
  if (!network?.made || Object.values(await usesOfNetwork(tx, network.name)).some((uses) => uses.length > 0)) return undefined;
  await deleteNetwork(tx, network.name);
  await tell(tx, call, "network.deleted", network.name);
  const { functionArn: arn } = network.made;
  if (arn === undefined || (await networksOfFunction(tx, arn)).length > 0) return undefined;
  await deleteFunction(tx, arn);
  return arn;
}

const changedMeanwhile = (): ServiceError =>
  new ServiceError("InvalidRequestException", "The function or its network was changed meanwhile; look and try again.");

async function tell(tx: Sql, { services, startedAt: at, principal }: Call, type: string, name: string): Promise<void> {
  await addEvent(tx, { at, type, resource: networkArn(services, name), detail: { principal: principal.arn } });
}
