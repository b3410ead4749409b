import { z } from "zod";
import { ServiceError } from "../../core/error.ts";
import { type FunctionRecord, functionArn, functionLimits } from "../../core/function.ts";
import { networkArn } from "../../core/rekey-arn.ts";
import { forgetFarFunction, noteFarFunction } from "../../store/function-code.ts";
import { deleteFunction, insertFunction, updateFunction } from "../../store/functions.ts";
import { networksOfFunction } from "../../store/networks.ts";
import type { Sql } from "../../store/sql.ts";
import { type Call, defineOperation } from "../operation.ts";
import {
  askSpecialAddresses,
  checkEnvironment,
  checkPolicy,
  existing,
  type FunctionResource,
  functionName,
  functionResource,
  invalid,
  named,
  passRole,
  putCode,
  requireName,
  type SettingsInput,
  settingMembers,
  settingsIn,
  shown,
} from "./function-input.ts";

const createInput = z.object({ FunctionName: functionName, ...settingMembers });

/** Source, as far as it goes: AWS Lambda API reference, CreateFunction. */
export const createFunction = defineOperation<z.infer<typeof createInput>, FunctionResource>({
  name: "CreateFunction",
  action: "lambda:CreateFunction",
  noun: "functions",
  verb: "create",
  mode: "write",
  summary: "Registers a function that rotations may name. Nobody may invoke it before it has a policy.",
  input: createInput,
  sensitive: ["Environment"],
  check(input) {
    requireName(input.FunctionName);
    checkEnvironment(input.Environment);
    if (!settingsIn(input)) throw invalid("Give one of Process, Lambda and HttpApi.");
  },
  resource: functionResource,
  permissions: ({ Role, HttpApi, Lambda }, found) => [
    ...passRole(Role),
    ...askSpecialAddresses(HttpApi, found),
    ...putCode(Lambda, found),
  ],
  async run(input, _found, call) {
    const record = changed(blankFunction(input.FunctionName, call), input, call);
    await call.services.functions.check(record);
    const environment = input.Environment && (await call.services.functions.seal(record, input.Environment));
    await call.transaction(async (tx) => {
      await insertFunction(tx, record, environment);
      await noteCode(tx, record);
    });
    return shown(record);
  },
});

const updateInput = z.object({ FunctionName: functionName, ...settingMembers });

/** Source, as far as it goes: AWS Lambda API reference, UpdateFunctionConfiguration. */
export const updateFunctionOperation = defineOperation<z.infer<typeof updateInput>, FunctionResource>({
  name: "UpdateFunctionConfiguration",
  action: "lambda:UpdateFunctionConfiguration",
  noun: "functions",
  verb: "update",
  mode: "write",
  summary: "Changes a function; what is left out stays. Variables are replaced as a whole.",
  input: updateInput,
  sensitive: ["Environment"],
  check: ({ Environment }) => checkEnvironment(Environment),
  resource: functionResource,
  // Other code or variables under a role are as good as the role: whoever may not hand it on may not change them either.
  permissions: ({ Role, HttpApi, Lambda }, found) => [
    ...passRole(Role ?? found.record?.roleArn),
    ...askSpecialAddresses(HttpApi, found),
    ...putCode(Lambda, found),
  ],
  async run(input, found, call) {
    const before = existing(found);
    if (input.Lambda) await requireNetworks(before, call);
    const record = changed(before, input, call);
    if (saysWhatIsCalled(input)) await call.services.functions.check(record);
    const environment = input.Environment && (await call.services.functions.seal(record, input.Environment));
    await save(record, before, call, environment);
    return shown(record);
  },
});

/** Else the function is not asked: one that does not answer now may be described, and given its next code. */
function saysWhatIsCalled({ Process, HttpApi, Lambda }: SettingsInput): boolean {
  return Boolean(Process ?? HttpApi) || Object.keys(Lambda ?? {}).some((key) => key !== "AutoUpdate" && key !== "SignedCode");
}

const policyInput = z.object({
  FunctionName: functionName,
  Policy: z.string().max(functionLimits.policyChars),
});

/** Source, as far as it goes: AWS Lambda API reference, PutResourcePolicy. */
export const putFunctionPolicy = defineOperation<z.infer<typeof policyInput>, FunctionResource>({
  name: "PutFunctionPolicy",
  action: "lambda:PutResourcePolicy",
  noun: "functions",
  verb: "put-policy",
  mode: "write",
  summary: "Sets who may invoke a function; an empty policy removes it.",
  input: policyInput,
  check: ({ Policy }) => {
    if (Policy !== "") checkPolicy(Policy);
  },
  resource: functionResource,
  async run({ Policy }, found, call) {
    const before = existing(found);
    const record = { ...before, policy: Policy || undefined, updatedAt: nextChange(before, call) };
    await save(record, before, call);
    return shown(record);
  },
});

/** Source: AWS Lambda API reference, DeleteFunction. */
export const deleteFunctionOperation = defineOperation<z.infer<typeof named>, FunctionResource>({
  name: "DeleteFunction",
  action: "lambda:DeleteFunction",
  noun: "functions",
  verb: "delete",
  mode: "write",
  summary: "Removes a function that no network calls, with its log; rotations that name it fail from then on.",
  input: named,
  resource: functionResource,
  async run(_input, found, call) {
    const { arn } = existing(found);
    await call.transaction(async (tx) => {
      await deleteFunction(tx, arn);
      refuseUsed(await networksOfFunction(tx, arn));
    });
    call.services.functions.forget(arn);
    return {};
  },
});

/** @throws ServiceError InvalidRequestException */
function refuseUsed(networks: readonly string[]): void {
  const [first, ...others] = networks;
  if (first === undefined) return;
  const names = others.length > 0 ? `networks ${networks.slice(0, 5).join(", ")}` : `network ${first}`;
  throw new ServiceError(
    "InvalidRequestException",
    `The function is what ${names} ${others.length > 0 ? "are" : "is"} reached through. Take it away there first: rekey network update ${first} --remove-function KIND.`,
  );
}

/** Where a network's work goes is the network's: whoever points a function of it elsewhere gets the credentials that are used there. */
async function requireNetworks({ arn }: FunctionRecord, { services, sql, may }: Call): Promise<void> {
  for (const network of await networksOfFunction(sql, arn)) {
    const refusal = may("rekey:UpdateNetwork", { arn: networkArn(services, network), shown: network, context: {} });
    if (refusal) throw refusal;
  }
}

/** One of that name before it is anything. */
export function blankFunction(name: string, { region, account, startedAt }: Call): FunctionRecord {
  return {
    kind: "http-api",
    declaration: {},
    region,
    name,
    arn: functionArn(region, account, name),
    timeoutSeconds: functionLimits.timeoutSeconds.usual,
    memoryMiB: functionLimits.memoryMiB.usual,
    concurrency: functionLimits.concurrency.usual,
    environmentNames: [],
    createdAt: startedAt,
    updatedAt: startedAt - 1,
  };
}

/** @throws ServiceError InvalidParameterException when the whole of it makes no sense. */
function changed(before: FunctionRecord, input: SettingsInput, call: Call): FunctionRecord {
  const settings = settingsIn(input, before);
  const isNew = before.createdAt > before.updatedAt;
  if (settings && !isNew && settings.kind !== before.kind) throw invalid(`A function of kind ${before.kind} stays of that kind.`);
  const record: FunctionRecord = {
    ...before,
    ...settings,
    description: input.Description ?? before.description,
    roleArn: input.Role ?? before.roleArn,
    timeoutSeconds: input.Timeout ?? before.timeoutSeconds,
    memoryMiB: input.MemorySize ?? before.memoryMiB,
    concurrency: input.Concurrency ?? before.concurrency,
    environmentNames: input.Environment ? Object.keys(input.Environment).sort() : before.environmentNames,
    updatedAt: nextChange(before, call),
  };
  if (record.kind === "process" && record.roleArn === undefined)
    throw invalid("Role is missing: the role whose temporary credentials the process gets.");
  if (record.kind !== "process" && (record.roleArn !== undefined || record.environmentNames.length > 0))
    throw invalid("Role and Environment are for functions that run here as a process.");
  return record;
}

/** Two changes within a millisecond are two. */
function nextChange({ updatedAt }: FunctionRecord, { startedAt }: Call): number {
  return Math.max(startedAt, updatedAt + 1);
}

/** The code of Rekey's own functions at AWS is looked at from now on. */
export async function noteCode(tx: Sql, { arn, updatedAt, ...settings }: FunctionRecord): Promise<void> {
  if (settings.kind !== "lambda") return;
  if (settings.lambda.protocol === "rekey") await noteFarFunction(tx, arn, updatedAt);
  else await forgetFarFunction(tx, arn);
}

async function save(
  record: FunctionRecord,
  before: FunctionRecord,
  call: Call,
  environment?: Parameters<typeof updateFunction>[3],
): Promise<void> {
  const saved = await call.transaction(async (tx) => {
    const isSaved = await updateFunction(tx, record, before.updatedAt, environment);
    if (isSaved) await noteCode(tx, record);
    return isSaved;
  });
  if (!saved)
    throw new ServiceError("InvalidRequestException", "The function was changed or deleted meanwhile; look and try again.");
  call.services.functions.forget(record.arn);
}
